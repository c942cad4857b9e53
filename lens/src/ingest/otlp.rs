//! OTLP over HTTP, protobuf or JSON: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::json;

use super::{BODY_TIME, Encoding, Limits, decoded, header_value};
use crate::format::now_ns;
use crate::problem::Problem;
use crate::store::logs::LogRow;
use crate::store::metrics::PointRow;
use crate::store::origins::{Origin, OriginRow};
use crate::store::traces::SpanRow;
use crate::store::{Rows, Store};
use crate::wire::json::Rejected;
use crate::wire::{depth, json, schema, text};

/// What an origin takes besides its resource and scope, roughly.
const ORIGIN_BYTES: usize = 256;

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
    fn add(
        &mut self,
        (resource, resource_schema_url): (&Option<Resource>, &str),
        (scope, scope_schema_url): (Option<InstrumentationScope>, String),
    ) -> Result<(usize, Arc<str>), Problem> {
        let origin = Origin {
            resource: resource.clone(),
            resource_schema_url: resource_schema_url.to_owned(),
            scope,
            scope_schema_url,
        };
        self.budget = self
            .budget
            .checked_sub(origin.encoded_len() + ORIGIN_BYTES)
            .ok_or_else(|| {
                Problem::TooLarge("the resources and scopes are too large".to_owned())
            })?;
        let row = OriginRow::from(&origin);
        let service = row.service.as_str().into();
        self.rows.push(row);
        Ok((self.rows.len() - 1, service))
    }
}

/// A request as rows: what it came from, what is stored, and what was not taken.
pub type Taken = (Vec<OriginRow>, Rows, Rejected);

/// Decodes one signal's request; `budget` is what its origins may take, in bytes.
pub type Decode = fn(Encoding, &[u8], budget: usize) -> Result<Taken, Problem>;

/// Spans whose ids are none are counted as rejected, as the specification has it.
pub fn spans(encoding: Encoding, body: &[u8], budget: usize) -> Result<Taken, Problem> {
    let Parsed::<ExportTraceServiceRequest> {
        message,
        mut rejected,
        ..
    } = parse(&schema::TRACES, encoding, body)?;
    let now = now_ns();
    let (mut origins, mut rows) = (Origins::new(budget), Vec::new());
    for of_resource in message.resource_spans {
        for of_scope in of_resource.scope_spans {
            let (origin, service) = origins.add(
                (&of_resource.resource, &of_resource.schema_url),
                (of_scope.scope, of_scope.schema_url),
            )?;
            for span in of_scope.spans {
                match SpanRow::new(origin, &service, span, now) {
                    Some(row) => rows.push(row),
                    None => rejected.add(1, || {
                        "a span needs a trace id of 16 bytes and a span id of 8, not all zero"
                            .to_owned()
                    }),
                }
            }
        }
    }
    Ok((origins.rows, Rows::Spans(rows), rejected))
}

/// Log records.
pub fn records(encoding: Encoding, body: &[u8], budget: usize) -> Result<Taken, Problem> {
    let Parsed::<ExportLogsServiceRequest> {
        message, rejected, ..
    } = parse(&schema::LOGS, encoding, body)?;
    let now = now_ns();
    let (mut origins, mut rows) = (Origins::new(budget), Vec::new());
    for of_resource in message.resource_logs {
        for of_scope in of_resource.scope_logs {
            let (origin, service) = origins.add(
                (&of_resource.resource, &of_resource.schema_url),
                (of_scope.scope, of_scope.schema_url),
            )?;
            let records = of_scope.log_records.iter();
            rows.extend(records.map(|record| LogRow::new(origin, &service, record, now)));
        }
    }
    Ok((origins.rows, Rows::Logs(rows), rejected))
}

/// Data points.
pub fn points(encoding: Encoding, body: &[u8], budget: usize) -> Result<Taken, Problem> {
    let Parsed::<ExportMetricsServiceRequest> {
        message,
        items,
        mut rejected,
    } = parse(&schema::METRICS, encoding, body)?;
    let now = now_ns();
    let (mut origins, mut rows) = (Origins::new(budget), Vec::new());
    for of_resource in message.resource_metrics {
        for of_scope in of_resource.scope_metrics {
            let (origin, service) = origins.add(
                (&of_resource.resource, &of_resource.schema_url),
                (of_scope.scope, of_scope.schema_url),
            )?;
            for metric in of_scope.metrics {
                rows.extend(PointRow::of_metric(origin, &service, metric, now));
            }
        }
    }
    // Of a field that excludes another, protobuf keeps the last one: the points of the others are not in the message.
    if let Some(lost @ 1..) = items.checked_sub(rows.len()) {
        rejected.add(lost as i64, || {
            "a metric has points of one type, and those of the last one named were taken".to_owned()
        });
    }
    Ok((origins.rows, Rows::Points(rows), rejected))
}

/// `POST /v1/{traces, logs, metrics}`: stores a request and answers.
pub async fn take(
    request: HttpRequest,
    payload: web::Payload,
    limits: web::Data<Limits>,
    store: web::Data<Store>,
    signal: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    // And what JSON calls the number of the rejected ones.
    let (decode, counted): (Decode, &str) = match signal.as_str() {
        "traces" => (spans, "rejectedSpans"),
        "logs" => (records, "rejectedLogRecords"),
        _ => (points, "rejectedDataPoints"),
    };
    let encoding = Encoding::of(&request)?;
    let budget = limits.decoded_bytes;
    let taken = decoded(&request, payload, &limits, move |body| {
        decode(encoding, body, budget)
    });
    let (origins, rows, rejected) = taken.await?;
    store.write(origins, rows).await?;
    Ok(answer(encoding, counted, rejected))
}

