//! A statement that waits for a lock, followed into the database's own view: from its span to what PostgreSQL said of that very
//! statement, from there to the session that kept it waiting, and to the trace of the request that holds the lock. And back: each sample
//! leads to its trace. Every step is a link as it is provisioned.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::super::send::sample::random_id;
use super::console::pane;
use super::grafana::Grafana;
use super::hops::until;
use super::links::{SOURCES, by_label, by_text, logs_of_span};
use super::marked::Marked;
use super::read::{Reader, Record};
use super::report::{Report, Row};
use crate::http;
use crate::output::say;

const MINUTE: Duration = Duration::from_secs(60);
/// How long the row is held, and how long another request waits for it: several times as long as between two samples, a second.
const HELD_MS: u32 = 6_000;
const WAIT_MS: u32 = 3_000;
/// The statement that holds the row, and the one that waits for it.
const STATEMENT: &str = "UPDATE products";
const SAMPLES: &str = r#"{job="postgres", op="query_sample"}"#;
const ALLOY: &str =
    "alloy/database.alloy, `make logs-alloy`; the role that it logs in with: postgres/observer.sh";

/// Two requests that want the same row.
struct Contended {
    /// Trace of the one that holds it.
    holder: String,
    /// Trace of the one that waits.
    waiter: String,
    /// When the first was sent.
    time: Duration,
}

/// What the links start from.
struct Start {
    loki: Value,
    tempo: Value,
    contended: Contended,
}

/// A row for each step.
pub async fn prove(
    client: &Client,
    api: &str,
    grafana: &Grafana,
    marked: &Marked,
    deadline: Duration,
    report: &mut Report,
) {
    const NEEDS: [&str; 2] = ["logs", "traces"];
    let steps = [
        "span → what the database said",
        "wait → who blocks → its trace",
    ];
    if NEEDS.iter().any(|signal| report.is_broken(signal)) {
        for step in steps {
            report.add(Row::broken("D11", step, "").needs(&NEEDS));
        }
        return;
    }
    let reader = grafana.reader();
    match database(&reader, marked).await {
        Ok(system) if system != "postgresql" => {
            say!(
                "D11: not followed, the orders are in {system}; it is PostgreSQL that is asked for its own view"
            );
            return;
        }
        Err(reason) => {
            report.add(Row::broken("D11", steps[0], reason));
            return;
        }
        Ok(_) => {}
    }
    let start = match start(client, api, grafana).await {
        Ok(start) => start,
        Err(reason) => {
            report.add(Row::broken("D11", steps[0], reason));
            return;
        }
    };
    let (reader, start) = (&reader, &start);
    let began = Instant::now();
    let sample = until(deadline, || said(reader, start)).await;
    let told = sample
        .as_ref()
        .map(|(told, _)| (told.clone(), began.elapsed()));
    report.add(Row::new("D11", steps[0], told.map_err(Clone::clone)));
    let Ok((_, sample)) = &sample else { return };
    let began = Instant::now();
    let outcome = until(deadline, || blocker(reader, start, sample)).await;
    report.add(Row::new(
        "D11",
        steps[1],
        outcome.map(|told| (told, began.elapsed())),
    ));
}

/// Which one the marked order went into, by its span.
async fn database(reader: &Reader, marked: &Marked) -> Result<String, String> {
    let spans = reader.trace(&marked.trace_id).await?;
    let system = spans.iter().find_map(|span| {
        span.attributes
            .get("db.system.name")
            .filter(|_| span.name == "INSERT orders")
    });
    system.cloned().ok_or_else(|| "no span `INSERT orders` of the marked request says which database it is (db.system.name)".to_owned())
}

async fn start(client: &Client, api: &str, grafana: &Grafana) -> Result<Start, String> {
    Ok(Start {
        loki: grafana.data_source("loki").await?,
        tempo: grafana.data_source("tempo").await?,
        contended: Contended::send(client, api).await?,
    })
}

impl Contended {
    async fn send(client: &Client, api: &str) -> Result<Self, String> {
        let trace_id = || random_id() + &random_id();
        let contended = Self {
            holder: trace_id(),
            waiter: trace_id(),
            time: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        };
        let hold = format!("{api}/demo/lock?ms={HELD_MS}");
        let wait = format!("{api}/ping?fault=lock_wait_ms%3D{WAIT_MS}");
        let waits = async {
            // Begins when the other has the row: its statement is sent as soon as the request is read.
            sleep(Duration::from_millis(1_000)).await;
            ask(client, &wait, &contended.waiter).await
        };
        let (held, waited) = tokio::join!(ask(client, &hold, &contended.holder), waits);
        match (held?, waited?) {
            // The wait ends by its own limit: the row is held longer.
            (200, 504) => Ok(contended),
            (held, waited) => Err(format!(
                "{hold} answered {held} and {wait} {waited}, not 200 and 504: nobody waited for the lock, `make logs-signalbox-api`"
            )),
        }
    }
}

async fn ask(client: &Client, url: &str, trace_id: &str) -> Result<u16, String> {
    let parent = format!("00-{trace_id}-{}-01", random_id());
    let answer = client.get(url).header("traceparent", parent).send().await;
    let answer = answer.map_err(|error| format!("{url}: {}", http::cause(&error)))?;
    Ok(answer.status().as_u16())
}

