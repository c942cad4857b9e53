//! Where a signal goes in and where it is read again: the doors on its way, from the store outwards.
//!
//! Compose's are built in (way.json). Elsewhere other parts stand between Alloy and the stores, such as gateways and Services on
//! Kubernetes: `--way FILE` names a file of the same shape.

use std::path::Path;

use serde::Deserialize;

use super::super::addresses::Addresses;

/// All doors. The first of each direction is the store itself; Grafana's proxy, the last to read through, is known without a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// Where samples are put in.
    pub inward: Vec<Door>,
    /// Where they are read.
    pub outward: Vec<Door>,
}

/// Base URLs of one hop, without a trailing slash.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Door {
    pub name: String,
    /// Loki: inward the base of OTLP (`…/otlp`), outward that of its API.
    pub logs: String,
    /// Mimir: inward the base of OTLP (`…/otlp`), outward what comes before `/prometheus`.
    pub metrics: String,
    /// Tempo: inward its OTLP receiver, outward its API.
    pub traces: String,
    pub profiles: String,
    /// What a failure here, after success at the door before, means. `{program}` and `{store}` stand for the program that keeps the signal
    /// and for the name of its service.
    pub advice: String,
}

const COMPOSE: &str = include_str!("way.json");

impl Way {
    /// Reads `file`; without one, the way through compose's stack.
    pub fn read(file: Option<&Path>) -> Result<Self, String> {
        match file {
            None => Self::parse(COMPOSE),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| error.to_string())
                .and_then(|text| Self::parse(&text))
                .map_err(|reason| format!("{}: {reason}", path.display())),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let way: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (direction, doors) in [("inward", &way.inward), ("outward", &way.outward)] {
            if doors.first().is_none_or(|door| door.name != "store") {
                return Err(format!("the first door {direction} must be `store`"));
            }
            for door in doors {
                if let Some(url) = door.all().into_iter().find(|url| !is_base(url)) {
                    return Err(format!(
                        "{direction}, {}: `{url}` is not a base URL (http://… without a slash at its end)",
                        door.name
                    ));
                }
            }
        }
        Ok(way)
    }

    /// One address of a sample's entry, and the stores themselves to find it.
    pub fn entry(&self, address: &str) -> Addresses {
        let store = &self.outward[0];
        Addresses {
            otlp: address.into(),
            profiles: address.into(),
            loki: store.logs.clone(),
            mimir: store.metrics.clone(),
            tempo: store.traces.clone(),
            pyroscope: store.profiles.clone(),
            alloy: String::new(),
        }
    }
}

impl Door {
    /// In the order of the signals: logs, metrics, traces, profiles.
    pub fn all(&self) -> [&str; 4] {
        [&self.logs, &self.metrics, &self.traces, &self.profiles]
    }
}

fn is_base(url: &str) -> bool {
    let host = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    host.is_some_and(|host| !host.is_empty() && !host.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_the_way_is_that_of_compose() -> Result<(), String> {
        let way = Way::read(None)?;
        let names = |doors: &[Door]| -> Vec<String> {
            doors.iter().map(|door| door.name.clone()).collect()
        };
        assert_eq!(names(&way.inward), ["store", "nginx-push", "alloy"]);
        assert_eq!(names(&way.outward), ["store", "nginx-query"]);
        assert_eq!(way.entry("http://alloy:4318").mimir, "http://mimir:9009");
        Ok(())
    }

    #[test]
    fn a_file_that_cannot_be_followed_says_what_is_wrong() {
        let wrong = |from: &str, to: &str| Way::parse(&COMPOSE.replacen(from, to, 1)).unwrap_err();
        assert_eq!(
            wrong("\"store\"", "\"gateway\""),
            "the first door inward must be `store`"
        );
        assert!(
            wrong("http://nginx-query:13100", "nginx-query:13100")
                .contains("outward, nginx-query: `nginx-query:13100`")
        );
        assert!(wrong("http://loki:3100/otlp", "http://loki:3100/").contains("without a slash"));
        assert!(wrong("\"profiles\"", "\"profile\"").contains("unknown field `profile`"));
        let error = Way::read(Some(Path::new("/nowhere/way.json"))).unwrap_err();
        assert!(error.starts_with("/nowhere/way.json: "), "{error}");
    }
}
