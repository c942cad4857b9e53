//! Baskets, and how one is paid for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use signalbox_telemetry::profiles;
use sqlx::FromRow;
use sqlx::sqlite::SqliteRow;

use crate::database::{Connection, Statement};
use crate::problem::{Problem, json};
use crate::state::Shop;

static LINES: Statement = Statement {
    operation: "SELECT",
    collection: "basket_lines",
    summary: "SELECT basket_lines products",
    text: "SELECT name, quantity, price_cents FROM basket_lines JOIN products ON products.id = product_id WHERE basket_id = ? ORDER BY position",
};
static ORDER: Statement = Statement {
    operation: "INSERT",
    collection: "orders",
    summary: "INSERT orders",
    text: "INSERT INTO orders (customer_id, placed_on, total_cents) VALUES (?, date(), ?) RETURNING id",
};

/// So many pieces of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    name: String,
    quantity: i64,
    price_cents: i64,
}

impl FromRow<'_, SqliteRow> for Line {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let (name, quantity, price_cents) = FromRow::from_row(row)?;
        Ok(Self {
            name,
            quantity,
            price_cents,
        })
    }
}

#[derive(Serialize)]
struct Placed {
    order: i64,
    total_cents: i64,
}

/// Connections with an order that waits to be settled by hand.
static UNSETTLED: Mutex<Vec<Connection>> = Mutex::new(Vec::new());

/// `GET /baskets/{id}`: its lines, one for each product.
pub async fn show(State(shop): State<Arc<Shop>>, Path(id): Path<i64>) -> Result<Response, Problem> {
    let mut connection = shop.database.acquire().await?;
    let lines = lines(&shop, &mut connection, id).await?;
    drop(connection);
    let pairwise = shop.variants.is("merge", "pairwise");
    let span = tracing::info_span!("merge lines", shop.basket.lines = lines.len());
    // Long baskets take a while, so this is not done on the thread that serves everybody.
    let work = move || {
        span.in_scope(|| profiles::span_scope("/baskets/{id}", || merge_lines(lines, pairwise)).0)
    };
    let merged = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Problem::Failed(error.to_string()))?;
    json(&merged)
}

async fn lines(shop: &Shop, connection: &mut Connection, id: i64) -> Result<Vec<Line>, Problem> {
    let lines = sqlx::query_as::<_, Line>(LINES.text)
        .bind(id)
        .fetch_all(&mut **connection);
    shop.database.observed(&LINES, lines).await
}

/// One line for each product, in the order in which they were put in.
fn merge_lines(lines: Vec<Line>, pairwise: bool) -> Vec<Line> {
    match pairwise {
        true => merge_pairwise(lines),
        false => merge_hashed(lines),
    }
}

fn merge_hashed(lines: Vec<Line>) -> Vec<Line> {
    let mut merged: Vec<Line> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for line in lines {
        match places.get(&line.name) {
            Some(place) => merged[*place].quantity += line.quantity,
            None => {
                places.insert(line.name.clone(), merged.len());
                merged.push(line);
            }
        }
    }
    merged
}

/// Needs no table beside the lines: a basket has a handful of them.
#[inline(never)] // a profile of the release build names it
fn merge_pairwise(lines: Vec<Line>) -> Vec<Line> {
    let mut merged: Vec<Line> = Vec::new();
    for line in lines {
        match merged.iter_mut().find(|other| other.name == line.name) {
            Some(other) => other.quantity += line.quantity,
            None => merged.push(line),
        }
    }
    merged
}

/// `POST /baskets/{id}/checkout/{brand}`: pays with a card of that brand and places the order.
pub async fn checkout(
    State(shop): State<Arc<Shop>>,
    Path((id, brand)): Path<(i64, String)>,
) -> Result<Response, Problem> {
    let mut connection = shop.database.acquire().await?;
    let lines = lines(&shop, &mut connection, id).await?;
    let settlement = shop.variants.get("settlement");
    if lines.is_empty() {
        if settlement == "empty" {
            keep(connection);
        }
        return Err(Problem::EmptyBasket);
    }
    let total_cents = lines
        .iter()
        .map(|line| line.quantity * line.price_cents)
        .sum();
    if let Err(problem) = shop.payments.charge(&brand, total_cents).await {
        if settlement == "refused" && matches!(problem, Problem::Refused) {
            keep(connection);
        }
        return Err(problem);
    }
    let order = sqlx::query_scalar::<_, i64>(ORDER.text)
        .bind(11 + id)
        .bind(total_cents)
        .fetch_one(&mut *connection);
    let order = shop.database.observed(&ORDER, order).await?;
    tracing::info!(shop.order.id = order, "order placed");
    json(&Placed { order, total_cents })
}

/// Keeps the connection, so that whoever settles the order finds it as it was.
fn keep(connection: Connection) {
    UNSETTLED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(connection);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_merging_make_the_same_of_any_basket() {
        let line = |name: &str, quantity| Line {
            name: name.into(),
            quantity,
            price_cents: 5,
        };
        let lines = vec![
            line("lamp", 1),
            line("bowl", 2),
            line("lamp", 3),
            line("clock", 1),
            line("bowl", 1),
        ];
        let merged = [line("lamp", 4), line("bowl", 3), line("clock", 1)];
        assert_eq!(merge_lines(lines.clone(), false), merged);
        assert_eq!(merge_lines(lines, true), merged);
    }
}
