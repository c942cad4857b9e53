//! What tests and scripts read: OTLP/JSON as it came in, and profiles as pprof.

use std::collections::HashMap;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use futures_util::stream;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use serde::Deserialize;
use serde_json::json;

use crate::attributes::is_hex;
use crate::format;
use crate::method::get;
use crate::problem::Problem;
use crate::query;
use crate::store::origins::{Origin, nest};
use crate::store::{ANSWER_BYTES, Signal, Store, aside, logs, metrics, origins, profiles, traces};
use crate::wire::{json, schema};

/// The routes.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(get("/healthz", healthy))
        .service(get("/readyz", ready))
        .service(get("/api/export", export))
        .service(get("/api/identity", identity))
        .service(get("/api/traces", list_traces))
        .service(get("/api/traces/{trace_id}", one_trace))
        .service(get("/api/logs", list_logs))
        .service(get("/api/metrics", list_metrics))
        .service(get("/api/profiles", list_profiles))
        .service(get("/api/profiles/{type}", one_profile));
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
    let listed = traces::list(&store.pool, &query.filter(100, format::now_ns())?).await?;
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
        return Err(Problem::bad_request("a trace id has 32 hexadecimal digits"));
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
    respond(&schema::TRACES, move || traces_of(spans, &origins)).await
}

fn traces_of(spans: Vec<(i64, Span)>, origins: &HashMap<i64, Origin>) -> ExportTraceServiceRequest {
    let resource_spans = nest(
        spans,
        origins,
        |scope, schema_url, spans| ScopeSpans {
            scope,
            schema_url,
            spans,
        },
        |resource, schema_url, scope_spans| ResourceSpans {
            resource,
            schema_url,
            scope_spans,
        },
    );
    ExportTraceServiceRequest { resource_spans }
}

async fn origins_of<T>(store: &Store, rows: &[(i64, T)]) -> sqlx::Result<HashMap<i64, Origin>> {
    let ids = rows.iter().map(|(origin, _)| *origin).collect();
    origins::all(&store.pool, ids).await
}

/// Answers with what `message` makes, as OTLP/JSON.
async fn respond<T: Message + 'static>(
    of: &'static schema::Message,
    message: impl FnOnce() -> T + Send + 'static,
) -> Result<HttpResponse, Problem> {
    let body = aside(move || line(of, &message())).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(body))
}

/// A message on one line.
fn line(of: &'static schema::Message, message: &impl Message) -> String {
    let mut text = String::new();
    json::write(of, &message.encode_to_vec(), &mut text);
    text
}

/// `GET /readyz`: whether what is sent now would be stored.
async fn ready(store: web::Data<Store>) -> Result<HttpResponse, Problem> {
    store.ready().await?;
    Ok(HttpResponse::Ok().json(json!({"status": "ok"})))
}

/// `GET /healthz`: whether the process answers.
async fn healthy() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// What of which signal to export.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Export {
    /// `traces`, `logs` or `metrics`; empty for all three.
    signal: String,
    #[serde(flatten)]
    time: query::Time,
}

/// Rows of one line of an export.
const ROWS_A_LINE: u32 = 500;

/// `GET /api/export`: all spans, records and points that are kept, or those of one signal and time, one OTLP/JSON request a line.
async fn export(
    store: web::Data<Store>,
    query: web::Query<Export>,
) -> Result<HttpResponse, Problem> {
    let (from_ns, to_ns) = query.time.bounds("all", format::now_ns())?;
    let range = (from_ns.unwrap_or(0), to_ns.unwrap_or(i64::MAX));
    let wanted: Vec<Signal> = match query.signal.as_str() {
        "" => vec![Signal::Traces, Signal::Logs, Signal::Metrics],
        "traces" => vec![Signal::Traces],
        "logs" => vec![Signal::Logs],
        "metrics" => vec![Signal::Metrics],
        _ => {
            return Err(Problem::bad_request(
                "signal is traces, logs or metrics; profiles are exported as pprof",
            ));
        }
    };
    let begin = (wanted.into_iter(), None::<Signal>, 0_i64);
    let lines = stream::try_unfold(begin, move |(mut wanted, mut signal, mut after)| {
        let store = store.clone();
        async move {
            loop {
                let Some(now) = signal.or_else(|| wanted.next()) else {
                    return Ok::<_, Problem>(None);
                };
                if let Some((last, line)) = chunk(&store, now, after, range).await? {
                    let line = web::Bytes::from(line + "\n");
                    return Ok(Some((line, (wanted, Some(now), last))));
                }
                (signal, after) = (None, 0);
            }
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"lens-export.jsonl\"",
        ))
        .streaming(lines))
}

