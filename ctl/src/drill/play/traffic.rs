//! What people send to the shop. A number in a target that stands as `~500` is chosen for each request, from 1 to 500.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, Url};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};

/// Requests at once. What comes while all of them are under way is not sent.
const CONCURRENCY: usize = 64;

/// Requests in the proportion of their weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    requests: Vec<(Method, String, u32)>,
    every: Duration,
    /// Values of `Client-ID`, of which each request has one.
    clients: Vec<String>,
}

impl Traffic {
    /// Reads `GET /products/~2000=6,POST /baskets/~280/checkout/visa=1`.
    pub fn parse(mix: &str, rate: f64, clients: &[&str]) -> Result<Self, String> {
        let entries = mix
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        let requests = entries.map(|entry| {
            let wrong = || format!("`{entry}` is not written METHOD /path=weight");
            let (request, weight) = entry.rsplit_once('=').ok_or_else(wrong)?;
            let (method, target) = request.split_once(' ').ok_or_else(wrong)?;
            let method = Method::from_bytes(method.as_bytes()).map_err(|_| wrong())?;
            let weight = weight
                .parse()
                .ok()
                .filter(|weight| *weight > 0)
                .ok_or_else(wrong)?;
            Ok((method, target.trim().to_owned(), weight))
        });
        let requests: Vec<_> = requests.collect::<Result<_, String>>()?;
        if requests.is_empty() {
            return Err("the load is empty".into());
        }
        Ok(Self {
            requests,
            every: Duration::try_from_secs_f64(1.0 / rate).map_err(|error| error.to_string())?,
            clients: clients.iter().map(|client| (*client).to_owned()).collect(),
        })
    }

    /// Sends until it is dropped.
    pub async fn send(self, client: Client, base: Url) {
        let places = Arc::new(Semaphore::new(CONCURRENCY));
        let mut turns = interval(self.every);
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // Those under way end with this one.
        let mut under_way = tokio::task::JoinSet::new();
        loop {
            turns.tick().await;
            while under_way.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                continue;
            };
            let (method, target) = self.choose();
            let Ok(url) = base.join(&target) else {
                continue;
            };
            let client_id = fastrand::choice(&self.clients).map_or("", String::as_str);
            let request = client.request(method, url).header("client-id", client_id);
            under_way.spawn(async move {
                // What the shop answers is for its telemetry to tell.
                if let Ok(answer) = request.send().await {
                    let _ = answer.bytes().await;
                }
                drop(place);
            });
        }
    }

    fn choose(&self) -> (Method, String) {
        let total: u32 = self.requests.iter().map(|(_, _, weight)| weight).sum();
        let mut at = fastrand::u32(..total);
        for (method, target, weight) in &self.requests {
            if at < *weight {
                return (method.clone(), with_numbers(target));
            }
            at -= weight;
        }
        (Method::GET, "/".into())
    }
}

/// The target with a number for each `~max`.
fn with_numbers(target: &str) -> String {
    let mut parts = target.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let max: u32 = part[..digits].parse().unwrap_or(1);
        text += &fastrand::u32(1..=max.max(1)).to_string();
        text += &part[digits..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_gets_numbers_of_its_own_within_their_bounds() {
        for _ in 0..200 {
            let target = with_numbers("/a/~3/b/~2");
            let parts: Vec<&str> = target.split('/').collect();
            assert!(
                ["1", "2", "3"].contains(&parts[2]) && ["1", "2"].contains(&parts[4]),
                "{target}"
            );
        }
        assert_eq!(with_numbers("/plain"), "/plain");
    }

    #[test]
    fn what_is_no_load_is_refused() {
        for mix in ["", "GET /x", "/x=1", "GET /x=0", "GET /x=many"] {
            assert!(Traffic::parse(mix, 1.0, &["1"]).is_err(), "{mix}");
        }
        assert!(Traffic::parse("GET /x=1", 0.0, &["1"]).is_err());
        let traffic = Traffic::parse("GET /x=1, POST /y/~2=3", 4.0, &["1"]).unwrap();
        assert_eq!(traffic.requests.len(), 2);
        assert_eq!(traffic.every, Duration::from_millis(250));
    }
}
