//! The table and the links at the end of a load.

use std::fmt::{self, Display, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use super::links::{Templates, expand};
use super::mix::Endpoint;
use super::record::{Line, Outcome, Record, Sample};
use crate::duration::show;

/// Around the request: wide enough for a metrics chart, narrow enough that a profile of its route is mostly its own.
const WINDOW: Duration = Duration::from_secs(60);
/// `service.name` of whoever answers the load.
const SERVICE: &str = "signalbox-api";

pub struct Report<'a> {
    pub endpoints: Vec<&'a Endpoint>,
    pub record: &'a Record,
    pub templates: &'a Templates,
    pub asked_rate: f64,
    pub elapsed: Duration,
    pub late: u64,
    pub missed: u64,
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary(f)?;
        self.table(f)?;
        self.answers(f)?;
        if let Some(slowest) = &self.record.slowest {
            self.request(f, "slowest", slowest)?;
        }
        if let Some(failing) = &self.record.failing {
            self.request(f, "failing", failing)?;
        }
        self.story(f)
    }
}

impl Report<'_> {
    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { sent, errors, .. } = self.record.all;
        let rate = sent as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON);
        writeln!(
            f,
            "{sent} requests in {} ({rate:.1}/s, {} asked), {errors} errors",
            show(self.elapsed),
            self.asked_rate
        )?;
        if self.late > 0 {
            writeln!(
                f,
                "{} were sent late: everything that --concurrency allows was under way, or this machine was busy",
                self.late
            )?;
        }
        if self.missed > 0 {
            writeln!(
                f,
                "{} were missed: not sent at all, because they would have been later than --timeout",
                self.missed
            )?;
        }
        Ok(())
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.name.len())
            .max()
            .unwrap_or(0)
            .max("endpoint".len());
        writeln!(
            f,
            "\n{:width$} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9}",
            "endpoint", "sent", "errors", "p50", "p90", "p99", "max"
        )?;
        let rows = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.name.as_str())
            .zip(&self.record.lines);
        for (name, line) in rows.chain([("all", &self.record.all)]) {
            let cell = |duration: Option<Duration>| duration.map_or_else(|| "-".to_owned(), show);
            let quantiles = [
                line.quantile(0.5),
                line.quantile(0.9),
                line.quantile(0.99),
                line.max(),
            ]
            .map(cell);
            let [p50, p90, p99, max] = quantiles;
            writeln!(
                f,
                "{name:width$} {:>7} {:>7} {p50:>9} {p90:>9} {p99:>9} {max:>9}",
                line.sent, line.errors
            )?;
        }
        writeln!(
            f,
            "An error is a 5xx or no answer. Latency counts from the moment a request was due.\n"
        )
    }

    fn answers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (status, count) in &self.record.statuses {
            write!(text, "  {status} × {count}")?;
        }
        if !text.is_empty() {
            writeln!(f, "answers:{text}")?;
        }
        for (why, count) in &self.record.failures {
            writeln!(f, "no answer:  {why} × {count}")?;
        }
        Ok(())
    }

    fn request(&self, f: &mut fmt::Formatter<'_>, which: &str, sample: &Sample) -> fmt::Result {
        let (
            Some(endpoint),
            Outcome::Answer {
                status,
                ids: Some(ids),
            },
        ) = (self.endpoints.get(sample.endpoint), &sample.outcome)
        else {
            return Ok(());
        };
        writeln!(
            f,
            "\n{which} request: GET {} answered {status} in {}",
            endpoint.target,
            show(sample.took)
        )?;
        writeln!(f, "  {:<9}{}", "trace id", ids.trace_id)?;
        for (name, url) in links(self.templates, endpoint, sample) {
            writeln!(f, "  {name:<9}{url}")?;
        }
        Ok(())
    }

    /// One request followed through all four signals: the slowest that burnt CPU, since its flame graph has the most to show.
    fn story(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_cpu = self
            .endpoints
            .iter()
            .position(|endpoint| endpoint.route() == "/demo/cpu");
        let Some(sample) = on_cpu
            .and_then(|index| self.record.slowest_of[index].as_ref())
            .or(self.record.slowest.as_ref())
        else {
            return Ok(());
        };
        let Some(endpoint) = self.endpoints.get(sample.endpoint) else {
            return Ok(());
        };
        let links = links(self.templates, endpoint, sample);
        let steps = [
            (
                "metrics",
                "the latency of its route; each dot is a request, this one at ",
                show(sample.took),
            ),
            ("trace", "what it did, span by span", String::new()),
            ("logs", "what it said meanwhile", String::new()),
            (
                "profile",
                "which functions it spent its CPU time in",
                String::new(),
            ),
            (
                "metrics",
                "the first page again: was it the rule or the exception?",
                String::new(),
            ),
        ];
        let url = |name: &str| {
            links
                .iter()
                .find(|(found, _)| *found == name)
                .map(|(_, url)| url)
        };
        let told: Option<Vec<_>> = steps
            .iter()
            .map(|(name, what, value)| Some((url(name)?, name, what, value)))
            .collect();
        let Some(told) = told else { return Ok(()) };
        writeln!(f, "\nfive clicks, for GET {}:", endpoint.target)?;
        for (number, (url, name, what, value)) in told.into_iter().enumerate() {
            writeln!(f, "  {} {name:<8} {what}{value}\n    {url}", number + 1)?;
        }
        Ok(())
    }
}

