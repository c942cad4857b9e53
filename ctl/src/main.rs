//! `signalboxctl` operates Signalbox: starts it without Docker, sends load, follows a request through the stack.
//! Each subcommand is a module; each is one line of the Makefile for its users.

mod demo;
mod drill;
mod duration;
mod http;
mod incidents;
mod load;
mod output;
mod overhead;
mod stack;
mod stop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    version,
    about = "Operates Signalbox: a demo service that instruments itself completely",
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start viewer, worker and service on this machine, without Docker; Ctrl-C stops all
    Demo(demo::Args),
    /// Read what every part of the stack counts; name where telemetry is lost or stuck
    Doctor(stack::doctor::Args),
    /// Find out from the signals alone what goes wrong, and have the answer graded
    Drill(drill::Args),
    /// Take alerts by webhook: open, acknowledge and close incidents
    Incidents(incidents::Args),
    /// Send a mix of requests at a fixed rate; print latencies and the links of the slowest and of a failing one
    Load(load::Args),
    /// Send the same load with each signal on and off; print what each costs on this machine
    Overhead(overhead::Args),
    /// Ask each target once: a health check for containers that have none of their own
    Probe(stack::probe::Args),
    /// Send one sample of one signal to Alloy and find it again in its store
    Send(stack::send::Args),
    /// Follow a marked request through every hop and every link of the stack; name what is broken
    Verify(stack::verify::Args),
    /// Wait until the whole stack is ready; print each address and the time it took
    Wait(stack::wait::Args),
    /// Keep asking every part of the stack; what `wait` reads
    Watch,
}

#[tokio::main]
async fn main() -> ExitCode {
    http::install_tls_provider();
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(args).await.map_err(|error| error.to_string()),
        Command::Doctor(args) => stack::doctor::run(args).await,
        Command::Drill(args) => drill::run(args).await,
        Command::Incidents(args) => incidents::run(args)
            .await
            .map_err(|error| error.to_string()),
        Command::Load(args) => load::run(args).await.map_err(|error| error.to_string()),
        Command::Overhead(args) => overhead::run(args).await,
        Command::Probe(args) => stack::probe::run(args).await,
        Command::Send(args) => stack::send::run(args).await,
        Command::Verify(args) => stack::verify::run(args).await,
        Command::Wait(args) => stack::wait::run(args).await,
        Command::Watch => stack::watch::run().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
