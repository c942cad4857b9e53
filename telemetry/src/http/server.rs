//! The server side of HTTP, whatever the framework: root span, metrics, access log, headers of the answer.
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span>
//!
//! Every request passes here, so what does not change from one to the next is made once: names and attribute sets a
//! route, method and status; shared strings for what the same peers send again and again.
use std::cell::RefCell;
#[cfg(feature = "actix")]
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
#[cfg(feature = "actix")]
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

#[cfg(feature = "actix")]
use foldhash::fast::RandomState;
use opentelemetry::metrics::Meter;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, StringValue};
use tracing::Span;
use tracing::level_filters::LevelFilter;

use super::forwarded::{self, host_and_port};
use super::outcome::{End, Recorder, Target, Targets};
use super::{CANCELLED, METHODS, OTHER_METHOD, method_index, scheme};
use crate::base::locked;
use crate::signals::metrics::Histogram;
use crate::signals::{Telemetry, context, layer};

/// A header that is looked for in every request, or set in every answer. Frameworks have types of their own for names; an adapter makes each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    RequestId,
    TraceParent,
    Baggage,
    Host,
    UserAgent,
    /// Of the answer, <https://w3c.github.io/trace-context/#traceresponse-header>: tells the caller its trace.
    TraceResponse,
}

/// Names of the [`Header`]s, in their order.
pub(crate) const HEADERS: [&str; 6] = [
    "x-request-id",
    "traceparent",
    "baggage",
    "host",
    "user-agent",
    "traceresponse",
];

/// The head of a request, as far as it is known.
pub(crate) struct Head<'a, H> {
    pub(crate) method: &'a str,
    /// Whether it came by TLS.
    pub(crate) secure: bool,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    /// `network.protocol.version`
    pub(crate) version: &'static str,
    /// Host and port of the request's target, where that has any.
    pub(crate) authority: Option<&'a str>,
    /// Who is at the other end of the connection.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) headers: H,
}

/// The headers of a request, in the framework's own type.
pub(crate) trait Headers {
    /// The first line of a header, if it is text.
    fn header(&self, header: Header) -> Option<&str>;

    /// All lines of the header with this name, without value where one is no text.
    fn lines(&self, name: &str) -> Vec<Option<&str>>;

    /// The names of all headers.
    fn names(&self) -> Vec<&str>;
}

/// Those of a request whose head could not be read.
struct Unread;

impl Headers for Unread {
    fn header(&self, _: Header) -> Option<&str> {
        None
    }

    fn lines(&self, _: &str) -> Vec<Option<&str>> {
        Vec::new()
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// [`Headers`] as propagators read them.
struct Carrier<'a, H>(&'a H);

impl<H: Headers> Extractor for Carrier<'_, H> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.lines(key).into_iter().next()?
    }

    fn keys(&self) -> Vec<&str> {
        self.0.names()
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        let lines = self.0.lines(key);
        // What is no text is a line all the same, and spoils the header.
        let texts = lines.into_iter().map(|line| line.unwrap_or("\u{fffd}"));
        let texts: Vec<&str> = texts.collect();
        (!texts.is_empty()).then_some(texts)
    }
}

/// Changes a query string before it is recorded, after the conventions' own redaction.
pub(crate) type Redact = dyn Fn(&str) -> String + Send + Sync;

/// How requests are recorded: one a middleware.
#[derive(Clone)]
pub(crate) struct Server(Arc<Shared>);

struct Shared {
    telemetry: Arc<Telemetry>,
    recorded: Arc<Recorded>,
    redact: Option<Arc<Redact>>,
}

impl Server {
    /// Records into the telemetry of the current subscriber.
    pub(crate) fn new(redact: Option<Arc<Redact>>) -> Self {
        let telemetry = Telemetry::current();
        telemetry.runtimes.register_current();
        Self(Arc::new(Shared {
            recorded: telemetry.part(Recorded::new),
            telemetry,
            redact,
        }))
    }

