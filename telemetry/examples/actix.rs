//! An actix-web service with all its signals: `cargo run --example actix -- 127.0.0.1:8080`, then `/primes/10000`.
use std::error::Error;
use std::time::Duration;

use actix_web::{App, HttpServer, get, rt::System, web};
use signalbox_telemetry::actix::Instrument;
use signalbox_telemetry::{Identity, Settings, init, profiles};

#[cfg(target_os = "linux")] // elsewhere the system's allocator, and no heap profiles
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[get("/primes/{below}")]
async fn primes(below: web::Path<u32>) -> actix_web::Result<String> {
    // Burns CPU, so it runs on a thread of its own, where its samples are marked as its span's.
    let span = tracing::info_span!("count_primes", example.below = *below);
    let work = move || {
        span.in_scope(|| profiles::span_scope("/primes/{below}", || count_primes(*below)).0)
    };
    let count = web::block(work).await?;
    tracing::info!(example.count = count, "primes counted");
    Ok(count.to_string())
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
        service_name: "actix-example",
        service_namespace: "examples",
        service_version: env!("CARGO_PKG_VERSION"),
        metric_prefix: "example",
        request_id_attribute: "request.id",
    })?;
    let guard = init(&settings)?; // before any runtime exists
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let served = System::new().block_on(async {
        let server = HttpServer::new(|| App::new().service(primes).wrap(Instrument::new()));
        let server = server.bind(address)?;
        tracing::info!("listening on http://{}", server.addrs()[0]);
        server.run().await // until SIGTERM or Ctrl-C
    });
    // Also when serving failed.
    if let Err(lost) = guard.shutdown(Duration::from_secs(3)) {
        eprintln!("actix-example: {lost}");
    }
    Ok(served?)
}
