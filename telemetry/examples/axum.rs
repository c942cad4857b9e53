//! An axum service with all its signals: `cargo run --example axum -- 127.0.0.1:8080`, then `/primes/10000`.
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, MatchedPath, Path};
use axum::{Router, routing::get};
use signalbox_telemetry::tower::Instrument;
use signalbox_telemetry::{Identity, Settings, init, profiles};
use tokio::signal::unix::{SignalKind, signal};

#[cfg(target_os = "linux")] // elsewhere the system's allocator, and no heap profiles
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

async fn primes(Path(below): Path<u32>) -> String {
    // Burns CPU, so it runs on a thread of its own, where its samples are marked as its span's.
    let span = tracing::info_span!("count_primes", example.below = below);
    let work =
        move || span.in_scope(|| profiles::span_scope("/primes/{below}", || count_primes(below)).0);
    let count = tokio::task::spawn_blocking(work).await.unwrap_or_default();
    tracing::info!(example.count = count, "primes counted");
    count.to_string()
}

fn count_primes(below: u32) -> usize {
    let is_prime = |n: &u32| {
        (2..*n)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    };
    (2..below).filter(is_prime).count()
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::from_env(Identity {
        service_name: "axum-example",
        service_namespace: "examples",
        service_version: env!("CARGO_PKG_VERSION"),
        metric_prefix: "example",
        request_id_attribute: "request.id",
    })?;
    let guard = init(&settings)?; // before any runtime exists
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let runtime = tokio::runtime::Runtime::new()?;
    let served = runtime.block_on(async {
        let instrument = Instrument::new()
            .route(|extensions| Some(extensions.get::<MatchedPath>()?.as_str()))
            .peer(|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.ip()));
        let app = Router::new()
            .route("/primes/{below}", get(primes))
            .layer(instrument);
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let listener = tokio::net::TcpListener::bind(address).await?;
        let mut terminated = signal(SignalKind::terminate())?;
        tracing::info!("listening on http://{}", listener.local_addr()?);
        let stopped = async move {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        axum::serve(listener, app)
            .with_graceful_shutdown(stopped)
            .await
    });
    // Also when serving failed.
    if let Err(lost) = guard.shutdown(Duration::from_secs(3)) {
        eprintln!("axum-example: {lost}");
    }
    Ok(served?)
}
