//! What actix-http answers before a request reaches the app: 400 for a head that is malformed, 408 for one that is not
//! complete in time, 431 for one that is too large.
//!
//! Its dispatcher has no hook for these, and `HttpServer` accepts no stream but its own. [`listen`] puts its own between the
//! listener and the dispatcher instead: it learns of 400 and 431 from the error with which the dispatcher ends the
//! connection, and of 408, which is no error there, from the stream.
use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{fmt, io};

use actix_http::error::{DispatchError, ParseError};
use actix_http::{HttpService, Protocol, Request, Response};
use actix_server::ServerBuilder;
use actix_service::{IntoServiceFactory, map_config};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{AppConfig, Service, ServiceFactory, ServiceRequest, fn_factory, fn_service};
use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::CANCELLED;
use crate::http::outcome::End;
use crate::http::server::Server;

/// What has been seen of a connection.
#[derive(Default)]
struct Seen {
    /// Whether a request of it has reached the app.
    reached: Cell<bool>,
    /// When the request began that is being read.
    began: Cell<Option<Instant>>,
    /// When the last request began that has got an answer.
    answered: Cell<Option<Instant>>,
}

impl Seen {
    fn read(&self) {
        if self.began.get().is_none() {
            self.began.set(Some(Instant::now()));
        }
    }

    fn written(&self) {
        self.answered.set(self.began.take().or(self.answered.get()));
    }

    /// How a request ended that the app has not seen, and when it began, if the connection ended with one. A connection
    /// on which nothing came had none.
    fn unseen(&self, result: &Result<(), DispatchError>) -> Option<(End, Instant)> {
        let (answered, began) = (self.answered.get(), self.began.get());
        match result {
            Err(DispatchError::Parse(ParseError::TooLarge)) => Some((End::Status(431), answered?)),
            Err(DispatchError::Parse(_)) => Some((End::Status(400), answered?)),
            // The time for a head is limited for the first one alone.
            _ if self.reached.get() => None,
            Ok(()) if answered.is_some() => Some((End::Status(408), answered?)),
            _ => Some((End::Unanswered(CANCELLED), began?)),
        }
    }
}

/// Notes that `request` has reached the app.
pub(super) fn reached(request: &ServiceRequest) {
    if let Some(seen) = request.conn_data::<Rc<Seen>>() {
        seen.reached.set(true);
    }
}

/// As `HttpServer::listen`, with a record of each request that is refused or given up before it reaches the app, if
/// [`Instrument`](super::Instrument) is its outermost middleware. `builder` has what `HttpServer` has of workers,
/// connections and signals; a head may take `head_timeout`.
///
/// # Errors
/// When `listener` cannot be used.
pub fn listen<F, I, S, B>(
    builder: ServerBuilder,
    listener: TcpListener,
    head_timeout: Duration,
    app: F,
) -> io::Result<ServerBuilder>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let address = listener.local_addr()?;
    let stopping = builder.graceful_shutdown_signal();
    builder.listen(format!("http {address}"), listener, move || {
        let stopping = stopping.clone();
        let http = HttpService::build()
            // Hidden, but what `HttpServer` itself calls: at a stop idle connections are closed instead of waited for.
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .client_request_timeout(head_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .local_addr(address)
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(Rc::clone(&connection.seen));
            })
            .finish(map_config(app(), |()| AppConfig::default()));
        fn_factory(move || {
            let http = http.new_service(());
            async move {
                let (server, http) = (Server::new(None), Rc::new(http.await?));
                Ok::<_, ()>(fn_service(move |stream| {
                    serve(server.clone(), Rc::clone(&http), stream)
                }))
            }
        })
    })
}

/// How long a connection that is closed may take to read what is left, as `HttpServer` has it.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

async fn serve(
    server: Server,
    http: Rc<impl Service<Incoming, Response = (), Error = DispatchError>>,
    stream: TcpStream,
) -> Result<(), DispatchError> {
    let seen = Rc::<Seen>::default();
    let peer = stream.peer_addr().ok();
    let connection = Connection {
        stream,
        seen: Rc::clone(&seen),
    };
    let result = http.call((connection, Protocol::Http1, peer)).await;
    if let Some((end, began)) = seen.unseen(&result) {
        server.unseen(end, peer.map(|peer| peer.ip()), began);
    }
    result
}

type Incoming = (Connection, Protocol, Option<SocketAddr>);

/// A connection that notes when it is read and written.
struct Connection {
    stream: TcpStream,
    seen: Rc<Seen>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(task, buffer);
        if buffer.filled().len() > before {
            self.seen.read();
        }
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.seen.written();
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
