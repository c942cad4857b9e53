//! The table and the links at the end of a load.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use super::links::Links;
use super::mix::Endpoint;
use super::record::{Line, Outcome, Record, Sample};
use crate::duration::show;

pub struct Report<'a> {
    pub endpoints: Vec<&'a Endpoint>,
    pub record: &'a Record,
    pub links: &'a Links,
    /// The terminal makes a word of an address clickable.
    pub hyperlinks: bool,
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
        for (name, url) in links(self.links, endpoint, sample) {
            writeln!(f, "  {name:<9}{}", self.shown(&url))?;
        }
        Ok(())
    }

    /// An address as it is printed: as an OSC 8 hyperlink where the terminal knows them, so that a click opens the whole of it even where a
    /// line is broken.
    fn shown(&self, url: &str) -> String {
        match self.hyperlinks {
            true => format!("\x1b]8;;{url}\x1b\\{url}\x1b]8;;\x1b\\"),
            false => url.to_owned(),
        }
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
        let links = links(self.links, endpoint, sample);
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
            (
                "profile",
                "the flame graph again: in the viewer, a click on a function shows its lines of code",
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
        writeln!(f, "\nsix clicks, for GET {}:", endpoint.target)?;
        for (number, (url, name, what, value)) in told.into_iter().enumerate() {
            let url = self.shown(url);
            writeln!(f, "  {} {name:<8} {what}{value}\n    {url}", number + 1)?;
        }
        Ok(())
    }
}

/// Name and URL of each page that there is.
fn links(links: &Links, endpoint: &Endpoint, sample: &Sample) -> Vec<(&'static str, String)> {
    let Some(ids) = sample.ids() else {
        return Vec::new();
    };
    links.of(ids, endpoint.route(), sample.sent_at, sample.took)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

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

    /// With a viewer for these signals.
    fn viewer(signals: &[&str]) -> Links {
        let pages: serde_json::Map<_, _> = signals
            .iter()
            .map(|signal| ((*signal).to_owned(), "http://v/".into()))
            .collect();
        let templates = serde_json::from_value(pages.into()).unwrap();
        Links::new("http://s:1".parse().unwrap(), &templates)
    }

    #[test]
    fn the_report_names_the_slowest_and_a_failing_request() {
        let endpoint = Endpoint {
            name: "work-error".into(),
            target: "/demo/work-error".into(),
        };
        let mut record = Record::new(1).unwrap();
        record.add(sample(0, 500, "aa"));
        let links = viewer(&["trace"]);
        let report = Report {
            endpoints: vec![&endpoint],
            record: &record,
            links: &links,
            hyperlinks: false,
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
        let failing = "failing request: GET /demo/work-error answered 500 in 40.0 ms\n  trace id aa\n  trace    \
                       http://s:1/go/trace/aa?at_ms=100000&took_ms=40&span=b7ad6b7169203331\n";
        assert!(text.ends_with(failing), "{text}");
        let clickable = Report {
            hyperlinks: true,
            ..report
        };
        let url = "http://s:1/go/trace/aa?at_ms=100000&took_ms=40&span=b7ad6b7169203331";
        let expected = format!("  trace    \x1b]8;;{url}\x1b\\{url}\x1b]8;;\x1b\\\n");
        assert!(clickable.to_string().ends_with(&expected));
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
        let links = viewer(&["trace", "logs", "metrics", "profile"]);
        let report = Report {
            endpoints: vec![&ping, &cpu],
            record: &record,
            links: &links,
            hyperlinks: false,
            asked_rate: 2.0,
            elapsed: Duration::from_secs(1),
            late: 0,
            missed: 0,
        };
        let text = report.to_string();
        let (_, story) = text
            .split_once("\nsix clicks, for GET /demo/cpu?ms=50:\n")
            .unwrap();
        let urls: Vec<&str> = story
            .lines()
            .filter_map(|line| line.trim().strip_prefix("http://s:1/go/"))
            .filter_map(|url| url.split('?').next())
            .collect();
        assert_eq!(
            urls,
            [
                "metrics/bb",
                "trace/bb",
                "logs/bb",
                "profile/bb",
                "metrics/bb",
                "profile/bb"
            ]
        );
        assert!(story.contains("&profile=cc\n"), "{story}");
        assert!(story.contains("this one at 40.0 ms\n"), "{story}");
    }
}
