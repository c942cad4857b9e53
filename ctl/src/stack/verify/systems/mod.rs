//! The systems of systems/ that are switched on (`make verify PROFILE="…"`): each proven by what was marked, like the hops.

mod beyla;
mod collector;
mod containers;
mod faro;
mod incidents;
mod mysql;
mod prometheus;
mod sampling;
mod seaweedfs;
mod tenants;

use std::time::Duration;

use clap::ValueEnum;
use reqwest::Client;
use tokio::time::Instant;

use self::incidents::Raised;

use super::hops::until;
use super::marked::Marked;
use super::read::Reader;
use super::report::Row;
use super::way::Way;
use crate::output::say;

/// A folder of systems/.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum System {
    Beyla,
    Collector,
    Containers,
    Faro,
    Incidents,
    K6,
    Mysql,
    Prometheus,
    Sampling,
    Seaweedfs,
    Tenants,
}

/// What they are proven with.
pub struct World<'a> {
    pub client: &'a Client,
    pub api: &'a str,
    pub marked: &'a Marked,
    /// Reads the stores as whoever may see everything.
    pub store: &'a Reader,
    pub way: &'a Way,
    pub deadline: Duration,
}

pub async fn prove(systems: &[System], world: &World<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    macro_rules! row {
        ($system:literal, $what:literal, $look:expr) => {{
            let started = Instant::now();
            let outcome = until(world.deadline, || $look).await;
            let outcome = outcome.map(|seen| (seen, started.elapsed()));
            rows.push(Row::new($system, $what, outcome).needs(&[$system]));
        }};
    }
    for system in systems {
        match system {
            System::Beyla => row!("beyla", "the same requests", beyla::counted(world)),
            System::Collector => {
                row!("collector", "collector → Tempo", collector::delivers(world));
                row!(
                    "collector",
                    "the trace in Jaeger",
                    collector::in_jaeger(world)
                );
            }
            System::Containers => {
                row!("containers", "stdout → Loki", containers::read(world));
            }
            System::Faro => {
                let beacon = faro::Beacon::new();
                let sent = beacon.send(world).await;
                row!("faro", "beacon → Loki", beacon.in_loki(world, &sent));
                row!("faro", "beacon → Tempo", beacon.in_tempo(world, &sent));
            }
            System::Incidents => {
                let started = Instant::now();
                let outcome = incidents::life(world).await;
                let outcome = outcome.map(|seen| (seen, started.elapsed()));
                rows.push(Row::new("incidents", "opened and resolved", outcome));
                let raised = Raised::raise(world).await;
                row!(
                    "incidents",
                    "alert → incident",
                    Raised::opened(world, &raised)
                );
                let ended = Raised::end(world, &raised).await;
                row!(
                    "incidents",
                    "its end → closed",
                    Raised::closed(world, &raised, &ended)
                );
            }
            System::K6 => {
                say!(
                    "k6: not verified, it is a load test; `make k6` fails when one of its thresholds is broken"
                );
            }
            System::Mysql => {
                row!("mysql", "the order in it", mysql::written(world));
                row!("mysql", "its exporter", mysql::exported(world));
            }
            System::Prometheus => {
                row!(
                    "prometheus",
                    "push and pull agree",
                    prometheus::agree(world)
                );
                row!(
                    "prometheus",
                    "pulled exemplar → trace",
                    prometheus::exemplar(world)
                );
            }
            System::Sampling => {
                let sent = sampling::Sent::send(world).await;
                row!(
                    "sampling",
                    "failed traces kept",
                    sampling::kept(world, &sent)
                );
                row!(
                    "sampling",
                    "all of them counted",
                    sampling::counted(world, &sent)
                );
            }
            System::Seaweedfs => {
                row!(
                    "seaweedfs",
                    "the stores' objects in it",
                    seaweedfs::keeps(world)
                );
            }
            System::Tenants => {
                let sent = tenants::Sent::send(world).await;
                row!(
                    "tenants",
                    "metrics, each its own",
                    tenants::metrics(world, &sent)
                );
                row!("tenants", "logs, each its own", tenants::logs(world, &sent));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_that_can_be_switched_on_is_known_here() -> std::io::Result<()> {
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../systems"))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        folders.sort();
        let known = System::value_variants().iter();
        let known: Vec<String> = known
            .filter_map(|system| Some(system.to_possible_value()?.get_name().to_owned()))
            .collect();
        assert_eq!(known, folders);
        Ok(())
    }
}
