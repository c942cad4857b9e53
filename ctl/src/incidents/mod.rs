//! `signalboxctl incidents`: an alert opens an incident, a person acknowledges and closes it.
//!
//! In the place of Grafana OnCall, whose open-source edition was archived in March 2026. It takes the two webhook formats of OnCall's
//! integrations and answers under the names of OnCall's API, so that what pointed there can point here. It has no schedules and calls
//! nobody: it is the end of the alert's way, made visible.

mod api;
mod book;
mod file;
mod notice;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use loopback::{Hosts, allowed_host};

use self::api::{Desk, HostNotAllowed};
use crate::output::say;
use crate::stop::Stop;

/// How long requests in flight may take once it is told to stop, in seconds.
const GRACE_SECONDS: u64 = 3;

#[derive(clap::Args)]
pub struct Args {
    /// Where it listens; port 0 takes a free one
    #[arg(
        long,
        env = "INCIDENTS_LISTEN",
        default_value = "127.0.0.1:18095",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Where the incidents are kept; written anew, whole, with every change
    #[arg(
        long,
        env = "INCIDENTS_FILE",
        default_value = "data/incidents.json",
        value_name = "FILE"
    )]
    file: PathBuf,
    /// Where the dashboards are that alerts name; absent: no links
    #[arg(long, env = "INCIDENTS_GRAFANA_URL", value_name = "URL")]
    grafana: Option<String>,
    /// Names that a request's Host may carry besides localhost, 127.0.0.1 and [::1] (ports do not matter), so that no web page can
    /// reach it by rebinding DNS
    #[arg(
        long,
        env = "INCIDENTS_ALLOWED_HOSTS",
        value_delimiter = ',',
        value_name = "NAME,…"
    )]
    allowed_hosts: Vec<String>,
}

pub async fn run(args: Args) -> io::Result<()> {
    let desk = web::Data::new(Desk::open(args.file, args.grafana)?);
    let listener = TcpListener::bind(args.listen)?;
    let address = listener.local_addr()?;
    let mut stop = Stop::listen()?;
    let hosts = web::Data::new(Hosts::new(args.allowed_hosts, |host| {
        HostNotAllowed(host.to_owned()).into()
    }));
    let app = move || {
        App::new()
            .app_data(desk.clone())
            .app_data(hosts.clone())
            .wrap(from_fn(api::head_as_get))
            .wrap(from_fn(allowed_host))
            .configure(api::routes)
    };
    let server = HttpServer::new(app)
        .workers(1)
        .shutdown_timeout(GRACE_SECONDS)
        .disable_signals()
        .listen(listener)?
        .run();
    say!("listening on http://{address}");
    let handle = server.handle();
    tokio::spawn(async move {
        stop.requested().await;
        handle.stop(true).await;
    });
    server.await
}
