//! HTTP server side of actix-web: root span, metrics, request id, access log.
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span>
//!
//! Every request passes here, so what does not change from one to the next is made once: names and attribute sets a
//! route, method and status; shared strings for what the same peers send again and again.
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::future::{Future, Ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, Version};
use actix_web::{Error, HttpMessage, HttpRequest};
use opentelemetry::metrics::Meter;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, StringValue};
use tracing::Span;
use tracing_actix_web::{RootSpanBuilder, StreamSpan, TracingLogger};

use super::context::RequestIdValue;
use super::exemplars::{AttributeSet, Histogram};
use super::{METHODS, context, logs, method_index, runtime, traces};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// <https://w3c.github.io/trace-context/#traceresponse-header>
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The id of a request: the caller's `x-request-id` if it is at most 64 of `A-Za-z0-9_-`, else a new one. Found in the
/// request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

/// The outermost middleware of an app.
#[derive(Debug, Clone, Default)]
pub struct Instrument {}

impl Instrument {
    pub fn new() -> Self {
        Self::default()
    }
}

/// Attributes that a request was annotated with.
struct Annotations(Vec<KeyValue>);

/// Adds an attribute to the request's span, its access-log record and its duration metric. Key and value must each come
/// from a closed set: every pair is a series of its own. `error.type` replaces the status code as the error's type.
pub fn annotate(request: &HttpRequest, key: &'static str, value: impl Into<StringValue>) {
    let annotation = KeyValue::new(key, value.into());
    let mut extensions = request.extensions_mut();
    match extensions.get_mut::<Annotations>() {
        Some(Annotations(annotations)) => annotations.push(annotation),
        None => {
            extensions.insert(Annotations(vec![annotation]));
        }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Instrument
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<StreamSpan<B>>;
    type Error = Error;
    type Transform = <TracingLogger<Root> as Transform<Edge<S>, ServiceRequest>>::Transform;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        // Called once on each worker's thread: each has a runtime of its own.
        runtime::register_current();
        TracingLogger::<Root>::new().new_transform(Edge { service })
    }
}

/// Starts the root span. What is known of the request only at its end is added by [`Edge`].
#[doc(hidden)]
pub struct Root;

impl RootSpanBuilder for Root {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let headers = request.headers();
        let id = match headers.get(REQUEST_ID).and_then(fit_id) {
            Some(id) => id.to_owned(),
            None => new_id(request),
        };
        let parent = remote_context(headers).with_value(RequestIdValue(Arc::from(id.as_str())));
        request.extensions_mut().insert(RequestId(id));
        let context = match traces::tracer() {
            Some(tracer) => {
                let span = tracer
                    .span_builder(METHODS[method_index(request.method().as_str())])
                    .with_kind(SpanKind::Server)
                    .start_with_context(tracer, &parent);
                parent.with_span(span)
            }
            None => parent,
        };
        traces::adopt(context, || tracing::info_span!("http.server"))
    }

    fn on_request_end<B: MessageBody>(_: Span, _: &Result<ServiceResponse<B>, Error>) {}
}

fn fit_id(value: &HeaderValue) -> Option<&str> {
    let id = value.to_str().ok()?;
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&id.len()).then_some(())?;
    id.bytes().all(fit).then_some(id)
}

/// The id that `TracingLogger` has already made.
fn new_id(request: &ServiceRequest) -> String {
    let extensions = request.extensions();
    match extensions.get::<tracing_actix_web::RequestId>() {
        Some(id) => id.simple().to_string(),
        None => uuid::Uuid::new_v4().simple().to_string(),
    }
}

/// The caller's context; a fresh one if it sent none.
fn remote_context(headers: &HeaderMap) -> Context {
    match context::propagator() {
        Some(propagator)
            if headers.contains_key("traceparent") || headers.contains_key("baggage") =>
        {
            propagator.extract_with_context(&Context::new(), &Headers(headers))
        }
        _ => Context::new(),
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// Everything inside the root span: counts, answers' headers, what is known at the end.
#[doc(hidden)]
pub struct Edge<S> {
    service: S,
}

impl<S, B> Service<ServiceRequest> for Edge<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
    B: 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    actix_web::dev::forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let exchange = Exchange::start(&request);
        let inner = self.service.call(request);
        Box::pin(async move {
            match inner.await {
                Ok(mut response) => {
                    let status = response.status();
                    exchange.mark(response.headers_mut());
                    exchange.finish(status, Some(response.request()));
                    Ok(response)
                }
                // A middleware inside answered with an error; actix-web makes a response of it only later.
                Err(error) => {
                    let mut response = error.error_response();
                    let status = response.status();
                    exchange.mark(response.headers_mut());
                    exchange.finish(status, None);
                    Err(InternalError::from_response(error, response).into())
                }
            }
        })
    }
}

/// One request between its start and its end. Dropped before its end, it was cancelled: the caller went away.
struct Exchange {
    started: Instant,
    method: usize,
    secure: bool,
    path: String,
    id: String,
    context: Context,
    finished: bool,
}

