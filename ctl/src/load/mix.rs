//! Which requests are sent, and in which proportion.

use std::str::FromStr;

use reqwest::{Method, Url};

/// One kind of request, bounded by its parameters so that the default load fits a small machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What the user calls it, and the first column of the table.
    pub name: String,
    /// Path and query.
    pub target: String,
}

impl Endpoint {
    /// The path as the service's router knows it; all of ours have no variable part.
    pub fn route(&self) -> &str {
        self.target.split('?').next().unwrap_or(&self.target)
    }

    pub fn request(&self, base: &Url, client_id: Option<&str>) -> Result<reqwest::Request, String> {
        let url = base
            .join(&self.target)
            .map_err(|error| format!("{}: {error}", self.target))?;
        let mut request = reqwest::Request::new(Method::GET, url);
        if let Some(id) = client_id {
            let value = id
                .parse()
                .map_err(|_| format!("client id {id:?} fits no header"))?;
            request.headers_mut().insert("client-id", value);
        }
        Ok(request)
    }
}

/// Names that stand for a request, their path and query, and their weight in the default mix. Locks have none: each is held for two
/// seconds, and at a high rate those who wait would fill the pool of connections.
const CATALOGUE: [(&str, &str, u32); 14] = [
    ("ping", "/ping", 20),
    ("work", "/demo/work", 30),
    ("logs", "/demo/logs?count=5", 10),
    ("api", "/api?sc=200", 15),
    ("api-404", "/api?sc=404", 3),
    ("api-503", "/api?sc=503", 2),
    ("cpu", "/demo/cpu?ms=50", 10),
    ("memory", "/demo/memory?mb=16&hold_ms=400", 4),
    ("work-error", "/demo/work-error", 3),
    ("cpu-error", "/demo/cpu-error", 1),
    ("memory-error", "/demo/memory-error", 1),
    ("health", "/healthz", 1),
    ("lock", "/demo/lock?ms=2000", 0),
    ("lock-wait", "/ping?fault=lock_wait_ms%3D3000", 0),
];

/// `name=weight` of the default mix, for the help text.
pub fn default_mix() -> String {
    let entries: Vec<String> = CATALOGUE
        .iter()
        .filter(|(_, _, weight)| *weight > 0)
        .map(|(name, _, weight)| format!("{name}={weight}"))
        .collect();
    entries.join(",")
}

const MAX_ENTRIES: usize = 64;
const MAX_WEIGHT: u32 = 10_000;

/// Endpoints with their weights. [`Mix::sequence`] spreads each evenly, so that N requests hold exactly each one's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix(Vec<(Endpoint, u32)>);

impl FromStr for Mix {
    type Err = String;

    /// `work=5,cpu=1,/api?sc=418=2`: names of the catalogue, or paths, each with its weight after the last `=`.
    fn from_str(text: &str) -> Result<Self, String> {
        let entries = text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(entry)
            .collect::<Result<Vec<_>, _>>()?;
        match entries.len() {
            0 => Err("the mix is empty: write for example work=5,cpu=1".into()),
            1..=MAX_ENTRIES => Ok(Self(entries)),
            n => Err(format!("{n} entries, at most {MAX_ENTRIES} are allowed")),
        }
    }
}

fn entry(text: &str) -> Result<(Endpoint, u32), String> {
    let (name, weight) = text
        .rsplit_once('=')
        .ok_or_else(|| format!("`{text}` has no weight: write {text}=1"))?;
    let weight = weight
        .parse()
        .ok()
        .filter(|weight| (1..=MAX_WEIGHT).contains(weight));
    let weight = weight.ok_or_else(|| {
        format!("the weight of `{name}` must be 1 to {MAX_WEIGHT}: write {name}=1")
    })?;
    let target = if name.starts_with('/') {
        name
    } else {
        let known = CATALOGUE.iter().find(|(known, ..)| *known == name);
        known.map(|(_, target, _)| *target).ok_or_else(|| {
            let names: Vec<&str> = CATALOGUE.iter().map(|(name, ..)| *name).collect();
            format!(
                "`{name}` is not known: use {} or a path that starts with /",
                names.join(", ")
            )
        })?
    };
    Ok((
        Endpoint {
            name: name.to_owned(),
            target: target.to_owned(),
        },
        weight,
    ))
}

impl Mix {
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.iter().map(|(endpoint, _)| endpoint)
    }

    /// Indices into [`Mix::endpoints`], one round of the sum of all weights; the load repeats it. Smooth weighted round-robin:
    /// each turn everybody gains its weight, the richest goes and pays the sum.
    pub fn sequence(&self) -> Vec<usize> {
        let total: i64 = self.0.iter().map(|(_, weight)| i64::from(*weight)).sum();
        let mut credit = vec![0_i64; self.0.len()];
        let mut sequence = Vec::new();
        for _ in 0..total {
            let mut richest = 0;
            for (index, (_, weight)) in self.0.iter().enumerate() {
                credit[index] += i64::from(*weight);
                if credit[index] > credit[richest] {
                    richest = index;
                }
            }
            credit[richest] -= total;
            sequence.push(richest);
        }
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_read_with_their_weights() {
        let mix: Mix = "work=5, /api?sc=418=2".parse().unwrap();
        let read: Vec<(&str, &str, u32)> = mix
            .0
            .iter()
            .map(|(e, weight)| (e.name.as_str(), e.target.as_str(), *weight))
            .collect();
        assert_eq!(
            read,
            [("work", "/demo/work", 5), ("/api?sc=418", "/api?sc=418", 2)]
        );
        assert_eq!(
            mix.endpoints().map(Endpoint::route).collect::<Vec<_>>(),
            ["/demo/work", "/api"]
        );
    }

    #[test]
    fn the_default_mix_is_all_of_the_catalogue_but_locks() {
        let mix: Mix = default_mix().parse().unwrap();
        assert_eq!(mix.endpoints().count(), CATALOGUE.len() - 2);
        assert_eq!(mix.sequence().len(), 100);
        let locks: Mix = "lock=1,lock-wait=1".parse().unwrap();
        let routes: Vec<&str> = locks.endpoints().map(Endpoint::route).collect();
        assert_eq!(routes, ["/demo/lock", "/ping"]);
    }

    #[test]
    fn what_is_no_mix_is_refused_with_what_is_allowed() {
        for (text, said) in [
            ("", "the mix is empty"),
            ("work", "write work=1"),
            ("work=0", "must be 1 to 10000"),
            ("work=x", "must be 1 to 10000"),
            ("nap=1", "`nap` is not known: use ping, work"),
        ] {
            let error = text.parse::<Mix>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn the_sequence_spreads_each_endpoint_evenly_and_exactly() {
        let mix: Mix = "work=5,cpu=1,ping=1".parse().unwrap();
        assert_eq!(mix.sequence(), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_request_carries_its_client_id() {
        let mix: Mix = "/api?sc=503=1".parse().unwrap();
        let endpoint = mix.endpoints().next().unwrap();
        let request = endpoint
            .request(&"http://127.0.0.1:18080".parse().unwrap(), Some("11111"))
            .unwrap();
        assert_eq!(request.url().as_str(), "http://127.0.0.1:18080/api?sc=503");
        assert_eq!(request.headers()["client-id"], "11111");
    }
}
