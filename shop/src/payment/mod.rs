//! The payment service: authorises a charge by the rule of the card's brand. It has no database, so replicas share nothing.

mod client;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use sha2::{Digest, Sha256};

pub use self::client::Payments;
use crate::problem::Problem;
use crate::variants::Variants;

/// Brands, and the most that a card of each pays at once, in cents.
const RULES: [(&str, i64); 4] = [
    ("visa", 9_000_000),
    ("mastercard", 9_000_000),
    ("amex", 9_000_000),
    ("prepaid", 5_000),
];

/// The payment service's only route.
pub fn router(variants: Arc<Variants>) -> Router {
    Router::new()
        .route("/charges/{brand}/{cents}", post(charge))
        .with_state(variants)
}

async fn charge(
    State(variants): State<Arc<Variants>>,
    Path((brand, cents)): Path<(String, i64)>,
) -> Result<String, Problem> {
    match limit(&brand, &variants.get("cards")) {
        None => Err(Problem::NoRule(brand)),
        Some(limit) if cents > limit => Err(Problem::Refused),
        Some(_) => Ok(authorisation(&brand, cents)),
    }
}

/// The most that a card of this brand pays at once. `without`: the brand that the list of rules lacks.
fn limit(brand: &str, without: &str) -> Option<i64> {
    let rules = RULES.iter().filter(|(name, _)| *name != without);
    rules
        .into_iter()
        .find(|(name, _)| *name == brand)
        .map(|(_, limit)| *limit)
}

fn authorisation(brand: &str, cents: i64) -> String {
    let hash = Sha256::digest(format!("{brand} {cents}"));
    hash.iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_brand_has_its_rule_until_the_list_lacks_it() {
        assert_eq!(limit("prepaid", "all"), Some(5_000));
        assert_eq!(limit("amex", "amex"), None);
        assert_eq!(limit("visa", "amex"), Some(9_000_000));
        assert_eq!(limit("shells", "all"), None);
    }
}
