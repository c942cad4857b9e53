//! Lesson: the other side of a call. What the API asks of the worker: a quote now, a job later.
//!
//! Where to look: both server spans stand in the caller's trace; the job itself is done in a trace that links back.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::web::{Data, Json, Path, Query};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::deps::job::Job;
use crate::deps::worker_client::Quote;
use crate::error::{Error, Kind};
use crate::jobs::Jobs;
use crate::limits::bounded;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// Pieces to ship.
    #[param(value_type = Option<i32>, minimum = 1, maximum = 100, default = 1)]
    quantity: Option<String>,
}

/// What shipping costs.
#[utoipa::path(get, path = "/quotes/{sku}", tag = "worker",
    params(("sku" = String, Path, description = "Product number", min_length = 1, max_length = 16, pattern = "^[A-Z0-9-]{1,16}$"), Params),
    responses((status = 200, description = "A quote", body = Quote)))]
pub async fn quote(sku: Path<String>, params: Query<Params>) -> Result<Json<Quote>, Error> {
    let fit = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
    if sku.is_empty() || sku.len() > 16 || !sku.bytes().all(fit) {
        return Err(Error::out_of_range("sku", "1 to 16 of A-Z, 0-9 and -"));
    }
    let quantity = bounded("quantity", params.quantity.as_deref(), 1, 1..=100)?;
    let quote = choose_carrier(&sku, i64::from(quantity)).await;
    tracing::info!(
        signalbox.product.sku = sku.as_str(),
        "quoted {}",
        quote.carrier
    );
    Ok(Json(quote))
}

/// Compares three carriers; takes a few milliseconds, as such lookups do.
#[tracing::instrument(name = "choose carrier", skip_all)]
async fn choose_carrier(sku: &str, quantity: i64) -> Quote {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(1..6))).await;
    let weight = sku.bytes().map(i64::from).sum::<i64>() % 40 + 1;
    let load = weight * quantity;
    let (carrier, base, days) = match load {
        ..100 => ("bicycle", 300, 1),
        100..1000 => ("rail", 700, 2),
        _ => ("barge", 1900, 7),
    };
    Quote {
        carrier: carrier.to_owned(),
        shipping_cents: base + load,
        days,
    }
}

#[derive(Serialize, ToSchema)]
pub struct Accepted {
    /// Id of the job.
    id: String,
}

/// Takes a job to do later.
#[utoipa::path(post, path = "/jobs", tag = "worker", request_body = Job,
    responses((status = 202, description = "The job waits", body = Accepted)))]
pub async fn job(jobs: Data<Jobs>, job: Json<Job>) -> Result<HttpResponse, Error> {
    let job = job.into_inner();
    job.check()
        .map_err(|reason| Error::new(Kind::Unprocessable, reason))?;
    let id = job.id.clone();
    jobs.push(job).map_err(|_| {
        let detail = format!("{} jobs wait already", jobs.capacity());
        Error::new(Kind::Overloaded, detail).header(RETRY_AFTER, HeaderValue::from_static("1"))
    })?;
    Ok(HttpResponse::Accepted().json(Accepted { id }))
}
