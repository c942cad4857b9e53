//! What the database holds: products and orders.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use utoipa::ToSchema;

/// Something the shop sells.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Product {
    #[schema(example = "TY-001")]
    pub sku: String,
    pub name: String,
    /// `books`, `tools`, `toys` or `garden`.
    pub category: String,
    #[schema(minimum = 1)]
    pub price_cents: i64,
}

/// An order that was written.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Order {
    #[schema(minimum = 1)]
    pub id: i64,
    #[schema(minimum = 1)]
    pub quantity: i64,
    #[schema(minimum = 1)]
    pub total_cents: i64,
}

/// One line of the list of newest orders.
#[derive(Debug, Clone, FromRow, Serialize, ToSchema)]
pub struct RecentOrder {
    pub id: i64,
    pub sku: String,
    pub quantity: i64,
    pub total_cents: i64,
}
