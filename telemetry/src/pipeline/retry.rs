//! When a request that failed is tried again.
use std::time::{Duration, SystemTime};

use crate::base::time::http_date;

/// Pause before the second attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between attempts: a collector that is back is found again within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that a collector may ask for. A wrong date must not silence the process for a year.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// Pauses between the attempts to send one batch.
#[derive(Debug)]
pub(crate) struct Backoff {
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: FIRST_PAUSE }
    }
}

impl Backoff {
    /// The next pause: what the collector asked for, else half to all of the current step. `chance`, from 0 to 1, keeps
    /// processes that lost the same collector from coming back all at once.
    pub(crate) fn next(&mut self, asked: Option<Duration>, chance: f64) -> Duration {
        let step = self.pause;
        self.pause = (step * 2).min(LONGEST_PAUSE);
        match asked {
            Some(asked) => asked.min(LONGEST_ASKED),
            None => step.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0),
        }
    }
}

/// What `Retry-After` asks for at `now`: seconds, or a date.
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date(value.trim())?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_spread() {
        let pauses = |chance| {
            let mut backoff = Backoff::default();
            let pauses: Vec<_> = (0..7)
                .map(|_| backoff.next(None, chance).as_millis())
                .collect();
            pauses
        };
        assert_eq!(pauses(1.0), [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pauses(0.0), [100, 200, 400, 800, 1600, 2500, 2500]);
    }

    #[test]
    fn what_the_collector_asks_for_is_kept_within_reason() {
        let mut backoff = Backoff::default();
        assert_eq!(
            backoff.next(Some(Duration::from_secs(7)), 0.5),
            Duration::from_secs(7)
        );
        assert_eq!(backoff.next(Some(Duration::MAX), 0.5), LONGEST_ASKED);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777); // the date below
        let after = |value| retry_after(value, now).map(|pause| pause.as_secs());
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(
            after("Sun, 06 Nov 1994 08:49:27 GMT"),
            Some(0),
            "a date that has passed"
        );
        for wrong in ["", "-1", "soon", "1.5"] {
            assert_eq!(after(wrong), None, "{wrong}");
        }
    }
}
