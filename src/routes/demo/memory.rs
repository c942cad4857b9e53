//! Lesson: where the memory is. `GET /demo/memory` allocates in named functions, holds, and gives back.
//!
//! Where to look: the heap profile shows `allocate_order_book` while it holds; `signalbox.demo.memory.held` and the
//! process's resident memory rise and fall with it. All requests together hold a bounded amount: beyond it 503.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::web;
use actix_web::web::{Data, Json, Query};
use serde::{Deserialize, Serialize};
use tracing::Instrument;
use utoipa::{IntoParams, ToSchema};

use crate::error::{Error, Kind};
use crate::instruments;
use crate::limits::{bounded, memory_exhausted};
use signalbox_telemetry::profiles;

const MEBIBYTE: u64 = 1024 * 1024;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// Mebibytes to allocate.
    #[param(value_type = Option<i32>, minimum = 1, maximum = 128, default = 16)]
    mb: Option<String>,
    /// Milliseconds to hold them.
    #[param(value_type = Option<i32>, minimum = 0, maximum = 5000, default = 100)]
    hold_ms: Option<String>,
}

/// What all requests may hold together. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Account>);

struct Account {
    held: AtomicU64,
    most: u64,
}

/// A part of the budget, given back when dropped.
struct Share {
    account: Arc<Account>,
    bytes: u64,
}

impl Budget {
    pub fn new(mebibytes: u32) -> Self {
        Self(Arc::new(Account {
            held: AtomicU64::new(0),
            most: u64::from(mebibytes) * MEBIBYTE,
        }))
    }

    fn take(&self, bytes: u64) -> Result<Share, Error> {
        let account = self.0.clone();
        let taken = account
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                Some(held + bytes).filter(|sum| *sum <= account.most)
            });
        if taken.is_err() {
            return Err(memory_exhausted(format!(
                "all requests together may hold {} MiB",
                account.most / MEBIBYTE
            )));
        }
        instruments::memory_held(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(Share { account, bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.held.fetch_sub(self.bytes, Ordering::AcqRel);
        instruments::memory_held(-i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

/// What was held.
#[derive(Serialize, ToSchema)]
pub struct Held {
    #[schema(minimum = 1)]
    bytes: u64,
    /// Pieces that were allocated.
    #[schema(minimum = 1)]
    pieces: usize,
    /// Milliseconds they were held.
    #[schema(minimum = 0, maximum = 5000)]
    hold_ms: u32,
}

/// Real allocation in named functions.
#[utoipa::path(get, path = "/demo/memory", tag = "demo", params(Params),
    responses((status = 200, description = "Held and given back", body = Held)))]
pub async fn memory(params: Query<Params>, budget: Data<Budget>) -> Result<Json<Held>, Error> {
    Ok(Json(hold(&params, &budget, "/demo/memory").await?))
}

/// An allocation that cannot be had, after one that could.
#[utoipa::path(get, path = "/demo/memory-error", tag = "demo", params(Params),
    responses((status = 500, description = "The allocation failed", body = crate::error::Problem, content_type = "application/problem+json")))]
pub async fn memory_error(
    params: Query<Params>,
    budget: Data<Budget>,
) -> Result<Json<Held>, Error> {
    let held = hold(&params, &budget, "/demo/memory-error").await?;
    // More than any address space holds: refused by arithmetic, nothing is allocated.
    let refused = Vec::<u64>::new().try_reserve_exact(usize::MAX / 2);
    refused.map_err(|error| Error::new(Kind::Internal, "the allocation failed").because(error))?;
    Ok(Json(held))
}

async fn hold(params: &Params, budget: &Budget, route: &'static str) -> Result<Held, Error> {
    let mb = bounded("mb", params.mb.as_deref(), 16, 1..=128)?;
    let hold_ms = bounded("hold_ms", params.hold_ms.as_deref(), 100, 0..=5000)?;
    let share = budget.take(u64::from(mb) * MEBIBYTE)?;
    let span = tracing::info_span!("hold memory");
    async {
        let current = tracing::Span::current();
        // Touching the pages takes time: not on a thread that serves requests. The share goes along, so that a request
        // that is given up meanwhile does not give it back before the memory.
        let (share, (book, _)) = web::block(move || {
            let allocate = || profiles::span_scope(route, || allocate_order_book(mb));
            (share, current.in_scope(allocate))
        })
        .await?;
        tracing::info!("holding {mb} MiB for {hold_ms} ms");
        tokio::time::sleep(Duration::from_millis(hold_ms.into())).await;
        let held = Held {
            bytes: share.bytes,
            pieces: book.len(),
            hold_ms,
        };
        drop(book);
        drop(share);
        Ok(held)
    }
    .instrument(span)
    .await
}

/// A page of orders for each mebibyte.
#[inline(never)]
fn allocate_order_book(mebibytes: u32) -> Vec<Vec<u8>> {
    (0..mebibytes).map(allocate_page).collect()
}

/// Written to, so that it is really resident.
#[inline(never)]
fn allocate_page(number: u32) -> Vec<u8> {
    let byte = u8::try_from(number % 255).unwrap_or(0) + 1;
    vec![byte; MEBIBYTE as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget_and_come_back() {
        let budget = Budget::new(2);
        let first = budget.take(MEBIBYTE).expect("the first share");
        let second = budget.take(MEBIBYTE).expect("the second share");
        let refused = budget.take(1).err().expect("beyond the budget");
        assert_eq!(refused.to_string(), "all requests together may hold 2 MiB");
        drop((first, second));
        assert!(budget.take(2 * MEBIBYTE).is_ok());
    }
}
