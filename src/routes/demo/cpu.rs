//! Lesson: where the CPU goes. `GET /demo/cpu` burns it in named, nested functions off the threads that serve requests.
//!
//! Where to look: the CPU flame graph shows `burn_cpu` → `count_primes`, `multiply_matrices`, `mine_block` → `mix_words`;
//! the span `burn cpu` has a profile of its own, whose id is the answer's `x-profile-id`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web;
use actix_web::web::{Data, Query};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use crate::error::{Error, Kind};
use crate::limits::bounded;
use signalbox_telemetry::profiles;

/// Header of an answer whose work has a profile of its own.
const PROFILE_ID: &str = "x-profile-id";

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// Milliseconds of one processor to burn.
    #[param(value_type = Option<i32>, minimum = 1, maximum = 5000, default = 200)]
    ms: Option<String>,
}

/// How many burn at once: more than there are processors would only make all slower. Cheap to clone.
#[derive(Clone)]
pub struct Slots(Arc<Semaphore>);

impl Slots {
    pub fn new(slots: usize) -> Self {
        Self(Arc::new(Semaphore::new(slots)))
    }
}

/// What was computed.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Burnt {
    /// Milliseconds it took.
    #[schema(minimum = 0)]
    busy_ms: u64,
    /// Rounds of all three kinds of work.
    #[schema(minimum = 1)]
    rounds: u64,
    /// Primes below the sieve's end.
    #[schema(minimum = 0)]
    primes: u64,
    /// Digest over all rounds.
    digest: String,
}

/// Real CPU work in named functions.
#[utoipa::path(get, path = "/demo/cpu", tag = "demo", params(Params),
    responses((status = 200, description = "Burnt", body = Burnt,
        headers(("x-profile-id" = String, description = "Id of the CPU samples of this very work; absent if it was too short for one")))))]
pub async fn cpu(params: Query<Params>, slots: Data<Slots>) -> Result<impl Responder, Error> {
    let (burnt, profile_id) = burn(&params, &slots, "/demo/cpu").await?;
    let mut answer = HttpResponse::Ok();
    if let Some(profile_id) = profile_id {
        answer.insert_header((PROFILE_ID, profile_id));
    }
    Ok(answer.json(burnt))
}

/// CPU work whose result fails its check.
#[utoipa::path(get, path = "/demo/cpu-error", tag = "demo", params(Params),
    responses((status = 500, description = "The result failed its check", body = crate::error::Problem, content_type = "application/problem+json")))]
pub async fn cpu_error(params: Query<Params>, slots: Data<Slots>) -> Result<impl Responder, Error> {
    let (burnt, _) = burn(&params, &slots, "/demo/cpu-error").await?;
    let cause = u8::try_from(burnt.primes).map_err(|error| {
        Error::new(
            Kind::Internal,
            "the result does not fit where it was to be stored",
        )
        .because(error)
    });
    cause.map(|_| HttpResponse::Ok().json(burnt))
}

/// The work's result, and the id of its samples if it has any.
async fn burn(
    params: &Params,
    slots: &Slots,
    route: &'static str,
) -> Result<(Burnt, Option<String>), Error> {
    let ms = bounded("ms", params.ms.as_deref(), 200, 1..=5000)?;
    let slot = slots.0.clone().acquire_owned().await;
    let slot = slot.map_err(|error| Error::new(Kind::Internal, "no slot").because(error))?;
    let span = tracing::info_span!("burn cpu");
    let duration = Duration::from_millis(ms.into());
    // The slot goes along: it is free again when the work ends, also when the request was given up before.
    let burnt = web::block(move || {
        let _slot = slot;
        span.in_scope(|| profiles::span_scope(route, || burn_cpu(duration)))
    });
    Ok(burnt.await?)
}

/// Does rounds of work until `duration` has passed; a round takes a few milliseconds.
#[inline(never)]
fn burn_cpu(duration: Duration) -> Burnt {
    let start = Instant::now();
    let mut burnt = Burnt::default();
    let mut digest = 0x6a09_e667_f3bc_c908;
    while burnt.rounds == 0 || start.elapsed() < duration {
        burnt.primes = count_primes(20_000);
        digest ^= multiply_matrices(24);
        digest = mine_block(digest);
        burnt.rounds += 1;
    }
    burnt.busy_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    burnt.digest = format!("{digest:016x}");
    burnt
}

/// Sieve of Eratosthenes.
#[inline(never)]
fn count_primes(end: usize) -> u64 {
    let mut composite = vec![false; end];
    let mut primes = 0;
    for number in 2..end {
        if !composite[number] {
            primes += 1;
            for multiple in (number * number..end).step_by(number) {
                composite[multiple] = true;
            }
        }
    }
    black_box(primes)
}

/// Product of two square matrices, the schoolbook way.
#[inline(never)]
fn multiply_matrices(size: usize) -> u64 {
    let cell = |row: usize, column: usize| ((row * 31 + column * 17) % 97) as u64;
    let mut trace = 0;
    for row in 0..size {
        for column in 0..size {
            let product: u64 = (0..size).map(|k| cell(row, k) * cell(k, column)).sum();
            trace ^= product.rotate_left(row as u32);
        }
    }
    black_box(trace)
}

/// Looks for a number whose digest starts with zeros, as a miner does.
#[inline(never)]
fn mine_block(seed: u64) -> u64 {
    let mut best = u64::MAX;
    for nonce in 0..2_000 {
        best = best.min(mix_words(seed, nonce));
    }
    best
}

/// One digest: the finaliser of splitmix64, sixteen times.
#[inline(never)]
fn mix_words(seed: u64, nonce: u64) -> u64 {
    let mut word = seed ^ nonce.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..16 {
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
    }
    black_box(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sieve_counts_primes() {
        assert_eq!((count_primes(10), count_primes(20_000)), (4, 2262));
    }

    #[test]
    fn burning_takes_its_time_and_no_round_is_skipped() {
        let burnt = burn_cpu(Duration::from_millis(1));
        assert!(burnt.rounds >= 1);
        assert_eq!((burnt.primes, burnt.digest.len()), (2262, 16));
    }
}
