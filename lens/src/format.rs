//! Numbers, times and sizes as people read them. Times are UTC, like those of every other tool in a trace's way.

use std::time::{SystemTime, UNIX_EPOCH};

use time::{Duration, OffsetDateTime};

pub const NS_PER_S: i64 = 1_000_000_000;

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as i64)
}

/// `14:03:22.123`
pub fn time_of_day(ns: i64) -> String {
    let (hour, minute, second, ms) = at(ns).to_hms_milli();
    format!("{hour:02}:{minute:02}:{second:02}.{ms:03}")
}

/// `2026-11-21 14:03:22.123`
pub fn date_time(ns: i64) -> String {
    let (year, month, day) = at(ns).to_calendar_date();
    let month = u8::from(month);
    format!("{year}-{month:02}-{day:02} {}", time_of_day(ns))
}

/// Every count of nanoseconds that fits is a date between 1677 and 2262.
fn at(ns: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::nanoseconds(ns)
}

/// `3 s ago`
pub fn ago(ns: i64, now_ns: i64) -> String {
    let seconds = now_ns.saturating_sub(ns) / NS_PER_S;
    match seconds {
        ..=0 => "now".to_owned(),
        1..=89 => format!("{seconds} s ago"),
        90..=5399 => format!("{} min ago", (seconds + 30) / 60),
        5400..=172_799 => format!("{} h ago", (seconds + 1800) / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// `12.3 ms`
pub fn duration(ns: f64) -> String {
    match ns {
        _ if !ns.is_finite() => ns.to_string(),
        ..0.0 => format!("-{}", duration(-ns)),
        ..1e3 => format!("{ns:.0} ns"),
        ..1e6 => format!("{} µs", three(ns / 1e3)),
        ..1e9 => format!("{} ms", three(ns / 1e6)),
        ..60e9 => format!("{} s", three(ns / 1e9)),
        _ => format!("{} min", three(ns / 60e9)),
    }
}

/// `12.3 MiB`
pub fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value.abs() < 1024.0 {
            return match unit {
                "B" => format!("{value:.0} B"),
                _ => format!("{} {unit}", three(value)),
            };
        }
        value /= 1024.0;
    }
    format!("{} TiB", three(value))
}

/// `12,345`
pub fn count(number: i64) -> String {
    let mut grouped = number.to_string();
    let digits = number.unsigned_abs().to_string().len();
    for behind in (3..digits).step_by(3) {
        // As many commas stand behind it already.
        grouped.insert(grouped.len() - behind - (behind / 3 - 1), ',');
    }
    grouped
}

/// About three significant digits.
pub fn three(value: f64) -> String {
    let text = match value.abs() {
        _ if !value.is_finite() => return value.to_string(),
        0.0 => return "0".to_owned(),
        ..0.001 => return format!("{value:.1e}"),
        ..1.0 => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => return count(value.round() as i64),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A value in an OpenTelemetry unit: <https://ucum.org/ucum>
pub fn value(value: f64, unit: &str) -> String {
    match unit {
        "s" => duration(value * 1e9),
        "ms" => duration(value * 1e6),
        "us" => duration(value * 1e3),
        "ns" | "nanoseconds" => duration(value),
        "By" | "bytes" => bytes(value),
        "" | "1" => three(value),
        // {request} counts requests: the braces say that it is a note and no unit.
        unit if unit.starts_with('{') => three(value),
        unit => format!("{} {unit}", three(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(date_time(0), "1970-01-01 00:00:00.000");
        let leap_day = 1_709_251_199_999_000_000;
        assert_eq!(date_time(leap_day), "2024-02-29 23:59:59.999");
        let autumn = 1_795_230_202_007_000_000;
        assert_eq!(date_time(autumn), "2026-11-21 03:03:22.007");
        assert_eq!(ago(NS_PER_S, 4 * NS_PER_S), "3 s ago");
        assert_eq!(ago(0, 5400 * NS_PER_S), "2 h ago");
    }

    #[test]
    fn values_have_three_digits_and_their_unit() {
        assert_eq!(duration(1_234_567.0), "1.23 ms");
        assert_eq!(duration(0.35e9), "350 ms");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(count(-1_234_567), "-1,234,567");
        assert_eq!(value(0.012, "s"), "12 ms");
        assert_eq!(value(3.0, "{request}"), "3");
        assert_eq!(three(0.0), "0");
        assert_eq!(value(-0.5, "s"), "-500 ms");
        assert_eq!(value(f64::NAN, "s"), "NaN");
        assert_eq!(value(f64::INFINITY, "{request}"), "inf");
        assert_eq!(value(f64::NEG_INFINITY, "By"), "-inf TiB");
    }
}
