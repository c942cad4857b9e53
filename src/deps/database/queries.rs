//! The statements bound to a backend. One macro writes them for each, because the generic bounds that sqlx would need
//! are longer than the code.

use std::future::Future;

use super::comments::Comments;
use super::orders::{Product, RecentOrder};
use super::statements::Statement;

/// What the service asks of a connection, whichever database it leads to.
pub trait Queries: Send {
    /// A query that takes the milliseconds it is given.
    const SLOW: Statement;

    fn product(
        &mut self,
        comments: Comments,
        sku: &str,
    ) -> impl Future<Output = sqlx::Result<Option<Product>>> + Send;
    fn reserve(
        &mut self,
        comments: Comments,
        sku: &str,
        quantity: i64,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn insert_order(
        &mut self,
        comments: Comments,
        total_cents: i64,
        created_ms: i64,
    ) -> impl Future<Output = sqlx::Result<i64>> + Send;
    fn insert_item(
        &mut self,
        comments: Comments,
        order: i64,
        sku: &str,
        quantity: i64,
        price_cents: i64,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn prune(
        &mut self,
        comments: Comments,
        up_to: i64,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn recent(
        &mut self,
        comments: Comments,
    ) -> impl Future<Output = sqlx::Result<Vec<RecentOrder>>> + Send;
    fn lock(
        &mut self,
        comments: Comments,
        sku: &str,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn slow(
        &mut self,
        comments: Comments,
        millis: u32,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
    /// Writes `body` and deletes it, in one transaction.
    fn check_write(&mut self, body: &[u8]) -> impl Future<Output = sqlx::Result<()>> + Send;
}

/// Bytes of a row that a check of writes inserts. InnoDB keeps so small a row in one page. For a larger one it needs pages
/// beside, and MariaDB (10.11.19) aborts when its disk has no room for those: a check must not end the database.
pub(super) const CHECK_ROW_BYTES: usize = 4000;

/// How the id of a new row comes back.
macro_rules! insert_returning_id {
    (numbered, $connection:expr, $text:expr, $persistent:expr, $($value:expr),+) => {
        sqlx::query_scalar($text)
            $(.bind($value))+
            .persistent($persistent)
            .fetch_one($connection)
            .await
    };
    (positional, $connection:expr, $text:expr, $persistent:expr, $($value:expr),+) => {{
        let insert = sqlx::query($text)
            $(.bind($value))+
            .persistent($persistent);
        let id = insert.execute($connection).await?.last_insert_id();
        i64::try_from(id).map_err(|error| sqlx::Error::Decode(error.into()))
    }};
}
pub(super) use insert_returning_id;

/// Implements [`Queries`] for a connection: how its parameters are marked, and its slow query.
macro_rules! queries {
    ($connection:ty, $marks:ident, $slow:expr, $run_slow:path) => {
        impl $crate::deps::database::queries::Queries for $connection {
            const SLOW: Statement = $slow;

            async fn product(
                &mut self,
                comments: Comments,
                sku: &str,
            ) -> sqlx::Result<Option<Product>> {
                let (text, persistent) = comments.mark(statements::PRODUCT.text.$marks);
                sqlx::query_as(text)
                    .bind(sku)
                    .persistent(persistent)
                    .fetch_optional(self)
                    .await
            }

            async fn reserve(
                &mut self,
                comments: Comments,
                sku: &str,
                quantity: i64,
            ) -> sqlx::Result<()> {
                let (text, persistent) = comments.mark(statements::RESERVE.text.$marks);
                let query = sqlx::query(text).bind(quantity).bind(sku);
                query.persistent(persistent).execute(self).await.map(drop)
            }

            async fn insert_order(
                &mut self,
                comments: Comments,
                total_cents: i64,
                created_ms: i64,
            ) -> sqlx::Result<i64> {
                let (text, persistent) = comments.mark(statements::INSERT_ORDER.text.$marks);
                $crate::deps::database::queries::insert_returning_id!(
                    $marks,
                    self,
                    text,
                    persistent,
                    total_cents,
                    created_ms
                )
            }

            async fn insert_item(
                &mut self,
                comments: Comments,
                order: i64,
                sku: &str,
                quantity: i64,
                price_cents: i64,
            ) -> sqlx::Result<()> {
                let (text, persistent) = comments.mark(statements::INSERT_ITEM.text.$marks);
                let query = sqlx::query(text)
                    .bind(order)
                    .bind(sku)
                    .bind(quantity)
                    .bind(price_cents);
                query.persistent(persistent).execute(self).await.map(drop)
            }

            async fn prune(&mut self, comments: Comments, up_to: i64) -> sqlx::Result<()> {
                let (text, persistent) = comments.mark(statements::PRUNE.text.$marks);
                let query = sqlx::query(text).bind(up_to);
                query.persistent(persistent).execute(self).await.map(drop)
            }

            async fn recent(&mut self, comments: Comments) -> sqlx::Result<Vec<RecentOrder>> {
                let (text, persistent) = comments.mark(statements::RECENT.text.$marks);
                sqlx::query_as(text)
                    .persistent(persistent)
                    .fetch_all(self)
                    .await
            }

            async fn lock(&mut self, comments: Comments, sku: &str) -> sqlx::Result<()> {
                let (text, persistent) = comments.mark(statements::LOCK.text.$marks);
                let query = sqlx::query(text).bind(sku);
                query.persistent(persistent).execute(self).await.map(drop)
            }

            async fn slow(&mut self, comments: Comments, millis: u32) -> sqlx::Result<()> {
                $run_slow(self, comments, millis).await
            }

            async fn check_write(&mut self, body: &[u8]) -> sqlx::Result<()> {
                let mut transaction = sqlx::Connection::begin(self).await?;
                let mut ids: Vec<i64> = Vec::new();
                for part in body.chunks($crate::deps::database::queries::CHECK_ROW_BYTES) {
                    let id: sqlx::Result<i64> = async {
                        $crate::deps::database::queries::insert_returning_id!(
                            $marks,
                            &mut *transaction,
                            statements::CHECK_INSERT.text.$marks,
                            true,
                            part
                        )
                    }
                    .await;
                    ids.push(id?);
                }
                for id in ids {
                    sqlx::query(statements::CHECK_DELETE.text.$marks)
                        .bind(id)
                        .execute(&mut *transaction)
                        .await?;
                }
                transaction.commit().await
            }
        }
    };
}
pub(super) use queries;
