//! Products: the front page, one product, and the search.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;

use crate::database::Statement;
use crate::problem::{Problem, json};
use crate::recent::Product;
use crate::state::Shop;

static LIST: Statement = Statement {
    operation: "SELECT",
    collection: "products",
    summary: "SELECT products",
    text: "SELECT id, name, price_cents FROM products ORDER BY id LIMIT 24",
};
static LIST_WITH_STOCK: Statement = Statement {
    operation: "SELECT",
    collection: "products",
    summary: "SELECT products stock",
    text: "SELECT id, name, price_cents, pieces FROM products JOIN stock ON product_id = id ORDER BY id LIMIT 24",
};
static STOCK: Statement = Statement {
    operation: "SELECT",
    collection: "stock",
    summary: "SELECT stock",
    text: "SELECT pieces FROM stock WHERE product_id = ?",
};
static PRODUCT: Statement = Statement {
    operation: "SELECT",
    collection: "products",
    summary: "SELECT products",
    text: "SELECT id, name, price_cents, description FROM products WHERE id = ?",
};
static SEARCH: Statement = Statement {
    operation: "SELECT",
    collection: "products",
    summary: "SELECT products",
    text: "SELECT id, name, price_cents, description FROM products WHERE name LIKE '%' || ? || '%' LIMIT 20",
};

#[derive(Serialize)]
struct Listed {
    id: i64,
    name: String,
    price_cents: i64,
    pieces: i64,
}

/// `GET /products`: the front page.
pub async fn list(State(shop): State<Arc<Shop>>) -> Result<Response, Problem> {
    let products = match shop.variants.is("listing", "each") {
        true => list_each(&shop).await?,
        false => list_joined(&shop).await?,
    };
    json(&products)
}

async fn list_joined(shop: &Shop) -> Result<Vec<Listed>, Problem> {
    let mut connection = shop.database.acquire().await?;
    let rows = sqlx::query_as::<_, (i64, String, i64, i64)>(LIST_WITH_STOCK.text)
        .fetch_all(&mut *connection);
    let rows = shop.database.observed(&LIST_WITH_STOCK, rows).await?;
    let listed = rows
        .into_iter()
        .map(|(id, name, price_cents, pieces)| Listed {
            id,
            name,
            price_cents,
            pieces,
        });
    Ok(listed.collect())
}

/// The pieces in stock are looked up by the product, as its own page does.
async fn list_each(shop: &Shop) -> Result<Vec<Listed>, Problem> {
    let mut connection = shop.database.acquire().await?;
    let rows = sqlx::query_as::<_, (i64, String, i64)>(LIST.text).fetch_all(&mut *connection);
    let mut listed = Vec::new();
    for (id, name, price_cents) in shop.database.observed(&LIST, rows).await? {
        let pieces = sqlx::query_scalar::<_, i64>(STOCK.text)
            .bind(id)
            .fetch_one(&mut *connection);
        let pieces = shop.database.observed(&STOCK, pieces).await?;
        listed.push(Listed {
            id,
            name,
            price_cents,
            pieces,
        });
    }
    Ok(listed)
}

/// `GET /products/{id}`
pub async fn show(State(shop): State<Arc<Shop>>, Path(id): Path<i64>) -> Result<Response, Problem> {
    let mut connection = shop.database.acquire().await?;
    let product = sqlx::query_as::<_, Product>(PRODUCT.text)
        .bind(id)
        .fetch_optional(&mut *connection);
    let product = shop
        .database
        .observed(&PRODUCT, product)
        .await?
        .ok_or(Problem::NotFound("product"))?;
    shop.recent
        .remember_view(&product, shop.variants.is("views", "all"));
    json(&product)
}

/// `GET /search/{term}`
pub async fn search(
    State(shop): State<Arc<Shop>>,
    Path(term): Path<String>,
) -> Result<Response, Problem> {
    let mut connection = shop.database.acquire().await?;
    let found = sqlx::query_as::<_, Product>(SEARCH.text)
        .bind(&term)
        .fetch_all(&mut *connection);
    let found = shop.database.observed(&SEARCH, found).await?;
    drop(connection);
    shop.recent
        .remember_term(&term, &found, shop.variants.is("terms", "all"));
    json(&found)
}
