//! Lesson: logs with fields. `GET /demo/logs` writes records of every level, each with a readable message and fields.
//!
//! Where to look: every record carries the trace and span id of the request; filter by level, by
//! `signalbox.payment.provider` or by `signalbox.order.id`, then go from a record to its trace.

use actix_web::web::{Json, Query};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::Error;
use crate::limits::bounded;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// Records to write. The first five are of five different levels, the others random.
    #[param(value_type = Option<i32>, minimum = 1, maximum = 1000, default = 10)]
    count: Option<String>,
}

/// How many records were written, by level.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Written {
    #[schema(minimum = 1, maximum = 1000)]
    records: u32,
    #[schema(minimum = 0)]
    error: u32,
    #[schema(minimum = 0)]
    warn: u32,
    #[schema(minimum = 0)]
    info: u32,
    #[schema(minimum = 0)]
    debug: u32,
    #[schema(minimum = 0)]
    trace: u32,
}

/// Random records of every level.
#[utoipa::path(get, path = "/demo/logs", tag = "demo", params(Params),
    responses((status = 200, description = "Written", body = Written)))]
pub async fn logs(params: Query<Params>) -> Result<Json<Written>, Error> {
    let count = bounded("count", params.count.as_deref(), 10, 1..=1000)?;
    let mut written = Written::default();
    for index in 0..count {
        let level = if index < 5 {
            index
        } else {
            fastrand::u32(0..5)
        };
        write_record(level, &mut written);
        written.records += 1;
    }
    Ok(Json(written))
}

fn write_record(level: u32, written: &mut Written) {
    const PROVIDERS: [&str; 4] = ["card", "giro", "invoice", "voucher"];
    let provider = PROVIDERS[fastrand::usize(0..PROVIDERS.len())];
    let order = fastrand::i64(1..100_000);
    let attempt = fastrand::i64(1..4);
    match level {
        0 => {
            written.error += 1;
            tracing::error!(
                signalbox.order.id = order,
                signalbox.payment.provider = provider,
                signalbox.payment.attempt = attempt,
                "payment refused, order kept open"
            );
        }
        1 => {
            written.warn += 1;
            tracing::warn!(
                signalbox.order.id = order,
                signalbox.payment.provider = provider,
                signalbox.payment.attempt = attempt,
                "payment provider slow, trying again"
            );
        }
        2 => {
            written.info += 1;
            tracing::info!(
                signalbox.order.id = order,
                signalbox.payment.provider = provider,
                signalbox.order.total_cents = fastrand::i64(500..50_000),
                "order paid"
            );
        }
        3 => {
            written.debug += 1;
            tracing::debug!(
                signalbox.order.id = order,
                signalbox.product.sku = "TY-001",
                "stock reserved"
            );
        }
        _ => {
            written.trace += 1;
            tracing::trace!(signalbox.order.id = order, "price list consulted");
        }
    }
}