/// Name and URL of each page that has a template.
fn links(
    templates: &Templates,
    endpoint: &Endpoint,
    sample: &Sample,
) -> Vec<(&'static str, String)> {
    let Some(ids) = sample.ids() else {
        return Vec::new();
    };
    let sent_at = sample
        .sent_at
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let values = [
        ("trace_id", ids.trace_id.clone()),
        ("span_id", ids.span_id.clone()),
        ("request_id", ids.request_id.clone()),
        ("profile_id", ids.profile_id.clone().unwrap_or_default()),
        ("service", SERVICE.to_owned()),
        ("route", endpoint.route().to_owned()),
        (
            "from_ms",
            sent_at.saturating_sub(WINDOW).as_millis().to_string(),
        ),
        (
            "to_ms",
            (sent_at + sample.took + WINDOW).as_millis().to_string(),
        ),
    ];
    let own_profile = templates
        .span_profile
        .as_ref()
        .filter(|_| ids.profile_id.is_some());
    [
        ("trace", templates.trace.as_ref()),
        ("logs", templates.logs.as_ref()),
        ("profile", own_profile.or(templates.profile.as_ref())),
        ("metrics", templates.metrics.as_ref()),
    ]
    .into_iter()
    .filter_map(|(name, template)| Some((name, expand(template?, &values))))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Ids;

    fn sample(endpoint: usize, status: u16, trace_id: &str) -> Sample {
        let ids = Ids {
            trace_id: trace_id.into(),
            span_id: "b7ad6b7169203331".into(),
            request_id: "r-1".into(),
            profile_id: None,
        };
        let took = Duration::from_millis(40);
        let sent_at = UNIX_EPOCH + Duration::from_secs(100);
        Sample {
            endpoint,
            sent_at,
            latency: took,
            took,
            outcome: Outcome::Answer {
                status,
                ids: Some(ids),
            },
        }
    }

    #[test]
    fn links_are_filled_in_for_the_pages_that_have_a_template() {
        let endpoint = Endpoint {
            name: "api".into(),
            target: "/api?sc=200".into(),
        };
        let templates = Templates {
            trace: Some("http://v/{trace_id}#{span_id}".into()),
            profile: Some(
                "http://v/p?service={service}&route={route}&from={from_ms}&to={to_ms}".into(),
            ),
            ..Templates::default()
        };
        let links = links(&templates, &endpoint, &sample(0, 200, "aa"));
        assert_eq!(
            links,
            [
                ("trace", "http://v/aa#b7ad6b7169203331".to_owned()),
                (
                    "profile",
                    "http://v/p?service=signalbox-api&route=%2Fapi&from=40000&to=160040".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn the_report_names_the_slowest_and_a_failing_request() {
        let endpoint = Endpoint {
            name: "work-error".into(),
            target: "/demo/work-error".into(),
        };
        let mut record = Record::new(1).unwrap();
        record.add(sample(0, 500, "aa"));
        let templates = Templates {
            trace: Some("http://v/{trace_id}".into()),
            ..Templates::default()
        };
        let report = Report {
            endpoints: vec![&endpoint],
            record: &record,
            templates: &templates,
            asked_rate: 20.0,
            elapsed: Duration::from_secs(1),
            late: 0,
            missed: 3,
        };
        let text = report.to_string();
        assert!(
            text.starts_with("1 requests in 1.00 s (1.0/s, 20 asked), 1 errors\n3 were missed"),
            "{text}"
        );
        assert!(
            text.contains("\nwork-error       1       1   40.0 ms   40.0 ms   40.0 ms   40.0 ms\n"),
            "{text}"
        );
        assert!(text.contains("answers:  500 × 1\n"), "{text}");
        let failing = "failing request: GET /demo/work-error answered 500 in 40.0 ms\n  trace id aa\n  trace    http://v/aa\n";
        assert!(text.ends_with(failing), "{text}");
    }

    #[test]
    fn the_story_follows_the_slowest_request_that_burnt_cpu_through_all_signals() {
        let [ping, cpu] = ["/ping", "/demo/cpu?ms=50"].map(|target| Endpoint {
            name: target.into(),
            target: target.into(),
        });
        let mut record = Record::new(2).unwrap();
        record.add(Sample {
            took: Duration::from_secs(3),
            ..sample(0, 200, "aa")
        });
        let mut burnt = sample(1, 200, "bb");
        if let Outcome::Answer { ids: Some(ids), .. } = &mut burnt.outcome {
            ids.profile_id = Some("cc".into());
        }
        record.add(burnt);
        let page = |name: &str| Some(format!("http://v/{name}/{{trace_id}}"));
        let templates = Templates {
            trace: page("trace"),
            logs: page("logs"),
            metrics: page("metrics"),
            profile: page("profile"),
            span_profile: Some("http://v/profile/{profile_id}".into()),
        };
        let report = Report {
            endpoints: vec![&ping, &cpu],
            record: &record,
            templates: &templates,
            asked_rate: 2.0,
            elapsed: Duration::from_secs(1),
            late: 0,
            missed: 0,
        };
        let text = report.to_string();
        let (_, story) = text
            .split_once("\nfive clicks, for GET /demo/cpu?ms=50:\n")
            .unwrap();
        let urls: Vec<&str> = story
            .lines()
            .filter_map(|line| line.trim().strip_prefix("http://v/"))
            .collect();
        assert_eq!(
            urls,
            [
                "metrics/bb",
                "trace/bb",
                "logs/bb",
                "profile/cc",
                "metrics/bb"
            ]
        );
        assert!(story.contains("this one at 40.0 ms\n"), "{story}");
    }
}
