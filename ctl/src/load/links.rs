//! Where a request's signals can be looked at: the service's own short links, `GET /go/{signal}/{trace_id}`, which lead on to whatever
//! viewer it was given.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Url;
use serde::Deserialize;

use super::record::Ids;

/// What `GET /links` says: which signals have a viewer. The templates themselves are the service's business.
#[derive(Debug, Default, Deserialize)]
pub struct Templates {
    trace: Option<String>,
    logs: Option<String>,
    metrics: Option<String>,
    profile: Option<String>,
}

/// The links of a service.
#[derive(Debug)]
pub struct Links {
    /// The service, as the person at the terminal reaches it.
    base: Url,
    signals: Vec<&'static str>,
}

impl Links {
    /// A link is printed, so it carries no credentials.
    pub fn new(mut base: Url, templates: &Templates) -> Self {
        // Both fail only for a URL without a host, which has neither.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        let known = [
            ("trace", &templates.trace),
            ("logs", &templates.logs),
            ("profile", &templates.profile),
            ("metrics", &templates.metrics),
        ];
        let configured = known.into_iter().filter(|(_, template)| template.is_some());
        Self {
            base,
            signals: configured.map(|(signal, _)| signal).collect(),
        }
    }

    /// Signal and address, for each signal that has a viewer.
    pub fn of(
        &self,
        ids: &Ids,
        route: &str,
        sent_at: SystemTime,
        took: Duration,
    ) -> Vec<(&'static str, String)> {
        let url = |signal: &'static str| (signal, self.url(signal, ids, route, sent_at, took));
        self.signals.iter().copied().map(url).collect()
    }

    fn url(
        &self,
        signal: &str,
        ids: &Ids,
        route: &str,
        sent_at: SystemTime,
        took: Duration,
    ) -> String {
        let at = sent_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut url = self.base.clone();
        url.set_fragment(None);
        url.set_path(&format!("/go/{signal}/{}", ids.trace_id));
        let mut query = url.query_pairs_mut();
        query
            .clear()
            .append_pair("at_ms", &at.as_millis().to_string());
        query.append_pair("took_ms", &took.as_millis().to_string());
        // Each signal's page needs its own part, and a link is read by people.
        match signal {
            "trace" => {
                query.append_pair("span", &ids.span_id);
            }
            "metrics" => {
                query.append_pair("route", route);
            }
            "profile" => match &ids.profile_id {
                Some(id) => {
                    query.append_pair("profile", id);
                }
                None => {
                    query.append_pair("route", route);
                }
            },
            _ => {}
        }
        drop(query);
        url.to_string().replace("%2F", "/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(profile_id: Option<&str>) -> Ids {
        Ids {
            trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
            span_id: "b7ad6b7169203331".into(),
            request_id: "r-1".into(),
            profile_id: profile_id.map(str::to_owned),
        }
    }

    #[test]
    fn each_signal_that_has_a_viewer_has_a_short_link_with_what_it_needs() {
        let page = || Some("http://v/{trace_id}".to_owned());
        let templates = Templates {
            trace: page(),
            logs: None,
            metrics: page(),
            profile: page(),
        };
        let base = "http://u:secret@127.0.0.1:18080/ignored?x#y"
            .parse()
            .unwrap();
        let links = Links::new(base, &templates);
        let sent_at = UNIX_EPOCH + Duration::from_secs(100);
        let took = Duration::from_millis(40);
        let of = |profile| links.of(&ids(profile), "/demo/cpu", sent_at, took);
        let go = |signal: &str, rest: &str| {
            format!(
                "http://127.0.0.1:18080/go/{signal}/0af7651916cd43dd8448eb211c80319c?at_ms=100000&took_ms=40&{rest}"
            )
        };
        assert_eq!(
            of(Some("00f067aa0ba902b7")),
            [
                ("trace", go("trace", "span=b7ad6b7169203331")),
                ("profile", go("profile", "profile=00f067aa0ba902b7")),
                ("metrics", go("metrics", "route=/demo/cpu")),
            ]
        );
        assert_eq!(of(None)[1], ("profile", go("profile", "route=/demo/cpu")));
        assert!(of(None).iter().all(|(_, url)| url.len() < 140));
    }
}
