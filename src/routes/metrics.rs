//! Lesson: pull beside push. `GET /metrics` shows the very metrics that are pushed, as OpenMetrics text.
//!
//! Where to look: scrape it with Prometheus and compare with what arrived by OTLP: same names, same values.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, web};

use crate::error::{Error, Kind};
use signalbox_telemetry::metrics::Pull;

/// All metrics in OpenMetrics text.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8")))]
pub async fn metrics(pull: web::Data<Pull>) -> Result<HttpResponse, Error> {
    // Reading runs callbacks and takes locks: not on a thread that serves requests.
    let text = web::block(move || pull.openmetrics()).await?;
    let text =
        text.map_err(|error| Error::new(Kind::Internal, "metrics cannot be read").because(error))?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, Pull::CONTENT_TYPE))
        .body(text))
}
