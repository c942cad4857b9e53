//! Grafana: the data sources as they are provisioned, and their templates expanded as Grafana expands them.

use std::collections::BTreeMap;

use reqwest::Client;
use serde_json::Value;

use super::Args;
use super::read::{Reader, Span};
use crate::http;

pub struct Grafana {
    client: Client,
    url: String,
    login: (String, String),
}

impl Grafana {
    pub fn new(client: Client, args: &Args) -> Self {
        Self {
            client,
            url: args.grafana.clone(),
            login: (args.grafana_user.clone(), args.grafana_password.clone()),
        }
    }

    /// Reads as dashboards do.
    pub fn reader(&self) -> Reader {
        Reader::grafana(self.client.clone(), &self.url, self.login.clone())
    }

    /// What the page *Explore* asks its server for: the queries of a pane, over its range.
    pub async fn query(&self, body: &Value) -> Result<Value, String> {
        let request = self.client.post(format!("{}/api/ds/query", self.url));
        let request = request
            .basic_auth(&self.login.0, Some(&self.login.1))
            .json(body);
        http::ask_json(request)
            .await
            .map_err(|reason| format!("Grafana: {reason}"))
    }

    /// The settings of a data source, as Grafana gives them to the browser: `$$` of the file is `$` here.
    pub async fn data_source(&self, uid: &str) -> Result<Value, String> {
        let source = self.get(&format!("/api/datasources/uid/{uid}")).await?;
        Ok(source["jsonData"].clone())
    }

    /// Address behind the first data link of a dashboard's panel.
    pub async fn data_link(&self, dashboard: &str, panel: &str) -> Result<String, String> {
        let answer = self
            .get(&format!("/api/dashboards/uid/{dashboard}"))
            .await?;
        let panels = answer["dashboard"]["panels"].as_array();
        let panel_found = panels
            .into_iter()
            .flatten()
            .find(|found| found["title"] == panel);
        panel_found
            .and_then(|panel| panel["fieldConfig"]["defaults"]["links"][0]["url"].as_str())
            .map(str::to_owned)
            .ok_or_else(|| format!("the dashboard {dashboard} has no data link at {panel}"))
    }

    /// Title and query of the variable `name` of each dashboard that has it.
    pub async fn variables(&self, name: &str) -> Result<Vec<(String, Value)>, String> {
        let found = self.get("/api/search?type=dash-db&limit=1000").await?;
        let mut variables = Vec::new();
        for uid in found.as_array().into_iter().flatten() {
            let uid = uid["uid"].as_str().unwrap_or_default();
            let board = self.get(&format!("/api/dashboards/uid/{uid}")).await?;
            let board = &board["dashboard"];
            let list = board["templating"]["list"].as_array();
            let variable = list.into_iter().flatten().find(|one| one["name"] == name);
            if let Some(variable) = variable {
                let title = board["title"].as_str().unwrap_or(uid);
                variables.push((title.to_owned(), variable.clone()));
            }
        }
        Ok(variables)
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let request = self.client.get(format!("{}{path}", self.url));
        let request = request.basic_auth(&self.login.0, Some(&self.login.1));
        http::ask_json(request)
            .await
            .map_err(|reason| format!("Grafana, {path}: {reason}"))
    }
}

/// A template with the facts of one span put in: `${__span.spanId}`, `${__trace.traceId}`, `${__span.name}`,
/// `${__span.tags["…"]}` and `$__tags`, which is `tags` (key of the attribute, name of the label) as label matchers.
pub fn expand(template: &str, trace_id: &str, span: &Span, tags: &Value) -> String {
    let mut text = template
        .replace("${__trace.traceId}", trace_id)
        .replace("${__span.traceId}", trace_id)
        .replace("${__span.spanId}", &span.id)
        .replace("${__span.name}", &span.name);
    for (key, value) in &span.attributes {
        text = text.replace(&format!("${{__span.tags[\"{key}\"]}}"), value);
    }
    let matchers = matchers(&span.attributes, tags);
    text.replace("${__tags}", &matchers)
        .replace("$__tags", &matchers)
}

/// `name="value"` for each tag that the span has.
pub fn matchers(attributes: &BTreeMap<String, String>, tags: &Value) -> String {
    let tags = tags.as_array().into_iter().flatten();
    tags.filter_map(|tag| {
        let key = tag["key"].as_str()?;
        let label = tag["value"]
            .as_str()
            .filter(|name| !name.is_empty())
            .unwrap_or(key);
        Some(format!("{label}=\"{}\"", attributes.get(key)?))
    })
    .collect::<Vec<_>>()
    .join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_expanded_as_grafana_does() {
        let span = Span {
            id: "00f067aa0ba902b7".into(),
            parent: String::new(),
            name: "GET /ping".into(),
            attributes: [("service.name", "api"), ("http.route", "/ping")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            start: Duration::ZERO,
            end: Duration::ZERO,
        };
        let tags = json!([{ "key": "service.name", "value": "service_name" }, { "key": "http.route" }, { "key": "absent" }]);
        let cases = [
            (
                r#"{a="b"} | trace_id="${__trace.traceId}""#,
                r#"{a="b"} | trace_id="0af7""#,
            ),
            (
                "rate(x{$__tags}[1m])",
                r#"rate(x{service_name="api", http.route="/ping"}[1m])"#,
            ),
            (
                r#"x{s="${__span.tags["service.name"]}",n="${__span.name}"}"#,
                r#"x{s="api",n="GET /ping"}"#,
            ),
            ("${__span.spanId}", "00f067aa0ba902b7"),
        ];
        for (template, expected) in cases {
            assert_eq!(expand(template, "0af7", &span, &tags), expected);
        }
    }
}
