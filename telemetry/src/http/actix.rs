//! The server side of HTTP for actix-web: <https://docs.rs/actix-web>.
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, Ready, ready};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, Version};
use actix_web::{Error, HttpMessage, HttpRequest};
use opentelemetry::StringValue;
use opentelemetry::propagation::Extractor;
use tracing::Span;
use tracing_actix_web::{RootSpanBuilder, StreamSpan, TracingLogger};

use super::server::{
    Exchange, HEADERS, Head, Header, Redact, RequestHandle, Server, TRACE_RESPONSE,
};

/// Static: a constant would be made anew at each use.
static NAMES: [HeaderName; HEADERS.len()] = [
    HeaderName::from_static(HEADERS[0]),
    HeaderName::from_static(HEADERS[1]),
    HeaderName::from_static(HEADERS[2]),
    header::HOST,
    header::USER_AGENT,
    HeaderName::from_static(HEADERS[5]),
    HeaderName::from_static(HEADERS[6]),
];

const ANSWERED_TRACE: HeaderName = HeaderName::from_static(TRACE_RESPONSE);

/// The outermost middleware of an app: root span, metrics, request id, access log.
#[derive(Clone, Default)]
pub struct Instrument {
    redact: Option<Arc<Redact>>,
}

impl Instrument {
    /// What `App::wrap` takes, after every other middleware.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has `redact` change query strings before they are recorded, after the values of signatures and keys have been
    /// taken out.
    #[must_use]
    pub fn redact_query<F>(mut self, redact: F) -> Self
    where
        F: Fn(&str) -> String + Send + Sync + 'static,
    {
        self.redact = Some(Arc::new(redact));
        self
    }
}

/// Adds an attribute to the request's span, its access-log record and its duration metric:
/// [`RequestHandle::annotate`].
pub fn annotate(request: &HttpRequest, key: &'static str, value: impl Into<StringValue>) {
    if let Some(handle) = request.extensions().get::<RequestHandle>() {
        handle.annotate(key, value);
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
    type Transform = Outer<Logger<Edge<S>>>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        // Called once on each worker's thread.
        let server = Server::new(self.redact.clone());
        let logger = TracingLogger::<Root>::new().new_transform(Edge { service });
        ready(logger.into_inner().map(|logger| Outer {
            server,
            routes: RefCell::default(),
            logger,
        }))
    }
}

type Logger<S> = <TracingLogger<Root> as Transform<S, ServiceRequest>>::Transform;

thread_local! {
    static HANDED: RefCell<Handed> = RefCell::default();
}

/// What [`Outer`] hands to [`Root`], and [`Root`] to [`Edge`]: `TracingLogger` calls them one after the other.
#[derive(Default)]
struct Handed {
    server: Option<Server>,
    route: Option<Rc<str>>,
    exchange: Option<Exchange>,
}

/// Paths whose routes are remembered at most; then all are forgotten.
const MOST_PATHS: usize = 256;

/// Gives `TracingLogger`'s root span, which is made without the middleware, what the middleware was made with.
#[doc(hidden)]
pub struct Outer<L> {
    server: Server,
    /// Routes of paths: matching one costs a regular expression.
    routes: RefCell<HashMap<String, Rc<str>>>,
    logger: L,
}

impl<L> Outer<L> {
    /// The route that the request will take. Asked for now, because a request that is cut off is gone before its end.
    fn route(&self, request: &ServiceRequest) -> Option<Rc<str>> {
        let mut routes = self.routes.borrow_mut();
        if let Some(route) = routes.get(request.path()) {
            return Some(Rc::clone(route));
        }
        let route: Rc<str> = request.match_pattern()?.into();
        if routes.len() >= MOST_PATHS {
            routes.clear();
        }
        routes.insert(request.path().to_owned(), Rc::clone(&route));
        Some(route)
    }
}

impl<L: Service<ServiceRequest>> Service<ServiceRequest> for Outer<L> {
    type Response = L::Response;
    type Error = L::Error;
    type Future = L::Future;

    actix_web::dev::forward_ready!(logger);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        HANDED.set(Handed {
            server: Some(self.server.clone()),
            route: self.route(&request),
            exchange: None,
        });
        self.logger.call(request)
    }
}

