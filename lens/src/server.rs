//! The server: takes its listener and its shutdown, so that tests run the real thing.

use std::future::Future;
use std::net::TcpListener;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, ResponseError, web};
use loopback::{Hosts, allowed_host};

use crate::ingest::Limits;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::source::Sources;
use crate::store::{Closing, OpenError, Store};
use crate::{api, ingest, pages};

/// Threads that serve requests. Decoding and SQLite have their own.
const WORKERS: usize = 2;
/// How long requests in flight may take once the server is told to stop, in seconds.
const GRACE_SECONDS: u64 = 3;
/// Everything comes from lens itself, nothing is inline, nobody frames it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A server that is bound and has its store open.
pub struct Server {
    server: actix_web::dev::Server,
    store: Closing,
    port: u16,
}

/// The server could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("cannot serve on the listener: {0}")]
    Listener(#[from] std::io::Error),
}

impl Server {
    /// Opens the store and takes the listener.
    ///
    /// # Errors
    /// When the data directory or the listener cannot be used.
    pub async fn build(settings: Settings, listener: TcpListener) -> Result<Self, BuildError> {
        let port = listener.local_addr()?.port();
        let (store, closing) = Store::open(&settings.data_dir, settings.bounds).await?;
        let store = web::Data::new(store);
        let limits = web::Data::new(Limits::from(&settings));
        let sources = match &settings.source_dir {
            Some(root) => {
                let deps = settings.source_deps.clone();
                let deps = deps.unwrap_or_else(|| root.join("target/debug"));
                Sources::read(root, &deps, &settings.source_url)
            }
            None => Sources::default(),
        };
        let sources = web::Data::new(sources);
        let hosts = web::Data::new(Hosts::new(settings.allowed_hosts, |host| {
            Problem::HostNotAllowed(host.to_owned()).into()
        }));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(store.clone())
                .app_data(limits.clone())
                .app_data(hosts.clone())
                .app_data(sources.clone())
                .app_data(
                    web::QueryConfig::default()
                        .error_handler(|error, _| Problem::BadRequest(error.to_string()).into()),
                )
                .wrap(from_fn(allowed_host))
                .wrap(
                    DefaultHeaders::new()
                        .add((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
                        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                        .add((header::REFERRER_POLICY, "no-referrer"))
                        .add((header::CACHE_CONTROL, "no-store"))
                        .add((
                            HeaderName::from_static("cross-origin-resource-policy"),
                            HeaderValue::from_static("same-origin"),
                        )),
                )
                .configure(ingest::configure)
                .configure(api::configure)
                .configure(pages::configure)
                .default_service(web::to(not_found))
        })
        .workers(WORKERS)
        .shutdown_timeout(GRACE_SECONDS)
        .disable_signals()
        .listen(listener)?
        .run();
        Ok(Self {
            server,
            store: closing,
            port,
        })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves until `shutdown` is done, then finishes what is in flight and closes the store.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> std::io::Result<()> {
        let handle = self.server.handle();
        let outcome = {
            let mut server = std::pin::pin!(self.server);
            tokio::select! {
                outcome = &mut server => outcome,
                () = shutdown => {
                    let (outcome, ()) = tokio::join!(server, handle.stop(true));
                    outcome
                }
            }
        };
        self.store.close().await;
        outcome
    }
}

/// People get a page, programs a problem document.
async fn not_found(request: HttpRequest) -> HttpResponse {
    let accept = request.headers().get(header::ACCEPT);
    if accept.is_some_and(|accept| accept.as_bytes().starts_with(b"text/html")) {
        return pages::not_found(&request);
    }
    Problem::NotFound(format!("there is nothing at {}", request.path())).error_response()
}
