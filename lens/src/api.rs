//! What tests and scripts read: OTLP/JSON as it came in, and profiles as pprof.

use std::collections::HashMap;

use actix_web::{HttpResponse, web};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use serde::Serialize;
use serde_json::json;

use crate::attributes::is_hex;
use crate::problem::Problem;
use crate::query;
use crate::store::origins::{Origin, nest};
use crate::store::{ANSWER_BYTES, Store, aside, logs, metrics, origins, profiles, traces};

/// The routes.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/api/identity", web::get().to(identity))
        .route("/api/traces", web::get().to(list_traces))
        .route("/api/traces/{trace_id}", web::get().to(one_trace))
        .route("/api/logs", web::get().to(list_logs))
        .route("/api/metrics", web::get().to(list_metrics))
        .route("/api/profiles", web::get().to(list_profiles))
        .route("/api/profiles/{type}", web::get().to(one_profile));
}

/// `GET /api/identity`: lets a program make sure that it is lens that answers on this port.
async fn identity() -> HttpResponse {
    HttpResponse::Ok().json(json!({"name": "lens", "version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /api/traces`: the newest traces that pass the filters, whole; as many as one answer holds.
async fn list_traces(
    store: web::Data<Store>,
    query: web::Query<query::Traces>,
) -> Result<HttpResponse, Problem> {
    let listed = traces::list(&store.pool, &query.filter(100)?).await?;
    let mut bytes = 0;
    let ids: Vec<&str> = listed
        .iter()
        .take_while(|trace| {
            let first = bytes == 0;
            bytes += trace.bytes as usize;
            first || bytes <= ANSWER_BYTES
        })
        .map(|trace| trace.trace_id.as_str())
        .collect();
    respond_spans(&store, traces::spans(&store.pool, &ids, u32::MAX).await?).await
}

/// `GET /api/traces/{32 hexadecimal digits}`: its spans by their start, as many as one answer holds.
async fn one_trace(
    store: web::Data<Store>,
    trace_id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    if !is_hex(&trace_id, 16) {
        return Err(Problem::BadRequest(
            "a trace id has 32 hexadecimal digits".to_owned(),
        ));
    }
    let spans = traces::spans(&store.pool, &[trace_id.to_ascii_lowercase()], u32::MAX).await?;
    if spans.is_empty() {
        return Err(Problem::NotFound(format!(
            "no span of trace {trace_id} has arrived, or it was let go"
        )));
    }
    respond_spans(&store, spans).await
}

async fn respond_spans(store: &Store, spans: Vec<(i64, Span)>) -> Result<HttpResponse, Problem> {
    let origins = origins_of(store, &spans).await?;
    respond(move || ExportTraceServiceRequest {
        resource_spans: nest(spans, &origins)
            .into_iter()
            .map(|of| ResourceSpans {
                resource: of.resource,
                schema_url: of.schema_url,
                scope_spans: of
                    .scopes
                    .into_iter()
                    .map(|of| ScopeSpans {
                        scope: of.scope,
                        schema_url: of.schema_url,
                        spans: of.items,
                    })
                    .collect(),
            })
            .collect(),
    })
    .await
}

async fn origins_of<T>(store: &Store, rows: &[(i64, T)]) -> sqlx::Result<HashMap<i64, Origin>> {
    origins::all(
        &store.pool,
        rows.iter().map(|(origin, _)| *origin).collect(),
    )
    .await
}

/// Answers with what `message` makes, as JSON.
async fn respond<T: Serialize>(
    message: impl FnOnce() -> T + Send + 'static,
) -> Result<HttpResponse, Problem> {
    let body = aside(move || serde_json::to_vec(&message()))
        .await?
        .map_err(|error| Problem::BadRequest(format!("cannot be written as JSON: {error}")))?;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(body))
}

/// `GET /api/logs`: the last arrived records that pass the filters, newest first.
async fn list_logs(
    store: web::Data<Store>,
    query: web::Query<query::Logs>,
) -> Result<HttpResponse, Problem> {
    let (entries, _) = logs::list(&store.pool, &query.filter(1000)?).await?;
    let records: Vec<(i64, LogRecord)> = entries
        .into_iter()
        .map(|entry| (entry.origin, entry.record))
        .collect();
    let origins = origins_of(&store, &records).await?;
    respond(move || ExportLogsServiceRequest {
        resource_logs: nest(records, &origins)
            .into_iter()
            .map(|of| ResourceLogs {
                resource: of.resource,
                schema_url: of.schema_url,
                scope_logs: of
                    .scopes
                    .into_iter()
                    .map(|of| ScopeLogs {
                        scope: of.scope,
                        schema_url: of.schema_url,
                        log_records: of.items,
                    })
                    .collect(),
            })
            .collect(),
    })
    .await
}

/// `GET /api/metrics`: every series with its newest points (`points`, 1 unless told).
async fn list_metrics(
    store: web::Data<Store>,
    query: web::Query<query::Metrics>,
) -> Result<HttpResponse, Problem> {
    let points = query.points()?;
    let series = metrics::series(&store.pool, &query.name, &query.service).await?;
    let found: Vec<_> = metrics::newest(&store.pool, series, points)
        .await?
        .into_iter()
        .map(|(series, points)| (series.origin, (series, points)))
        .collect();
    let origins = origins_of(&store, &found).await?;
    respond(move || ExportMetricsServiceRequest {
        resource_metrics: nest(found, &origins)
            .into_iter()
            .map(|of| ResourceMetrics {
                resource: of.resource,
                schema_url: of.schema_url,
                scope_metrics: of
                    .scopes
                    .into_iter()
                    .map(|of| ScopeMetrics {
                        scope: of.scope,
                        schema_url: of.schema_url,
                        metrics: together(of.items),
                    })
                    .collect(),
            })
            .collect(),
    })
    .await
}

/// Series of the same metric under one entry again.
fn together(series: Vec<(metrics::Series, Vec<Vec<u8>>)>) -> Vec<Metric> {
    let mut together: Vec<Metric> = Vec::new();
    for (series, points) in series {
        let metric = metrics::with_points(&series, &points);
        match together.last_mut() {
            Some(last) if metrics::same(last, &metric) => metrics::merge(last, metric),
            _ => together.push(metric),
        }
    }
    together
}

/// `GET /api/profiles`: what there is, by type, service and labels.
async fn list_profiles(store: web::Data<Store>) -> Result<HttpResponse, Problem> {
    let listed: Vec<_> = profiles::kinds(&store.pool)
        .await?
        .into_iter()
        .map(|listed| {
            json!({
                "type": listed.kind,
                "service": listed.service,
                "labels": serde_json::from_str::<serde_json::Value>(&listed.labels).unwrap_or_default(),
                "count": listed.count,
                "first_ms": listed.first_ns / 1_000_000,
                "last_ms": listed.last_ns / 1_000_000,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({"profiles": listed})))
}

/// `GET /api/profiles/{type}`: one gzipped pprof file of all samples that pass the filters; of a heap, of its fullest moment.
async fn one_profile(
    store: web::Data<Store>,
    kind: web::Path<String>,
    query: web::Query<query::Profiles>,
) -> Result<HttpResponse, Problem> {
    let filter = query.filter(&kind)?;
    let pushed = profiles::list(&store.pool, &filter).await?;
    if pushed.is_empty() {
        return Err(Problem::NotFound(format!(
            "no {kind} profile has arrived that passes these filters"
        )));
    }
    let (merged, _) =
        profiles::merge(&store.pool, &profiles::to_merge(&pushed, &kind), &filter).await?;
    let body = aside(move || profiles::gzip(&merged.to_profile().encode_to_vec()))
        .await?
        .map_err(|error| Problem::BadRequest(format!("cannot compress the profile: {error}")))?;
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .body(body))
}
