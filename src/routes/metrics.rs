//! Lesson: pull beside push. `GET /metrics` shows the very metrics that are pushed, as OpenMetrics text, or in Prometheus'
//! older text format for those whose `Accept` prefers it.
//!
//! Where to look: scrape it with Prometheus and compare with what arrived by OTLP: same names, same values.

use std::fmt::Write;

use actix_web::http::header::{Accept, CONTENT_TYPE, VARY};
use actix_web::{HttpResponse, web};
use signalbox_telemetry::metrics::Pull;

use crate::error::{Error, Kind};

/// Media type of the older format. <https://prometheus.io/docs/instrumenting/exposition_formats/>
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics as text.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "OpenMetrics text, or Prometheus' text format if `Accept` prefers it", content(
        (String = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (String = "text/plain; version=0.0.4; charset=utf-8")))))]
pub async fn metrics(
    pull: web::Data<Pull>,
    accept: Option<web::Header<Accept>>,
) -> Result<HttpResponse, Error> {
    let older = accept.is_some_and(|accept| prefers_text(&accept));
    // Reading runs callbacks and takes locks: not on a thread that serves requests.
    let text = web::block(move || {
        let page = pull.openmetrics()?;
        Ok(if older { text_format(&page) } else { page })
    });
    let text = text.await?;
    let text = text.map_err(|error: signalbox_telemetry::metrics::PullError| {
        Error::new(Kind::Internal, "metrics cannot be read").because(error)
    })?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, if older { TEXT } else { Pull::CONTENT_TYPE }))
        .insert_header((VARY, "accept"))
        .body(text))
}

/// Whether plain text comes before OpenMetrics in what is accepted. Who accepts anything, or neither, gets OpenMetrics.
fn prefers_text(accept: &Accept) -> bool {
    let known = accept.ranked().into_iter().find_map(|media| {
        let version = media
            .get_param("version")
            .map(|version| version.as_str().to_owned());
        match (media.type_().as_str(), media.subtype().as_str()) {
            ("application", "openmetrics-text") => match version.as_deref() {
                None | Some("1.0.0" | "0.0.1") => Some(false),
                Some(_) => None,
            },
            ("text", "plain" | "*") => Some(true),
            ("*", "*") | ("application", "*") => Some(false),
            _ => None,
        }
    });
    known.unwrap_or(false)
}

/// OpenMetrics text in the older format: counters are declared by the names of their samples; units, exemplars, creation
/// times and the end mark are left out.
fn text_format(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    let mut family = String::new();
    for line in page.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap_or((declared, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                "stateset" => ("", "gauge"),
                "gaugehistogram" => ("", "histogram"),
                kind => ("", kind),
            };
            family = format!("{name}{suffix}");
            let _ = writeln!(out, "# TYPE {family} {kind}");
        } else if let Some(help) = line.strip_prefix("# HELP ") {
            // Of the text's own escapes, the quote's is OpenMetrics' alone.
            let text = help.split_once(' ').map_or("", |(_, text)| text);
            let _ = writeln!(out, "# HELP {family} {}", text.replace("\\\"", "\""));
        } else if !line.starts_with('#') {
            let (series, rest) = line.split_at(end_of_series(line));
            if !series
                .split('{')
                .next()
                .unwrap_or_default()
                .ends_with("_created")
            {
                let value = rest.split_whitespace().next().unwrap_or_default();
                let _ = writeln!(out, "{series} {value}");
            }
        }
    }
    out
}

/// Where the name and the labels of a sample end: at the first space outside a label's value.
fn end_of_series(line: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b' ' if !quoted => return index,
            _ => {}
        }
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{self, Header};
    use actix_web::test::TestRequest;

    use super::*;

    fn prefers(accept: &str) -> bool {
        let request = TestRequest::default().insert_header((header::ACCEPT, accept));
        prefers_text(&Accept::parse(&request.to_http_request()).expect("a header"))
    }

    #[test]
    fn who_prefers_the_older_format_gets_it() {
        // What Prometheus 2 and 3 send.
        let openmetrics = [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.2",
            "Application/OpenMetrics-Text",
            "*/*",
            "text/html,*/*;q=0.5",
            "application/json",
        ];
        for accept in openmetrics {
            assert!(!prefers(accept), "{accept}");
        }
        let text = [
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            "text/plain",
            "TEXT/PLAIN",
            "text/*",
            "text/plain;q=0.9,application/openmetrics-text;q=0.5",
            "application/openmetrics-text;version=9.0.0,text/plain;q=0.5",
        ];
        for accept in text {
            assert!(prefers(accept), "{accept}");
        }
    }

    #[test]
    fn the_older_format_has_the_same_samples() {
        let page = concat!(
            "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds Said \\\"so\\\".\n",
            "a_seconds_total{l=\"# {x\\\" y\"} 3 # {trace_id=\"1\"} 0.5 1.000\n",
            "a_seconds_created{l=\"z\"} 1.5\n",
            "# TYPE target info\ntarget_info{job=\"j\"} 1\n",
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2 # {span_id=\"2\"} 1\nh_sum 4.5\nh_count 2\n# EOF\n",
        );
        let text = concat!(
            "# TYPE a_seconds_total counter\n# HELP a_seconds_total Said \"so\".\n",
            "a_seconds_total{l=\"# {x\\\" y\"} 3\n",
            "# TYPE target_info gauge\ntarget_info{job=\"j\"} 1\n",
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 4.5\nh_count 2\n",
        );
        assert_eq!(text_format(page), text);
    }
}