/// The next rows behind an id as one line, with the last one's id.
async fn chunk(
    store: &Store,
    signal: Signal,
    after: i64,
    range: (i64, i64),
) -> Result<Option<(i64, String)>, Problem> {
    let rows = store.rows_after(signal, after, range, ROWS_A_LINE).await?;
    let Some(last) = rows.last().map(|row| row.0) else {
        return Ok(None);
    };
    let line = match signal {
        Signal::Metrics => {
            let mut points: HashMap<i64, Vec<Vec<u8>>> = HashMap::new();
            for (_, series, body) in rows {
                points.entry(series).or_default().insert(0, body);
            }
            let ids: Vec<i64> = points.keys().copied().collect();
            let series = metrics::by_id(&store.pool, &ids).await?.into_iter();
            let with_points = |series: metrics::Series| {
                let points = points.remove(&series.id).unwrap_or_default();
                (series.origin, (series, points))
            };
            let found: Vec<_> = series.map(with_points).collect();
            let origins = origins_of(store, &found).await?;
            aside(move || line(&schema::METRICS, &metrics_of(found, &origins))).await?
        }
        Signal::Logs => {
            let rows = decoded(rows);
            let origins = origins_of(store, &rows).await?;
            aside(move || line(&schema::LOGS, &logs_of(rows, &origins))).await?
        }
        _ => {
            let rows = decoded(rows);
            let origins = origins_of(store, &rows).await?;
            aside(move || line(&schema::TRACES, &traces_of(rows, &origins))).await?
        }
    };
    Ok(Some((last, line)))
}

/// Rows by id, origin and body as what they hold, each with its origin.
fn decoded<T: Message + Default>(rows: Vec<(i64, i64, Vec<u8>)>) -> Vec<(i64, T)> {
    rows.into_iter()
        .filter_map(|(_, origin, body)| Some((origin, T::decode(body.as_slice()).ok()?)))
        .collect()
}

/// `GET /api/logs`: the last arrived records that pass the filters, newest first.
async fn list_logs(
    store: web::Data<Store>,
    query: web::Query<query::Logs>,
) -> Result<HttpResponse, Problem> {
    let (entries, _) = logs::list(&store.pool, &query.filter(1000, format::now_ns())?).await?;
    let records: Vec<(i64, LogRecord)> = entries
        .into_iter()
        .map(|entry| (entry.origin, entry.record))
        .collect();
    let origins = origins_of(&store, &records).await?;
    respond(&schema::LOGS, move || logs_of(records, &origins)).await
}

fn logs_of(
    records: Vec<(i64, LogRecord)>,
    origins: &HashMap<i64, Origin>,
) -> ExportLogsServiceRequest {
    let resource_logs = nest(
        records,
        origins,
        |scope, schema_url, log_records| ScopeLogs {
            scope,
            schema_url,
            log_records,
        },
        |resource, schema_url, scope_logs| ResourceLogs {
            resource,
            schema_url,
            scope_logs,
        },
    );
    ExportLogsServiceRequest { resource_logs }
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
    respond(&schema::METRICS, move || metrics_of(found, &origins)).await
}

/// A series with its points, as they are stored, newest first.
type WithPoints = (metrics::Series, Vec<Vec<u8>>);

fn metrics_of(
    found: Vec<(i64, WithPoints)>,
    origins: &HashMap<i64, Origin>,
) -> ExportMetricsServiceRequest {
    let resource_metrics = nest(
        found,
        origins,
        |scope, schema_url, series| ScopeMetrics {
            scope,
            schema_url,
            metrics: together(series),
        },
        |resource, schema_url, scope_metrics| ResourceMetrics {
            resource,
            schema_url,
            scope_metrics,
        },
    );
    ExportMetricsServiceRequest { resource_metrics }
}

/// Series of the same metric under one entry again.
fn together(series: Vec<WithPoints>) -> Vec<Metric> {
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
    let filter = query.filter(&kind, "all", format::now_ns())?;
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
