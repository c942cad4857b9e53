//! `signalboxctl demo`: viewer, worker and service on this machine, without Docker.
//!
//! The service cannot tell the viewer from Alloy: all it gets is the environment in [`Plan::service`]. Order of start: viewer,
//! so that nothing is lost; worker, whose address the service needs; service. Order of stop: the reverse, so that each can hand
//! over its last signals.

mod child;
mod identity;
mod log;
mod plan;
mod ports;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use reqwest::Client;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

pub use self::child::{Child, sibling};
pub use self::identity::is_lens;
pub use self::log::Log;
pub use self::plan::{Plan, database_url, sqlite_url};

use self::ports::Wanted;
use crate::duration::show;
use crate::http;
use crate::output::say;
use crate::stop::Stop;

/// The service's own stop takes 5 s at most, even if nobody accepts its last signals.
const STOP_DEADLINE: Duration = Duration::from_secs(8);
const PROBE_PAUSE: Duration = Duration::from_millis(10);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct Args {
    /// Where the service listens; port 0 takes a free one
    #[arg(
        long,
        env = "SIGNALBOX_LISTEN",
        default_value = "127.0.0.1:18080",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Where the worker listens, which the service calls
    #[arg(
        long,
        env = "SIGNALBOX_WORKER_LISTEN",
        default_value = "127.0.0.1:18081",
        value_name = "ADDRESS"
    )]
    worker: SocketAddr,
    /// Where the viewer listens
    #[arg(
        long,
        env = "LENS_LISTEN",
        default_value = "127.0.0.1:18090",
        value_name = "ADDRESS"
    )]
    lens: SocketAddr,
    /// Folder of the demo's databases and logs
    #[arg(
        long,
        env = "SIGNALBOX_DATA_DIR",
        default_value = "data",
        value_name = "FOLDER"
    )]
    data_dir: PathBuf,
    /// How long each program may take until it is ready
    #[arg(long, default_value = "60s", value_parser = crate::duration::parse, value_name = "DURATION")]
    ready_timeout: Duration,
    /// Show what the programs log, besides keeping it in files
    #[arg(long)]
    show_logs: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("nothing was started:\n  {}", .0.join("\n  "))]
    Ports(Vec<String>),
    #[error("{0}")]
    Program(String),
    #[error("cannot keep data in {}: {cause}", folder.display())]
    Folder { folder: PathBuf, cause: io::Error },
    #[error("cannot start the {name}: {cause}")]
    Spawn {
        name: &'static str,
        cause: io::Error,
    },
    #[error("the {name} {what}; {}", last_lines(log, tail))]
    Failed {
        name: &'static str,
        what: String,
        log: PathBuf,
        tail: Vec<String>,
    },
    #[error(
        "{address} answers, but it is not the viewer started here ({what}): the service was not started, nothing was sent to it"
    )]
    NotLens { address: String, what: String },
    #[error("cannot listen for signals or build a client: {0}")]
    Setup(String),
}

/// What a program wrote before it failed.
fn last_lines(log: &Path, tail: &[String]) -> String {
    match tail {
        [] => "it wrote nothing, and LOG_FORMAT and RUST_LOG decide how much it writes".to_owned(),
        tail => format!("its last lines ({}):\n{}", log.display(), tail.join("\n")),
    }
}

/// The variables of this program, for the programs that it starts.
pub fn environment() -> std::env::VarsOs {
    std::env::vars_os()
}

pub async fn run(args: Args) -> Result<(), Error> {
    let started = Instant::now();
    let mut stop = Stop::listen().map_err(|error| Error::Setup(error.to_string()))?;
    let wanted = |name, address, setting| Wanted {
        name,
        address,
        setting,
    };
    let listeners = ports::take([
        wanted("viewer", args.lens, "--lens or LENS_LISTEN"),
        wanted("worker", args.worker, "--worker or SIGNALBOX_WORKER_LISTEN"),
        wanted("service", args.listen, "--listen or SIGNALBOX_LISTEN"),
    ])
    .map_err(Error::Ports)?;
    let mut house = House::new(&args)?;
    let outcome = tokio::select! {
        outcome = house.live(listeners, started) => outcome,
        () = stop.requested() => Ok(()),
    };
    say!("\nstopping service, worker, viewer … (Ctrl-C again to stop at once)");
    tokio::select! {
        () = house.stop() => {}
        () = stop.requested() => house.kill().await,
    }
    outcome
}

/// Everything that was started, in order of start.
struct House {
    plan: Plan,
    client: Client,
    ready_timeout: Duration,
    show_logs: bool,
    children: Vec<Child>,
}

