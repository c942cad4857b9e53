//! The way of each signal: in at every door, out at every door.
//!
//! The store's own door comes first: what cannot be written and read there breaks there. Then a sample of ours through the push
//! balancer, one through Alloy, and the marked request's own signal; then the same signal read through the query balancer and
//! through Grafana's proxy. The first of them that fails is the broken hop.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Client;
use tokio::time::{Instant, sleep};

use super::super::probe;
use super::super::send::sample::Sample;
use super::super::send::{Kind, search};
use super::marked::{COUNTED, Marked};
use super::read::{Reader, Span};
use super::report::Row;
use super::way::Way;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// CPU profile type of the service, as Pyroscope names it.
pub const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";

/// Which program keeps each signal, and the service of it whose log says most.
const STORES: [(&str, &str); 4] = [
    ("loki", "loki"),
    ("mimir", "mimir-1"),
    ("tempo", "tempo"),
    ("pyroscope", "pyroscope"),
];

/// What a failure at a door means: its advice, with the store's names put in, and what the store says of itself where that is no good.
fn cause(advice: &str, signal: usize, trouble: Option<&str>) -> String {
    let (program, service) = STORES[signal];
    let advice = advice
        .replace("{program}", program)
        .replace("{store}", service);
    match trouble {
        Some(trouble) => format!("{program} says of itself: {trouble}; `make logs-{service}`"),
        None => advice,
    }
}

/// A signal, with the kind of sample that stands for it.
const SIGNALS: [(&str, Kind); 4] = [
    ("logs", Kind::Logs),
    ("metrics", Kind::Gauge),
    ("traces", Kind::Traces),
    ("profiles", Kind::Profiles),
];

/// Reads the marked request at one door: the hop that this proves, its reader, what a failure means.
pub type Outlet<'a> = (&'a str, Reader, &'a str);

/// Every hop of every signal. The four signals go side by side. `inward` writes samples, `outward` reads them at the stores; the marked
/// request is read at each of `outlets`.
pub async fn prove(
    inward: &Client,
    outward: &Client,
    marked: &Marked,
    way: &Way,
    outlets: &[Outlet<'_>],
    deadline: Duration,
) -> Vec<Row> {
    let ways = SIGNALS
        .iter()
        .enumerate()
        .map(|(index, (signal, kind))| async move {
            let mut rows = Vec::new();
            // Behind a broken hop one look tells as much as many.
            let mut patience = deadline;
            for door in &way.inward {
                // The value of a point is the second: wait for one that the door before has not used.
                sleep(Duration::from_millis(1_010)).await;
                let started = Instant::now();
                let entry = (door.name.as_str(), door.all()[index]);
                let outcome = through(inward, outward, *kind, way, entry, patience).await;
                let mut trouble = None;
                if outcome.is_err() {
                    patience = Duration::ZERO;
                    if door.name == "store" {
                        let ready = format!("{}/ready", way.outward[0].all()[index]);
                        trouble = probe::ask(outward, &ready).await.err();
                    }
                }
                let cause = cause(&door.advice, index, trouble.as_deref());
                // Nothing that goes in needs another signal.
                let own = &needed(*kind)[..1];
                rows.push(row(signal, &door.name, started, outcome, &cause).needs(own));
            }
            for (hop, reader, advice) in outlets {
                let started = Instant::now();
                let outcome = until(patience, || own(reader, marked, signal)).await;
                if outcome.is_err() {
                    patience = Duration::ZERO;
                }
                let cause = cause(advice, index, None);
                rows.push(row(signal, hop, started, outcome, &cause).needs(needed(*kind)));
            }
            rows
        });
    join_all(ways).await.into_iter().flatten().collect()
}

fn row(
    signal: &str,
    hop: &str,
    started: Instant,
    outcome: Result<String, String>,
    cause: &str,
) -> Row {
    let outcome = outcome
        .map(|seen| (seen, started.elapsed()))
        .map_err(|reason| format!("{reason}; {cause}"));
    Row::new(signal, hop, outcome)
}

/// The signals whose failure a hop of `kind` lies behind: its own, and for a span's profile the trace that names it.
fn needed(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Logs => &["logs"],
        Kind::Traces => &["traces"],
        Kind::Profiles => &["profiles", "traces"],
        _ => &["metrics"],
    }
}

/// Asks until it is there. Err says what was missing last.
pub async fn until<T, E, F>(deadline: Duration, mut look: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let end = Instant::now() + deadline;
    loop {
        let outcome = look().await;
        if outcome.is_ok() || Instant::now() > end {
            return outcome;
        }
        sleep(PAUSE).await;
    }
}

/// A sample of ours, in at one door (its name, its address) and found in the store.
pub async fn through(
    inward: &Client,
    outward: &Client,
    kind: Kind,
    way: &Way,
    (door, address): (&str, &str),
    deadline: Duration,
) -> Result<String, String> {
    let sample = Sample::new(kind);
    let addresses = way.entry(address);
    let (addresses, sample) = (&addresses, &sample);
    sample.send(inward, addresses, door).await?;
    until(deadline, || async move {
        search::find(outward, addresses, sample)
            .await?
            .ok_or_else(|| "a sample went in and did not come out".to_owned())
    })
    .await
}

