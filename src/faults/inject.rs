//! Doing what a plan says, before the request is served.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::web;
use tracing::Instrument;

use crate::deps::database::Database;
use crate::error::{Error, Kind};
use crate::faults::plan::{HEADER, PARAMETER, Plan};
use crate::instruments;

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
    if request.method() != Method::GET && request.method() != Method::HEAD {
        // The route answers which methods it knows.
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
