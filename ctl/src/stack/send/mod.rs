//! One sample of one signal, sent to Alloy as OTLP/JSON, then looked for in its store with the query that is printed.
//!
//! What `make test-alloy-…` runs: the shortest proof that a signal gets through, with nothing of ours in between.

pub mod sample;
pub(super) mod search;

use std::time::Duration;

use clap::ValueEnum;
use reqwest::Client;
use tokio::time::{Instant, sleep};

use super::addresses::Addresses;
use crate::output::say;
use crate::{duration, http};
use sample::Sample;

/// Between two looks into the store.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a delta sum is waited for before its absence is called proven: five times what a cumulative one needs.
const DELTA_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to send
    kind: Kind,
    /// Give up looking after this long
    #[arg(long, default_value = "60s", value_parser = duration::parse, value_name = "DURATION")]
    deadline: Duration,
    #[command(flatten)]
    addresses: Addresses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Five log records, one of each severity, inside one span
    Logs,
    /// One point of the gauge `test.gauge`
    Gauge,
    /// One point of the cumulative sum `test.counter`
    Counter,
    /// One point of the delta sum `test.delta`, which Mimir refuses
    Delta,
    /// A trace of three spans over two services
    Traces,
    /// One CPU profile of three stacks
    Profiles,
}

/// Ends well if the sample was found; for `delta`, if it was refused as explained.
pub async fn run(args: Args) -> Result<(), String> {
    let client = http::client(Duration::from_secs(10), 2).map_err(|error| error.to_string())?;
    let sample = Sample::new(args.kind);
    let refused_before = search::refused_points(&client, &args.addresses).await;
    let sent = Instant::now();
    sample.send(&client, &args.addresses, "Alloy").await?;
    say!(
        "sent to Alloy: {} (accepted after {})",
        sample.description(),
        duration::show(sent.elapsed())
    );
    say!("query:         {}", sample.query());
    if args.kind == Kind::Delta {
        return delta_fate(&client, &args.addresses, &sample, refused_before?).await;
    }
    let found = look(&client, &args.addresses, &sample, sent + args.deadline)
        .await?
        .ok_or_else(|| {
            format!(
                "not found within {}; `make verify` names the broken hop",
                duration::show(args.deadline)
            )
        })?;
    say!("found after    {}: {found}", duration::show(sent.elapsed()));
    Ok(())
}

/// Asks the store until the sample is there. None: it was not, until `end`.
async fn look(
    client: &Client,
    addresses: &Addresses,
    sample: &Sample,
    end: Instant,
) -> Result<Option<String>, String> {
    let mut last = Ok(None);
    while Instant::now() < end {
        last = search::find(client, addresses, sample).await;
        if matches!(last, Ok(Some(_))) {
            return last;
        }
        sleep(PAUSE).await;
    }
    last
}

/// A delta sum must not arrive, and Alloy must have counted it as refused by Mimir.
async fn delta_fate(
    client: &Client,
    addresses: &Addresses,
    sample: &Sample,
    before: f64,
) -> Result<(), String> {
    if let Some(found) = look(client, addresses, sample, Instant::now() + DELTA_PATIENCE).await? {
        return Err(format!(
            "a delta sum arrived, which Mimir should refuse: {found}"
        ));
    }
    let refused = search::refused_points(client, addresses).await? - before;
    if refused < 1.0 {
        return Err("the point neither arrived nor did Alloy count it as failed".into());
    }
    say!(
        "not found, as it must be: Alloy accepted it, Mimir answered 400, Alloy counted {refused} point(s) as failed for good."
    );
    say!(
        "A delta says \"3 more since last time\", a Prometheus counter \"47 in all\". Mimir stores counters and takes deltas only with the\n\
         experimental otel_native_delta_ingestion. Send cumulative sums: OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative."
    );
    Ok(())
}
