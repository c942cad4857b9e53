//! What customers bought.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use signalbox_telemetry::profiles;
use sqlx::FromRow;
use sqlx::sqlite::SqliteRow;

use crate::database::Statement;
use crate::problem::{Problem, json};
use crate::state::Shop;

static NEWEST: Statement = Statement {
    operation: "SELECT",
    collection: "orders",
    summary: "SELECT orders",
    text: "SELECT id, total_cents FROM orders WHERE customer_id = ? ORDER BY id DESC LIMIT 20",
};
static NEWEST_WITH_LINES: Statement = Statement {
    operation: "SELECT",
    collection: "orders",
    summary: "SELECT orders order_lines",
    text: "SELECT orders.id, total_cents, count(order_lines.id) FROM (SELECT id, total_cents FROM orders WHERE customer_id = ? ORDER BY id DESC LIMIT 20) AS orders \
           LEFT JOIN order_lines ON order_id = orders.id GROUP BY orders.id",
};
static COUNT_LINES: Statement = Statement {
    operation: "SELECT",
    collection: "order_lines",
    summary: "SELECT order_lines",
    text: "SELECT count(*) FROM order_lines WHERE order_id = ?",
};
static LINES: Statement = Statement {
    operation: "SELECT",
    collection: "order_lines",
    summary: "SELECT order_lines",
    text: "SELECT product_id, quantity, price_cents FROM order_lines WHERE order_id = ?",
};
static ALL: Statement = Statement {
    operation: "SELECT",
    collection: "orders",
    summary: "SELECT orders",
    text: "SELECT placed_on, total_cents FROM orders WHERE customer_id = ?",
};

#[derive(Serialize)]
struct Past {
    id: i64,
    total_cents: i64,
    lines: i64,
}

/// A line of an order.
#[derive(Serialize)]
pub struct Line {
    pub product_id: i64,
    pub quantity: i64,
    pub price_cents: i64,
}

impl FromRow<'_, SqliteRow> for Line {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let (product_id, quantity, price_cents) = FromRow::from_row(row)?;
        Ok(Self {
            product_id,
            quantity,
            price_cents,
        })
    }
}

/// `GET /customers/{id}/orders`: the newest.
pub async fn history(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let past = match shop.variants.is("history", "each") {
        true => history_each(&shop, id).await?,
        false => history_joined(&shop, id).await?,
    };
    json(&past)
}

async fn history_joined(shop: &Shop, id: i64) -> Result<Vec<Past>, Problem> {
    let mut connection = shop.database.acquire().await?;
    let rows = sqlx::query_as::<_, (i64, i64, i64)>(NEWEST_WITH_LINES.text)
        .bind(id)
        .fetch_all(&mut *connection);
    let rows = shop.database.observed(&NEWEST_WITH_LINES, rows).await?;
    let past = rows.into_iter().map(|(id, total_cents, lines)| Past {
        id,
        total_cents,
        lines,
    });
    Ok(past.collect())
}

/// The lines are counted by the order, as its own page does.
async fn history_each(shop: &Shop, id: i64) -> Result<Vec<Past>, Problem> {
    let mut connection = shop.database.acquire().await?;
    let rows = sqlx::query_as::<_, (i64, i64)>(NEWEST.text)
        .bind(id)
        .fetch_all(&mut *connection);
    let mut past = Vec::new();
    for (id, total_cents) in shop.database.observed(&NEWEST, rows).await? {
        let lines = sqlx::query_scalar::<_, i64>(COUNT_LINES.text)
            .bind(id)
            .fetch_one(&mut *connection);
        let lines = shop.database.observed(&COUNT_LINES, lines).await?;
        past.push(Past {
            id,
            total_cents,
            lines,
        });
    }
    Ok(past)
}

/// `GET /orders/{id}`
pub async fn show(State(shop): State<Arc<Shop>>, Path(id): Path<i64>) -> Result<Response, Problem> {
    json(&lines(&shop, id).await?)
}

/// The lines of an order.
///
/// # Errors
/// [`Problem::NotFound`], or the database's.
pub async fn lines(shop: &Shop, id: i64) -> Result<Vec<Line>, Problem> {
    let mut connection = shop.database.acquire().await?;
    let lines = sqlx::query_as::<_, Line>(LINES.text)
        .bind(id)
        .fetch_all(&mut *connection);
    let lines = shop.database.observed(&LINES, lines).await?;
    match lines.is_empty() {
        true => Err(Problem::NotFound("order")),
        false => Ok(lines),
    }
}

/// `GET /customers/{id}/totals`: what was spent on each day.
pub async fn totals(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let mut connection = shop.database.acquire().await?;
    let orders = sqlx::query_as::<_, (String, i64)>(ALL.text)
        .bind(id)
        .fetch_all(&mut *connection);
    let orders = shop.database.observed(&ALL, orders).await?;
    drop(connection);
    let pairwise = shop.variants.is("totals", "pairwise");
    let span = tracing::info_span!("add up days", shop.customer.orders = orders.len());
    // Long lists take a while, so this is not done on the thread that serves everybody.
    let work = move || {
        span.in_scope(|| {
            profiles::span_scope("/customers/{id}/totals", || add_up_days(orders, pairwise)).0
        })
    };
    let days = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Problem::Failed(error.to_string()))?;
    json(&days)
}

/// Total of each day, in order.
fn add_up_days(orders: Vec<(String, i64)>, pairwise: bool) -> Vec<(String, i64)> {
    let mut days = match pairwise {
        true => add_pairwise(orders),
        false => add_hashed(orders),
    };
    days.sort_unstable();
    days
}

fn add_hashed(orders: Vec<(String, i64)>) -> Vec<(String, i64)> {
    let mut days: HashMap<String, i64> = HashMap::new();
    for (day, cents) in orders {
        *days.entry(day).or_default() += cents;
    }
    days.into_iter().collect()
}

/// Needs no table: most customers have a handful of orders.
#[inline(never)] // a profile of the release build names it
fn add_pairwise(orders: Vec<(String, i64)>) -> Vec<(String, i64)> {
    let mut days: Vec<(String, i64)> = Vec::new();
    for (day, cents) in orders {
        match days.iter_mut().find(|(other, _)| *other == day) {
            Some((_, total)) => *total += cents,
            None => days.push((day, cents)),
        }
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_adding_up_make_the_same() {
        let order = |day: &str, cents| (day.to_owned(), cents);
        let orders = vec![
            order("2026-02-01", 5),
            order("2026-01-01", 1),
            order("2026-02-01", 2),
        ];
        let days = [order("2026-01-01", 1), order("2026-02-01", 7)];
        assert_eq!(add_up_days(orders.clone(), false), days);
        assert_eq!(add_up_days(orders, true), days);
    }
}
