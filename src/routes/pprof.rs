//! Lesson: profiles on demand. `GET /debug/pprof/…` takes a CPU or heap profile now, for `go tool pprof` or a pull scrape.
//!
//! Where to look: `go tool pprof http://…/debug/pprof/profile?seconds=5`. A profile that is being taken refuses a second
//! one with 503; a platform that cannot take one says so.

use std::time::Duration;

use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{Error, Kind};
use crate::limits::bounded;
use signalbox_telemetry::profiles::{self, ProfileError};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// Seconds to watch the CPU.
    #[param(value_type = Option<i32>, minimum = 1, maximum = 30, default = 10)]
    seconds: Option<String>,
}

impl Params {
    fn duration(&self) -> Result<Duration, Error> {
        let seconds = bounded("seconds", self.seconds.as_deref(), 10, 1..=30)?;
        Ok(Duration::from_secs(seconds.into()))
    }
}

const PPROF: &str = "application/octet-stream";
const SVG: &str = "image/svg+xml";

/// CPU profile of the next seconds.
#[utoipa::path(get, path = "/debug/pprof/profile", tag = "operations", params(Params),
    responses((status = 200, description = "gzipped pprof", body = Vec<u8>, content_type = "application/octet-stream")))]
pub async fn profile(params: web::Query<Params>) -> Result<HttpResponse, Error> {
    let duration = params.duration()?;
    answer(PPROF, move || profiles::cpu(duration)).await
}

/// What is allocated now, by allocation site.
#[utoipa::path(get, path = "/debug/pprof/heap", tag = "operations",
    responses((status = 200, description = "gzipped pprof", body = Vec<u8>, content_type = "application/octet-stream")))]
pub async fn heap() -> Result<HttpResponse, Error> {
    answer(PPROF, profiles::heap).await
}

/// Flame graph of the CPU in the next seconds.
#[utoipa::path(get, path = "/debug/pprof/flamegraph", tag = "operations", params(Params),
    responses((status = 200, description = "A picture", body = String, content_type = "image/svg+xml")))]
pub async fn flamegraph(params: web::Query<Params>) -> Result<HttpResponse, Error> {
    let duration = params.duration()?;
    let mut answer = answer(SVG, move || profiles::cpu_flamegraph(duration)).await?;
    // The picture carries its own style and a script for zooming; it may load nothing else.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'";
    let policy = HeaderValue::from_static(policy);
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    Ok(answer)
}

async fn answer(
    media_type: &'static str,
    take: impl FnOnce() -> Result<Vec<u8>, ProfileError> + Send + 'static,
) -> Result<HttpResponse, Error> {
    let body = web::block(take).await?.map_err(|error| match error {
        ProfileError::Busy => Error::new(Kind::Overloaded, error.to_string())
            .header(RETRY_AFTER, HeaderValue::from_static("30")),
        ProfileError::Unsupported(_) => Error::new(Kind::DependencyUnavailable, error.to_string()),
        ProfileError::Failed(_) => Error::new(Kind::Internal, "the profile failed").because(error),
    })?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media_type))
        .body(body))
}