impl House {
    fn new(args: &Args) -> Result<Self, Error> {
        let plan = Plan {
            signalbox: child::sibling("signalbox").map_err(Error::Program)?,
            lens: child::sibling("lens").map_err(Error::Program)?,
            data_dir: args.data_dir.clone(),
            environment: environment().collect(),
        };
        std::fs::create_dir_all(plan.logs()).map_err(|cause| Error::Folder {
            folder: plan.logs(),
            cause,
        })?;
        let client =
            http::client(PROBE_TIMEOUT, 2).map_err(|error| Error::Setup(error.to_string()))?;
        Ok(Self {
            plan,
            client,
            ready_timeout: args.ready_timeout,
            show_logs: args.show_logs,
            children: Vec::new(),
        })
    }

    /// Starts all, says where they are, and returns when one of them ends, which none should.
    async fn live(
        &mut self,
        [for_viewer, for_worker, for_service]: [TcpListener; 3],
        started: Instant,
    ) -> Result<(), Error> {
        let viewer = self.start("viewer", self.plan.viewer(), for_viewer)?;
        let viewer_took = self.ready(&viewer, "/api/identity").await?;
        identity::is_lens(&self.client, &viewer)
            .await
            .map_err(|what| Error::NotLens {
                address: viewer.clone(),
                what,
            })?;

        let worker = self.start("worker", self.plan.worker(&viewer), for_worker)?;
        let worker_took = self.ready(&worker, "/readyz").await?;

        let service = self.plan.service(&viewer, &worker);
        let service = self.start("service", service, for_service)?;
        let service_took = self.ready(&service, "/readyz").await?;

        say!(
            "Signalbox is ready, {} after the start.\n",
            show(started.elapsed())
        );
        let line = |what: &str, url: &str, took: Duration| {
            say!("  {what:<22} {url:<36} ready in {}", show(took))
        };
        line("service and console", &service, service_took);
        say!("  {:<22} {service}/docs/", "API, to try it");
        line("worker", &worker, worker_took);
        line("viewer", &viewer, viewer_took);
        say!(
            "  {:<22} {}",
            "logs of the programs",
            self.plan.logs().display()
        );
        say!("\nSend it something from another terminal: make generate-load. Ctrl-C stops all.");

        let ends = self.children.iter().map(|child| Box::pin(child.exited()));
        let (how, index, _) = select_all(ends).await;
        Err(failed(
            &self.children[index],
            format!("ended by itself ({how})"),
        ))
    }

    /// Starts one program and returns the URL that it listens on.
    fn start(
        &mut self,
        name: &'static str,
        command: Command,
        listener: TcpListener,
    ) -> Result<String, Error> {
        let address = listener
            .local_addr()
            .map_err(|error| Error::Setup(error.to_string()))?;
        let path = self.plan.logs().join(format!("{name}.log"));
        let log = Log::create(path.clone()).map_err(|cause| Error::Folder {
            folder: path,
            cause,
        })?;
        let child = Child::start(name, command, listener, log, self.show_logs)
            .map_err(|cause| Error::Spawn { name, cause })?;
        self.children.push(child);
        Ok(format!("http://{}", plan::reachable(address)))
    }

    /// Waits until the newest child's path answers 200; returns the time since that child was started.
    async fn ready(&self, url: &str, path: &str) -> Result<Duration, Error> {
        let Some(child) = self.children.last() else {
            return Err(Error::Setup("no program was started".into()));
        };
        let mut last = String::new();
        let asking = async {
            loop {
                match http::ask(self.client.get(format!("{url}{path}"))).await {
                    Ok(_) => return child.since_start(),
                    Err(reason) => last = reason,
                }
                sleep(PROBE_PAUSE).await;
            }
        };
        let what = tokio::select! {
            outcome = timeout(self.ready_timeout, asking) => match outcome {
                Ok(took) => return Ok(took),
                Err(_) => format!("was not ready within {} ({path}: {last})", show(self.ready_timeout)),
            },
            how = child.exited() => format!("ended before it was ready ({how})"),
        };
        Err(failed(child, what))
    }

    async fn stop(&self) {
        for child in self.children.iter().rev() {
            let started = Instant::now();
            if child.stop(STOP_DEADLINE).await {
                say!("  {} stopped in {}", child.name, show(started.elapsed()));
            } else {
                say!(
                    "  {} did not stop as it should; its log: {}",
                    child.name,
                    child.log.path().display()
                );
            }
        }
    }

    async fn kill(&self) {
        for child in &self.children {
            child.kill().await;
        }
    }
}

fn failed(child: &Child, what: String) -> Error {
    let log = child.log.path().to_owned();
    Error::Failed {
        name: child.name,
        what,
        log,
        tail: child.log.tail(),
    }
}
