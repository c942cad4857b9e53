//! The query that gives the same in the full stack, for each page.

use crate::query;
use crate::store::metrics::Kind;

/// A query and the language it is written in.
pub struct Same {
    pub language: &'static str,
    pub query: String,
}

/// TraceQL of a list of traces.
pub fn traces(query: &query::Traces) -> Same {
    let mut terms = Vec::new();
    if !query.service.is_empty() {
        terms.push(format!(
            "resource.service.name = {}",
            quoted(&query.service)
        ));
    }
    if !query.route.is_empty() {
        terms.push(format!("span.http.route = {}", quoted(&query.route)));
    }
    for term in query::terms(&query.q) {
        terms.push(match (term.ids(), term) {
            (Some((trace_id, span_id)), _) if trace_id.is_empty() => {
                format!("span:id = {}", quoted(&span_id))
            }
            (Some((trace_id, _)), _) => format!("trace:id = {}", quoted(&trace_id)),
            // TraceQL compares a number with numbers alone, and the viewer does not know which of both was recorded.
            (None, query::Term::Field(name, value)) if is_number(&value) => {
                format!("(.{name} = {value} || .{name} = {})", quoted(&value))
            }
            (None, query::Term::Field(name, value)) => format!(".{name} = {}", quoted(&value)),
            (None, query::Term::Word(word)) => {
                format!("name =~ {}", quoted(&format!("(?i).*{}.*", literal(&word))))
            }
        });
    }
    match query.status.as_str() {
        "error" => terms.push("status = error".to_owned()),
        "ok" => terms.push("status != error".to_owned()),
        _ => {}
    }
    if !query.min_ms.is_empty() {
        terms.push(format!("traceDuration >= {}ms", query.min_ms));
    }
    if !query.max_ms.is_empty() {
        terms.push(format!("traceDuration <= {}ms", query.max_ms));
    }
    let inner = terms.join(" && ");
    Same {
        language: "TraceQL",
        query: match inner.as_str() {
            "" => "{ }".to_owned(),
            inner => format!("{{ {inner} }}"),
        },
    }
}

/// TraceQL and LogQL of one trace.
pub fn trace(trace_id: &str) -> [Same; 2] {
    [
        Same {
            language: "TraceQL",
            query: format!("{{ trace:id = \"{trace_id}\" }}"),
        },
        Same {
            language: "LogQL",
            query: format!("{{service_name=~\".+\"}} | trace_id=\"{trace_id}\""),
        },
    ]
}

/// LogQL of a list of records.
pub fn logs(query: &query::Logs) -> Same {
    let mut text = match query.service.as_str() {
        "" => "{service_name=~\".+\"}".to_owned(),
        service => format!("{{service_name={}}}", quoted(service)),
    };
    let terms = query::terms(&query.q);
    for term in &terms {
        if let query::Term::Word(word) = term {
            text.push_str(&match term.ids() {
                Some((id, _)) if !id.is_empty() => format!(" | trace_id={}", quoted(&id)),
                Some((_, id)) => format!(" | span_id={}", quoted(&id)),
                None => format!(" |~ {}", quoted(&format!("(?i){}", literal(word)))),
            });
        }
    }
    if !query.level.is_empty() {
        let level = query.level.to_lowercase();
        let levels = ["trace", "debug", "info", "warn", "error", "fatal"];
        let above = level
            .strip_suffix('+')
            .and_then(|level| levels.iter().position(|name| *name == level));
        text.push_str(&match above {
            Some(lowest) => format!(" | detected_level=~{}", quoted(&levels[lowest..].join("|"))),
            None => format!(" | detected_level={}", quoted(&level)),
        });
    }
    let typed = terms.iter().filter_map(|term| match term {
        query::Term::Field(name, value) => Some((name.as_str(), value.as_str())),
        query::Term::Word(_) => None,
    });
    for (key, value) in query.field.split_once('=').into_iter().chain(typed) {
        text.push_str(&format!(
            " | {}={}",
            label(key.trim()),
            quoted(value.trim())
        ));
    }
    for (name, value) in [("trace_id", &query.trace_id), ("span_id", &query.span_id)] {
        if !value.is_empty() {
            text.push_str(&format!(" | {name}={}", quoted(value)));
        }
    }
    Same {
        language: "LogQL",
        query: text,
    }
}

