//! Lesson: one trace over everything. `GET /demo/work` places an order: cache, database, a call of the worker, and a job
//! that is done later.
//!
//! Where to look: the trace holds the cache lookup, the SQL of one transaction with its COMMIT, the CLIENT span of the
//! call with the worker's server span below it, and `send signalbox.jobs`; another trace, `process signalbox.jobs`, links
//! back to it. Take the worker or Redis away: the answer says `degraded`, the spans say why.

use actix_web::web::{Data, Json, Query};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::deps::cache::{Cache, Lookup};
use crate::deps::database::{Database, Order, Product, RecentOrder};
use crate::deps::job::Job;
use crate::deps::queue::Producer;
use crate::deps::worker_client::{Quote, WorkerClient};
use crate::error::{Error, Kind};
use crate::limits::bounded;
use signalbox_telemetry::RequestHandle;

/// What the shop sells: the products of migrations/*/0002_products.sql.
const SKUS: [&str; 20] = [
    "BK-001", "BK-002", "BK-003", "BK-004", "BK-005", "TL-001", "TL-002", "TL-003", "TL-004",
    "TL-005", "TY-001", "TY-002", "TY-003", "TY-004", "TY-005", "GD-001", "GD-002", "GD-003",
    "GD-004", "GD-005",
];

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// Pieces to order. Absent: 1 to 5, at random.
    #[param(value_type = Option<i32>, minimum = 1, maximum = 100)]
    quantity: Option<String>,
}

/// An order and what came of it.
#[derive(Serialize, ToSchema)]
pub struct Placed {
    order: Order,
    product: Product,
    /// Where the price came from: `hit`, `miss` or `unavailable`.
    #[schema(example = "hit")]
    cache: &'static str,
    /// What shipping costs; absent when the worker is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    quote: Option<Quote>,
    /// The job that was handed over; absent when it could not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    /// The newest orders, at most five.
    #[schema(max_items = 5)]
    recent: Vec<RecentOrder>,
    /// What was missing: `cache`, `worker`, `queue`.
    degraded: Vec<&'static str>,
}

/// Places an order: database, cache, worker and a job in one trace.
#[utoipa::path(get, path = "/demo/work", tag = "demo", params(Params),
    responses((status = 200, description = "Ordered", body = Placed)))]
pub async fn work(
    params: Query<Params>,
    request: Option<RequestHandle>,
    database: Data<Database>,
    cache: Data<Cache>,
    worker: Data<WorkerClient>,
    queue: Data<Producer>,
) -> Result<Json<Placed>, Error> {
    let random = fastrand::u32(1..=5);
    let quantity = bounded("quantity", params.quantity.as_deref(), random, 1..=100)?.into();
    let request_id = request.map(|request| request.id().to_owned());
    let mut degraded = Vec::new();

    let sku = SKUS[fastrand::usize(0..SKUS.len())];
    let (product, looked_up) = find_product(sku, &cache, &database).await?;
    if looked_up == "unavailable" {
        degraded.push("cache");
    }

    let quote = worker.quote(sku, quantity, request_id.as_deref()).await;
    let quote = quote
        .inspect_err(|error| {
            tracing::warn!(error.type = error.class(), "no quote, ordering without it: {error}");
            degraded.push("worker");
        })
        .ok();

    let order = database.place_order(&product, quantity).await?;

    let job = Job::invoice(order.id, order.total_cents, request_id);
    let job_id = job.id.clone();
    let handed_over = queue.send(job).await.inspect_err(|error| {
        tracing::warn!(
            signalbox.order.id = order.id,
            "the invoice was not handed over: {error}"
        );
        degraded.push("queue");
    });

    let recent = database.recent_orders().await?;
    tracing::info!(
        signalbox.order.id = order.id,
        signalbox.order.total_cents = order.total_cents,
        signalbox.product.sku = sku,
        "order accepted"
    );
    Ok(Json(Placed {
        order,
        product,
        cache: looked_up,
        quote,
        job_id: handed_over.ok().map(|()| job_id),
        recent,
        degraded,
    }))
}

/// From the cache, else from the database; what the cache did not know it is told.
async fn find_product(
    sku: &str,
    cache: &Cache,
    database: &Database,
) -> Result<(Product, &'static str), Error> {
    let found = cache.get(sku).await;
    if let Lookup::Hit(product) = found {
        return Ok((product, "hit"));
    }
    let product = database.product(sku).await?;
    let product = product.ok_or_else(|| {
        Error::new(
            Kind::Internal,
            format!("the catalogue has no product {sku}"),
        )
    })?;
    if found == Lookup::Miss {
        cache.set(&product).await;
        return Ok((product, "miss"));
    }
    Ok((product, "unavailable"))
}

/// An order that the database refuses.
#[utoipa::path(get, path = "/demo/work-error", tag = "demo",
    responses((status = 500, description = "The database refused", body = crate::error::Problem, content_type = "application/problem+json")))]
pub async fn work_error(
    database: Data<Database>,
    cache: Data<Cache>,
) -> Result<Json<Product>, Error> {
    let (product, _) = find_product("TY-001", &cache, &database).await?;
    database.violate_constraint().await?;
    Ok(Json(product))
}
