//! Table of contents of the process: settings → telemetry → build → run → flush, always flush.
use std::error::Error;
use std::process::ExitCode;

use actix_web::rt::System;
use clap::Parser;
use signalbox::cli::{Cli, Command};
use signalbox::server::{self, Server};
use signalbox::settings::{Role, Settings};
use signalbox::{check, signals};
use signalbox_telemetry as telemetry;
use tokio::runtime::{Builder, Runtime};

#[cfg(target_os = "linux")] // elsewhere the system's allocator, and no heap profiles
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve => run(Role::Api),
        Command::Worker => run(Role::Worker),
        Command::Check { process } => probe(process.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("signalbox: {error}");
            let wrong_setting = error.is::<telemetry::SettingError>();
            ExitCode::from(if wrong_setting { 2 } else { 1 })
        }
    }
}

fn run(role: Role) -> Result<(), Box<dyn Error>> {
    let settings = Settings::from_env(role)?;
    // Never dropped: that would wait for blocking tasks, such as a name's lookup, however long they take.
    let runtime: &'static Runtime = Box::leak(Box::new(
        Builder::new_current_thread().enable_all().build()?,
    ));
    let guard = telemetry::init(&Settings::telemetry(role)?)?;
    let flush_timeout = settings.flush_timeout;

    let served = System::with_tokio_rt(|| runtime).block_on(async {
        let stop = signals::first()?;
        let listener = server::listen(&settings)?;
        let server = Server::build(settings, listener, guard.pull()).await?;
        server.run_until(stop).await
    });

    let served = served.inspect_err(|error| tracing::error!("{error}"));
    if let Err(errors) = guard.shutdown(flush_timeout) {
        eprintln!("signalbox: {errors}");
    }
    Ok(served?)
}

fn probe(role: Role) -> Result<(), Box<dyn Error>> {
    Ok(check::ready(&Settings::from_env(role)?)?)
}
