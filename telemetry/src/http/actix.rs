//! The server side of HTTP for actix-web: <https://docs.rs/actix-web>.
mod connections;
mod current;

use std::cell::Cell;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::{self, Poll};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, Version};
use actix_web::{Error, HttpMessage};
use tracing::Span;
use tracing_actix_web::{RootSpanBuilder, StreamSpan, TracingLogger};

use super::server::{Exchange, HEADERS, Head, Header, Headers, Redact, Routes, Server};
pub use connections::listen;
use current::Entered;
pub use current::{annotate, current};

static NAMES: LazyLock<[HeaderName; HEADERS.len()]> =
    LazyLock::new(|| HEADERS.map(HeaderName::from_static));

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
        let server = Server::new(self.redact.clone()); // once on each worker's thread
        let logger = TracingLogger::<Root>::new().new_transform(Edge { service });
        ready(logger.into_inner().map(|logger| Outer {
            server,
            routes: Routes::default(),
            logger,
        }))
    }
}

type Logger<S> = <TracingLogger<Root> as Transform<S, ServiceRequest>>::Transform;

// `TracingLogger` calls the three one after the other.
thread_local! {
    /// What [`Outer`] hands to [`Root`]: whose request it is, and its route.
    static REACHED: Cell<Option<(Server, Option<Rc<str>>)>> = const { Cell::new(None) };
    /// What [`Root`] hands to [`Edge`].
    static STARTED: Cell<Option<Exchange>> = const { Cell::new(None) };
}

/// Gives `TracingLogger`'s root span, which is made without the middleware, what the middleware was made with.
#[doc(hidden)]
pub struct Outer<L> {
    server: Server,
    routes: Routes,
    logger: L,
}

impl<L: Service<ServiceRequest>> Service<ServiceRequest> for Outer<L> {
    type Response = L::Response;
    type Error = L::Error;
    type Future = L::Future;

    actix_web::dev::forward_ready!(logger);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        connections::reached(&request);
        // The route is asked for now, because a request that is cut off is gone before its end.
        let find = || request.match_pattern();
        let route = match self.server.is_heard() {
            true => self.routes.of(request.path(), find),
            false => None,
        };
        REACHED.set(Some((self.server.clone(), route)));
        self.logger.call(request)
    }
}

/// Starts the root span. What is known of the request only at its end is added by [`Edge`].
#[doc(hidden)]
pub struct Root;

impl RootSpanBuilder for Root {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let (server, route) = REACHED.take().unwrap_or_else(|| (Server::new(None), None));
        let new_id = || {
            let extensions = request.extensions();
            let made = extensions.get::<tracing_actix_web::RequestId>();
            made.map_or_else(uuid::Uuid::new_v4, |id| **id)
        };
        let uri = request.uri();
        let head = Head {
            method: request.method().as_str(),
            secure: request.app_config().secure(),
            path: request.path(),
            query: uri.query(),
            version: match request.version() {
                Version::HTTP_10 => "1.0",
                Version::HTTP_2 => "2",
                _ => "1.1",
            },
            authority: uri.authority().map(|authority| authority.as_str()),
            peer: request.head().peer_addr.map(|peer| peer.ip()),
            headers: RequestHeaders(request.headers()),
        };
        let (exchange, span) = Exchange::start(&server, &head, route.as_deref(), new_id);
        STARTED.set(Some(exchange));
        span
    }

    fn on_request_end<B: MessageBody>(_: Span, _: &Result<ServiceResponse<B>, Error>) {}
}

struct RequestHeaders<'a>(&'a HeaderMap);

impl Headers for RequestHeaders<'_> {
    fn header(&self, header: Header) -> Option<&str> {
        self.0.get(&NAMES[header as usize])?.to_str().ok()
    }

    fn lines(&self, name: &str) -> Vec<Option<&str>> {
        let lines = self.0.get_all(name);
        lines.map(|line| line.to_str().ok()).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
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
        let exchange = STARTED.take();
        let _entered = exchange.as_ref().map(Entered::new);
        let future = self.service.call(request);
        Answer {
            future: Some(future),
            exchange,
        }
    }
}

pin_project_lite::pin_project! {
    /// The answer to come.
    #[doc(hidden)]
    pub struct Answer<F> {
        #[pin]
        future: Option<F>,
        exchange: Option<Exchange>,
    }

    impl<F> PinnedDrop for Answer<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // What a cancelled handler drops sees its own request.
            let exchange = this.exchange.as_ref();
            let _within = exchange.map(|exchange| (Entered::new(exchange), exchange.enter()));
            this.future.set(None);
        }
    }
}

impl<F, B> Future for Answer<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = Result<ServiceResponse<B>, Error>;

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _entered = this.exchange.as_ref().map(Entered::new);
        // Only a future that is being dropped has none.
        let future = this.future.as_pin_mut();
        let result = task::ready!(future.map_or(Poll::Pending, |future| future.poll(task)));
        let Some(mut exchange) = this.exchange.take() else {
            return Poll::Ready(result);
        };
        let end = |exchange: Exchange, status: StatusCode, headers: &mut HeaderMap| {
            exchange.mark(|name, value| {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.insert(NAMES[name as usize].clone(), value);
                }
            });
            exchange.finish(status.as_u16());
        };
        Poll::Ready(match result {
            Ok(mut response) => {
                exchange.routed(|| response.request().match_pattern());
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

#[cfg(all(test, feature = "client", feature = "scrape", feature = "exemplars"))]
mod tests;
