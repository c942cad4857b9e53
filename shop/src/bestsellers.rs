//! What sells best in each category. Counting that takes long, so a ranking is kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;

use crate::database::Statement;
use crate::problem::{Problem, json};
use crate::server::Shop;

/// How long a ranking is kept, on average.
const LIFETIME: Duration = Duration::from_secs(20);

static COUNT: Statement = Statement {
    operation: "SELECT",
    collection: "order_lines",
    summary: "SELECT order_lines products",
    text: "SELECT name, sum(quantity) AS sold FROM order_lines JOIN products ON products.id = product_id WHERE category = ? \
           GROUP BY name ORDER BY sold DESC LIMIT 10",
};

#[derive(Clone, Serialize, sqlx::FromRow)]
struct Rank {
    name: String,
    sold: i64,
}

/// The rankings that are kept, each with when it ends.
#[derive(Default)]
pub struct Rankings(Mutex<HashMap<String, (Duration, Vec<Rank>)>>);

/// `GET /bestsellers/{category}`
pub async fn show(
    State(shop): State<Arc<Shop>>,
    Path(category): Path<String>,
) -> Result<Response, Problem> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let kept = {
        let rankings = shop
            .bestsellers
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rankings
            .get(&category)
            .filter(|(end, _)| now < *end)
            .map(|(_, ranking)| ranking.clone())
    };
    if let Some(ranking) = kept {
        return json(&ranking);
    }
    let mut connection = shop.database.acquire().await?;
    let ranking = sqlx::query_as::<_, Rank>(COUNT.text)
        .bind(&category)
        .fetch_all(&mut *connection);
    let ranking = shop.database.observed(&COUNT, ranking).await?;
    if ranking.is_empty() {
        return Err(Problem::NotFound("category"));
    }
    let end = end(now, &shop.variants.get("expiry"));
    let answer = json(&ranking);
    shop.bestsellers
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(category, (end, ranking));
    answer
}

/// When a ranking made `now` ends: after its lifetime, half of it more or less, or with the period (in seconds) that `expiry` names.
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