/// From the span that waited, by *Logs for this span*, to PostgreSQL's sample of its statement; and from the sample back to the trace.
async fn said(reader: &Reader, start: &Start) -> Result<(String, Record), String> {
    let trace_id = &start.contended.waiter;
    let spans = reader.trace(trace_id).await?;
    let span = spans.iter().find(|span| span.name == STATEMENT);
    let span = span.ok_or_else(|| {
        format!("the trace {trace_id} of the request that waits has no span `{STATEMENT}`")
    })?;
    let (query, records) = logs_of_span(reader, &start.tempo, trace_id, span).await?;
    let count = records.len();
    let sample = records.into_iter().find(|record| {
        record
            .fields
            .get("op")
            .is_some_and(|op| op == "query_sample")
            && record.fields.get("span_id") == Some(&span.id)
    });
    let Some(sample) = sample else {
        let time = start.contended.time;
        let samples = reader.logs(SAMPLES, time, time + 10 * MINUTE).await?;
        let cause = why_missing(&samples);
        return Err(format!(
            "{query} finds {count} records, none of them PostgreSQL's sample of the statement: {cause}"
        ));
    };
    let back = by_label(&start.loki, &sample, "trace_id", "tempo")?;
    if back != *trace_id {
        return Err(format!(
            "the sample leads to the trace {back}, not to {trace_id}: derivedFields in {SOURCES}"
        ));
    }
    let time = field(&sample.line, "query_time").unwrap_or("?");
    Ok((
        format!("the statement's own sample, {time} at work, and back to its trace"),
        sample,
    ))
}

/// Why no sample names the span, by all samples of the time in which a statement waited.
fn why_missing(samples: &[Record]) -> String {
    let marked = |sample: &Record| sample.fields.contains_key("trace_id");
    if !samples.is_empty() && !samples.iter().any(marked) {
        return format!(
            "none of the {} samples since then names a span, SIGNALBOX_DATABASE_COMMENTS in .env",
            samples.len()
        );
    }
    ALLOY.to_owned()
}

/// From the sample to its session's waits, from the wait to the session that blocks, from that one's sample to its trace.
async fn blocker(reader: &Reader, start: &Start, sample: &Record) -> Result<String, String> {
    let waits = follow(reader, start, &sample.line, "Session").await?;
    let wait = waits.iter().find(|record| {
        record.line.contains(r#"wait_event_type="Lock""#)
            && !record.line.contains(r#"blocked_by_pids="[]""#)
    });
    let wait = wait.ok_or_else(|| {
        format!(
            "{} records of the session, none says for whom it waited: {ALLOY}",
            waits.len()
        )
    })?;
    let records = follow(reader, start, &wait.line, "Sessions that block").await?;
    let holder = &start.contended.holder;
    let held = records
        .iter()
        .find(|record| record.fields.get("trace_id") == Some(holder));
    let held = held.ok_or_else(|| {
        format!(
            "{} records of the session that blocks, none with the trace {holder} of the request that holds the row: {ALLOY}",
            records.len()
        )
    })?;
    let trace_id = by_label(&start.loki, held, "trace_id", "tempo")?;
    let spans = reader.trace(&trace_id).await?;
    if !spans.iter().any(|span| span.name == "GET /demo/lock") {
        return Err(format!(
            "the trace {trace_id} of the session that blocks has no span `GET /demo/lock`"
        ));
    }
    let told = |line: &str, name: &str| field(line, name).unwrap_or("?").to_owned();
    Ok(format!(
        "process {} waited for {}, which was {}: the trace of GET /demo/lock",
        told(&wait.line, "pid"),
        told(&wait.line, "blocked_by_pids"),
        told(&held.line, "state")
    ))
}

/// The records behind a link that starts from the text of a line.
async fn follow(
    reader: &Reader,
    start: &Start,
    line: &str,
    link: &str,
) -> Result<Vec<Record>, String> {
    let page = by_text(&start.loki, line, link)?;
    let pane = pane(&format!("http://grafana{page}"))?;
    let query = pane["queries"][0]["expr"].as_str().unwrap_or_default();
    let time = start.contended.time;
    reader.logs(query, time - MINUTE, time + 10 * MINUTE).await
}

/// The value of a field of a logfmt line, as Alloy writes them: quoted.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}=\""))?;
    Some(rest.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_without_a_span_name_the_setting_and_no_samples_name_alloy() {
        let sample = |fields: &[(&str, &str)]| Record {
            line: String::new(),
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        };
        let without = sample(&[("op", "query_sample")]);
        let with = sample(&[("op", "query_sample"), ("trace_id", "4bf9")]);
        assert!(why_missing(std::slice::from_ref(&without)).contains(
            "none of the 1 samples since then names a span, SIGNALBOX_DATABASE_COMMENTS"
        ));
        assert_eq!(why_missing(&[without, with]), ALLOY);
        assert_eq!(why_missing(&[]), ALLOY);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let line = r#"level="info" datname="signalbox" pid="61" leader_pid="" state="idle in transaction" blocked_by_pids="[54]""#;
        assert_eq!(field(line, "pid"), Some("61"));
        assert_eq!(field(line, "blocked_by_pids"), Some("[54]"));
        assert_eq!(field(line, "state"), Some("idle in transaction"));
        assert_eq!(field(line, "xid"), None);
    }
}