    /// Whether anybody hears of a request. Where the SDK is disabled and no layer listens it gets its id, and no more.
    pub(crate) fn is_heard(&self) -> bool {
        let telemetry = &self.0.telemetry;
        let disabled = telemetry.names.is_some() && telemetry.tracer.is_none();
        !disabled || LevelFilter::current() > LevelFilter::OFF
    }

    fn recorder(&self) -> Recorder<'_> {
        Recorder {
            names: self.0.telemetry.names.as_ref(),
            duration: &self.0.recorded.duration,
        }
    }

    /// Records a request that the HTTP library refused or gave up before the program saw it. Nothing is known of it but
    /// its connection, its end, and when it began.
    pub(super) fn unseen(&self, end: End, peer: Option<IpAddr>, began: Instant) {
        let head = Head {
            method: METHODS[OTHER_METHOD],
            secure: false,
            path: "",
            query: None,
            version: "",
            authority: None,
            peer,
            headers: Unread,
        };
        let new_id = uuid::Uuid::new_v4;
        let (mut exchange, span) = Exchange::begun(self, Some(began), &head, None, new_id);
        span.in_scope(|| exchange.end(end));
    }
}

/// The metrics of all servers of one telemetry.
struct Recorded {
    active: Arc<Active>,
    duration: Histogram,
    targets: Targets,
}

impl Recorded {
    fn new(telemetry: &Telemetry) -> Self {
        let meter = telemetry.meter("telemetry.server");
        let active = Arc::<Active>::default();
        active.observe(&meter);
        Self {
            active,
            duration: Histogram::within(
                &telemetry.exemplars,
                &meter,
                "http.server.request.duration",
                "s",
                "Duration of HTTP server requests.",
            ),
            targets: Targets::default(),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

/// The request being served, as its handlers see it: in actix-web an argument of theirs, or `actix::current`; in tower
/// and axum found in the request's extensions.
#[derive(Debug, Clone)]
pub struct RequestHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: Arc<str>,
    annotations: Mutex<Vec<KeyValue>>,
}

impl RequestHandle {
    /// The id of the request: the caller's `x-request-id` if it is at most 64 of `A-Za-z0-9_-`, else a new one.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Adds an attribute to the request's span, its access-log record and its duration metric. Key and value must each
    /// come from a closed set: every pair is a series of its own. `error.type` replaces the status code as the error's type.
    /// Of several values of one key the last counts; what else the request has, such as `http.route`, stays as it is.
    pub fn annotate(&self, key: &'static str, value: impl Into<StringValue>) {
        let annotation = KeyValue::new(key, value.into());
        let mut annotations = locked(&self.0.annotations);
        annotations.retain(|known| known.key != annotation.key);
        annotations.push(annotation);
    }
}

fn fit_id(id: &str) -> bool {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&id.len()) && id.bytes().all(fit)
}

/// One request between its start and its end. Dropped before its end, it was cancelled, for the caller went away, or its
/// handler panicked.
#[derive(Debug)]
pub(crate) struct Exchange {
    handle: RequestHandle,
    /// Absent once it has ended, and where nobody hears of it.
    recording: Option<Recording>,
    /// Carries the request's span.
    context: Context,
}

/// What is known of a request until its end is recorded.
#[derive(Debug)]
struct Recording {
    server: Server,
    started: Instant,
    method: usize,
    secure: bool,
    path: Arc<str>,
    target: Arc<Target>,
}

impl Exchange {
    /// Begins a request and its span. `route` is the pattern that it matches; `new_id` is asked where the caller sent no
    /// id that fits.
    pub(crate) fn start(
        server: &Server,
        head: &Head<'_, impl Headers>,
        route: Option<&str>,
        new_id: impl FnOnce() -> uuid::Uuid,
    ) -> (Self, Span) {
        Self::begun(server, None, head, route, new_id)
    }

