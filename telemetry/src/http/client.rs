//! Outbound HTTP: a CLIENT span, context passed on, one duration metric.
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span>
use std::sync::OnceLock;
use std::time::Instant;

use opentelemetry::propagation::{Injector, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Request, Response};
use tracing::Instrument;

use crate::pipeline::exemplars::Histogram;
use crate::signals::{context, traces};
use crate::{CANCELLED, causes, method};

/// Sends `request` with a CLIENT span and the current trace context. `route_template` names the target with its
/// variable parts left open (`/quotes/{id}`), so that span names and metric attributes stay few.
///
/// # Errors
/// Those of `client.execute`, without the URL in their text.
pub async fn send(
    client: &Client,
    mut request: Request,
    route_template: &'static str,
) -> Result<Response, reqwest::Error> {
    let started = Instant::now();
    let attributes = attributes(&request);
    let parent = Context::current();
    let context = match traces::tracer() {
        Some(tracer) => {
            let span = tracer
                .span_builder(format!(
                    "{} {route_template}",
                    method(request.method().as_str())
                ))
                .with_kind(SpanKind::Client)
                .with_attributes(span_attributes(&request, &attributes, route_template))
                .start_with_context(tracer, &parent);
            parent.with_span(span)
        }
        None => parent,
    };
    if let Some(propagator) = context::propagator() {
        propagator.inject_context(&context, &mut Headers(request.headers_mut()));
    }
    let span = traces::adopt(context.clone(), || tracing::info_span!("http.client"));
    let mut call = Call {
        started,
        attributes,
        context,
        finished: false,
    };
    let exchange = async move {
        // The URL may hold credentials.
        let result = client
            .execute(request)
            .await
            .map_err(reqwest::Error::without_url);
        call.finish(&result);
        result
    };
    exchange.instrument(span).await
}

/// A call between its start and its end. Dropped before its end, it was cancelled: nobody waits for the answer any more.
struct Call {
    started: Instant,
    attributes: Vec<KeyValue>,
    context: Context,
    finished: bool,
}

impl Call {
    fn finish(&mut self, result: &Result<Response, reqwest::Error>) {
        self.finished = true;
        let outcome = outcome(result);
        if let Some(error) = outcome
            .iter()
            .find(|attribute| attribute.key.as_str() == "error.type")
        {
            let description = match result {
                Ok(_) => error.value.to_string(),
                Err(error) => causes(error),
            };
            self.context.span().set_status(Status::error(description));
        }
        self.record(outcome);
    }

    fn record(&self, outcome: Vec<KeyValue>) {
        self.context.span().set_attributes(outcome.iter().cloned());
        let attributes = [self.attributes.as_slice(), &outcome].concat();
        duration().record(self.started.elapsed().as_secs_f64(), &attributes);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.finished {
            self.record(vec![KeyValue::new("error.type", CANCELLED)]);
        }
    }
}

/// What span and metric have in common.
fn attributes(request: &Request) -> Vec<KeyValue> {
    let url = request.url();
    vec![
        KeyValue::new("http.request.method", method(request.method().as_str())),
        KeyValue::new(
            "server.address",
            url.host_str().unwrap_or_default().to_owned(),
        ),
        KeyValue::new(
            "server.port",
            i64::from(url.port_or_known_default().unwrap_or_default()),
        ),
        KeyValue::new("url.scheme", url.scheme().to_owned()),
    ]
}

fn span_attributes(
    request: &Request,
    common: &[KeyValue],
    template: &'static str,
) -> Vec<KeyValue> {
    let mut url = request.url().clone();
    // Neither can fail for a URL with a host, which reqwest demands.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let mut attributes = common.to_vec();
    attributes.push(KeyValue::new("url.full", url.to_string()));
    attributes.push(KeyValue::new("url.template", template));
    attributes
}

fn outcome(result: &Result<Response, reqwest::Error>) -> Vec<KeyValue> {
    match result {
        Ok(response) => {
            let status = response.status();
            let mut attributes = vec![
                KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
                KeyValue::new("network.protocol.version", version(response)),
            ];
            // To a client a 4xx is an error too.
            if status.is_client_error() || status.is_server_error() {
                attributes.push(KeyValue::new("error.type", status.as_str().to_owned()));
            }
            attributes
        }
        Err(error) => {
            let kind = if error.is_timeout() {
                "timeout"
            } else if error.is_connect() {
                "connection_error"
            } else {
                "_OTHER"
            };
            vec![KeyValue::new("error.type", kind)]
        }
    }
}

fn version(response: &Response) -> &'static str {
    if response.version() == reqwest::Version::HTTP_2 {
        "2"
    } else {
        "1.1"
    }
}

fn duration() -> &'static Histogram {
    static DURATION: OnceLock<Histogram> = OnceLock::new();
    DURATION.get_or_init(|| {
        Histogram::new(
            &opentelemetry::global::meter("telemetry.client"),
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
        )
    })
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            self.0.insert(name, value);
        }
    }
}
