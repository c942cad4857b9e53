//! Links to Grafana's page *Explore*, which shows what a step of a walk-through asks for.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::definition::{Query, fill};

impl Query {
    /// The query as it is written.
    pub fn text(&self) -> &str {
        match self {
            Self::Promql(text) | Self::Logql(text) | Self::Traceql(text) | Self::Profile(text) => {
                text
            }
        }
    }

    /// With `{name}` for each value put in its place.
    pub fn filled(&self, values: &BTreeMap<String, String>) -> Self {
        let text = fill(self.text().trim(), values);
        match self {
            Self::Promql(_) => Self::Promql(text),
            Self::Logql(_) => Self::Logql(text),
            Self::Traceql(_) => Self::Traceql(text),
            Self::Profile(_) => Self::Profile(text),
        }
    }

    /// Grafana's data source, its plugin, and the fields of the query.
    fn asked(&self) -> (&'static str, &'static str, Value) {
        match self {
            Self::Promql(text) => (
                "mimir",
                "prometheus",
                json!({ "expr": text, "range": true, "exemplar": true }),
            ),
            Self::Logql(text) => (
                "loki",
                "loki",
                json!({ "expr": text, "queryType": "range" }),
            ),
            Self::Traceql(text) => (
                "tempo",
                "tempo",
                json!({ "query": text, "queryType": "traceql" }),
            ),
            Self::Profile(text) => {
                let (kind, selector) = text.split_at(text.find('{').unwrap_or(text.len()));
                let asked = json!({
                    "profileTypeId": kind, "labelSelector": selector, "queryType": "profile", "groupBy": []
                });
                ("pyroscope", "grafana-pyroscope-datasource", asked)
            }
        }
    }
}

/// The page that shows `query` between two moments, in milliseconds since 1970.
pub fn link(grafana: &str, query: &Query, from_ms: u64, to_ms: u64) -> String {
    let (source, plugin, mut asked) = query.asked();
    asked["refId"] = json!("A");
    asked["datasource"] = json!({ "type": plugin, "uid": source });
    let panes = json!({ "a": {
        "datasource": source,
        "queries": [asked],
        "range": { "from": from_ms.to_string(), "to": to_ms.to_string() },
    } });
    let panes = panes.to_string();
    let panes = utf8_percent_encode(&panes, NON_ALPHANUMERIC);
    let grafana = grafana.trim_end_matches('/');
    format!("{grafana}/explore?schemaVersion=1&orgId=1&panes={panes}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_asks_the_store_for_the_query_of_its_language() {
        let chosen = BTreeMap::from([("route".to_owned(), "/a b".to_owned())]);
        for (query, source, field, text) in [
            (
                Query::Promql("sum by (le) (x{http_route=\"{route}\"})".into()),
                "mimir",
                "expr",
                "sum by (le) (x{http_route=\"/a b\"})",
            ),
            (
                Query::Logql("{} |= `&`".into()),
                "loki",
                "expr",
                "{} |= `&`",
            ),
            (
                Query::Traceql("{ status = error }".into()),
                "tempo",
                "query",
                "{ status = error }",
            ),
            (
                Query::Profile("process_cpu:cpu{service_name=\"shop\"}".into()),
                "pyroscope",
                "labelSelector",
                "{service_name=\"shop\"}",
            ),
        ] {
            let link = link("http://127.0.0.1:13000/", &query.filled(&chosen), 5, 9);
            let (page, panes) = link.split_once("&panes=").unwrap();
            assert_eq!(
                page,
                "http://127.0.0.1:13000/explore?schemaVersion=1&orgId=1"
            );
            let panes = percent_encoding::percent_decode_str(panes)
                .decode_utf8()
                .unwrap();
            let panes: Value = serde_json::from_str(&panes).unwrap();
            let pane = &panes["a"];
            assert_eq!(pane["datasource"], source);
            assert_eq!(pane["queries"][0]["datasource"]["uid"], source);
            assert_eq!(pane["queries"][0][field], text);
            assert_eq!(pane["range"], json!({ "from": "5", "to": "9" }));
        }
    }
}
