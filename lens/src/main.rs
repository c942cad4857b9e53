//! arguments → settings → listener → server → run until told to stop.

use std::net::TcpListener;
use std::process::ExitCode;

use clap::Parser;
use lens::{Server, Settings};
use tokio::signal::unix::{SignalKind, signal};

/// The viewer for machines without Docker: an OTLP and profile backend with pages.
///
/// It has no options; settings are environment variables: LENS_LISTEN (default 127.0.0.1:18090), LENS_DATA_DIR (default data/lens),
/// LENS_ALLOWED_HOSTS, LENS_MAX_BODY_MB, LENS_MAX_DECODED_MB, and the bounds LENS_MAX_SPANS, LENS_MAX_LOGS, LENS_MAX_POINTS, LENS_MAX_PROFILES,
/// each with an `_MB` twin.
#[derive(Parser)]
#[command(name = "lens", version)]
struct Arguments {}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> ExitCode {
    Arguments::parse();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lens: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings::from_env()?;
    let listener = TcpListener::bind(settings.listen).map_err(|error| {
        format!(
            "cannot listen on {}: {error}; LENS_LISTEN names another address",
            settings.listen
        )
    })?;
    let data_dir = settings.data_dir.display().to_string();
    let address = listener.local_addr()?;
    let server = Server::build(settings, listener).await?;
    println!(
        "lens {} listening on http://{address}, data in {data_dir}",
        env!("CARGO_PKG_VERSION")
    );
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    server
        .run_until(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await?;
    Ok(())
}
