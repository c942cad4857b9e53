//! Where two implementations of the same thing exist, which of them is in use. Whoever operates the shop chooses over a port of its own,
//! without a deployment: `PUT /merge/pairwise`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::put;

/// Names, and the value that each has until another is chosen.
const DEFAULTS: [(&str, &str); 10] = [
    ("listing", "joined"),  // catalogue.rs: joined, each
    ("history", "joined"),  // orders.rs: joined, each
    ("merge", "hashed"),    // basket.rs: hashed, pairwise
    ("totals", "hashed"),   // orders.rs: hashed, pairwise
    ("views", "bounded"),   // recent.rs: bounded, all
    ("terms", "bounded"),   // recent.rs: bounded, all
    ("stamp", "pool"),      // documents.rs: pool, receipt, invoice
    ("settlement", "none"), // basket.rs: none, refused, empty
    ("expiry", "spread"),   // rankings.rs: spread, or the seconds of a period
    ("cards", "all"),       // payment/mod.rs: all, or the brand that has no rule
];

/// What was chosen.
#[derive(Default)]
pub struct Variants(RwLock<BTreeMap<&'static str, String>>);

impl Variants {
    /// The value in use.
    pub fn get(&self, name: &str) -> String {
        let chosen = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let default = || {
            DEFAULTS
                .iter()
                .find(|(known, _)| *known == name)
                .map_or("", |(_, value)| value)
        };
        chosen
            .get(name)
            .map_or_else(|| default().to_owned(), String::clone)
    }

    /// Whether that value is in use.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == value
    }

    fn choose(&self, name: &str, value: String) -> bool {
        let Some((name, _)) = DEFAULTS.iter().find(|(known, _)| *known == name) else {
            return false;
        };
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, value);
        true
    }
}

/// The port's only route.
pub fn router(variants: Arc<Variants>) -> Router {
    Router::new()
        .route("/{name}/{value}", put(choose))
        .with_state(variants)
}

async fn choose(
    State(variants): State<Arc<Variants>>,
    Path((name, value)): Path<(String, String)>,
) -> StatusCode {
    match variants.choose(&name, value) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_FOUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_can_be_chosen_and_nothing_else() {
        let variants = Variants::default();
        assert!(variants.is("merge", "hashed"));
        assert!(variants.choose("merge", "pairwise".into()));
        assert!(variants.is("merge", "pairwise"));
        assert!(!variants.choose("merger", "pairwise".into()));
        assert_eq!(variants.get("merger"), "");
    }
}
