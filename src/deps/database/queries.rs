//! The statements bound to a backend. One macro writes them for each, because the generic bounds that sqlx would need
//! are longer than the code.

use std::future::Future;

use super::Statement;
use super::{Product, RecentOrder};

/// What the service asks of a connection, whichever database it leads to.
pub trait Queries: Send {
    /// A query that takes the milliseconds it is given.
    const SLOW: Statement;

    fn product(&mut self, sku: &str) -> impl Future<Output = sqlx::Result<Option<Product>>> + Send;
    fn reserve(
        &mut self,
        sku: &str,
        quantity: i64,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn insert_order(
        &mut self,
        total_cents: i64,
        created_ms: i64,
    ) -> impl Future<Output = sqlx::Result<i64>> + Send;
    fn insert_item(
        &mut self,
        order: i64,
        sku: &str,
        quantity: i64,
        price_cents: i64,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn prune(&mut self, up_to: i64) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn recent(&mut self) -> impl Future<Output = sqlx::Result<Vec<RecentOrder>>> + Send;
    fn lock(&mut self, sku: &str) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn slow(&mut self, millis: u32) -> impl Future<Output = sqlx::Result<()>> + Send;
}

/// How the id of a new order comes back.
macro_rules! insert_order {
    (numbered, $connection:expr, $($value:expr),+) => {
        sqlx::query_scalar(statements::INSERT_ORDER.text.numbered)
            $(.bind($value))+
            .fetch_one($connection)
            .await
    };
    (positional, $connection:expr, $($value:expr),+) => {{
        let insert = sqlx::query(statements::INSERT_ORDER.text.positional)
            $(.bind($value))+;
        let id = insert.execute($connection).await?.last_insert_id();
        i64::try_from(id).map_err(|error| sqlx::Error::Decode(error.into()))
    }};
}
pub(super) use insert_order;

/// Implements [`Queries`] for a connection: how its parameters are marked, and its slow query.
macro_rules! queries {
    ($connection:ty, $marks:ident, $slow:expr, $run_slow:path) => {
        impl $crate::deps::database::queries::Queries for $connection {
            const SLOW: Statement = $slow;

            async fn product(&mut self, sku: &str) -> sqlx::Result<Option<Product>> {
                sqlx::query_as(statements::PRODUCT.text.$marks)
                    .bind(sku)
                    .fetch_optional(self)
                    .await
            }

            async fn reserve(&mut self, sku: &str, quantity: i64) -> sqlx::Result<()> {
                let query = sqlx::query(statements::RESERVE.text.$marks)
                    .bind(quantity)
                    .bind(sku);
                query.execute(self).await.map(drop)
            }

            async fn insert_order(
                &mut self,
                total_cents: i64,
                created_ms: i64,
            ) -> sqlx::Result<i64> {
                $crate::deps::database::queries::insert_order!(
                    $marks,
                    self,
                    total_cents,
                    created_ms
                )
            }

            async fn insert_item(
                &mut self,
                order: i64,
                sku: &str,
                quantity: i64,
                price_cents: i64,
            ) -> sqlx::Result<()> {
                let query = sqlx::query(statements::INSERT_ITEM.text.$marks)
                    .bind(order)
                    .bind(sku)
                    .bind(quantity)
                    .bind(price_cents);
                query.execute(self).await.map(drop)
            }

            async fn prune(&mut self, up_to: i64) -> sqlx::Result<()> {
                let query = sqlx::query(statements::PRUNE.text.$marks).bind(up_to);
                query.execute(self).await.map(drop)
            }

            async fn recent(&mut self) -> sqlx::Result<Vec<RecentOrder>> {
                sqlx::query_as(statements::RECENT.text.$marks)
                    .fetch_all(self)
                    .await
            }

            async fn lock(&mut self, sku: &str) -> sqlx::Result<()> {
                let query = sqlx::query(statements::LOCK.text.$marks).bind(sku);
                query.execute(self).await.map(drop)
            }

            async fn slow(&mut self, millis: u32) -> sqlx::Result<()> {
                $run_slow(self, millis).await
            }
        }
    };
}
pub(super) use queries;
