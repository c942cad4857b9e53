//! Receipts and invoices. Each bears a stamp by which a copy can be checked, and which is slow to make on purpose.

use std::sync::Arc;

use axum::extract::{Path, State};
use sha2::{Digest, Sha256};

use crate::orders::{self, Line};
use crate::problem::Problem;
use crate::state::Shop;

/// How often the stamp is hashed: about 100 ms. An unoptimised build is about fifty times as slow.
const ROUNDS: u32 = if cfg!(debug_assertions) {
    10_000
} else {
    500_000
};

/// `GET /orders/{id}/receipt`
pub async fn receipt(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<i64>,
) -> Result<String, Problem> {
    let lines = orders::lines(&shop, id).await?;
    let text = format!("Receipt of order {id}, {} lines", lines.len());
    if shop.variants.is("stamp", "receipt") {
        return Ok(print_receipt(&text));
    }
    elsewhere(move || print_receipt(&text)).await
}

/// `GET /orders/{id}/invoice`
pub async fn invoice(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<i64>,
) -> Result<String, Problem> {
    let lines = orders::lines(&shop, id).await?;
    let cents: i64 = lines
        .iter()
        .map(
            |Line {
                 quantity,
                 price_cents,
                 ..
             }| quantity * price_cents,
        )
        .sum();
    let text = format!("Invoice of order {id}: {cents} cents");
    if shop.variants.is("stamp", "invoice") {
        return Ok(print_invoice(&text));
    }
    elsewhere(move || print_invoice(&text)).await
}

/// On a thread that nobody else waits for.
async fn elsewhere(work: impl FnOnce() -> String + Send + 'static) -> Result<String, Problem> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(|error| Problem::Failed(error.to_string()))
}

#[inline(never)] // a profile of the release build names it
fn print_receipt(text: &str) -> String {
    let _printing = tracing::info_span!("print receipt").entered();
    format!("{text}\n{}\n", stamp(text))
}

#[inline(never)] // a profile of the release build names it
fn print_invoice(text: &str) -> String {
    let _printing = tracing::info_span!("print invoice").entered();
    format!("{text}\n{}\n", stamp(text))
}

fn stamp(text: &str) -> String {
    let mut hash = Sha256::digest(text);
    for _ in 0..ROUNDS {
        hash = Sha256::digest(hash);
    }
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_of_its_text() {
        assert_eq!(stamp("a"), stamp("a"));
        assert_ne!(stamp("a"), stamp("b"));
        assert_eq!(stamp("a").len(), 64);
    }
}