/// Starts the root span. What is known of the request only at its end is added by [`Edge`].
#[doc(hidden)]
pub struct Root;

impl RootSpanBuilder for Root {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let Handed { server, route, .. } = HANDED.take();
        let new_id = || {
            let extensions = request.extensions();
            let made = extensions.get::<tracing_actix_web::RequestId>();
            made.map_or_else(uuid::Uuid::new_v4, |id| **id)
        };
        let server = server.unwrap_or_else(|| Server::new(None));
        let head = ServiceHead(request);
        let (exchange, span) = Exchange::start(&server, &head, route.as_deref(), new_id);
        let handle = exchange.handle().clone();
        request.extensions_mut().insert(handle);
        HANDED.with_borrow_mut(|handed| handed.exchange = Some(exchange));
        span
    }

    fn on_request_end<B: MessageBody>(_: Span, _: &Result<ServiceResponse<B>, Error>) {}
}

struct ServiceHead<'a>(&'a ServiceRequest);

impl Head for ServiceHead<'_> {
    fn method(&self) -> &str {
        self.0.method().as_str()
    }

    fn secure(&self) -> bool {
        self.0.app_config().secure()
    }

    fn path(&self) -> &str {
        self.0.path()
    }

    fn query(&self) -> Option<&str> {
        self.0.uri().query()
    }

    fn version(&self) -> &'static str {
        match self.0.version() {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        }
    }

    fn authority(&self) -> Option<&str> {
        Some(self.0.uri().authority()?.as_str())
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.0.head().peer_addr?.ip())
    }

    fn header(&self, header: Header) -> Option<&str> {
        self.0.headers().get(&NAMES[header as usize])?.to_str().ok()
    }
}

impl Extractor for ServiceHead<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.headers().get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.headers().keys().map(HeaderName::as_str).collect()
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        // What is no text is a line all the same, and spoils the header.
        let text = |value| HeaderValue::to_str(value).unwrap_or("\u{fffd}");
        let lines: Vec<&str> = self.0.headers().get_all(key).map(text).collect();
        (!lines.is_empty()).then_some(lines)
    }
}

/// Everything inside the root span.
#[doc(hidden)]
pub struct Edge<S> {
    service: S,
}

impl<S, B> Service<ServiceRequest> for Edge<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = Answer<S::Future>;

    actix_web::dev::forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let exchange = HANDED.take().exchange;
        let future = self.service.call(request);
        Answer { future, exchange }
    }
}

pin_project_lite::pin_project! {
    /// The answer to come.
    #[doc(hidden)]
    pub struct Answer<F> {
        #[pin]
        future: F,
        exchange: Option<Exchange>,
    }
}

impl<F, B> Future for Answer<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = Result<ServiceResponse<B>, Error>;

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = task::ready!(this.future.poll(task));
        let Some(exchange) = this.exchange.take() else {
            return Poll::Ready(result);
        };
        let end = |exchange: Exchange, status: StatusCode, headers: &mut HeaderMap| {
            mark(&exchange, headers);
            exchange.finish(status.as_u16());
        };
        Poll::Ready(match result {
            Ok(mut response) => {
                end(exchange, response.status(), response.headers_mut());
                Ok(response)
            }
            // A middleware inside answered with an error; actix-web makes a response of it only later.
            Err(error) => {
                let mut response = error.error_response();
                end(exchange, response.status(), response.headers_mut());
                Err(InternalError::from_response(error, response).into())
            }
        })
    }
}

/// Tells the caller which request and trace this was.
fn mark(exchange: &Exchange, headers: &mut HeaderMap) {
    if let Ok(id) = HeaderValue::from_str(exchange.handle().id()) {
        headers.insert(NAMES[Header::RequestId as usize].clone(), id);
    }
    if let Some(value) = exchange.trace_response()
        && let Ok(value) = HeaderValue::from_bytes(&value)
    {
        headers.insert(ANSWERED_TRACE, value);
    }
}

#[cfg(all(test, feature = "client", feature = "scrape", feature = "exemplars"))]
mod tests;
