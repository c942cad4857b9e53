//! Asks every part of the stack whether it is ready, and what it counts.

use futures_util::future::join_all;
use reqwest::Client;

use super::super::exposition::{self, Series};
use super::super::parts::Part;
use super::super::probe;
use crate::http;

/// What one part said.
pub struct Answer {
    pub name: String,
    /// Why it is not ready.
    pub trouble: Option<String>,
    /// Empty where it has no metrics, or none that could be had.
    pub series: Vec<Series>,
}

/// All of them at once.
pub async fn all(client: &Client, parts: &[Part]) -> Vec<Answer> {
    join_all(parts.iter().map(|part| async {
        Answer {
            name: part.name.clone(),
            trouble: probe::ask(client, &part.ready).await.err(),
            series: metrics(client, &part.ready).await.unwrap_or_default(),
        }
    }))
    .await
}

/// `/metrics` at the door where readiness is asked for.
async fn metrics(client: &Client, ready: &str) -> Option<Vec<Series>> {
    let url = reqwest::Url::parse(ready).ok()?.join("/metrics").ok()?;
    Some(exposition::parse(&http::ask(client.get(url)).await.ok()?))
}

/// `mimir` for `mimir-1`, `mimir-2` and `mimir-3`: what they count is counted once.
pub fn program(part: &str) -> &str {
    part.trim_end_matches(|c: char| c.is_ascii_digit())
        .strip_suffix('-')
        .unwrap_or(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_one_program() {
        let names = ["mimir-1", "mimir-3", "signalbox-api", "nginx-push", "loki"];
        assert_eq!(
            names.map(program),
            ["mimir", "mimir", "signalbox-api", "nginx-push", "loki"]
        );
    }
}
