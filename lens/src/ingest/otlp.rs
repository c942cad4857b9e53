//! OTLP over HTTP, protobuf or JSON: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use actix_web::{HttpRequest, HttpResponse, web};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Encoding, Limits, decoded, now_ns};
use crate::problem::Problem;
use crate::store::logs::LogRow;
use crate::store::metrics::{PointRow, count_points};
use crate::store::origins::{Origin, OriginRow};
use crate::store::traces::SpanRow;
use crate::store::{Rows, Store};

/// Spans, records or points of one request. A row takes far more than the two bytes that an empty one takes in a message.
const MOST_ROWS: usize = 100_000;

/// What an origin takes besides its resource and scope, roughly.
const ORIGIN_BYTES: usize = 256;

/// Refuses what would become too many rows.
fn few_enough(rows: usize) -> Result<(), Problem> {
    if rows > MOST_ROWS {
        return Err(Problem::TooLarge(format!(
            "the request has {rows} items, and {MOST_ROWS} are the most that are taken at once"
        )));
    }
    Ok(())
}

/// Origins of a request. A resource is repeated for each of its scopes: together they may take no more than the body may.
struct Origins {
    rows: Vec<OriginRow>,
    budget: usize,
}

impl Origins {
    fn new(budget: usize) -> Self {
        Self {
            rows: Vec::new(),
            budget,
        }
    }

    /// Number and service of a new one.
    fn add(&mut self, origin: &Origin) -> Result<(usize, String), Problem> {
        self.budget = self
            .budget
            .checked_sub(origin.encoded_len() + ORIGIN_BYTES)
            .ok_or_else(|| {
                Problem::TooLarge("the resources and scopes are too large".to_owned())
            })?;
        let row = OriginRow::from(origin);
        let service = row.service.clone();
        self.rows.push(row);
        Ok((self.rows.len() - 1, service))
    }
}

/// `POST /v1/traces`. Spans whose ids are none are counted as rejected, as the specification has it.
pub async fn traces(
    request: HttpRequest,
    payload: web::Payload,
    limits: web::Data<Limits>,
    store: web::Data<Store>,
) -> Result<HttpResponse, Problem> {
    let encoding = Encoding::of(&request)?;
    let budget = limits.decoded_bytes;
    let (origins, rows, rejected) = decoded(&request, payload, &limits, move |body| {
        let message: ExportTraceServiceRequest = parse(encoding, body)?;
        let scopes = message.resource_spans.iter().flat_map(|of| &of.scope_spans);
        few_enough(scopes.map(|of| of.spans.len()).sum())?;
        let (mut origins, mut rows, mut rejected) = (Origins::new(budget), Vec::new(), 0);
        for of_resource in message.resource_spans {
            for of_scope in of_resource.scope_spans {
                let (origin, service) = origins.add(&Origin {
                    resource: of_resource.resource.clone(),
                    resource_schema_url: of_resource.schema_url.clone(),
                    scope: of_scope.scope,
                    scope_schema_url: of_scope.schema_url,
                })?;
                for span in &of_scope.spans {
                    match SpanRow::new(origin, &service, span) {
                        Some(row) => rows.push(row),
                        None => rejected += 1,
                    }
                }
            }
        }
        Ok((origins.rows, rows, rejected))
    })
    .await?;
    store.write(origins, Rows::Spans(rows)).await?;
    if rejected == 0 {
        return Ok(accepted(encoding));
    }
    let message = "a span needs a trace id of 16 bytes and a span id of 8, not all zero";
    Ok(match encoding {
        Encoding::Json => HttpResponse::Ok().json(json!({"partialSuccess": {"rejectedSpans": rejected.to_string(), "errorMessage": message}})),
        Encoding::Protobuf => HttpResponse::Ok().content_type("application/x-protobuf").body(
            ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess { rejected_spans: rejected, error_message: message.to_owned() }),
            }
            .encode_to_vec(),
        ),
    })
}

/// `POST /v1/logs`
pub async fn logs(
    request: HttpRequest,
    payload: web::Payload,
    limits: web::Data<Limits>,
    store: web::Data<Store>,
) -> Result<HttpResponse, Problem> {
    let encoding = Encoding::of(&request)?;
    let budget = limits.decoded_bytes;
    let (origins, rows) = decoded(&request, payload, &limits, move |body| {
        let message: ExportLogsServiceRequest = parse(encoding, body)?;
        let scopes = message.resource_logs.iter().flat_map(|of| &of.scope_logs);
        few_enough(scopes.map(|of| of.log_records.len()).sum())?;
        let now = now_ns();
        let (mut origins, mut rows) = (Origins::new(budget), Vec::new());
        for of_resource in message.resource_logs {
            for of_scope in of_resource.scope_logs {
                let (origin, service) = origins.add(&Origin {
                    resource: of_resource.resource.clone(),
                    resource_schema_url: of_resource.schema_url.clone(),
                    scope: of_scope.scope,
                    scope_schema_url: of_scope.schema_url,
                })?;
                rows.extend(
                    of_scope
                        .log_records
                        .iter()
                        .map(|record| LogRow::new(origin, &service, record, now)),
                );
            }
        }
        Ok((origins.rows, rows))
    })
    .await?;
    store.write(origins, Rows::Logs(rows)).await?;
    Ok(accepted(encoding))
}

/// `POST /v1/metrics`
pub async fn metrics(
    request: HttpRequest,
    payload: web::Payload,
    limits: web::Data<Limits>,
    store: web::Data<Store>,
) -> Result<HttpResponse, Problem> {
    let encoding = Encoding::of(&request)?;
    let budget = limits.decoded_bytes;
    let (origins, rows) = decoded(&request, payload, &limits, move |body| {
        let message: ExportMetricsServiceRequest = parse(encoding, body)?;
        let scopes = message
            .resource_metrics
            .iter()
            .flat_map(|of| &of.scope_metrics);
        few_enough(scopes.flat_map(|of| &of.metrics).map(count_points).sum())?;
        let now = now_ns();
        let (mut origins, mut rows) = (Origins::new(budget), Vec::new());
        for of_resource in message.resource_metrics {
            for of_scope in of_resource.scope_metrics {
                let (origin, service) = origins.add(&Origin {
                    resource: of_resource.resource.clone(),
                    resource_schema_url: of_resource.schema_url.clone(),
                    scope: of_scope.scope,
                    scope_schema_url: of_scope.schema_url,
                })?;
                for metric in of_scope.metrics {
                    rows.extend(PointRow::of_metric(origin, &service, metric, now));
                }
            }
        }
        Ok((origins.rows, rows))
    })
    .await?;
    store.write(origins, Rows::Points(rows)).await?;
    Ok(accepted(encoding))
}

fn parse<T: Message + Default + DeserializeOwned>(
    encoding: Encoding,
    body: &[u8],
) -> Result<T, Problem> {
    match encoding {
        Encoding::Protobuf => T::decode(body)
            .map_err(|error| Problem::BadRequest(format!("not an OTLP message: {error}"))),
        Encoding::Json => serde_json::from_slice(body)
            .map_err(|error| Problem::BadRequest(format!("not an OTLP/JSON message: {error}"))),
    }
}

/// Everything was stored: an empty message.
fn accepted(encoding: Encoding) -> HttpResponse {
    match encoding {
        Encoding::Protobuf => HttpResponse::Ok()
            .content_type("application/x-protobuf")
            .body(Vec::new()),
        Encoding::Json => HttpResponse::Ok().json(json!({})),
    }
}
