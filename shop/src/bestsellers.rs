//! What sells best in each category. Counting that takes long, so a ranking is kept for a while.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;

use crate::database::Statement;
use crate::problem::{Problem, json};
use crate::rankings::Rank;
use crate::state::Shop;

static COUNT: Statement = Statement {
    operation: "SELECT",
    collection: "order_lines",
    summary: "SELECT order_lines products",
    text: "SELECT name, sum(quantity) AS sold FROM order_lines JOIN products ON products.id = product_id WHERE category = ? \
           GROUP BY name ORDER BY sold DESC LIMIT 10",
};

/// `GET /bestsellers/{category}`
pub async fn show(
    State(shop): State<Arc<Shop>>,
    Path(category): Path<String>,
) -> Result<Response, Problem> {
    if let Some(ranking) = shop.rankings.get(&category) {
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
    let answer = json(&ranking);
    shop.rankings
        .keep(category, ranking, &shop.variants.get("expiry"));
    answer
}
