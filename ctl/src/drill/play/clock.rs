//! A clock that is slow. Programs of one machine share its clock, so what a program says of times is set back on its way out, as
//! if it had read them from a clock of its own.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::{DecodeError, Message};
use reqwest::Client;

use super::Signals;

/// The largest export that is handed on, in bytes.
const MAX_EXPORT: usize = 64 << 20;

struct Slow {
    client: Client,
    signals: Signals,
    behind: Duration,
}

/// Serves on `listener` what a program exports to, for `signals`.
pub fn start(
    listener: TcpListener,
    client: Client,
    signals: Signals,
    behind: Duration,
) -> std::io::Result<actix_web::dev::Server> {
    let slow = web::Data::new(Slow {
        client,
        signals,
        behind,
    });
    let app = move || {
        App::new()
            .app_data(slow.clone())
            .app_data(web::PayloadConfig::new(MAX_EXPORT))
            .default_service(web::to(hand_on))
    };
    Ok(HttpServer::new(app)
        .workers(1)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?
        .run())
}

async fn hand_on(request: HttpRequest, body: web::Bytes, slow: web::Data<Slow>) -> HttpResponse {
    let by = u64::try_from(slow.behind.as_nanos()).unwrap_or(u64::MAX);
    let path = request.path();
    let (base, body) = match path {
        "/v1/traces" => (&slow.signals.otlp, traces(&body, by)),
        "/v1/logs" => (&slow.signals.otlp, logs(&body, by)),
        "/v1/metrics" => (&slow.signals.otlp, metrics(&body, by)),
        _ => (&slow.signals.profiles, Ok(body.to_vec())),
    };
    let Ok(body) = body else {
        return HttpResponse::BadRequest().finish();
    };
    let query = taken_earlier(request.query_string(), slow.behind.as_secs());
    let mut call = slow.client.post(format!("{base}{path}?{query}"));
    if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
        call = call.header("content-type", kind.as_bytes());
    }
    let Ok(answer) = call.body(body).send().await else {
        return HttpResponse::BadGateway().finish();
    };
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let kind = answer.headers().get("content-type").cloned();
    let Ok(body) = answer.bytes().await else {
        return HttpResponse::BadGateway().finish();
    };
    let mut answered = HttpResponse::build(status);
    if let Some(kind) = kind {
        answered.insert_header((header::CONTENT_TYPE, kind.as_bytes()));
    }
    answered.body(body)
}

/// The query of an export of profiles, which says in seconds when it was taken.
fn taken_earlier(query: &str, by: u64) -> String {
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name @ ("from" | "until"), second)) => {
            let second = second.parse::<u64>().unwrap_or(0).saturating_sub(by);
            format!("{name}={second}")
        }
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
}

/// So much earlier. 0 stands for a time that was not set.
fn back(time: &mut u64, by: u64) {
    *time = time.saturating_sub(by);
}

fn traces(body: &[u8], by: u64) -> Result<Vec<u8>, DecodeError> {
    let mut request = ExportTraceServiceRequest::decode(body)?;
    let scopes = request
        .resource_spans
        .iter_mut()
        .flat_map(|resource| &mut resource.scope_spans);
    for span in scopes.flat_map(|scope| &mut scope.spans) {
        back(&mut span.start_time_unix_nano, by);
        back(&mut span.end_time_unix_nano, by);
        for event in &mut span.events {
            back(&mut event.time_unix_nano, by);
        }
    }
    Ok(request.encode_to_vec())
}

fn logs(body: &[u8], by: u64) -> Result<Vec<u8>, DecodeError> {
    let mut request = ExportLogsServiceRequest::decode(body)?;
    let scopes = request
        .resource_logs
        .iter_mut()
        .flat_map(|resource| &mut resource.scope_logs);
    for record in scopes.flat_map(|scope| &mut scope.log_records) {
        back(&mut record.time_unix_nano, by);
        back(&mut record.observed_time_unix_nano, by);
    }
    Ok(request.encode_to_vec())
}

fn metrics(body: &[u8], by: u64) -> Result<Vec<u8>, DecodeError> {
    let mut request = ExportMetricsServiceRequest::decode(body)?;
    let scopes = request
        .resource_metrics
        .iter_mut()
        .flat_map(|resource| &mut resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &mut scope.metrics) {
        metric_back(metric, by);
    }
    Ok(request.encode_to_vec())
}

