//! The `date` of a response, which caches age it by (RFC 9110 6.6.1): written once a second, shared by the answers of that second.

use std::cell::RefCell;
use std::time::SystemTime;

use http::HeaderValue;
use time::OffsetDateTime;

thread_local! {
    /// The second last written, and its text.
    static LAST: RefCell<(i64, HeaderValue)> = const { RefCell::new((i64::MIN, HeaderValue::from_static(""))) };
}

/// The present second as an IMF-fixdate (RFC 9110 5.6.7).
#[must_use]
pub fn now() -> HeaderValue {
    at(OffsetDateTime::from(SystemTime::now()))
}

fn at(time: OffsetDateTime) -> HeaderValue {
    LAST.with_borrow_mut(|(second, text)| {
        if *second != time.unix_timestamp() {
            *second = time.unix_timestamp();
            *text = written(time);
        }
        text.clone()
    })
}

fn written(time: OffsetDateTime) -> HeaderValue {
    let (weekday, month) = (time.weekday().to_string(), time.month().to_string());
    let (weekday, month) = (weekday.get(..3).unwrap_or_default(), month.get(..3).unwrap_or_default());
    let (hour, minute, second) = time.to_hms();
    let text = format!("{weekday}, {:02} {month} {:04} {hour:02}:{minute:02}:{second:02} GMT", time.day(), time.year());
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_rfc_9110_shows_them() {
        let at_second = |second| at(OffsetDateTime::from_unix_timestamp(second).unwrap());
        assert_eq!(at_second(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at_second(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at_second(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    }
}
