//! Durations as people write them on a command line.

use std::time::Duration;

/// Reads `500ms`, `30s`, `2m`, `1h`; the unit is required, so that nobody has to guess it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!(
                "`{text}` has no known unit: write 500ms, 30s, 2m or 1h"
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(millis_per_unit))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a duration: write 500ms, 30s, 2m or 1h"))
}

/// Three significant figures and a unit: `870 µs`, `12.3 ms`, `1.25 s`.
pub fn show(duration: Duration) -> String {
    let micros = duration.as_micros() as f64;
    let (value, unit) = match micros {
        m if m < 1_000.0 => return format!("{m:.0} µs"),
        m if m < 1_000_000.0 => (m / 1_000.0, "ms"),
        m => (m / 1_000_000.0, "s"),
    };
    let decimals = match value {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
    }

    #[test]
    fn durations_without_unit_number_or_room_are_refused() {
        for text in ["30", "s", "", "3 s", "-1s", "1.5s", "99999999999999999h"] {
            assert!(parse(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn durations_are_shown_with_three_figures() {
        assert_eq!(show(Duration::from_micros(870)), "870 µs");
        assert_eq!(show(Duration::from_micros(1_234)), "1.23 ms");
        assert_eq!(show(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(show(Duration::from_millis(123)), "123 ms");
        assert_eq!(show(Duration::from_millis(1_250)), "1.25 s");
    }
}