/// Start and time of each point, and the times of its exemplars: the kinds of points have no type in common.
macro_rules! points_back {
    ($points:expr, $by:expr) => {
        for point in $points {
            back(&mut point.start_time_unix_nano, $by);
            back(&mut point.time_unix_nano, $by);
            for exemplar in &mut point.exemplars {
                back(&mut exemplar.time_unix_nano, $by);
            }
        }
    };
}

fn metric_back(metric: &mut Metric, by: u64) {
    match &mut metric.data {
        Some(Data::Gauge(gauge)) => points_back!(&mut gauge.data_points, by),
        Some(Data::Sum(sum)) => points_back!(&mut sum.data_points, by),
        Some(Data::Histogram(histogram)) => points_back!(&mut histogram.data_points, by),
        Some(Data::ExponentialHistogram(histogram)) => {
            points_back!(&mut histogram.data_points, by)
        }
        // A summary has no exemplars.
        Some(Data::Summary(summary)) => {
            for point in &mut summary.data_points {
                back(&mut point.start_time_unix_nano, by);
                back(&mut point.time_unix_nano, by);
            }
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
    use opentelemetry_proto::tonic::metrics::v1::{
        Exemplar, Histogram, HistogramDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    };
    use opentelemetry_proto::tonic::trace::v1::span::Event;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

    const BY: u64 = 30;

    #[test]
    fn every_time_of_a_span_is_set_back_and_nothing_else() {
        let at = |shift: u64| ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                scope_spans: vec![ScopeSpans {
                    spans: vec![Span {
                        name: "GET /x".into(),
                        start_time_unix_nano: 100 - shift,
                        end_time_unix_nano: 120 - shift,
                        events: vec![Event {
                            time_unix_nano: 110 - shift,
                            ..Event::default()
                        }],
                        ..Span::default()
                    }],
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        let out = traces(&at(0).encode_to_vec(), BY).unwrap();
        assert_eq!(ExportTraceServiceRequest::decode(&*out).unwrap(), at(BY));
    }

    #[test]
    fn a_time_of_a_record_that_is_absent_stays_so() {
        let at = |shift: u64| ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                scope_logs: vec![ScopeLogs {
                    log_records: vec![LogRecord {
                        time_unix_nano: 100 - shift,
                        observed_time_unix_nano: 0,
                        ..LogRecord::default()
                    }],
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        };
        let out = logs(&at(0).encode_to_vec(), BY).unwrap();
        assert_eq!(ExportLogsServiceRequest::decode(&*out).unwrap(), at(BY));
    }

    #[test]
    fn points_of_each_kind_and_their_exemplars_are_set_back() {
        let at = |shift: u64| {
            let exemplars = || {
                vec![Exemplar {
                    time_unix_nano: 105 - shift,
                    ..Exemplar::default()
                }]
            };
            let sum = Sum {
                data_points: vec![NumberDataPoint {
                    start_time_unix_nano: 90 - shift,
                    time_unix_nano: 110 - shift,
                    exemplars: exemplars(),
                    ..NumberDataPoint::default()
                }],
                ..Sum::default()
            };
            let histogram = Histogram {
                data_points: vec![HistogramDataPoint {
                    start_time_unix_nano: 90 - shift,
                    time_unix_nano: 110 - shift,
                    count: 7,
                    exemplars: exemplars(),
                    ..HistogramDataPoint::default()
                }],
                ..Histogram::default()
            };
            let metric = |data| Metric {
                data: Some(data),
                ..Metric::default()
            };
            ExportMetricsServiceRequest {
                resource_metrics: vec![ResourceMetrics {
                    scope_metrics: vec![ScopeMetrics {
                        metrics: vec![metric(Data::Sum(sum)), metric(Data::Histogram(histogram))],
                        ..ScopeMetrics::default()
                    }],
                    ..ResourceMetrics::default()
                }],
            }
        };
        let out = metrics(&at(0).encode_to_vec(), BY).unwrap();
        assert_eq!(ExportMetricsServiceRequest::decode(&*out).unwrap(), at(BY));
    }

    #[test]
    fn profiles_say_when_they_were_taken_in_their_address() {
        assert_eq!(
            taken_earlier("name=shop&from=100&until=110&rate=100", BY),
            "name=shop&from=70&until=80&rate=100"
        );
        assert!(traces(b"no protobuf", BY).is_err());
    }
}
