//! HTTP server side of actix-web: root span, metrics, request id, access log.
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span>
//!
//! Every request passes here, so what does not change from one to the next is made once: names and attribute sets a
//! route, method and status; shared strings for what the same peers send again and again.
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::future::{Future, Ready};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
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

use crate::base::locked;
use crate::pipeline::exemplars::{AttributeSet, Histogram};
use crate::signals::context::RequestIdValue;
use crate::signals::{context, logs, runtime, traces};
use crate::{CANCELLED, METHODS, method_index};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// <https://w3c.github.io/trace-context/#traceresponse-header>
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The id of a request: the caller's `x-request-id` if it is at most 64 of `A-Za-z0-9_-`, else a new one. Found in the
/// request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

/// The outermost middleware of an app.
#[derive(Debug, Clone, Default)]
pub struct Instrument {}

impl Instrument {
    /// What `App::wrap` takes, after every other middleware.
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
            Some(id) => id.into(),
            None => new_id(request),
        };
        let parent = remote_context(headers).with_value(RequestIdValue(Arc::clone(&id)));
        request.extensions_mut().insert(RequestId(id));
        let context = match traces::tracer() {
            Some(tracer) => {
                let method = method_index(request.method().as_str());
                let span = tracer
                    .span_builder(span_method(method))
                    .with_kind(SpanKind::Server)
                    .with_attributes(attributes(request, method))
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
fn new_id(request: &ServiceRequest) -> Arc<str> {
    let extensions = request.extensions();
    let id = match extensions.get::<tracing_actix_web::RequestId>() {
        Some(id) => **id,
        None => uuid::Uuid::new_v4(),
    };
    Arc::from(&*id.simple().encode_lower(&mut [0; 32]))
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

/// One request between its start and its end. Dropped before its end, it was cancelled, for the caller went away, or its
/// handler panicked.
struct Exchange {
    started: Instant,
    method: usize,
    secure: bool,
    path: Arc<str>,
    id: Option<RequestId>,
    context: Context,
    finished: bool,
}

impl Exchange {
    fn start(request: &ServiceRequest) -> Self {
        let method = method_index(request.method().as_str());
        let secure = request.app_config().secure();
        ACTIVE[method][usize::from(secure)].fetch_add(1, Relaxed);
        let extensions = request.extensions();
        Self {
            started: Instant::now(),
            method,
            secure,
            path: request.path().into(),
            id: extensions.get().cloned(),
            context: Context::current(),
            finished: false,
        }
    }

    /// Tells the caller which request and trace this was.
    fn mark(&self, headers: &mut HeaderMap) {
        if let Some(RequestId(id)) = &self.id
            && let Ok(id) = HeaderValue::from_str(id)
        {
            headers.insert(REQUEST_ID, id);
        }
        let span = self.context.span();
        let ids = span.span_context();
        if ids.is_valid()
            && let Ok(value) = HeaderValue::from_bytes(&context::traceparent(ids))
        {
            headers.insert(TRACE_RESPONSE, value);
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
            let _guard = self.context.clone().attach();
            let panicked = std::thread::panicking();
            let error = if panicked { "panic" } else { CANCELLED };
            self.record(&unanswered(self.method, self.secure, error), panicked);
        }
    }
}

/// What is known of a request at its start, for its span alone.
fn attributes(request: &ServiceRequest, method: usize) -> Vec<KeyValue> {
    let head = request.head();
    let secure = request.app_config().secure();
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
                attributes.push(KeyValue::new("client.address", address(peer.ip())));
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

/// The text of an address, shared with the last request from there.
fn address(ip: IpAddr) -> StringValue {
    thread_local!(static LAST: RefCell<Option<(IpAddr, Arc<str>)>> = const { RefCell::new(None) });
    LAST.with_borrow_mut(|last| match last {
        Some((known, text)) if *known == ip => Arc::clone(text).into(),
        _ => {
            let text: Arc<str> = ip.to_string().into();
            *last = Some((ip, Arc::clone(&text)));
            text.into()
        }
    })
}

/// How a request ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Name of the span; `None` leaves it at the method.
    name: Option<&'static str>,
    /// Message of the access-log record; `None` where no route matched, as paths are without number.
    pub(crate) message: Option<&'static str>,
    /// 0 when there was no answer.
    pub(crate) status: u16,
    /// Attributes of metric, span and log record; the first two are method and scheme.
    pub(crate) set: AttributeSet,
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
        message: route.map(|route| interned(&format!("{} {route} {status}", METHODS[method]))),
        status,
        set: AttributeSet::new(&attributes),
        described: false,
    }
}

/// The outcome of a request that got no answer.
fn unanswered(method: usize, secure: bool, error: &'static str) -> Outcome {
    Outcome {
        name: None,
        message: None,
        status: 0,
        set: AttributeSet::new(&[
            KeyValue::new("http.request.method", METHODS[method]),
            KeyValue::new("url.scheme", scheme(secure)),
            KeyValue::new("error.type", error),
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
    let mut known = locked(&KNOWN);
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

/// Which of them have been observed. A series that is no longer observed would stay at its last value in the store, so
/// one that has begun goes on; those of the method that all use exist from the start.
static OBSERVED: [[AtomicBool; 2]; METHODS.len()] =
    [const { [const { AtomicBool::new(false) }; 2] }; METHODS.len()];

pub(crate) fn observe(meter: &Meter) {
    OBSERVED[method_index("GET")][0].store(true, Relaxed);
    meter
        .i64_observable_up_down_counter("http.server.active_requests")
        .with_unit("{request}")
        .with_description("Number of active HTTP server requests.")
        .with_callback(|observer| {
            for (method, name) in METHODS.iter().enumerate() {
                for secure in [false, true] {
                    let active = ACTIVE[method][usize::from(secure)].load(Relaxed);
                    let observed = &OBSERVED[method][usize::from(secure)];
                    if active == 0 && !observed.load(Relaxed) {
                        continue;
                    }
                    observed.store(true, Relaxed);
                    let attributes = [
                        KeyValue::new("http.request.method", *name),
                        KeyValue::new("url.scheme", scheme(secure)),
                    ];
                    observer.observe(active, &attributes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, capture, message, record_attribute, span_attribute};
    use actix_web::{App, HttpResponse, test, web};
    use futures_util::FutureExt as _;
    use opentelemetry_sdk::trace::SpanData;

    async fn nested(request: HttpRequest, id: web::Path<u32>) -> HttpResponse {
        annotate(&request, "test.client", "a");
        let span = tracing::info_span!("inner", otel.kind = "client", answer = 42);
        span.in_scope(|| tracing::info!(id = *id, ok = true, "inside"));
        HttpResponse::Ok().finish()
    }

    async fn broken(request: HttpRequest) -> HttpResponse {
        annotate(&request, "error.type", "database-failed");
        let error = std::io::Error::other("no disk");
        context::record_exception(&error);
        HttpResponse::InternalServerError().finish()
    }

    /// Serves one request and returns its trace id, status and `x-request-id`.
    async fn serve(request: test::TestRequest) -> (String, StatusCode, String) {
        capture();
        let app = App::new()
            .wrap(Instrument::new())
            .route("/items/{id}", web::get().to(nested))
            .route("/alone/{id}", web::get().to(nested))
            .route("/broken", web::get().to(broken))
            .route(
                "/refused",
                web::get().to(|| async {
                    Err::<HttpResponse, _>(actix_web::error::ErrorBadGateway("x"))
                }),
            );
        let app = test::init_service(app).await;
        let response = test::call_service(&app, request.to_request()).await;
        let header = |name: HeaderName| {
            response
                .headers()
                .get(name)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        let trace = header(TRACE_RESPONSE).split('-').nth(1).unwrap().to_owned();
        (trace, response.status(), header(REQUEST_ID))
    }

    fn server_span(trace: &str) -> SpanData {
        let spans = capture().spans(trace);
        spans
            .into_iter()
            .find(|span| span.span_kind == SpanKind::Server)
            .unwrap()
    }

    #[actix_web::test]
    async fn a_request_is_a_span_a_record_and_a_point() {
        // A route of its own: a bucket of a series has one exemplar, whichever test it is of.
        let request = test::TestRequest::get()
            .uri("/alone/7?full=1")
            .insert_header(("host", "shop.example:8443"))
            .insert_header(("user-agent", "probe/1"))
            .insert_header(("x-forwarded-for", "192.0.2.1, 10.0.0.1"));
        let (trace, status, id) = serve(request).await;
        assert_eq!(status, 200);
        assert_eq!(id.len(), 32);

        let span = server_span(&trace);
        assert_eq!(span.name, "GET /alone/{id}");
        assert_eq!(span.status, Status::Unset);
        for (key, value) in [
            ("http.request.method", "GET"),
            ("http.route", "/alone/{id}"),
            ("http.response.status_code", "200"),
            ("url.scheme", "http"),
            ("url.path", "/alone/7"),
            ("url.query", "full=1"),
            ("server.address", "shop.example"),
            ("server.port", "8443"),
            ("client.address", "192.0.2.1"),
            ("user_agent.original", "probe/1"),
            ("network.protocol.version", "1.1"),
            ("test.client", "a"),
        ] {
            assert_eq!(span_attribute(&span, key).as_deref(), Some(value), "{key}");
        }
        assert!(span.events.events.is_empty());

        let spans = capture().spans(&trace);
        let inner = spans.iter().find(|span| span.name == "inner").unwrap();
        assert_eq!(inner.parent_span_id, span.span_context.span_id());
        assert_eq!(inner.span_kind, SpanKind::Client);
        assert_eq!(span_attribute(inner, "answer").as_deref(), Some("42"));

        let records = capture().records(&trace);
        assert_eq!(records.len(), 2);
        for record in &records {
            assert_eq!(
                record_attribute(record, "test.request.id").as_deref(),
                Some(id.as_str())
            );
        }
        let [inside, access] = &records[..] else {
            panic!("two records")
        };
        assert_eq!(message(inside), "inside");
        assert_eq!(record_attribute(inside, "id").as_deref(), Some("7"));
        assert_eq!(record_attribute(inside, "ok").as_deref(), Some("true"));
        assert_eq!(
            inside.trace_context().unwrap().span_id,
            inner.span_context.span_id()
        );
        assert_eq!(inside.event_name(), None);
        assert_eq!(message(access), "GET /alone/{id} 200");
        assert_eq!(access.event_name(), Some("test.request"));
        assert_eq!(
            access.trace_context().unwrap().span_id,
            span.span_context.span_id()
        );
        assert_eq!(
            record_attribute(access, "url.path").as_deref(),
            Some("/alone/7")
        );
        assert_eq!(
            record_attribute(access, "test.client").as_deref(),
            Some("a")
        );
        assert!(
            record_attribute(access, "test.request.duration_ms")
                .unwrap()
                .parse::<f64>()
                .unwrap()
                >= 0.0
        );

        let page = capture().openmetrics();
        let line = page.lines().find(|line| {
            line.starts_with("http_server_request_duration_seconds_bucket")
                && line.contains("http_route=\"/alone/{id}\"")
        });
        assert!(line.unwrap().contains("test_client=\"a\""));
        assert!(
            page.contains(&format!("# {{trace_id=\"{trace}\"")),
            "its exemplar is there"
        );
        assert!(page.contains(
            "http_server_active_requests{http_request_method=\"GET\",url_scheme=\"http\"} "
        ));
    }

    #[actix_web::test]
    async fn a_returned_500_is_an_error_with_its_exception() {
        let (trace, status, _) = serve(test::TestRequest::get().uri("/broken")).await;
        assert_eq!(status, 500);
        let span = server_span(&trace);
        assert_eq!(span.status, Status::error("no disk"));
        assert_eq!(
            span_attribute(&span, "error.type").as_deref(),
            Some("database-failed")
        );
        assert_eq!(
            span_attribute(&span, "http.response.status_code").as_deref(),
            Some("500")
        );
        let event = &span.events.events[0];
        assert_eq!(event.name, "exception");
        assert!(
            event
                .attributes
                .contains(&KeyValue::new("exception.message", "no disk"))
        );
        assert!(
            event
                .attributes
                .contains(&KeyValue::new("exception.type", "std::io::error::Error"))
        );
        assert_eq!(capture().records(&trace)[0].severity_text(), Some("WARN"));

        let (trace, status, _) = serve(test::TestRequest::get().uri("/refused")).await;
        assert_eq!(status, 502);
        assert_eq!(server_span(&trace).status, Status::error(""));
        assert_eq!(
            span_attribute(&server_span(&trace), "error.type").as_deref(),
            Some("502")
        );
    }

    #[actix_web::test]
    async fn what_no_route_matches_has_no_route_and_is_no_error() {
        let method = actix_web::http::Method::from_bytes(b"BREW").unwrap();
        let (trace, status, _) =
            serve(test::TestRequest::default().method(method).uri("/none/1")).await;
        assert_eq!(status, 404);
        let span = server_span(&trace);
        assert_eq!((span.name.as_ref(), &span.status), ("HTTP", &Status::Unset));
        assert_eq!(span_attribute(&span, "http.route"), None);
        assert_eq!(
            span_attribute(&span, "http.request.method").as_deref(),
            Some("_OTHER")
        );
        assert_eq!(
            span_attribute(&span, "http.request.method_original").as_deref(),
            Some("BREW")
        );
    }

    #[actix_web::test]
    async fn the_caller_s_trace_and_request_id_go_on() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let request = test::TestRequest::get()
            .uri("/items/1")
            .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-01")))
            .insert_header(("x-request-id", "caller_1-A"));
        let (seen, _, id) = serve(request).await;
        assert_eq!((seen.as_str(), id.as_str()), (trace, "caller_1-A"));
        let span = server_span(trace);
        assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
        assert!(span.parent_span_is_remote);

        for unfit in ["", "a b", "é", &"x".repeat(65)] {
            let request = test::TestRequest::get()
                .uri("/items/1")
                .insert_header(("x-request-id", unfit));
            assert_eq!(serve(request).await.2.len(), 32, "{unfit:?}");
        }
    }

    #[actix_web::test]
    async fn an_unsampled_trace_is_continued_but_not_exported() {
        let trace = "1af7651916cd43dd8448eb211c80319c";
        let request = test::TestRequest::get()
            .uri("/items/1")
            .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-00")));
        assert_eq!(serve(request).await.0, trace);
        assert!(capture().spans(trace).is_empty());
        assert_eq!(
            capture().records(trace).len(),
            2,
            "its records carry the ids all the same"
        );
        assert!(
            !capture().openmetrics().contains(trace),
            "and it is no exemplar"
        );
    }

    #[actix_web::test]
    async fn a_cancelled_request_is_recorded() {
        capture();
        let app = App::new()
            .wrap(Instrument::new())
            .route("/slow", web::get().to(std::future::pending::<HttpResponse>));
        let app = test::init_service(app).await;
        let trace = "2af7651916cd43dd8448eb211c80319c";
        let request = test::TestRequest::get()
            .uri("/slow")
            .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-01")))
            .to_request();
        {
            let mut call = std::pin::pin!(test::call_service(&app, request));
            assert!(futures_util::poll!(call.as_mut()).is_pending());
        }
        let span = server_span(trace);
        assert_eq!(
            span_attribute(&span, "error.type").as_deref(),
            Some("cancelled")
        );
        assert_eq!(span.status, Status::Unset);
        assert_eq!(capture().records(trace).len(), 1);
    }

    #[actix_web::test]
    async fn a_panic_is_recorded_as_the_handler_s_and_not_the_caller_s() {
        capture();
        let app = App::new().wrap(Instrument::new()).route(
            "/panic",
            web::get().to(|request: HttpRequest| async move {
                assert!(request.path().is_empty(), "on purpose");
                HttpResponse::Ok().finish()
            }),
        );
        let app = test::init_service(app).await;
        let trace = "3af7651916cd43dd8448eb211c80319c";
        let request = test::TestRequest::get()
            .uri("/panic")
            .insert_header(("traceparent", format!("00-{trace}-b7ad6b7169203331-01")))
            .to_request();
        let call = std::panic::AssertUnwindSafe(test::call_service(&app, request));
        assert!(call.catch_unwind().await.is_err());
        let span = server_span(trace);
        assert_eq!(
            span_attribute(&span, "error.type").as_deref(),
            Some("panic")
        );
        assert_eq!(span.status, Status::error(""));
        assert_eq!(capture().records(trace)[0].severity_text(), Some("WARN"));
    }

    #[actix_web::test]
    async fn a_count_of_active_requests_goes_back_to_zero() {
        capture();
        let app = App::new().wrap(Instrument::new()).route(
            "/slow",
            web::patch().to(std::future::pending::<HttpResponse>),
        );
        let app = test::init_service(app).await;
        let active = || {
            let page = capture().openmetrics();
            let labels = "{http_request_method=\"PATCH\",url_scheme=\"http\"} ";
            let mut lines = page.lines().filter(|line| line.contains("active_requests"));
            lines.find_map(|line| Some(line.split_once(labels)?.1.to_owned()))
        };
        assert_eq!(active(), None);
        {
            let request = test::TestRequest::patch().uri("/slow").to_request();
            let mut call = std::pin::pin!(test::call_service(&app, request));
            assert!(futures_util::poll!(call.as_mut()).is_pending());
            assert_eq!(active().as_deref(), Some("1"));
        }
        assert_eq!(active().as_deref(), Some("0"));
    }

    #[actix_web::test]
    async fn an_outbound_call_is_a_child_and_passes_the_context_on() {
        capture();
        let server = actix_web::HttpServer::new(|| {
            App::new()
                .wrap(Instrument::new())
                .route("/items/{id}", web::get().to(nested))
        });
        let server = server
            .workers(1)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let port = server.addrs()[0].port();
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);

        let client = reqwest::Client::new();
        let request = client
            .get(format!("http://u:p@127.0.0.1:{port}/items/1"))
            .build()
            .unwrap();
        let span = context::new_trace(|| tracing::info_span!("caller"));
        let trace = span.in_scope(|| context::current().unwrap().trace_id);
        let response = tracing::Instrument::instrument(
            crate::http::client::send(&client, request, "/items/{id}"),
            span,
        );
        assert_eq!(response.await.unwrap().status(), 200);
        handle.stop(true).await;

        let spans = capture().spans(&trace);
        let find = |name: &str, kind: SpanKind| {
            spans
                .iter()
                .find(|span| span.name == name && span.span_kind == kind)
                .unwrap()
        };
        let (caller, call, served) = (
            find("caller", SpanKind::Internal),
            find("GET /items/{id}", SpanKind::Client),
            find("GET /items/{id}", SpanKind::Server),
        );
        assert_eq!(call.parent_span_id, caller.span_context.span_id());
        assert_eq!(served.parent_span_id, call.span_context.span_id());
        assert_eq!(
            span_attribute(call, "url.full"),
            Some(format!("http://127.0.0.1:{port}/items/1"))
        );
        assert_eq!(span_attribute(call, "server.port"), Some(port.to_string()));
        assert_eq!(
            span_attribute(call, "http.response.status_code").as_deref(),
            Some("200")
        );

        let gone = client
            .get(format!("http://u:p@127.0.0.1:{port}/items/1?key=secret"))
            .build()
            .unwrap();
        let span = context::new_trace(|| tracing::info_span!("caller"));
        let trace = span.in_scope(|| context::current().unwrap().trace_id);
        let call = crate::http::client::send(&client, gone, "/items/{id}");
        assert!(tracing::Instrument::instrument(call, span).await.is_err());
        let spans = capture().spans(&trace);
        let call = spans
            .iter()
            .find(|span| span.span_kind == SpanKind::Client)
            .unwrap();
        assert_eq!(
            span_attribute(call, "error.type").as_deref(),
            Some("connection_error")
        );
        let Status::Error { description } = &call.status else {
            panic!("an error, not {:?}", call.status)
        };
        assert!(description.starts_with("error sending request: "));
        assert!(description.contains("refused"), "its cause: {description}");
    }

    #[actix_web::test]
    async fn an_outbound_call_that_nobody_waits_for_is_recorded_as_cancelled() {
        capture();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let client = reqwest::Client::new();
        let request = client
            .get(format!("http://127.0.0.1:{port}/items/1"))
            .build()
            .unwrap();
        let span = context::new_trace(|| tracing::info_span!("caller"));
        let trace = span.in_scope(|| context::current().unwrap().trace_id);
        {
            let call = crate::http::client::send(&client, request, "/items/{id}");
            let mut call = std::pin::pin!(tracing::Instrument::instrument(call, span));
            assert!(futures_util::poll!(call.as_mut()).is_pending());
        }
        let spans = capture().spans(&trace);
        let call = spans
            .iter()
            .find(|span| span.span_kind == SpanKind::Client)
            .unwrap();
        assert_eq!(
            span_attribute(call, "error.type").as_deref(),
            Some("cancelled")
        );
        let page = capture().openmetrics();
        let count = page.lines().find(|line| {
            line.starts_with("http_client_request_duration_seconds_count{")
                && line.contains("error_type=\"cancelled\"")
                && line.contains(&format!("server_port=\"{port}\""))
        });
        assert!(count.unwrap().ends_with("} 1"), "{count:?}");
    }

    #[actix_web::test]
    async fn a_job_s_trace_is_linked_to_its_cause() {
        capture();
        let cause = context::new_trace(|| tracing::info_span!("cause"));
        let (ids, carrier) = cause.in_scope(|| (context::current().unwrap(), context::inject()));
        assert_eq!(
            carrier["traceparent"],
            format!("00-{}-{}-01", ids.trace_id, ids.span_id)
        );
        let job = context::new_trace(|| tracing::info_span!("job"));
        assert!(context::link(&job, &carrier));
        assert!(!context::link(&job, &HashMap::new()));
        let trace = job.in_scope(|| context::current().unwrap().trace_id);
        assert_ne!(trace, ids.trace_id);
        let child = context::child_of(&carrier, || tracing::info_span!("child"));
        drop((job, child));
        let spans = testing::capture().spans(&trace);
        assert_eq!(
            spans[0].links.links[0].span_context.trace_id().to_string(),
            ids.trace_id
        );
        let spans = testing::capture().spans(&ids.trace_id);
        assert_eq!(spans[0].parent_span_id.to_string(), ids.span_id);
    }
}
