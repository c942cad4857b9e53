//! Faults on demand: latency, errors, a slow query, a lock wait, a leak, a blocked thread.
//!
//! A request asks for its own by the header `x-signalbox-fault: latency_ms=200,error_rate=1` or the same text as query
//! parameter `fault`; what it does not name is taken from the default plan, which settings set at start and
//! `PUT /faults` and `DELETE /faults` at run time. All are bounded, all can be reset, and a plan that is off leaves
//! nothing in any signal.
//!
//! Where to look: a fault is a WARN record, a child span (`injected latency`, `SELECT` with its `pg_sleep` or counting
//! query, a long `UPDATE products`, `injected leak`, `injected blocking`; an error is the request's own span) and
//! `signalbox.faults.injected` by kind. A leak stands in the heap profile as `leak_memory`, a blocked thread in the CPU
//! profile as `block_thread`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::web;
use serde::{Deserialize, Serialize};
use tracing::Instrument;
use utoipa::ToSchema;

use crate::deps::database::Database;
use crate::error::{Error, Kind};
use crate::instruments;

/// Header that asks for faults in one request.
pub const HEADER: &str = "x-signalbox-fault";

/// Query parameter that does the same where a header cannot be set, as in a plain link.
pub const PARAMETER: &str = "fault";

/// What to inject into a request. Zero is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Milliseconds waited before the request is served.
    #[schema(maximum = 15_000)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub latency_ms: u32,
    /// Part of the requests that fail with 500, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub error_rate: f64,
    /// Milliseconds of a query that is really slow in the database.
    #[schema(maximum = 3000)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub slow_query_ms: u32,
    /// Milliseconds that an UPDATE waits for another transaction's lock.
    #[schema(maximum = 3000)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub lock_wait_ms: u32,
    /// Kibibytes that the request leaks; all requests together at most 256 MiB.
    #[schema(maximum = 4096)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub leak_kb: u32,
    /// Milliseconds that the request keeps its async thread busy, so that all others of that thread wait.
    #[schema(maximum = 1000)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub block_ms: u32,
}

impl Plan {
    /// No fault at all.
    pub const OFF: Self = Self {
        latency_ms: 0,
        error_rate: 0.0,
        slow_query_ms: 0,
        lock_wait_ms: 0,
        leak_kb: 0,
        block_ms: 0,
    };
    /// Longest latency, in milliseconds.
    pub const MAX_LATENCY_MS: u32 = 15_000;
    /// Longest slow query, in milliseconds; below the default statement timeout.
    pub const MAX_SLOW_QUERY_MS: u32 = 3000;
    /// Longest lock wait, in milliseconds; below the default statement timeout.
    pub const MAX_LOCK_WAIT_MS: u32 = 3000;
    /// Largest leak of one request, in kibibytes.
    pub const MAX_LEAK_KB: u32 = 4096;
    /// Longest time that an async thread is kept busy, in milliseconds.
    pub const MAX_BLOCK_MS: u32 = 1000;

    /// What is outside its bounds, if anything.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("latency_ms", self.latency_ms, Self::MAX_LATENCY_MS),
            ("slow_query_ms", self.slow_query_ms, Self::MAX_SLOW_QUERY_MS),
            ("lock_wait_ms", self.lock_wait_ms, Self::MAX_LOCK_WAIT_MS),
            ("leak_kb", self.leak_kb, Self::MAX_LEAK_KB),
            ("block_ms", self.block_ms, Self::MAX_BLOCK_MS),
        ];
        if let Some((name, _, most)) = bounds.iter().find(|(_, value, most)| value > most) {
            return Err(format!("{name} must be 0 to {most}"));
        }
        if !(0.0..=1.0).contains(&self.error_rate) {
            return Err("error_rate must be 0 to 1".to_owned());
        }
        Ok(())
    }

    /// This plan with what `text` names replaced: `latency_ms=200,error_rate=1`. [`PATTERN`] is its grammar.
    fn overridden(mut self, text: &str) -> Result<Self, String> {
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                format!("{part:?} is not name=value; names are latency_ms, error_rate, slow_query_ms, lock_wait_ms, leak_kb, block_ms")
            })?;
            let digits = |more: &[u8]| {
                let fit = |b: u8| b.is_ascii_digit() || more.contains(&b);
                (1..=6).contains(&value.len()) && value.bytes().all(fit)
            };
            let number = || match value.parse::<u32>() {
                Ok(number) if digits(b"") => Ok(number),
                _ => Err(format!("{name} must be a whole number")),
            };
            match name {
                "latency_ms" => self.latency_ms = number()?,
                "slow_query_ms" => self.slow_query_ms = number()?,
                "lock_wait_ms" => self.lock_wait_ms = number()?,
                "leak_kb" => self.leak_kb = number()?,
                "block_ms" => self.block_ms = number()?,
                "error_rate" => match value.parse() {
                    Ok(rate) if digits(b".") => self.error_rate = rate,
                    _ => return Err("error_rate must be a number, 0 to 1".to_owned()),
                },
                _ => return Err(format!("{name:?} is no fault")),
            }
        }
        self.check().map(|()| self)
    }
}

