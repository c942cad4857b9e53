//! The replicas of Mimir. Two of them with one `hostname` are one member of the ring: writes and queries go on, on fewer copies than
//! were asked for, and nothing else tells. So the members are counted, and each replica is asked for the marked requests by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tokio::net::lookup_host;
use tokio::time::Instant;

use super::hops::until;
use super::marked::{COUNTED, Marked};
use super::read::Reader;
use super::report::Row;
use crate::http;

/// The name that all of them have in the stack's network.
const ALL: &str = "mimir:9009";

/// A row for the ring, and one for the replicas.
pub async fn prove(client: &Client, marked: &Marked, deadline: Duration) -> [Row; 2] {
    let started = Instant::now();
    let ring = until(deadline, || ring(client)).await;
    let ring = ring.map(|seen| (seen, started.elapsed()));
    let started = Instant::now();
    let copies = until(deadline, || copies(client, marked)).await;
    let copies = copies.map(|seen| (seen, started.elapsed()));
    [
        Row::new("mimir", "members of the ring", ring),
        // Without metrics there is nothing to ask a replica for.
        Row::new("mimir", "each replica answers", copies).needs(&["metrics", "mimir"]),
    ]
}

/// As many as run, and at least as many as there are to be copies of each sample.
async fn ring(client: &Client) -> Result<String, String> {
    let get = async |path: &str| {
        let url = format!("http://{ALL}{path}");
        let request = client.get(&url).header("accept", "application/json");
        let told = |reason| format!("{url}: {reason}; `make logs-mimir-1`");
        http::ask(request).await.map_err(told)
    };
    let copies = replication_factor(&get("/config").await?);
    let expected = addresses().await?.len().max(copies);
    let ring = get("/ingester/ring").await?;
    let ring = serde_json::from_str(&ring).map_err(|error| format!("/ingester/ring: {error}"))?;
    members(&ring, expected)
}

/// Where each replica that runs is.
async fn addresses() -> Result<BTreeSet<SocketAddr>, String> {
    let found = lookup_host(ALL).await;
    let found = found.map_err(|error| format!("{ALL}: {error}; `docker compose ps`"))?;
    Ok(found.collect())
}

/// `replication_factor` of the ingesters' ring in Mimir's effective configuration; 1 if it is not there.
fn replication_factor(config: &str) -> usize {
    let ingester = config.split_once("\ningester:").map(|(_, rest)| rest);
    let setting = ingester.and_then(|rest| rest.split_once("replication_factor:"));
    let value = setting.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    value.unwrap_or(1)
}

/// Reads the ring's page in JSON: `shards`, each with its `id` (the hostname) and `state`.
fn members(ring: &Value, expected: usize) -> Result<String, String> {
    let shards = ring["shards"].as_array().into_iter().flatten();
    let mut members = BTreeMap::new();
    for shard in shards {
        let text = |member: &str| shard[member].as_str().unwrap_or_default().to_owned();
        members.insert(text("id"), text("state"));
    }
    let active: Vec<&str> = members
        .iter()
        .filter(|(_, state)| *state == "ACTIVE")
        .map(|(id, _)| id.as_str())
        .collect();
    if active.len() == expected {
        return Ok(format!("{expected} distinct: {}", active.join(", ")));
    }
    let all: Vec<String> = members
        .iter()
        .map(|(id, state)| format!("{id} {state}"))
        .collect();
    Err(format!(
        "{} of {expected} members are active ({}): does each Mimir run (`docker compose ps`), under a hostname of its own \
         (`hostname:` in docker-compose.yml)?",
        active.len(),
        all.join(", ")
    ))
}

async fn copies(client: &Client, marked: &Marked) -> Result<String, String> {
    let addresses = addresses().await?;
    for address in &addresses {
        let prometheus = format!("http://{address}/prometheus");
        let reader = Reader::prometheus(client.clone(), prometheus);
        let counted = reader
            .counted(marked.status)
            .await
            .map_err(|reason| format!("the replica at {address}: {reason}"))?;
        let counted = counted - marked.counted_before;
        if counted != COUNTED {
            return Err(format!(
                "the replica at {address} counts {counted} marked requests, not {COUNTED}: `make logs-mimir-1`, `-2`, `-3`"
            ));
        }
    }
    Ok(format!(
        "{}, each counts the marked requests",
        addresses.len()
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_distinct_active_members_count() {
        let ring = |members: &[(&str, &str)]| {
            let shard =
                |&(id, state): &(&str, &str)| json!({ "id": id, "state": state, "zone": "" });
            json!({ "shards": members.iter().map(shard).collect::<Vec<_>>() })
        };
        let three = ring(&[
            ("mimir-3", "ACTIVE"),
            ("mimir-1", "ACTIVE"),
            ("mimir-2", "ACTIVE"),
        ]);
        let told = Ok("3 distinct: mimir-1, mimir-2, mimir-3".to_owned());
        assert_eq!(members(&three, 3), told);
        // Two with one hostname take turns in one entry.
        let twins = members(&ring(&[("mimir-1", "ACTIVE"), ("mimir-2", "ACTIVE")]), 3);
        let told = twins.expect_err("one is missing");
        assert!(
            told.starts_with("2 of 3 members are active (mimir-1 ACTIVE, mimir-2 ACTIVE): "),
            "{told}"
        );
        assert!(told.contains("`hostname:` in docker-compose.yml"), "{told}");
        let leaving = members(&ring(&[("mimir-1", "ACTIVE"), ("mimir-2", "LEAVING")]), 2);
        assert!(leaving.is_err_and(|told| told.starts_with("1 of 2")));
        assert!(members(&Value::Null, 1).is_err());
    }

    #[test]
    fn the_number_of_copies_is_that_of_the_ingesters_ring() {
        let config = "distributor:\n  ring:\n    replication_factor: 7\ningester:\n  ring:\n    heartbeat_period: 1m\n    replication_factor: 3\n";
        assert_eq!(replication_factor(config), 3);
        assert_eq!(replication_factor("ingester:\n"), 1);
    }
}
