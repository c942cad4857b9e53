//! The service's short links (`/go/…`), which the console and the load generator show, followed to the page in Grafana: what that page
//! would ask for is asked for, and the marked request must be in the answer.

use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::grafana::Grafana;
use super::hops::until;
use super::marked::Marked;
use super::report::{Report, Row};
use crate::http;

/// A row for each of them. One that needs a broken signal is not followed.
pub async fn prove(
    client: &Client,
    api: &str,
    grafana: &Grafana,
    marked: &Marked,
    deadline: Duration,
    report: &mut Report,
) {
    let links: [(&str, &str, &str, &'static [&'static str]); 5] = [
        ("console → trace", "trace", "/demo/work", &["traces"]),
        ("console → logs", "logs", "/demo/work", &["logs", "traces"]),
        (
            "console → metrics",
            "metrics",
            "/demo/work",
            &["metrics", "traces"],
        ),
        (
            "console → profile of the route",
            "profile",
            "/demo/cpu",
            &["profiles", "traces"],
        ),
        ("console → profile", "profile", "", &["profiles", "traces"]),
    ];
    for (name, signal, route, needs) in links {
        let started = Instant::now();
        let outcome = match needs.iter().any(|signal| report.is_broken(signal)) {
            true => Err(String::new()),
            false => {
                until(deadline, || async {
                    let link = short(api, signal, route, marked)?;
                    follow(grafana, marked, &target(client, &link).await?, signal).await
                })
                .await
            }
        };
        let outcome = outcome.map(|seen| (seen, started.elapsed()));
        report.add(Row::new("A14", name, outcome).needs(needs));
    }
}

/// Where the template of a link stands.
const LINK_SETTING: &str = "SIGNALBOX_LINK_… in docker-compose.yml";

/// The service's short link to a signal of the marked request: to what its route burnt, or with no route to its own samples.
fn short(api: &str, signal: &str, route: &str, marked: &Marked) -> Result<String, String> {
    let at_ms = marked.time.as_millis();
    let mut link = format!(
        "{api}/go/{signal}/{}?at_ms={at_ms}&route={route}",
        marked.trace_id
    );
    if route.is_empty() {
        // Without an id the page would show everybody's samples.
        let id = marked.profile_id.as_ref();
        let id = id.ok_or("the answer of /demo/cpu names no samples (x-profile-id)")?;
        link = link.replace("&route=", &format!("&profile={id}"));
    }
    Ok(link)
}

/// Where the service sends on whoever follows a short link.
async fn target(client: &Client, link: &str) -> Result<String, String> {
    let answer = client.get(link).send().await;
    let answer = answer.map_err(|error| format!("{link}: {}", http::cause(&error)))?;
    let status = answer.status();
    let location = answer.headers().get(LOCATION);
    match location.and_then(|location| location.to_str().ok()) {
        Some(location) if status == StatusCode::FOUND => Ok(location.to_owned()),
        _ => {
            let said = http::gist(&http::text(answer).await.unwrap_or_default());
            Err(format!(
                "{link} answered {status} ({said}): {LINK_SETTING}, `make logs-signalbox-api`"
            ))
        }
    }
}

async fn follow(
    grafana: &Grafana,
    marked: &Marked,
    page: &str,
    signal: &str,
) -> Result<String, String> {
    let pane = pane(page)?;
    let query = &pane["queries"][0];
    // A trace id in the search field: the page asks for the trace itself.
    if signal == "trace" {
        let spans = grafana.reader().trace(&marked.trace_id).await?;
        let id = query["query"].as_str().unwrap_or_default();
        let seen = format!("{} spans", spans.len());
        return found(id == marked.trace_id && !spans.is_empty(), seen, query);
    }
    let answer = grafana
        .query(&json!({
            "from": pane["range"]["from"],
            "to": pane["range"]["to"],
            "queries": pane["queries"],
        }))
        .await
        .map_err(|error| {
            format!("the page asks for {query}, and Grafana says: {error}; {LINK_SETTING}")
        })?;
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
        "the page asks for {query}, which does not return the request: {LINK_SETTING}"
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
        let link = "http://127.0.0.1:13000/explore?schemaVersion=1&panes=%7B%22a%22:%7B%22queries%22:%5B%7B%22labelSelector%22:\
                    %22%7Broute%3D~%5C%22%2Fdemo%2Fcpu%7C%5C%22%7D%22%7D%5D,%22range%22:%7B%22from%22:%221%22%7D%7D%7D";
        assert_eq!(
            pane(link),
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
