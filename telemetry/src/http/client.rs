//! Outbound HTTP: a CLIENT span, context passed on, one duration metric.
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span>
use std::sync::Arc;
use std::time::Instant;

use opentelemetry::propagation::{Injector, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Request, Response, Url};

use super::forwarded::host_and_port;
use super::{CANCELLED, METHODS, OTHER_METHOD, method_in_name, method_index};
use crate::causes;
use crate::signals::metrics::Histogram;
use crate::signals::{Telemetry, layer};

/// Sends `request` with a CLIENT span and the current trace context. `route_template` names the target with its
/// variable parts left open (`/quotes/{id}`), so that span names and metric attributes stay few.
///
/// # Errors
/// Those of `client.execute`, without the URL in their text.
pub async fn send(
    client: &Client,
    request: Request,
    route_template: &'static str,
) -> Result<Response, reqwest::Error> {
    Instrument::new()
        .send(client, request, route_template)
        .await
}

type Redact = dyn Fn(&mut Url) + Send + Sync;

/// As [`send`], for calls that need more than it.
#[derive(Clone, Default)]
pub struct Instrument {
    redact: Option<Arc<Redact>>,
}

impl Instrument {
    /// Records calls as [`send`] does.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has `redact` change the URL before it is recorded, after credentials and the values of signatures and keys have
    /// been taken out. The call itself goes where it did.
    #[must_use]
    pub fn redact_url(mut self, redact: impl Fn(&mut Url) + Send + Sync + 'static) -> Self {
        self.redact = Some(Arc::new(redact));
        self
    }

    /// As the function [`send`].
    ///
    /// # Errors
    /// Those of `client.execute`, without the URL in their text.
    pub async fn send(
        &self,
        client: &Client,
        mut request: Request,
        route_template: &'static str,
    ) -> Result<Response, reqwest::Error> {
        let started = Instant::now();
        let attributes = attributes(&request);
        let telemetry = Telemetry::current();
        let parent = Context::current();
        let context = match &telemetry.tracer {
            Some(tracer) => {
                let method = method_in_name(method_index(request.method().as_str()));
                let span = tracer
                    .span_builder(format!("{method} {route_template}"))
                    .with_kind(SpanKind::Client)
                    .with_attributes(self.span_attributes(
                        &telemetry,
                        &request,
                        &attributes,
                        route_template,
                    ))
                    .start_with_context(tracer, &parent);
                parent.with_span(span)
            }
            None => parent,
        };
        let headers = &mut Headers(request.headers_mut());
        telemetry.propagator.inject_context(&context, headers);
        let span = layer::adopt(context.clone(), layer::request_id(), || {
            tracing::info_span!("http.client")
        });
        let mut call = Call {
            duration: telemetry.part(Duration::new),
            started,
            attributes,
            context,
            finished: false,
        };
        let exchange = async move {
            // The URL may hold credentials.
            let result = client.execute(request).await;
            let result = result.map_err(reqwest::Error::without_url);
            call.finish(&result);
            result
        };
        tracing::Instrument::instrument(exchange, span).await
    }

    fn span_attributes(
        &self,
        telemetry: &Telemetry,
        request: &Request,
        common: &[KeyValue],
        template: &'static str,
    ) -> Vec<KeyValue> {
        let mut url = request.url().clone();
        telemetry.http.redaction.url(&mut url);
        if let Some(redact) = &self.redact {
            redact(&mut url);
        }
        let mut attributes = common.to_vec();
        attributes.push(KeyValue::new("url.full", String::from(url)));
        attributes.push(KeyValue::new("url.template", template));
        let method = request.method().as_str();
        if method_index(method) == OTHER_METHOD && method != METHODS[OTHER_METHOD] {
            let original = method.to_owned();
            attributes.push(KeyValue::new("http.request.method_original", original));
        }
        attributes
    }
}

/// A call between its start and its end. Dropped before its end, it was cancelled: nobody waits for the answer any more.
struct Call {
    duration: Arc<Duration>,
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
        let _guard = self.context.clone().attach(); // its exemplar is the call's span
        let elapsed = self.started.elapsed().as_secs_f64();
        self.duration.0.record(elapsed, &attributes);
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
    let host = url.host_str().unwrap_or_default();
    vec![
        KeyValue::new(
            "http.request.method",
            METHODS[method_index(request.method().as_str())],
        ),
        KeyValue::new("server.address", host_and_port(host).0.to_owned()),
        KeyValue::new(
            "server.port",
            i64::from(url.port_or_known_default().unwrap_or_default()),
        ),
        KeyValue::new("url.scheme", url.scheme().to_owned()),
    ]
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

/// The one metric of all calls.
struct Duration(Histogram);

impl Duration {
    fn new(telemetry: &Telemetry) -> Self {
        Self(Histogram::within(
            &telemetry.exemplars,
            &telemetry.meter("telemetry.client"),
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
        ))
    }
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            self.0.insert(name, value);
        }
    }
}
