//! Follows one marked request hop by hop: service → Alloy → push balancer → store → query balancer → Grafana, for each signal,
//! and expands every provisioned link as Grafana does, to see that its query returns the very request.
//!
//! A hop is proven by a marked id or an exact counter delta, never by readiness. What comes in at each door on the way (a sample of
//! our own at Alloy, at the push balancer and at the store) tells which hop breaks when the request's own signal is missing.
//! Runs inside the stack's network: `make verify`. With `--service NAME` it judges what another service sends instead.

mod console;
mod database;
mod grafana;
mod hops;
mod links;
mod marked;
mod read;
mod replicas;
mod report;
mod service;
mod systems;
mod way;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use crate::output::say;
use crate::{duration, http};
use hops::Outlet;
use marked::Marked;
use read::Reader;
use report::{Report, Row};
use systems::{System, World};
use way::Way;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// How long a signal may take to arrive
    #[arg(long, default_value = "60s", value_parser = duration::parse, value_name = "DURATION")]
    deadline: Duration,
    /// The service
    #[arg(long, default_value = "http://signalbox-api:18080", value_name = "URL")]
    api: String,
    /// Grafana
    #[arg(long, default_value = "http://grafana:3000", value_name = "URL")]
    grafana: String,
    /// Who asks Grafana
    #[arg(long, env = "GRAFANA_USER", default_value = "admin")]
    grafana_user: String,
    /// With which password
    #[arg(
        long,
        env = "GRAFANA_PASSWORD",
        default_value = "admin",
        hide_env_values = true
    )]
    grafana_password: String,
    /// Also the systems that are on, as in `make up PROFILE=…`
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SYSTEM,…")]
    profiles: Vec<System>,
    /// Instead: send nothing, and say for each link whether what this service sent in the last ten minutes carries what it needs
    #[arg(long, value_name = "NAME", conflicts_with = "profiles")]
    service: Option<String>,
    /// Other doors than compose's, such as those of Kubernetes: a JSON file in the shape of ctl/src/stack/verify/way.json
    #[arg(long, env = "SIGNALBOX_WAY", value_name = "FILE")]
    way: Option<PathBuf>,
}

/// Whoever may see all tenants, in each store's words, and the one that is written to. Without tenants nobody asks.
const OPERATOR: &str = "anonymous|fake|11111|22222|33333";
const WRITER: &str = "anonymous";

/// What a failure at Grafana's proxy means, when the door before it answers.
const GRAFANA: &str = "what Grafana reads through has it, Grafana does not: grafana/provisioning/datasources, `make logs-grafana`";

/// Ends well if every hop and every link was proven.
pub async fn run(args: Args) -> Result<(), String> {
    let client = http::client(Duration::from_secs(15), 8).map_err(|error| error.to_string())?;
    let grafana = grafana::Grafana::new(client.clone(), &args);
    let mut report = Report::default();
    if let Some(service) = &args.service {
        service::prove(&grafana, service, &mut report).await?;
        return report.end();
    }
    let way = Way::read(args.way.as_deref())?;
    let operator = http::client_as(OPERATOR).map_err(|error| error.to_string())?;
    let writer = http::client_as(WRITER).map_err(|error| error.to_string())?;
    let store = Reader::at(operator.clone(), &way.outward[0]);

    let marked = match Marked::send(&client, &args.api, &store).await {
        Ok(marked) => marked,
        Err(reason) => {
            report.add(Row::broken("all", "service", reason));
            return report.end();
        }
    };
    say!(
        "marked: trace {}, request {}\n",
        marked.trace_id,
        marked.request_id
    );

    // What the store has of the request came from the service: that is the hop it proves. Only the store is asked as the operator.
    let mut outlets: Vec<Outlet> = vec![("service", store, &way.outward[0].advice)];
    for door in &way.outward[1..] {
        outlets.push((&door.name, Reader::at(client.clone(), door), &door.advice));
    }
    outlets.push(("grafana", grafana.reader(), GRAFANA));
    let deadline = args.deadline;
    for row in hops::prove(&writer, &operator, &marked, &way, &outlets, deadline).await {
        report.add(row);
    }
    // Elsewhere Mimir's ring is another's business: its parts run apart, and each has a name of its own from Kubernetes.
    if args.way.is_none() {
        for row in replicas::prove(&operator, &marked, args.deadline).await {
            report.add(row);
        }
    }
    let sampled = args.profiles.contains(&System::Sampling);
    if let Err(reason) = Marked::follow_up(&client, &args.api, sampled).await {
        report.add(Row::broken("links", "service", reason));
    }
    tokio::select! {
        () = links::prove(&grafana, &marked, sampled, args.deadline, &mut report) => {}
        never = Marked::keep_following_up(&client, &args.api, sampled) => match never {},
    }
    console::prove(
        &client,
        &args.api,
        &grafana,
        &marked,
        args.deadline,
        &mut report,
    )
    .await;
    database::prove(
        &client,
        &args.api,
        &grafana,
        &marked,
        args.deadline,
        &mut report,
    )
    .await;
    let world = World {
        client: &client,
        api: &args.api,
        marked: &marked,
        store: &outlets[0].1,
        way: &way,
        deadline: args.deadline,
    };
    for row in systems::prove(&args.profiles, &world).await {
        report.add(row);
    }
    report.end()
}