/// A request, decoded.
struct Parsed<T> {
    message: T,
    /// Spans, records or points that its bytes have.
    items: usize,
    /// What its JSON had besides.
    rejected: Rejected,
}

fn parse<T: Message + Default>(
    of: &'static schema::Message,
    encoding: Encoding,
    body: &[u8],
) -> Result<Parsed<T>, Problem> {
    let refused = |error: &dyn std::fmt::Display| {
        let form = if encoding == Encoding::Json {
            "OTLP/JSON"
        } else {
            "OTLP"
        };
        Problem::BadRequest(format!("not an {form} message: {error}"))
    };
    let from_json;
    let (body, mut rejected, mut changed) = match encoding {
        Encoding::Protobuf => (body, Rejected::default(), false),
        Encoding::Json => {
            depth::check_json(body).map_err(|error| refused(&error))?;
            let text = String::from_utf8_lossy(body);
            let changed = matches!(text, Cow::Owned(_));
            let (bytes, rejected) = json::read(of, &text).map_err(|error| refused(&error))?;
            from_json = bytes;
            (from_json.as_slice(), rejected, changed)
        }
    };
    let items = depth::check(of, body).map_err(|error| match error {
        depth::Refused::TooMany => Problem::TooLarge(error.to_string()),
        _ => refused(&error),
    })?;
    let (message, mended) = text::decode(of, body).map_err(|error| refused(&error))?;
    changed |= mended;
    if changed {
        rejected.add(0, || {
            "texts that were not UTF-8 were changed: a mark stands for what could not be read"
                .to_owned()
        });
    }
    Ok(Parsed {
        message,
        items,
        rejected,
    })
}

/// The answer of all three signals: their messages differ in names only.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// An empty message if everything was taken.
fn answer(encoding: Encoding, counted: &str, rejected: Rejected) -> HttpResponse {
    let Rejected { items, reason } = rejected;
    match encoding {
        Encoding::Json => HttpResponse::Ok().json(match reason {
            None => json!({}),
            Some(reason) => {
                json!({"partialSuccess": {counted: items.to_string(), "errorMessage": reason}})
            }
        }),
        Encoding::Protobuf => HttpResponse::Ok()
            .content_type("application/x-protobuf")
            .body(
                Answer {
                    partial_success: reason.map(|error_message| PartialSuccess {
                        rejected: items,
                        error_message,
                    }),
                }
                .encode_to_vec(),
            ),
    }
}

/// `POST /api/import`: lines as `/api/export` writes them, each a request of one signal. What is there already is not stored again.
pub async fn import(
    request: HttpRequest,
    mut payload: web::Payload,
    limits: web::Data<Limits>,
    store: web::Data<Store>,
) -> Result<HttpResponse, Problem> {
    let content_type = header_value(&request, header::CONTENT_TYPE).to_ascii_lowercase();
    if !["application/x-ndjson", "application/json"].contains(&content_type.as_str()) {
        return Err(Problem::UnsupportedMediaType(
            "an export is sent in as application/x-ndjson".to_owned(),
        ));
    }
    let (mut taken, mut rejected) = ([0; 3], 0);
    let (mut rest, mut number) = (Vec::new(), 0);
    loop {
        let chunk = tokio::time::timeout(BODY_TIME, payload.next())
            .await
            .map_err(|_| Problem::Slow)?;
        let ended = chunk.is_none();
        if let Some(chunk) = chunk {
            rest.extend_from_slice(&chunk.map_err(|error| {
                Problem::BadRequest(format!("the body could not be read: {error}"))
            })?);
        }
        while let Some(end) = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .or_else(|| ended.then_some(rest.len()))
        {
            let line: Vec<u8> = rest.drain(..end).collect();
            if rest.is_empty() && ended && line.is_empty() {
                break;
            }
            rest.drain(..1.min(rest.len()));
            number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let place = match import_line(line, &limits, &store).await {
                Err(Problem::BadRequest(why)) => {
                    return Err(Problem::BadRequest(format!("line {number}: {why}")));
                }
                place => place?,
            };
            taken[place.0] += place.1;
            rejected += place.2;
        }
        if rest.len() > limits.decoded_bytes {
            return Err(Problem::TooLarge(format!(
                "a line has more than {} bytes",
                limits.decoded_bytes
            )));
        }
        if ended {
            break;
        }
    }
    let [spans, records, points] = taken;
    Ok(HttpResponse::Ok()
        .json(json!({"spans": spans, "records": records, "points": points, "rejected": rejected})))
}

/// Stores one line; says of which signal it was, how many rows it had, and how many of them were not taken.
async fn import_line(
    line: Vec<u8>,
    limits: &web::Data<Limits>,
    store: &Store,
) -> Result<(usize, usize, i64), Problem> {
    const SIGNALS: [(&str, Decode); 3] = [
        ("resourceSpans", spans),
        ("resourceLogs", records),
        ("resourceMetrics", points),
    ];
    let budget = limits.decoded_bytes;
    let _turn = limits.turns.acquire().await.map_err(|_| Problem::Busy)?;
    let (place, (origins, mut rows, rejected)) = web::block(move || {
        let begin = String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned();
        let place = SIGNALS
            .iter()
            .position(|(name, _)| begin.contains(&format!("\"{name}\"")));
        let place = place.ok_or_else(|| {
            Problem::bad_request(
                "a line begins with resourceSpans, resourceLogs or resourceMetrics",
            )
        })?;
        Ok::<_, Problem>((place, SIGNALS[place].1(Encoding::Json, &line, budget)?))
    })
    .await
    .map_err(|_| Problem::Busy)??;
    let count = rows.len();
    if let Rows::Logs(records) = &mut rows {
        crate::store::logs::retain_new(&store.pool, records).await?;
    }
    store.write(origins, rows).await?;
    Ok((place, count, rejected.items))
}