    /// As [`Exchange::start`], for a request that began at `began`.
    fn begun(
        server: &Server,
        began: Option<Instant>,
        head: &Head<'_, impl Headers>,
        route: Option<&str>,
        new_id: impl FnOnce() -> uuid::Uuid,
    ) -> (Self, Span) {
        let sent = head.headers.header(Header::RequestId);
        let id: Arc<str> = match sent.filter(|id| fit_id(id)) {
            Some(id) => id.into(),
            None => Arc::from(&*new_id().simple().encode_lower(&mut [0; 32])),
        };
        let mut exchange = Self {
            handle: RequestHandle(Arc::new(Inner {
                id: Arc::clone(&id),
                annotations: Mutex::default(),
            })),
            recording: None,
            context: Context::new(),
        };
        if !server.is_heard() {
            return (exchange, Span::none());
        }
        let started = began.unwrap_or_else(Instant::now);
        let method = method_index(head.method);
        let secure = head.secure;
        server.0.recorded.active.add(method, secure, 1);
        let path: Arc<str> = head.path.into();
        let target = server.0.recorded.targets.of(method, secure, route);
        let telemetry = &server.0.telemetry;
        if let Some(tracer) = &telemetry.tracer {
            let parent = remote_context(telemetry, &head.headers);
            let mut attributes = Vec::with_capacity(16);
            attributes.extend_from_slice(&target.attributes);
            describe(&mut attributes, server, head, &path, &id);
            if method == OTHER_METHOD && head.method != METHODS[OTHER_METHOD] {
                let original = head.method.to_owned();
                attributes.push(KeyValue::new("http.request.method_original", original));
            }
            let mut span = tracer
                .span_builder(target.span_name.clone())
                .with_kind(SpanKind::Server)
                .with_attributes(attributes);
            span.start_time = began.map(|began| SystemTime::now() - began.elapsed());
            let span = span.start_with_context(tracer, &parent);
            exchange.context = parent.with_span(span);
        }
        let span = layer::adopt(exchange.context.clone(), Some(id), || {
            tracing::info_span!("http.server")
        });
        exchange.recording = Some(Recording {
            server: server.clone(),
            started,
            method,
            secure,
            path,
            target,
        });
        (exchange, span)
    }

    pub(crate) fn handle(&self) -> &RequestHandle {
        &self.handle
    }

    /// Enters the request's span, for what is dropped with a request that has no end.
    pub(crate) fn enter(&self) -> Option<layer::Within> {
        let request = Arc::clone(&self.handle.0.id);
        layer::within(self.context.clone(), Some(request))
    }

    /// Gives the request the route that `find` finds, if it has none yet: a middleware inside may have changed its path.
    #[cfg(feature = "actix")]
    pub(crate) fn routed(&mut self, find: impl FnOnce() -> Option<String>) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        if recording.target.has_route() {
            return;
        }
        let Some(route) = find() else {
            return;
        };
        let targets = &recording.server.0.recorded.targets;
        recording.target = targets.of(recording.method, recording.secure, Some(&route));
        let span = self.context.span();
        span.update_name(recording.target.span_name.clone());
        span.set_attribute(KeyValue::new("http.route", route));
    }

    /// Has `set` set the headers that tell the caller which request and trace this was.
    pub(crate) fn mark(&self, mut set: impl FnMut(Header, &[u8])) {
        set(Header::RequestId, self.handle.id().as_bytes());
        let span = self.context.span();
        let ids = span.span_context();
        // Telemetry may be off.
        if ids.is_valid() {
            set(Header::TraceResponse, &context::traceparent(ids));
        }
    }

    /// Ends the request with an answer.
    pub(crate) fn finish(mut self, status: u16) {
        self.end(End::Status(status));
    }

    /// Ends the request with a failure that no answer tells of.
    #[cfg(feature = "tower")]
    pub(crate) fn fail(mut self) {
        self.end(End::Unanswered("_OTHER"));
    }

    fn end(&mut self, end: End) {
        if let Some(recording) = self.recording.take() {
            recording.end(end, &self.handle, &self.context);
        }
    }
}