/// PromQL of a metric's charts.
pub fn metric(query: &query::Metrics, kind: Kind, unit: &str) -> Vec<Same> {
    let service = chosen("service_name", &query.service);
    let selector = match selectors(&[service, query.only.split_once('=')]) {
        none if none.is_empty() => none,
        some => format!("{{{some}}}"),
    };
    let by = match query.by.as_str() {
        "" => "service_name".to_owned(),
        by => label(by),
    };
    let name = prometheus_name(&query.name, kind, unit);
    let promql = |query| Same {
        language: "PromQL",
        query,
    };
    let rate = |suffix| format!("rate({name}{suffix}{selector}[1m])");
    let counted = || format!("sum by ({by}) ({})", rate("_count"));
    let queries = match kind {
        Kind::Gauge => vec![format!("avg by ({by}) ({name}{selector})")],
        Kind::UpDownCounter => vec![format!("sum by ({by}) ({name}{selector})")],
        Kind::Counter => vec![format!("sum by ({by}) ({})", rate(""))],
        Kind::Summary => vec![counted()],
        Kind::Histogram => {
            let buckets = format!("sum by (le) ({})", rate("_bucket"));
            vec![format!("histogram_quantile(0.95, {buckets})"), counted()]
        }
        Kind::ExponentialHistogram => vec![
            format!("histogram_quantile(0.95, sum({}))", rate("")),
            format!("histogram_count(sum by ({by}) ({}))", rate("")),
        ],
    };
    queries.into_iter().map(promql).collect()
}

/// A label and its value, unless no value was chosen.
fn chosen<'a>(name: &'a str, value: &'a str) -> Option<(&'a str, &'a str)> {
    (!value.is_empty()).then_some((name, value))
}

/// Labels with these values.
fn selectors(pairs: &[Option<(&str, &str)>]) -> String {
    let set = pairs.iter().flatten();
    let set = set.map(|(name, value)| format!("{}={}", label(name), quoted(value)));
    set.collect::<Vec<String>>().join(", ")
}

/// Pyroscope's selector of a flame graph.
pub fn profile(kind: &str, query: &query::Profiles) -> Same {
    let profile_type = match kind {
        "heap" => "memory:inuse_space:bytes:space:bytes",
        _ => "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
    };
    let selectors = selectors(&[
        chosen("service_name", &query.service),
        query.label.split_once('='),
        chosen("span_id", &query.profile_id),
    ]);
    Same {
        language: "Pyroscope",
        query: format!("{profile_type}{{{selectors}}}"),
    }
}

/// The service graph's, out of Tempo's generated metrics.
pub fn services() -> Same {
    Same {
        language: "PromQL",
        query: "sum by (client, server) (rate(traces_service_graph_request_total[5m]))".to_owned(),
    }
}

/// The name that OpenTelemetry's translation to Prometheus gives a metric:
/// <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>
fn prometheus_name(name: &str, kind: Kind, unit: &str) -> String {
    let mut translated = label(name);
    let suffix = match unit {
        "s" => "seconds",
        "ms" => "milliseconds",
        "By" => "bytes",
        "1" if kind == Kind::Gauge => "ratio",
        "%" => "percent",
        _ => "",
    };
    if !suffix.is_empty() && !translated.ends_with(&format!("_{suffix}")) {
        translated = format!("{translated}_{suffix}");
    }
    if kind == Kind::Counter && !translated.ends_with("_total") {
        translated.push_str("_total");
    }
    translated
}

/// A name with nothing in it but letters, digits and underscores.
fn label(name: &str) -> String {
    name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_")
}

/// Whether a query language reads it as a number: digits, perhaps with a sign and a fraction. `12e4` may as well be an id.
fn is_number(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

/// A regular expression that matches this text.
fn literal(text: &str) -> String {
    let mut expression = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            expression.push('\\');
        }
        expression.push(character);
    }
    expression
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_say_what_the_filters_say() {
        let query = query::Traces {
            service: "api".into(),
            status: "error".into(),
            min_ms: "100".into(),
            ..Default::default()
        };
        assert_eq!(
            traces(&query).query,
            r#"{ resource.service.name = "api" && status = error && traceDuration >= 100ms }"#
        );
        assert_eq!(traces(&query::Traces::default()).query, "{ }");
        let query = query::Traces {
            q: "http.response.status_code=500 order.sku=12e4 what?".into(),
            ..Default::default()
        };
        assert_eq!(
            traces(&query).query,
            r#"{ (.http.response.status_code = 500 || .http.response.status_code = "500") && .order.sku = "12e4" && name =~ "(?i).*what\\?.*" }"#
        );
        let query = query::Logs {
            q: "card declined".into(),
            level: "warn".into(),
            field: "signalbox.request.id=r-1".into(),
            ..Default::default()
        };
        assert_eq!(
            logs(&query).query,
            r#"{service_name=~".+"} |~ "(?i)card" |~ "(?i)declined" | detected_level="warn" | signalbox_request_id="r-1""#
        );
        let query = query::Metrics {
            name: "http.server.request.duration".into(),
            service: "api".into(),
            ..Default::default()
        };
        assert_eq!(
            metric(&query, Kind::Histogram, "s")[0].query,
            r#"histogram_quantile(0.95, sum by (le) (rate(http_server_request_duration_seconds_bucket{service_name="api"}[1m])))"#
        );
        let query = query::Metrics {
            name: "signalbox.jobs".into(),
            by: "job.kind".into(),
            ..Default::default()
        };
        assert_eq!(
            metric(&query, Kind::Counter, "{job}")[0].query,
            "sum by (job_kind) (rate(signalbox_jobs_total[1m]))"
        );
    }
}
