//! The server side of HTTP for tower, and so for axum: <https://docs.rs/tower>.
//!
//! What differs from actix-web: routes and peers are the framework's own, so the program says where it finds them
//! ([`Instrument::route`], [`Instrument::peer`]). A gRPC server (tonic) can be wrapped too: its requests are recorded as the
//! HTTP requests they are, with the method's path as the route if the program says so; the `grpc-status` of an
//! answer's trailers is not looked at.
mod body;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{self, Poll};
use std::time::Instant;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use tower_layer::Layer;
use tower_service::Service;
use tracing::Span;

pub use self::body::Spanned;
use super::CANCELLED;
use super::outcome::End;
use super::server::{Exchange, HEADERS, Head, Header, Headers, Redact, Server};

static NAMES: LazyLock<[HeaderName; HEADERS.len()]> =
    LazyLock::new(|| HEADERS.map(HeaderName::from_static));

type RouteOf = dyn Fn(&Extensions) -> Option<&str> + Send + Sync;
type PeerOf = dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync;

/// The outermost layer of a router: root span, metrics, request id, access log.
#[derive(Clone, Default)]
pub struct Instrument {
    redact: Option<Arc<Redact>>,
    route: Option<Arc<RouteOf>>,
    peer: Option<Arc<PeerOf>>,
}

impl fmt::Debug for Instrument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instrument")
    }
}

impl Instrument {
    /// What `Router::layer` takes, after every other layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the pattern that a request matches is found, in axum
    /// `|extensions| Some(extensions.get::<MatchedPath>()?.as_str())`. It names spans and metrics, so it must come from a
    /// closed set. Without it no request has a route.
    #[must_use]
    pub fn route<F>(mut self, route: F) -> Self
    where
        F: Fn(&Extensions) -> Option<&str> + Send + Sync + 'static,
    {
        self.route = Some(Arc::new(route));
        self
    }

    /// Where the address of the other end of the connection is found, in axum
    /// `|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.ip())`. Without it `client.address` is absent.
    #[must_use]
    pub fn peer<F>(mut self, peer: F) -> Self
    where
        F: Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    {
        self.peer = Some(Arc::new(peer));
        self
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

    /// Records a request that the HTTP library refused with `status`, or gave up without an answer, before it reached the
    /// router, as far as the program learns of it: from hyper, by the error of a connection. `began` is when its head
    /// began to be read.
    pub fn unseen(&self, status: Option<u16>, peer: Option<IpAddr>, began: Instant) {
        let end = status.map_or(End::Unanswered(CANCELLED), End::Status);
        Server::new(self.redact.clone()).unseen(end, peer, began);
    }
}

impl<S> Layer<S> for Instrument {
    type Service = Instrumented<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Instrumented {
            inner,
            server: Server::new(self.redact.clone()),
            instrument: self.clone(),
        }
    }
}

/// A service whose requests are recorded.
#[derive(Debug, Clone)]
pub struct Instrumented<S> {
    inner: S,
    server: Server,
    instrument: Instrument,
}

impl<S, B, R> Service<Request<B>> for Instrumented<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<Spanned<R>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, task: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Instrument { route, peer, .. } = &self.instrument;
        let extensions = request.extensions();
        let uri = request.uri();
        let head = Head {
            method: request.method().as_str(),
            secure: uri.scheme() == Some(&http::uri::Scheme::HTTPS),
            path: uri.path(),
            query: uri.query(),
            version: match request.version() {
                Version::HTTP_10 => "1.0",
                Version::HTTP_2 => "2",
                Version::HTTP_3 => "3",
                _ => "1.1",
            },
            authority: uri.authority().map(|authority| authority.as_str()),
            peer: peer.as_ref().and_then(|peer| peer(extensions)),
            headers: RequestHeaders(request.headers()),
        };
        let route = route.as_ref().and_then(|route| route(extensions));
        let (exchange, span) = Exchange::start(&self.server, &head, route, uuid::Uuid::new_v4);
        request.extensions_mut().insert(exchange.handle().clone());
        Answer {
            future: Some(span.in_scope(|| self.inner.call(request))),
            exchange: Some(exchange),
            span,
        }
    }
}

struct RequestHeaders<'a>(&'a HeaderMap);

impl Headers for RequestHeaders<'_> {
    fn header(&self, header: Header) -> Option<&str> {
        self.0.get(&NAMES[header as usize])?.to_str().ok()
    }

    fn lines(&self, name: &str) -> Vec<Option<&str>> {
        let lines = self.0.get_all(name).iter();
        lines.map(|line| line.to_str().ok()).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

pin_project_lite::pin_project! {
    /// The answer to come.
    #[derive(Debug)]
    pub struct Answer<F> {
        #[pin]
        future: Option<F>,
        exchange: Option<Exchange>,
        span: Span,
    }

    impl<F> PinnedDrop for Answer<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // What a cancelled handler drops sees its own request.
            let _entered = this.span.enter();
            this.future.set(None);
        }
    }
}

impl<F, R, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Spanned<R>>, E>;

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _entered = this.span.enter();
        // Only a future that is being dropped has none.
        let future = this.future.as_pin_mut();
        let result = task::ready!(future.map_or(Poll::Pending, |future| future.poll(task)));
        let exchange = this.exchange.take();
        Poll::Ready(match result {
            Ok(mut response) => {
                if let Some(exchange) = exchange {
                    let headers = response.headers_mut();
                    exchange.mark(|name, value| {
                        if let Ok(value) = HeaderValue::from_bytes(value) {
                            headers.insert(&NAMES[name as usize], value);
                        }
                    });
                    exchange.finish(response.status().as_u16());
                }
                let span = this.span.clone();
                Ok(response.map(|body| Spanned {
                    body: Some(body),
                    span,
                }))
            }
            Err(error) => {
                if let Some(exchange) = exchange {
                    exchange.fail();
                }
                Err(error)
            }
        })
    }
}