impl Recording {
    fn end(&self, end: End, handle: &RequestHandle, context: &Context) {
        let annotations = std::mem::take(&mut *locked(&handle.0.annotations));
        let outcome = self
            .target
            .outcome(self.server.recorder(), end, annotations);
        let elapsed = self.started.elapsed().as_secs_f64();
        let span = context.span();
        outcome.duration.record(elapsed, span.span_context());
        if span.is_recording() {
            let known = self.target.attributes.len();
            span.set_attributes(outcome.attributes[known..].iter().cloned());
            // A description that `record_exception` has given would be lost.
            if end.failed() && !outcome.described {
                span.set_status(Status::error(""));
            }
        }
        let message = match &outcome.message {
            Some(message) => message.clone(),
            None => self.target.message(&self.path, end).into(),
        };
        if let Some(access) = &outcome.access {
            let attributes = &outcome.attributes[2..];
            access.write(message, handle.id(), attributes, &self.path, elapsed);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let active = &self.server.0.recorded.active;
        active.add(self.method, self.secure, -1);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.recording.is_some() {
            let _within = self.enter();
            let panicked = std::thread::panicking();
            self.end(End::Unanswered(if panicked { "panic" } else { CANCELLED }));
        }
    }
}

/// The caller's context; a fresh one if it sent none.
fn remote_context(telemetry: &Telemetry, headers: &impl Headers) -> Context {
    let sent = |header| headers.header(header).is_some();
    if sent(Header::TraceParent) || sent(Header::Baggage) {
        let propagator = &telemetry.propagator;
        propagator.extract_with_context(&Context::new(), &Carrier(headers))
    } else {
        Context::new()
    }
}

/// What is known of a request at its start, for its span alone.
fn describe(
    attributes: &mut Vec<KeyValue>,
    server: &Server,
    head: &Head<'_, impl Headers>,
    path: &Arc<str>,
    id: &Arc<str>,
) {
    let mut put = |key, value: StringValue| attributes.push(KeyValue::new(key, value));
    if let Some(names) = &server.0.telemetry.names {
        put(names.request_id, Arc::clone(id).into());
    }
    if !path.is_empty() {
        put("url.path", Arc::clone(path).into());
        put("network.protocol.version", head.version.into());
    }
    let settings = &server.0.telemetry.http;
    if let Some(query) = head.query {
        let query = settings.redaction.query(query);
        let query = match &server.0.redact {
            Some(redact) => redact(&query),
            None => query.into_owned(),
        };
        put("url.query", query.into());
    }
    let client = client(head, &settings.trusted_proxies);
    let agent = head.headers.header(Header::UserAgent);
    let authority = head.headers.header(Header::Host).or(head.authority);
    let port = CALLER.with_borrow_mut(|caller| {
        if let Some(client) = client {
            put("client.address", caller.address(client));
        }
        if let Some(agent) = agent {
            put("user_agent.original", caller.agent(agent));
        }
        let (host, port) = caller.server(authority.filter(|authority| !authority.is_empty())?);
        put("server.address", host);
        Some(port.unwrap_or(if head.secure { 443 } else { 80 }))
    });
    attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
}

/// The convention prefers the address that proxies pass on to the peer's.
fn client(head: &Head<'_, impl Headers>, trusted: &[ipnet::IpNet]) -> Option<IpAddr> {
    if trusted.is_empty() {
        return forwarded::client(head.peer, trusted, &[], &[]);
    }
    let headers = Carrier(&head.headers);
    let lines = |name| headers.get_all(name).unwrap_or_default();
    let (forwarded, forwarded_for) = (lines("forwarded"), lines("x-forwarded-for"));
    forwarded::client(head.peer, trusted, &forwarded, &forwarded_for)
}

thread_local! {
    static CALLER: RefCell<Caller> = const {
        RefCell::new(Caller {
            address: None,
            agent: None,
            server: None,
        })
    };
}

/// What the last request said of its caller. Most callers send many requests, which share its texts.
struct Caller {
    address: Option<(IpAddr, Arc<str>)>,
    agent: Option<Arc<str>>,
    /// The authority that it asked, with the host and port in it.
    server: Option<(String, Arc<str>, Option<u16>)>,
}

impl Caller {
    fn address(&mut self, ip: IpAddr) -> StringValue {
        match &self.address {
            Some((known, text)) if *known == ip => Arc::clone(text).into(),
            _ => {
                let text: Arc<str> = ip.to_string().into();
                self.address = Some((ip, Arc::clone(&text)));
                text.into()
            }
        }
    }

