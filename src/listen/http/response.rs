//! A DNS reply as an HTTP response: 200 whatever the RCODE, with the freshness the reply has (RFC 8484 4.2.1, 5.1).
//!
//! Nothing in it tells one client or server from another (RFC 8484 8.2).

use bytes::Bytes;
use http::header::{ALT_SVC, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Response};

use super::{Form, Shape, date};
use crate::reply::{Freshness, Scope};

/// The media type of a DNS message (RFC 8484 6).
pub const DNS_MESSAGE: &str = "application/dns-message";

/// The response that carries `message`.
#[must_use]
pub fn carrying(message: Bytes, freshness: Freshness, shape: Shape, alt_svc: Option<&HeaderValue>) -> Response<Bytes> {
    let mut headers = HeaderMap::with_capacity(6);
    let body = match shape.form {
        Form::Message => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(DNS_MESSAGE));
            message
        }
        Form::Chosen(media) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.name()));
            // Only here does one URL have several forms (RFC 9110 12.5.5). Words from the network are never to be taken for a page.
            headers.insert(VARY, HeaderValue::from_static("accept"));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            media.represent(message)
        }
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CACHE_CONTROL, cache_control(freshness));
    headers.insert(DATE, date::now());
    if let Some(alt_svc) = alt_svc {
        headers.insert(ALT_SVC, alt_svc.clone());
    }
    let mut response = Response::new(shape.body(body));
    *response.headers_mut() = headers;
    response
}

fn cache_control(freshness: Freshness) -> HeaderValue {
    match freshness.scope {
        Scope::Public => MaxAge::after("max-age=", freshness.max_age).value(),
        Scope::Private => MaxAge::after("private, max-age=", freshness.max_age).value(),
        Scope::NoStore => HeaderValue::from_static("no-store"),
    }
}

/// A directive and its seconds, written without the formatting machinery: this is done for each answer.
struct MaxAge {
    text: [u8; 32],
    length: usize,
}

impl MaxAge {
    fn after(directive: &str, seconds: u32) -> Self {
        let mut age = Self { text: [0; 32], length: 0 };
        directive.bytes().for_each(|octet| age.push(octet));
        let digits = seconds.checked_ilog10().unwrap_or(0);
        for place in (0..=digits).rev() {
            let digit = seconds / 10_u32.pow(place) % 10;
            age.push(u8::try_from(digit).map_or(b'0', |digit| b'0' + digit));
        }
        age
    }

    fn push(&mut self, octet: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = octet;
            self.length += 1;
        }
    }

    fn value(&self) -> HeaderValue {
        let text = self.text.get(..self.length).unwrap_or_default();
        HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static("no-store"))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn doh_11_max_age_is_the_freshness_of_the_reply() {
        let public = |max_age| cache_control(Freshness { max_age, scope: Scope::Public });
        for (seconds, text) in [(0, "max-age=0"), (9, "max-age=9"), (10, "max-age=10"), (86_400, "max-age=86400")] {
            assert_eq!(public(seconds), text);
        }
        assert_eq!(public(u32::MAX), "max-age=4294967295");
    }

    #[test]
    fn doh_13_replies_for_one_client_are_private_and_others_are_not_stored() {
        let with = |scope| cache_control(Freshness { max_age: u32::MAX, scope });
        assert_eq!(with(Scope::Private), "private, max-age=4294967295");
        assert_eq!(with(Scope::NoStore), "no-store");
    }

    #[test]
    fn doh_10_a_response_to_head_has_the_headers_of_get_and_no_body() {
        let message = Bytes::from_static(&[7; 20]);
        let freshness = Freshness { max_age: 5, scope: Scope::Public };
        let get = carrying(message.clone(), freshness, Shape::of(&Method::GET), None);
        let head = carrying(message, freshness, Shape::of(&Method::HEAD), None);
        assert_eq!(get.headers().get(CONTENT_LENGTH).unwrap(), "20");
        assert_eq!(head.headers().get(CONTENT_LENGTH), get.headers().get(CONTENT_LENGTH));
        assert_eq!((get.body().len(), head.body().len()), (20, 0));
    }
}