/// The marked request's own signal, read at one door.
async fn own(reader: &Reader, marked: &Marked, signal: &str) -> Result<String, String> {
    match signal {
        "logs" => {
            let query = format!(r#"{{service_name=~".+"}} | trace_id="{}""#, marked.trace_id);
            let minute = Duration::from_secs(60);
            let records = reader
                .logs(&query, marked.time - minute, marked.time + 10 * minute)
                .await?;
            let found = |line: &str| records.iter().any(|record| record.line.contains(line));
            if !found("order accepted") || !found("GET /demo/work 200") {
                return Err(format!(
                    "{} records of the request, not all of it",
                    records.len()
                ));
            }
            Ok(format!("{} records of the request", records.len()))
        }
        "metrics" => {
            let counted = reader.counted(marked.status).await? - marked.counted_before;
            if counted != COUNTED {
                return Err(format!(
                    "{COUNTED} requests answered {} are counted as {counted}",
                    marked.status
                ));
            }
            Ok(format!(
                "exactly {COUNTED} more requests with status {}",
                marked.status
            ))
        }
        "traces" => {
            let spans = reader.trace(&marked.trace_id).await?;
            whole(&spans, &marked.caller)?;
            Ok(format!(
                "{} spans of the request, none an orphan",
                spans.len()
            ))
        }
        _ => {
            let span = sampled(&reader.trace(&marked.trace_id).await?)?;
            let selector = r#"{service_name="signalbox-api"}"#;
            let id = &span.attributes["pyroscope.profile.id"];
            let names = reader.span_profile(CPU, selector, id, marked.time).await?;
            burnt(&names)
        }
    }
}

/// Every part of the request is there, and every parent.
fn whole(spans: &[Span], caller: &str) -> Result<(), String> {
    for name in [
        "GET /demo/work",
        "GET /quotes/{sku}",
        "INSERT orders",
        "send signalbox.jobs",
        "GET /demo/cpu",
    ] {
        if !spans.iter().any(|span| span.name == name) {
            return Err(format!(
                "{} spans of the request, `{name}` is missing",
                spans.len()
            ));
        }
    }
    let known = |id: &str| id == caller || spans.iter().any(|span| span.id == id);
    match spans.iter().find(|span| !known(&span.parent)) {
        Some(orphan) => Err(format!("`{}` has lost its parent", orphan.name)),
        None => Ok(()),
    }
}

/// The span whose own samples can be asked for.
pub fn sampled(spans: &[Span]) -> Result<Span, String> {
    spans
        .iter()
        .find(|span| span.attributes.contains_key("pyroscope.profile.id"))
        .cloned()
        .ok_or_else(|| {
            "no span of the request has a profile of its own (pyroscope.profile.id)".into()
        })
}

/// The flame graph is that of the CPU demo alone.
pub fn burnt(names: &[String]) -> Result<String, String> {
    let ours = names
        .iter()
        .filter(|name| name.contains("demo::cpu"))
        .count();
    if ours == 0 {
        return Err(format!(
            "{} functions in the span's flame graph, none of the CPU demo",
            names.len()
        ));
    }
    Ok(format!(
        "the span's own flame graph, {ours} functions of the CPU demo"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_service_and_its_file_or_what_the_store_says_of_itself() -> Result<(), String>
    {
        let way = Way::read(None)?;
        let told = cause(&way.inward[0].advice, 1, None);
        assert!(told.contains("`make logs-mimir-1`"), "{told}");
        assert!(told.contains("mimir/mimir.yaml"), "{told}");
        let told = cause(
            &way.inward[0].advice,
            0,
            Some("503 Service Unavailable: ring is empty"),
        );
        assert_eq!(
            told,
            "loki says of itself: 503 Service Unavailable: ring is empty; `make logs-loki`"
        );
        let doors = way.inward.iter().chain(&way.outward);
        for (door, signal) in doors.flat_map(|door| (0..4).map(move |signal| (door, signal))) {
            let told = cause(&door.advice, signal, None);
            assert!(!told.contains(['{', '<']), "{told}");
        }
        Ok(())
    }

    fn span(name: &str, id: &str, parent: &str) -> Span {
        Span {
            id: id.into(),
            parent: parent.into(),
            name: name.into(),
            attributes: Default::default(),
            start: Duration::ZERO,
            end: Duration::ZERO,
        }
    }

    #[test]
    fn a_trace_is_whole_only_with_every_part_and_parent() {
        let mut spans = vec![
            span("GET /demo/work", "a", "caller"),
            span("GET /quotes/{sku}", "b", "a"),
            span("INSERT orders", "c", "a"),
            span("send signalbox.jobs", "d", "a"),
        ];
        assert_eq!(
            whole(&spans, "caller"),
            Err("4 spans of the request, `GET /demo/cpu` is missing".into())
        );
        spans.push(span("GET /demo/cpu", "e", "caller"));
        assert_eq!(whole(&spans, "caller"), Ok(()));
        spans[1].parent = "lost".into();
        assert_eq!(
            whole(&spans, "caller"),
            Err("`GET /quotes/{sku}` has lost its parent".into())
        );
    }
}