    fn agent(&mut self, agent: &str) -> StringValue {
        match &self.agent {
            Some(known) if **known == *agent => Arc::clone(known).into(),
            _ => {
                let text: Arc<str> = agent.into();
                self.agent = Some(Arc::clone(&text));
                text.into()
            }
        }
    }

    /// Host and port of `authority`.
    fn server(&mut self, authority: &str) -> (StringValue, Option<u16>) {
        match &self.server {
            Some((known, host, port)) if known == authority => (Arc::clone(host).into(), *port),
            _ => {
                let (host, port) = host_and_port(authority);
                let host: Arc<str> = host.into();
                self.server = Some((authority.to_owned(), Arc::clone(&host), port));
                (host.into(), port)
            }
        }
    }
}

/// Routes of paths, for frameworks in which finding one takes long. Callers choose the paths, but so few are remembered that
/// the hash need not withstand those who look for collisions.
#[cfg(feature = "actix")]
#[derive(Default)]
pub(crate) struct Routes(RefCell<HashMap<String, Rc<str>, RandomState>>);

#[cfg(feature = "actix")]
impl Routes {
    /// Paths that are remembered at most; then all are forgotten.
    const MOST: usize = 256;

    /// The route of `path`: the one that is remembered, or what `find` finds.
    pub(crate) fn of(&self, path: &str, find: impl FnOnce() -> Option<String>) -> Option<Rc<str>> {
        let mut routes = self.0.borrow_mut();
        if let Some(route) = routes.get(path) {
            return Some(Rc::clone(route));
        }
        let route: Rc<str> = find()?.into();
        if routes.len() >= Self::MOST {
            routes.clear();
        }
        routes.insert(path.to_owned(), Rc::clone(&route));
        Some(route)
    }
}

/// Requests in progress by method and scheme: two atomic additions a request, read when metrics are.
#[derive(Default)]
struct Active([[Progress; 2]; METHODS.len()]);

#[derive(Default)]
struct Progress {
    requests: AtomicI64,
    /// A series that is no longer observed would stay at its last value in the store, so one that has begun goes on;
    /// that of the method that all use exists from the start.
    observed: AtomicBool,
}

impl Active {
    fn add(&self, method: usize, secure: bool, requests: i64) {
        let progress = &self.0[method][usize::from(secure)];
        progress.requests.fetch_add(requests, Relaxed);
    }

    fn observe(self: &Arc<Self>, meter: &Meter) {
        let active = Arc::clone(self);
        active.0[method_index("GET")][0]
            .observed
            .store(true, Relaxed);
        meter
            .i64_observable_up_down_counter("http.server.active_requests")
            .with_unit("{request}")
            .with_description("Number of active HTTP server requests.")
            .with_callback(move |observer| {
                for (schemes, method) in active.0.iter().zip(METHODS) {
                    for (progress, secure) in schemes.iter().zip([false, true]) {
                        let requests = progress.requests.load(Relaxed);
                        if requests != 0 || progress.observed.load(Relaxed) {
                            progress.observed.store(true, Relaxed);
                            let attributes = [
                                KeyValue::new("http.request.method", method),
                                KeyValue::new("url.scheme", scheme(secure)),
                            ];
                            observer.observe(requests, &attributes);
                        }
                    }
                }
            })
            .build();
    }
}