impl Exchange {
    fn start(request: &ServiceRequest) -> Self {
        let method = method_index(request.method().as_str());
        let secure = request.app_config().secure();
        ACTIVE[method][usize::from(secure)].fetch_add(1, Relaxed);
        let context = Context::current();
        let span = context.span();
        if span.is_recording() {
            span.set_attributes(attributes(request, method, secure));
        }
        let extensions = request.extensions();
        Self {
            started: Instant::now(),
            method,
            secure,
            path: request.path().to_owned(),
            id: extensions
                .get::<RequestId>()
                .map(|id| id.0.clone())
                .unwrap_or_default(),
            context,
            finished: false,
        }
    }

    /// Tells the caller which request and trace this was.
    fn mark(&self, headers: &mut HeaderMap) {
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            headers.insert(REQUEST_ID, id);
        }
        let span = self.context.span();
        let ids = span.span_context();
        if ids.is_valid() {
            let flags = u8::from(ids.is_sampled());
            let value = format!(
                "00-{:032x}-{:016x}-{flags:02x}",
                ids.trace_id(),
                ids.span_id()
            );
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(TRACE_RESPONSE, value);
            }
        }
    }

    fn finish(mut self, status: StatusCode, request: Option<&HttpRequest>) {
        self.finished = true;
        let pattern = request.and_then(HttpRequest::match_pattern);
        let annotations = request.and_then(|request| {
            let mut extensions = request.extensions_mut();
            extensions
                .remove::<Annotations>()
                .map(|Annotations(annotations)| annotations)
        });
        let mut outcome = outcome(
            pattern.as_deref(),
            self.method,
            self.secure,
            status.as_u16(),
        );
        if let Some(annotations) = annotations {
            outcome.annotate(annotations);
        }
        self.record(&outcome, status.is_server_error());
    }

    fn record(&self, outcome: &Outcome, failed: bool) {
        let elapsed = self.started.elapsed().as_secs_f64();
        duration().record_set(elapsed, &outcome.set);
        let span = self.context.span();
        if span.is_recording() {
            if let Some(name) = outcome.name {
                span.update_name(name);
            }
            // Method and scheme, the first two, are there since the start.
            span.set_attributes(outcome.set.attributes[2..].iter().cloned());
            // A description that `record_exception` has given would be lost.
            if failed && !outcome.described {
                span.set_status(Status::error(""));
            }
        }
        logs::access(outcome, METHODS[self.method], &self.path, elapsed, failed);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        ACTIVE[self.method][usize::from(self.secure)].fetch_sub(1, Relaxed);
        if !self.finished {
            self.record(&cancelled(self.method, self.secure), false);
        }
    }
}

/// What is known of a request at its start, for its span alone.
fn attributes(request: &ServiceRequest, method: usize, secure: bool) -> Vec<KeyValue> {
    let head = request.head();
    let mut attributes = Vec::with_capacity(16);
    attributes.push(KeyValue::new("http.request.method", METHODS[method]));
    attributes.push(KeyValue::new("url.scheme", scheme(secure)));
    attributes.push(KeyValue::new("url.path", head.uri.path().to_owned()));
    if let Some(query) = head.uri.query() {
        attributes.push(KeyValue::new("url.query", query.to_owned()));
    }
    attributes.push(KeyValue::new(
        "network.protocol.version",
        match head.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        },
    ));
    if method == METHODS.len() - 1 {
        attributes.push(KeyValue::new(
            "http.request.method_original",
            head.method.as_str().to_owned(),
        ));
    }
    let text = |name| {
        head.headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    if let Some(authority) = text("host").or_else(|| head.uri.authority().map(|host| host.as_str()))
    {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse::<i64>().ok()),
            _ => (authority, None),
        };
        attributes.push(KeyValue::new("server.address", shared(0, host)));
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        attributes.push(KeyValue::new("server.port", port));
    }
    // The convention prefers the address that proxies pass on to the peer's.
    match text("x-forwarded-for").and_then(|list| list.split(',').next()) {
        Some(client) => attributes.push(KeyValue::new("client.address", shared(1, client.trim()))),
        None => {
            if let Some(peer) = head.peer_addr {
                attributes.push(KeyValue::new(
                    "client.address",
                    shared(1, &peer.ip().to_string()),
                ));
            }
        }
    }
    if let Some(agent) = text("user-agent") {
        attributes.push(KeyValue::new("user_agent.original", shared(2, agent)));
    }
    attributes
}

fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// `text`, shared with the last request that had the same in this place: most callers send many requests.
fn shared(place: usize, text: &str) -> StringValue {
    thread_local!(static LAST: RefCell<[Option<Arc<str>>; 3]> = const { RefCell::new([None, None, None]) });
    LAST.with_borrow_mut(|last| match &last[place] {
        Some(known) if &**known == text => Arc::clone(known).into(),
        _ => {
            let new: Arc<str> = text.into();
            last[place] = Some(Arc::clone(&new));
            new.into()
        }
    })
}

