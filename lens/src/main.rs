//! settings → listener → server → run until told to stop.

use std::net::TcpListener;
use std::process::ExitCode;

use lens::{Server, Settings};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> ExitCode {
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
