//! What the database holds: products and orders. Rows are read by the order of their columns, which is that of the fields.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Row};
use utoipa::ToSchema;

/// Something the shop sells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Product {
    #[schema(example = "TY-001")]
    pub sku: String,
    pub name: String,
    /// `books`, `tools`, `toys` or `garden`.
    pub category: String,
    #[schema(minimum = 1)]
    pub price_cents: i64,
}

impl<'r, R: Row> FromRow<'r, R> for Product
where
    (String, String, String, i64): FromRow<'r, R>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let (sku, name, category, price_cents) = FromRow::from_row(row)?;
        Ok(Self {
            sku,
            name,
            category,
            price_cents,
        })
    }
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
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RecentOrder {
    pub id: i64,
    pub sku: String,
    pub quantity: i64,
    pub total_cents: i64,
}

impl<'r, R: Row> FromRow<'r, R> for RecentOrder
where
    (i64, String, i64, i64): FromRow<'r, R>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let (id, sku, quantity, total_cents) = FromRow::from_row(row)?;
        Ok(Self {
            id,
            sku,
            quantity,
            total_cents,
        })
    }
}