/// One fault, as a regular expression.
macro_rules! one {
    () => {
        concat!(
            "(latency_ms=([0-9]{1,4}|1[0-4][0-9]{3}|15000)",
            "|(slow_query_ms|lock_wait_ms)=([0-9]{1,3}|[12][0-9]{3}|3000)",
            "|leak_kb=([0-9]{1,3}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-6])",
            "|block_ms=([0-9]{1,3}|1000)",
            "|error_rate=(0|1|0\\.[0-9]{1,4}))"
        )
    };
}

/// What [`HEADER`] and [`PARAMETER`] may say, as a regular expression of the contract.
pub const PATTERN: &str = concat!("^", one!(), "(,", one!(), ")*$");

/// The default plan and what has been leaked so far.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    plan: Plan,
    leaked: Vec<Vec<u8>>,
    leaked_bytes: usize,
    ever_leaked: bool,
}

/// Bytes that all requests together may leak.
const MAX_LEAKED_BYTES: usize = 256 * 1024 * 1024;

impl Faults {
    /// Starts with `plan` for every request.
    pub fn new(plan: Plan) -> Self {
        let faults = Self(Arc::new(Mutex::new(State {
            plan,
            leaked: Vec::new(),
            leaked_bytes: 0,
            ever_leaked: false,
        })));
        let observed = faults.clone();
        instruments::observe_leaked(move || observed.ever_leaked());
        faults
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state stays whole when a holder panics: it is only ever replaced or appended to.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The default plan.
    pub fn plan(&self) -> Plan {
        self.state().plan
    }

    /// Replaces the default plan. Check it first.
    pub fn set(&self, plan: Plan) {
        self.state().plan = plan;
        tracing::warn!("default faults set: {plan:?}");
    }

    /// Everything off, and what was leaked given back.
    pub fn reset(&self) {
        let mut state = self.state();
        state.plan = Plan::OFF;
        state.leaked = Vec::new();
        state.leaked_bytes = 0;
        drop(state);
        tracing::info!("faults reset");
    }

    /// Bytes leaked so far and not given back.
    pub fn leaked_bytes(&self) -> usize {
        self.state().leaked_bytes
    }

    /// The same, or nothing while no leak was ever asked for: off leaves no trace.
    fn ever_leaked(&self) -> Option<usize> {
        let state = self.state();
        state.ever_leaked.then_some(state.leaked_bytes)
    }

    fn leak(&self, kibibytes: u32) {
        let bytes = kibibytes as usize * 1024;
        let mut state = self.state();
        if state.leaked_bytes + bytes <= MAX_LEAKED_BYTES {
            state.leaked.push(leak_memory(bytes));
            state.leaked_bytes += bytes;
            state.ever_leaked = true;
        }
    }
}

/// Stands in the heap profile under this name until the faults are reset.
#[inline(never)]
fn leak_memory(bytes: usize) -> Vec<u8> {
    vec![0xA5; bytes]
}

/// What belongs into `web::block` and is not there. Stands in the CPU profile under this name.
#[inline(never)]
fn block_thread(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// The plan of one request: the default one with what its query and then its header name.
fn plan_of(request: &ServiceRequest, faults: &Faults) -> Result<Plan, Error> {
    let mut plan = faults.plan();
    let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let query = query.map(web::Query::into_inner).unwrap_or_default();
    let query = query
        .into_iter()
        .find(|(name, _)| name == PARAMETER)
        .map(|(_, text)| text);
    let header = request
        .headers()
        .get(HEADER)
        .map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
    for (place, text) in [(PARAMETER, query), (HEADER, header)] {
        if let Some(text) = text {
            let overridden = plan.overridden(&text);
            plan = overridden
                .map_err(|reason| Error::new(Kind::InvalidRequest, format!("{place}: {reason}")))?;
        }
    }
    Ok(plan)
}

/// Middleware of the routes that faults can be injected into.
pub async fn inject<B: MessageBody + 'static>(
    faults: web::Data<Faults>,
    database: web::Data<Database>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if request.method() != Method::GET {
        // The route answers that it knows only GET.
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let outcome = match plan_of(&request, &faults) {
        Ok(plan) if plan == Plan::OFF => Ok(()),
        Ok(plan) => apply(&plan, &faults, &database).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(error) => Ok(request.error_response(error).map_into_right_body()),
    }
}

async fn apply(plan: &Plan, faults: &Faults, database: &Database) -> Result<(), Error> {
    if plan.leak_kb > 0 {
        report("leak");
        tracing::info_span!("injected leak", signalbox.fault.kind = "leak")
            .in_scope(|| faults.leak(plan.leak_kb));
    }
    if plan.latency_ms > 0 {
        report("latency");
        let span = tracing::info_span!("injected latency", signalbox.fault.kind = "latency");
        tokio::time::sleep(Duration::from_millis(plan.latency_ms.into()))
            .instrument(span)
            .await;
    }
    if plan.slow_query_ms > 0 {
        report("slow_query");
        database.slow_query(plan.slow_query_ms).await?;
    }
    if plan.lock_wait_ms > 0 {
        report("lock_wait");
        database
            .wait_for_lock(Duration::from_millis(plan.lock_wait_ms.into()))
            .await?;
    }
    if plan.block_ms > 0 {
        report("block");
        tracing::info_span!("injected blocking", signalbox.fault.kind = "block")
            .in_scope(|| block_thread(Duration::from_millis(plan.block_ms.into())));
    }
    if plan.error_rate > 0.0 && fastrand::f64() < plan.error_rate {
        report("error");
        return Err(Error::new(Kind::InjectedFault, "this error was asked for"));
    }
    Ok(())
}

fn report(kind: &'static str) {
    instruments::fault_injected(kind);
    tracing::warn!(signalbox.fault.kind = kind, "fault injected: {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_overrides_only_what_it_names() {
        let default = Plan {
            latency_ms: 100,
            error_rate: 0.5,
            ..Plan::OFF
        };
        let plan = default.overridden("error_rate=0,leak_kb=64");
        let expected = Plan {
            latency_ms: 100,
            leak_kb: 64,
            ..Plan::OFF
        };
        assert_eq!(plan, Ok(expected));
    }

    #[test]
    fn what_is_out_of_bounds_is_named_with_its_bound() {
        let cases = [
            ("latency_ms=15001", "latency_ms must be 0 to 15000"),
            ("error_rate=2", "error_rate must be 0 to 1"),
            ("error_rate=NaN", "error_rate must be a number, 0 to 1"),
            ("error_rate=1e-1", "error_rate must be a number, 0 to 1"),
            ("leak_kb=+1", "leak_kb must be a whole number"),
            ("lock_wait_ms=-1", "lock_wait_ms must be a whole number"),
            ("block_ms=1001", "block_ms must be 0 to 1000"),
            ("explode=1", "\"explode\" is no fault"),
        ];
        for (text, reason) in cases {
            assert_eq!(Plan::OFF.overridden(text), Err(reason.to_owned()));
        }
    }

    #[test]
    fn leaks_are_bounded_and_given_back() {
        let faults = Faults::new(Plan::OFF);
        for _ in 0..70 {
            faults.leak(Plan::MAX_LEAK_KB);
        }
        assert_eq!(faults.leaked_bytes(), MAX_LEAKED_BYTES);
        faults.reset();
        assert_eq!(faults.leaked_bytes(), 0);
    }
}
