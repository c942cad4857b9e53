//! Of many requests the failed ones' traces are all kept and few of the others', and the span metrics count every one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::World;
use crate::http;
use crate::stack::send::sample::random_id;

/// Requests that do not fail, and that do.
const FINE: u32 = 40;
const FAILED: u32 = 5;
/// Of those that do not fail a tenth is kept, each by a throw of its own: more than half of 40 come once in a thousand million runs.
const MOST: usize = 20;

const MODULE: &str =
    "alloy/modules/traces-sampled.alloy, which TRACES_MODULE of alloy names; `make logs-alloy`";

pub struct Sent {
    /// Of those that do not fail: 330 to 399, which no load sends.
    status: u32,
    fine: Vec<String>,
    failed: Vec<String>,
    /// When the first was sent.
    time: Duration,
}

impl Sent {
    /// Each request is a trace of its own. The failed ones come last: when their fate is known, so is that of the others.
    pub async fn send(world: &World<'_>) -> Result<Self, String> {
        let status = 330 + u32::from_str_radix(&random_id()[..4], 16).unwrap_or_default() % 70;
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            status,
            fine: requests(world, status, FINE).await?,
            failed: requests(world, 500, FAILED).await?,
            time,
        })
    }
}

/// Asks for `status` so many times. Their trace ids.
async fn requests(world: &World<'_>, status: u32, count: u32) -> Result<Vec<String>, String> {
    let mut traces = Vec::new();
    for _ in 0..count {
        let trace_id = random_id() + &random_id();
        let url = format!("{}/api?sc={status}&delay_ms=0", world.api);
        let parent = format!("00-{trace_id}-{}-01", random_id());
        let request = world.client.get(&url).header("traceparent", parent);
        let answer = request.send().await.map_err(|error| http::cause(&error))?;
        if u32::from(answer.status().as_u16()) != status {
            return Err(format!("{url} answered {}", answer.status()));
        }
        traces.push(trace_id);
    }
    Ok(traces)
}

/// How many of these traces Tempo has.
async fn stored(world: &World<'_>, traces: &[String]) -> Result<usize, String> {
    let mut stored = 0;
    for trace_id in traces {
        stored += usize::from(!world.store.trace(trace_id).await?.is_empty());
    }
    Ok(stored)
}

pub async fn kept(world: &World<'_>, sent: &Result<Sent, String>) -> Result<String, String> {
    let sent = sent.as_ref().map_err(Clone::clone)?;
    let failed = stored(world, &sent.failed).await?;
    if failed < sent.failed.len() {
        return Err(format!(
            "of {FAILED} failed traces Tempo has {failed}: {MODULE}"
        ));
    }
    let fine = stored(world, &sent.fine).await?;
    if fine > MOST {
        return Err(format!(
            "of {FINE} traces that did not fail Tempo has {fine}, not about a tenth: {MODULE}"
        ));
    }
    Ok(format!(
        "all {failed} failed traces, {fine} of {FINE} others"
    ))
}

/// Growth since the first was sent, by the one who counts all: Alloy, not Tempo.
pub async fn counted(world: &World<'_>, sent: &Result<Sent, String>) -> Result<String, String> {
    let sent = sent.as_ref().map_err(Clone::clone)?;
    let calls = format!(
        r#"traces_spanmetrics_calls_total{{source!="tempo",service="signalbox-api",span_name="GET /api",http_response_status_code="{}"}}"#,
        sent.status
    );
    let counted = world.store.grown(&calls, sent.time).await?;
    if counted != f64::from(FINE) {
        return Err(format!(
            "{calls} has grown by {counted}, not {FINE}: {MODULE}"
        ));
    }
    Ok(format!(
        "exactly {counted} more spans with status {}",
        sent.status
    ))
}
