//! Where is telemetry lost? Reads what every part of the stack counts about the telemetry that passes it, twice, and judges what was
//! added in between: what is over is history. `make doctor`.
//!
//! `verify` sends something and looks for it; this sends nothing and looks at what passes anyway.

mod causes;
mod diagnosis;
mod flow;
mod hops;
mod logins;
mod read;
mod storage;
mod table;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::parts;
use crate::output::say;
use crate::{duration, http};
use causes::Facts;
use diagnosis::Diagnosis;
use flow::{Flow, Pages};
use hops::HOPS;
use read::Answer;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Between the two readings; longer than the longest export interval
    #[arg(long, default_value = "20s", value_parser = duration::parse, value_name = "DURATION")]
    over: Duration,
}

/// Err if telemetry is lost or stuck somewhere, or a part is down.
pub async fn run(args: Args) -> Result<(), String> {
    let client = http::client(Duration::from_secs(5), 2).map_err(|error| error.to_string())?;
    let parts = parts::from_env()?;
    let before = read::all(&client, &parts).await;
    let started = Instant::now();
    sleep(args.over).await;
    let after = read::all(&client, &parts).await;
    let over = started.elapsed();

    let flows = flows(&before, &after);
    say!("{}\n", table::show(&flows, over));
    let facts = Facts {
        flows: &flows,
        answers: &after,
    };
    let Diagnosis {
        notes,
        mut findings,
    } = diagnosis::of(facts, over);
    let failed = of_programs(&before, &after, storage::failed);
    findings.extend(storage::findings(&failed, facts, over));
    notes.iter().for_each(|note| say!("note  {note}"));
    findings.iter().for_each(|finding| say!("LOSS  {finding}"));
    let refused = logins::refused(&client).await;
    refused.iter().for_each(|refused| say!("LOGIN {refused}"));
    if !refused.is_empty() && findings.is_empty() {
        return Err("a login of .env is refused".into());
    }
    if findings.is_empty() {
        say!("healthy: nothing is lost and nothing is stuck");
        return Ok(());
    }
    Err("telemetry is lost or stuck".into())
}

/// Every signal at every hop, in the order of the way.
fn flows(before: &[Answer], after: &[Answer]) -> Vec<Flow> {
    let of_hop = |hop| {
        of_programs(before, after, move |program, pages| {
            Flow::read(hop, program, pages).into_iter().collect()
        })
    };
    HOPS.iter().flat_map(of_hop).collect()
}

/// What `read` makes of the pages of each program, replicas together.
fn of_programs<T>(
    before: &[Answer],
    after: &[Answer],
    read: impl Fn(&str, &[Pages<'_>]) -> Vec<T>,
) -> Vec<T> {
    let mut programs: Vec<&str> = after
        .iter()
        .map(|answer| read::program(&answer.name))
        .collect();
    programs.dedup();
    let of_program = |program: &str| {
        let pairs = before.iter().zip(after);
        let pages: Vec<Pages<'_>> = pairs
            .filter(|(_, after)| read::program(&after.name) == program)
            .map(|(before, after)| Pages {
                // One that did not answer at first is not judged by all that it ever counted.
                before: if before.series.is_empty() {
                    &after.series
                } else {
                    &before.series
                },
                after: &after.series,
            })
            .collect();
        read(program, &pages)
    };
    programs.into_iter().flat_map(of_program).collect()
}

#[cfg(test)]
mod tests;
