//! The cache of rankings: each is kept for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sqlx::FromRow;
use sqlx::sqlite::SqliteRow;

/// How long a ranking is kept, on average.
const LIFETIME: Duration = Duration::from_secs(20);

/// A product and how many pieces of it were sold.
#[derive(Clone, Serialize)]
pub struct Rank {
    name: String,
    sold: i64,
}

impl FromRow<'_, SqliteRow> for Rank {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let (name, sold) = FromRow::from_row(row)?;
        Ok(Self { name, sold })
    }
}

/// The ranking of each category, with when it ends (time since 1970).
#[derive(Default)]
pub struct Rankings(Mutex<HashMap<String, (Duration, Vec<Rank>)>>);

impl Rankings {
    /// The ranking of a category, if one is kept.
    pub fn get(&self, category: &str) -> Option<Vec<Rank>> {
        let rankings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rankings
            .get(category)
            .filter(|(end, _)| now() < *end)
            .map(|(_, ranking)| ranking.clone())
    }

    /// Keeps a ranking: for its lifetime, half of it more or less, or until the next full period (in seconds) that `expiry` names.
    pub fn keep(&self, category: String, ranking: Vec<Rank>, expiry: &str) {
        let end = end(now(), expiry);
        let mut rankings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rankings.insert(category, (end, ranking));
    }
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn end(now: Duration, expiry: &str) -> Duration {
    match expiry.parse::<u64>() {
        Ok(period) if period > 0 => Duration::from_secs((now.as_secs() / period + 1) * period),
        _ => now + LIFETIME.mul_f64(0.5 + fastrand::f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rankings_end_spread_out_or_with_a_period() {
        let now = Duration::from_millis(61_500);
        assert_eq!(end(now, "20"), Duration::from_secs(80));
        for _ in 0..100 {
            let kept = end(now, "spread") - now;
            assert!(
                (LIFETIME / 2..=LIFETIME * 3 / 2).contains(&kept),
                "{kept:?}"
            );
        }
    }
}
