//! `signalboxctl overhead`: the same load with each signal on and off, and what each costs on this machine.
//!
//! Every row is a service of its own, started anew, with the viewer as its receiver. Between the two stands a relay that counts bytes.

mod measure;

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Client;
use tokio::time::{Instant, sleep, timeout};

use self::measure::{Cost, Relay, Usage};
use crate::demo::{self, Child, Log, Plan};
use crate::output::say;
use crate::{http, load};

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(20);
/// After the load: what waits for its batch or its interval is sent within it.
const SETTLE: Duration = Duration::from_millis(3_000);
/// Before the load that is measured: pools, caches and the allocator have grown.
const WARM_UP: Duration = Duration::from_secs(2);

/// What each row leaves on; all other signals are off.
const ROWS: [(&str, &[(&str, &str)]); 7] = [
    ("nothing", &[]),
    ("lines on stdout", &[("LOG_FORMAT", "json")]),
    ("traces", &[("OTEL_TRACES_EXPORTER", "otlp")]),
    ("metrics", &[("OTEL_METRICS_EXPORTER", "otlp")]),
    ("logs", &[("OTEL_LOGS_EXPORTER", "otlp")]),
    ("profiles", &[("PYROSCOPE_PROFILES", "cpu,heap")]),
    (
        "all",
        &[
            ("LOG_FORMAT", "json"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_METRICS_EXPORTER", "otlp"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("PYROSCOPE_PROFILES", "cpu,heap"),
        ],
    ),
];
const OFF: [(&str, &str); 5] = [
    ("LOG_FORMAT", "off"),
    ("OTEL_TRACES_EXPORTER", "none"),
    ("OTEL_METRICS_EXPORTER", "none"),
    ("OTEL_LOGS_EXPORTER", "none"),
    ("PYROSCOPE_PROFILES", "none"),
];

#[derive(clap::Args)]
pub struct Args {
    /// Requests a second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// How long each row is loaded
    #[arg(long, default_value = "10s", value_parser = crate::duration::parse)]
    duration: Duration,
    /// What is sent, as with `load`
    #[arg(long, default_value = "ping=1,api=1", value_name = "NAME=WEIGHT,…")]
    mix: String,
    /// Folder for databases and logs; what is in it is kept
    #[arg(long, default_value = "data/overhead", value_name = "FOLDER")]
    data_dir: PathBuf,
}

pub async fn run(args: Args) -> Result<(), String> {
    let folder = &args.data_dir;
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let plan = Plan {
        signalbox: demo::sibling("signalbox")?,
        lens: demo::sibling("lens")?,
        data_dir: folder.clone(),
        environment: demo::environment()
            .filter(|(name, _)| !is_measured(&name.to_string_lossy()))
            .collect(),
    };
    let client = http::client(Duration::from_secs(5), 2).map_err(|error| error.to_string())?;
    let viewer = start("viewer", plan.viewer(), folder)?;
    ready(&client, &viewer, "/readyz").await?;

    say!(
        "{} requests a second for {} in each row\n",
        args.rate,
        crate::duration::show(args.duration)
    );
    say!(
        "{:<16} {:>14} {:>10} {:>15}",
        "on",
        "CPU a request",
        "resident",
        "sent a request"
    );
    let mut costs: Vec<(&str, Cost)> = Vec::new();
    for (name, on) in ROWS {
        let cost = row(&args, &plan, &client, &viewer.1, on).await?;
        say!(
            "{name:<16} {:>11.0} µs {:>7.0} MB {:>13.0} B",
            cost.cpu_us,
            cost.resident_mb,
            cost.sent_bytes
        );
        costs.push((name, cost));
    }
    say!(
        "\nCPU a request\n{}",
        measure::bars(&costs, |cost| cost.cpu_us)
    );
    viewer.0.stop(STOP_DEADLINE).await;
    Ok(())
}

/// Whether a variable is one that the rows set.
fn is_measured(name: &str) -> bool {
    OFF.iter().any(|(own, _)| *own == name) || name == "OTEL_SDK_DISABLED"
}

/// One service with these signals on, its load, and what it cost.
async fn row(
    args: &Args,
    plan: &Plan,
    client: &Client,
    viewer: &str,
    on: &[(&str, &str)],
) -> Result<Cost, String> {
    let relay = Relay::start(viewer).await?;
    // Nothing that is sent here needs the worker.
    let mut command = plan.service(&relay.url, "http://127.0.0.1:9");
    command.envs(OFF).envs(on.iter().copied());
    let service = start("service", command, &args.data_dir)?;
    ready(client, &service, "/readyz").await?;
    let pid = service.0.pid().ok_or("the service has no process id")?;

    let url = service
        .1
        .parse()
        .map_err(|error| format!("{}: {error}", service.1))?;
    send(args, &url, WARM_UP).await?;
    sleep(SETTLE).await;
    let (before, sent_before) = (Usage::of(pid)?, relay.bytes());
    let answered = send(args, &url, args.duration).await?;
    sleep(SETTLE).await;
    let (after, sent_after) = (Usage::of(pid)?, relay.bytes());
    service.0.stop(STOP_DEADLINE).await;
    if answered == 0 {
        return Err("no request was answered".into());
    }
    let answered = answered as f64;
    Ok(Cost {
        cpu_us: (after.cpu_seconds - before.cpu_seconds) * 1e6 / answered,
        resident_mb: after.resident_bytes as f64 / f64::from(1 << 20),
        sent_bytes: (sent_after - sent_before) as f64 / answered,
    })
}

/// Sends for so long; returns how many requests were answered.
async fn send(args: &Args, url: &reqwest::Url, duration: Duration) -> Result<u64, String> {
    let mut engine = load::endless(url, &args.mix, args.rate).map_err(|error| error.to_string())?;
    let end = Instant::now() + duration;
    let mut answered = 0;
    while let Ok(Some(report)) = tokio::time::timeout_at(end, engine.reports.recv()).await {
        answered += u64::from(load::is_answered(&report));
    }
    Ok(answered)
}

type Running = (Child, String);

fn start(
    name: &'static str,
    command: tokio::process::Command,
    folder: &std::path::Path,
) -> Result<Running, String> {
    let told = |error: std::io::Error| format!("the {name}: {error}");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(told)?;
    let url = format!("http://{}", listener.local_addr().map_err(told)?);
    let mut command = command;
    command.env(
        if name == "viewer" {
            "LENS_LISTEN"
        } else {
            "SIGNALBOX_LISTEN"
        },
        "stdin",
    );
    let log = Log::create(folder.join(format!("{name}.log"))).map_err(told)?;
    Ok((
        Child::start(name, command, listener, log, false).map_err(told)?,
        url,
    ))
}

async fn ready(client: &Client, (child, url): &Running, path: &str) -> Result<(), String> {
    let asking = async {
        while http::ask(client.get(format!("{url}{path}"))).await.is_err() {
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        ready = timeout(READY_TIMEOUT, asking) => ready.map_err(|_| format!("the {} was not ready in time", child.name)),
        how = child.exited() => Err(format!("the {} ended ({how}): {}", child.name, child.log.tail().join("\n"))),
    }
}
