//! Pages for people on the DoH port: how to set a device up. Made once, before the door opens, and served as they are.
//!
//! Only who may ask at a door gets them: to all others there is nothing at their path, as at any other that is not ours.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, DATE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Response};

use super::request::is_registered;
use super::{Refusal, Shape, date};

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where it is, from the first `/`. A path that DNS is answered at is not looked for here.
    pub path: String,
    /// Its media type, with the charset of text.
    pub media_type: &'static str,
    /// What it holds.
    pub body: Bytes,
}

/// The response to `method` at `path`.
///
/// # Errors
/// The [`Refusal`]: nothing is there, or not for this method.
pub fn at(pages: &[Page], path: &str, method: &Method) -> Result<Response<Bytes>, Refusal> {
    let page = pages.iter().find(|page| page.path == path).ok_or(Refusal::Path)?;
    match *method {
        Method::GET | Method::HEAD => Ok(page.response(Shape::of(method))),
        ref other if *other == Method::POST || is_registered(other) => Err(Refusal::PageMethod),
        _ => Err(Refusal::UnknownMethod),
    }
}

impl Page {
    fn response(&self, shape: Shape) -> Response<Bytes> {
        let media_type = HeaderValue::from_str(self.media_type);
        let mut response = Response::new(shape.body(self.body.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, media_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(KEPT));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(DATE, date::now());
        response
    }
}

/// By the browser alone, and not for long: what a page tells may be another after a reload.
const KEPT: &str = "private, max-age=60";

/// Styles and pictures of its own, nothing from elsewhere, no script, no form, in nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> [Page; 1] {
        [Page { path: "/set-up".into(), media_type: "text/html; charset=utf-8", body: Bytes::from_static(b"<p>") }]
    }

    #[test]
    fn a_page_is_given_whole_to_get_and_without_body_to_head() {
        let get = at(&pages(), "/set-up", &Method::GET).unwrap();
        let head = at(&pages(), "/set-up", &Method::HEAD).unwrap();
        assert_eq!((get.status().as_u16(), &get.body()[..], head.body().len()), (200, &b"<p>"[..], 0));
        assert_eq!(get.headers(), head.headers());
        let text = |name: &str| get.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!((text("content-type"), text("content-length")), ("text/html; charset=utf-8", "3"));
        assert!(
            text("content-security-policy").starts_with("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
        );
        assert_eq!((text("x-content-type-options"), text("referrer-policy")), ("nosniff", "no-referrer"));
        assert_eq!(text("cache-control"), "private, max-age=60");
    }

    #[test]
    fn other_methods_are_not_allowed_and_other_paths_not_found() {
        assert_eq!(at(&pages(), "/set-up", &Method::POST).err(), Some(Refusal::PageMethod));
        assert_eq!(at(&pages(), "/set-up", &Method::from_bytes(b"BREW").unwrap()).err(), Some(Refusal::UnknownMethod));
        assert_eq!(at(&pages(), "/set-up/", &Method::GET).err(), Some(Refusal::Path));
        assert_eq!(at(&[], "/", &Method::POST).err(), Some(Refusal::Path));
        let allow = Refusal::PageMethod.response(Shape::of(&Method::GET));
        assert_eq!(
            (allow.status().as_u16(), allow.headers().get("allow").unwrap()),
            (405, &HeaderValue::from_static("GET, HEAD"))
        );
    }
}
