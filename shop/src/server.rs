//! From the listener to the graceful stop, and the layers of every request.

use std::error::Error;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use signalbox_telemetry::RequestHandle;
use signalbox_telemetry::tower::Instrument;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::settings::Settings;
use crate::state::Shop;
use crate::variants::{self, Variants};
use crate::{basket, bestsellers, catalogue, documents, orders};

/// Clients that are told apart in metrics; every other one is `other`, so that the number of series stays small.
const CLIENTS: [&str; 4] = ["11111", "22222", "33333", "44444"];

/// The shop's routes.
pub fn shop(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/products", get(catalogue::list))
        .route("/products/{id}", get(catalogue::show))
        .route("/search/{term}", get(catalogue::search))
        .route("/bestsellers/{category}", get(bestsellers::show))
        .route("/baskets/{id}", get(basket::show))
        .route("/baskets/{id}/checkout/{brand}", post(basket::checkout))
        .route("/customers/{id}/orders", get(orders::history))
        .route("/customers/{id}/totals", get(orders::totals))
        .route("/orders/{id}", get(orders::show))
        .route("/orders/{id}/receipt", get(documents::receipt))
        .route("/orders/{id}/invoice", get(documents::invoice))
        .with_state(shop)
}

/// Serves until SIGTERM.
///
/// # Errors
/// When it cannot listen.
pub async fn run(
    settings: &Settings,
    router: Router,
    variants: Arc<Variants>,
) -> Result<(), Box<dyn Error>> {
    let mut stop = signal(SignalKind::terminate())?;
    let instrument = Instrument::new()
        .route(|extensions| Some(extensions.get::<MatchedPath>()?.as_str()))
        .peer(|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.ip()));
    let router = router
        .layer(middleware::from_fn(name_client))
        .layer(instrument) // outermost
        .route("/readyz", get(async || "ready\n")); // asked every moment: not worth a trace
    if let Some(address) = settings.control {
        let control = axum::serve(
            TcpListener::bind(address).await?,
            variants::router(variants),
        );
        tokio::spawn(control.into_future());
    }
    let listener = match settings.listen {
        Some(address) => TcpListener::bind(address).await?,
        None => handed_over()?,
    };
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    let stopped = async move {
        stop.recv().await;
    };
    Ok(axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await?)
}

fn handed_over() -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Says on span, record and metric which client it was.
async fn name_client(request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get("client-id")
        .and_then(|value| value.to_str().ok());
    if let (Some(given), Some(handle)) = (given, request.extensions().get::<RequestHandle>()) {
        let known = CLIENTS.into_iter().find(|client| *client == given);
        handle.annotate("shop.client.id", known.unwrap_or("other"));
    }
    next.run(request).await
}
