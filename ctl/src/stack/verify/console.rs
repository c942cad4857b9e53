//! The links that the service hands out at `/links`, for the console and the load generator: expanded as those do, and followed. What
//! the page in Grafana would ask for is asked for, and the marked request must be in the answer.

use std::time::Duration;

use reqwest::{Client, Url};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::grafana::Grafana;
use super::hops::until;
use super::marked::Marked;
use super::report::Row;
use crate::http;
use crate::load::links::{Templates, expand};

/// As the load generator looks around a request.
const AROUND: Duration = Duration::from_secs(60);

/// One row for all of them.
pub async fn prove(
    client: &Client,
    api: &str,
    grafana: &Grafana,
    marked: &Marked,
    deadline: Duration,
) -> Row {
    let started = Instant::now();
    let outcome = all(client, api, grafana, marked, deadline).await;
    let outcome = outcome.map(|seen| (seen.join(", "), started.elapsed()));
    Row::new("A14", "console → signals", outcome)
}

async fn all(
    client: &Client,
    api: &str,
    grafana: &Grafana,
    marked: &Marked,
    deadline: Duration,
) -> Result<Vec<String>, String> {
    let templates = templates(client, api).await?;
    let links = [
        ("trace", templates.trace, "/demo/work"),
        ("logs", templates.logs, "/demo/work"),
        ("metrics", templates.metrics, "/demo/work"),
        ("profile of the route", templates.profile, "/demo/cpu"),
        ("profile", templates.span_profile, "/demo/cpu"),
    ];
    let mut seen = Vec::new();
    for (signal, template, route) in links {
        let template = template.ok_or_else(|| {
            format!("{signal}: the service has no such template (SIGNALBOX_LINK_… in docker-compose.yml)")
        })?;
        let outcome = until(deadline, || {
            follow(grafana, marked, &template, signal, route)
        })
        .await;
        let what = outcome.map_err(|reason| format!("{signal}: {reason}"))?;
        seen.push(format!("{signal}: {what}"));
    }
    Ok(seen)
}

async fn templates(client: &Client, api: &str) -> Result<Templates, String> {
    let answer = client.get(format!("{api}/links")).send().await;
    let answer = answer.map_err(|error| http::cause(&error))?;
    answer.json().await.map_err(|error| http::cause(&error))
}

async fn follow(
    grafana: &Grafana,
    marked: &Marked,
    template: &str,
    signal: &str,
    route: &str,
) -> Result<String, String> {
    let millis = |time: Duration| time.as_millis().to_string();
    let spans = grafana.reader().trace(&marked.trace_id).await?;
    let root = spans
        .iter()
        .find(|span| span.name == format!("GET {route}"));
    let root = root.ok_or("the request's own span is not there")?;
    // Without an id the page would show everybody's samples.
    let profile_id = marked.profile_id.clone();
    let profile_id = profile_id.ok_or("the answer of /demo/cpu names no samples (x-profile-id)")?;
    let values = [
        ("trace_id", marked.trace_id.clone()),
        ("span_id", root.id.clone()),
        ("request_id", marked.request_id.clone()),
        ("profile_id", profile_id),
        ("service", "signalbox-api".to_owned()),
        ("route", route.to_owned()),
        ("from_ms", millis(marked.time - AROUND)),
        ("to_ms", millis(marked.time + 2 * AROUND)),
    ];
    let pane = pane(&expand(template, &values))?;
    let query = &pane["queries"][0];
    // A trace id in the search field: the page asks for the trace itself.
    if signal == "trace" {
        let id = query["query"].as_str().unwrap_or_default();
        let seen = format!("{} spans", spans.len());
        return found(id == marked.trace_id, seen, query);
    }
    let answer = grafana
        .query(&json!({
            "from": pane["range"]["from"],
            "to": pane["range"]["to"],
            "queries": pane["queries"],
        }))
        .await?;
    let frames = &answer["results"]["A"]["frames"];
    let text = frames.to_string();
    match signal {
        "logs" => {
            let seen = text.contains("order accepted") && text.contains(&marked.trace_id);
            found(seen, "the request's records".into(), query)
        }
        "metrics" => {
            let points = frames[0]["data"]["values"][1]
                .as_array()
                .map_or(0, Vec::len);
            found(points > 0, format!("{points} points"), query)
        }
        _ => {
            let seen =
                text.contains("demo::cpu::burn_cpu") && text.contains("demo::cpu::mix_words");
            found(seen, "the functions that burnt".into(), query)
        }
    }
}

fn found(seen: bool, what: String, query: &Value) -> Result<String, String> {
    if seen {
        return Ok(what);
    }
    Err(format!(
        "the page asks for {query}, which does not return the request: SIGNALBOX_LINK_… in docker-compose.yml"
    ))
}

/// What the page shows: the one pane in the link.
pub(super) fn pane(link: &str) -> Result<Value, String> {
    let url = Url::parse(link).map_err(|error| format!("{link}: {error}"))?;
    let panes = url.query_pairs().find(|(name, _)| name == "panes");
    let (_, panes) = panes.ok_or_else(|| format!("{link} has no panes"))?;
    let panes: Value = serde_json::from_str(&panes).map_err(|error| format!("{panes}: {error}"))?;
    let pane = panes.as_object().and_then(|panes| panes.values().next());
    pane.cloned().ok_or_else(|| format!("{link} has no pane"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_back_to_what_the_page_asks_for() {
        let template = "http://127.0.0.1:13000/explore?schemaVersion=1&panes=%7B%22a%22:%7B%22queries%22:%5B%7B%22labelSelector%22:\
                        %22%7Broute%3D~%5C%22{route}%7C%5C%22%7D%22%7D%5D,%22range%22:%7B%22from%22:%22{from_ms}%22%7D%7D%7D";
        let values = [
            ("route", "/demo/cpu".to_owned()),
            ("from_ms", "1".to_owned()),
        ];
        let pane = pane(&expand(template, &values));
        assert_eq!(
            pane,
            Ok(
                json!({ "queries": [{ "labelSelector": "{route=~\"/demo/cpu|\"}" }], "range": { "from": "1" } })
            )
        );
    }

    #[test]
    fn a_link_without_a_pane_is_an_error() {
        assert!(pane("http://127.0.0.1/explore").is_err());
        assert!(pane("http://127.0.0.1/explore?panes=%7B%7D").is_err());
    }
}
