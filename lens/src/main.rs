//! arguments → settings → listener → server → run until told to stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::Parser;
use lens::{Server, Settings};
use tokio::signal::unix::{SignalKind, signal};

#[cfg(target_os = "linux")] // as in the service
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
    let listener = listen(settings.listen)?;
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

/// Binds the address, or takes the socket that was handed over as standard input.
fn listen(address: Option<SocketAddr>) -> Result<TcpListener, String> {
    let Some(address) = address else {
        return handed_over().map_err(|error| format!("LENS_LISTEN=stdin: {error}"));
    };
    TcpListener::bind(address).map_err(|error| {
        format!("cannot listen on {address}: {error}; LENS_LISTEN names another address")
    })
}

fn handed_over() -> io::Result<TcpListener> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    match listener.local_addr()?.ip().is_loopback() {
        true => Ok(listener),
        false => Err(io::Error::other("the socket is not bound to loopback")),
    }
}
