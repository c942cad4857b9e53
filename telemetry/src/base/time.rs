//! Points in time, as numbers and as texts.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// Nanoseconds since 1970, as OTLP has them; 0 for what was before.
pub(crate) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_nanos() as u64
}

/// RFC 3339 in UTC, with as many digits of a second as it needs; empty for a year that has more than four digits.
pub(crate) fn rfc_3339(time: SystemTime) -> String {
    OffsetDateTime::from(time)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// A date of a header of HTTP, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc2822).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_times_stand_for_each_other() {
        let at = |seconds, micros: u32| UNIX_EPOCH + Duration::new(seconds, micros * 1000);
        assert_eq!(rfc_3339(at(0, 0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc_3339(at(951_827_696, 5)), "2000-02-29T12:34:56.000005Z");
        assert_eq!(
            rfc_3339(at(1_795_235_299, 900_000)),
            "2026-11-21T04:28:19.9Z"
        );
        let sunday = Some(at(784_111_777, 0));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), sunday);
        assert_eq!(http_date("soon"), None);
    }
}