/// How a request ended.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// Name of the span; `None` leaves it at the method.
    name: Option<&'static str>,
    pub(super) route: Option<&'static str>,
    /// 0 when there was no answer.
    pub(super) status: u16,
    /// Attributes of metric, span and log record; the first two are method and scheme.
    pub(super) set: AttributeSet,
    /// Whether the error has been described.
    described: bool,
}

impl Outcome {
    fn annotate(&mut self, annotations: Vec<KeyValue>) {
        let has_error = |attributes: &[KeyValue]| {
            attributes
                .iter()
                .any(|attribute| attribute.key.as_str() == "error.type")
        };
        let own_error = has_error(&annotations);
        let kept = self
            .set
            .attributes
            .iter()
            .filter(|attribute| !(own_error && attribute.key.as_str() == "error.type"));
        let attributes: Vec<_> = kept.cloned().chain(annotations).collect();
        self.described = own_error;
        self.set = AttributeSet::new(&attributes);
    }
}

/// The outcome of a route, method and status: made once a thread. Their number is bounded by the app's routes.
fn outcome(pattern: Option<&str>, method: usize, secure: bool, status: u16) -> Outcome {
    type Key = (usize, bool, u16);
    thread_local!(static MADE: RefCell<HashMap<String, HashMap<Key, Outcome>>> = RefCell::default());
    MADE.with_borrow_mut(|made| {
        let key = (method, secure, status);
        let route = pattern.unwrap_or_default();
        if let Some(outcome) = made.get(route).and_then(|outcomes| outcomes.get(&key)) {
            return outcome.clone();
        }
        let outcome = make_outcome(pattern, method, secure, status);
        made.entry(route.to_owned())
            .or_default()
            .insert(key, outcome.clone());
        outcome
    })
}

fn make_outcome(pattern: Option<&str>, method: usize, secure: bool, status: u16) -> Outcome {
    let route = pattern.map(interned);
    let mut attributes = vec![
        KeyValue::new("http.request.method", METHODS[method]),
        KeyValue::new("url.scheme", scheme(secure)),
        KeyValue::new("http.response.status_code", i64::from(status)),
    ];
    attributes.extend(route.map(|route| KeyValue::new("http.route", route)));
    if status >= 500 {
        attributes.push(KeyValue::new("error.type", interned(&status.to_string())));
    }
    Outcome {
        name: route.map(|route| interned(&format!("{} {route}", span_method(method)))),
        route,
        status,
        set: AttributeSet::new(&attributes),
        described: false,
    }
}

fn cancelled(method: usize, secure: bool) -> Outcome {
    Outcome {
        name: None,
        route: None,
        status: 0,
        set: AttributeSet::new(&[
            KeyValue::new("http.request.method", METHODS[method]),
            KeyValue::new("url.scheme", scheme(secure)),
            KeyValue::new("error.type", "cancelled"),
        ]),
        described: false,
    }
}

/// An unknown method is called `HTTP` in a span's name.
fn span_method(method: usize) -> &'static str {
    if method == METHODS.len() - 1 {
        "HTTP"
    } else {
        METHODS[method]
    }
}

/// `text` for as long as the program runs. Only for sets that do not grow: routes, methods, statuses.
fn interned(text: &str) -> &'static str {
    static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut known = KNOWN
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let known = known.get_or_insert_default();
    match known.get(text) {
        Some(text) => text,
        None => {
            let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
            known.insert(text);
            text
        }
    }
}

/// Requests in progress by method and scheme: two atomic additions a request, read when metrics are.
static ACTIVE: [[AtomicI64; 2]; METHODS.len()] =
    [const { [const { AtomicI64::new(0) }; 2] }; METHODS.len()];

pub(super) fn observe(meter: &Meter) {
    meter
        .i64_observable_up_down_counter("http.server.active_requests")
        .with_unit("{request}")
        .with_description("Number of active HTTP server requests.")
        .with_callback(|observer| {
            for (method, name) in METHODS.iter().enumerate() {
                for secure in [false, true] {
                    let active = ACTIVE[method][usize::from(secure)].load(Relaxed);
                    // A series begins with its first request; zero is worth saying of the method all use.
                    if active != 0 || (*name == "GET" && !secure) {
                        observer.observe(
                            active,
                            &[
                                KeyValue::new("http.request.method", *name),
                                KeyValue::new("url.scheme", scheme(secure)),
                            ],
                        );
                    }
                }
            }
        })
        .build();
}

fn duration() -> &'static Histogram {
    static DURATION: OnceLock<Histogram> = OnceLock::new();
    DURATION.get_or_init(|| {
        Histogram::new(
            &opentelemetry::global::meter("telemetry.server"),
            "http.server.request.duration",
            "s",
            "Duration of HTTP server requests.",
        )
    })
}
