//! What a caller may ask for, and what is answered beyond it.
//!
//! | limit | status | setting |
//! | --- | --- | --- |
//! | bytes of the body | 413 | `SIGNALBOX_MAX_BODY_BYTES` |
//! | bytes of path and query | 414 | `SIGNALBOX_MAX_URI_BYTES` |
//! | requests per second | 429 | `SIGNALBOX_MAX_REQUESTS_PER_SECOND` |
//! | bytes of the headers | 431 | `SIGNALBOX_MAX_HEADER_BYTES` |
//! | requests at once | 503 | `SIGNALBOX_MAX_CONCURRENT_REQUESTS` |
//! | time | 504 | `SIGNALBOX_REQUEST_TIMEOUT_MS` |
//!
//! A head that is malformed (400), not complete in 5 s (408) or larger than the HTTP library reads (431, about 128 KiB) is refused by
//! that library, without a body; span, metric and access log have it all the same ([`signalbox_telemetry::actix::listen`]).
//!
//! A body that is encoded in a way that is not read is refused with 415.
//!
//! Probes and `/metrics` are answered even when the rate or the number of requests is exhausted: an overloaded service
//! must stay visible. Where to look: `signalbox.requests.rejected` by `signalbox.limit`.

use std::any::Any;
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, RETRY_AFTER,
};
use actix_web::middleware::Next;
use actix_web::web;
use futures_util::FutureExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Error, Kind};
use crate::{instruments, settings};

/// Paths that rate and concurrency do not hold back.
const ALWAYS_ANSWERED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The limits of one process. Cheap to clone.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    settings: settings::Limits,
    in_flight: Semaphore,
    rate: Option<Mutex<Bucket>>,
}

impl Limits {
    pub fn new(settings: &settings::Limits) -> Self {
        Self(Arc::new(Inner {
            settings: settings.clone(),
            in_flight: Semaphore::new(settings.concurrent_requests),
            rate: settings
                .requests_per_second
                .map(Bucket::new)
                .map(Mutex::new),
        }))
    }

    /// Refuses what is too large, too often or too much at once; the permit lasts as long as the request.
    fn admit(&self, request: &ServiceRequest) -> Result<Option<SemaphorePermit<'_>>, Error> {
        let limits = &self.0.settings;
        let uri = request
            .uri()
            .path_and_query()
            .map_or(0, |uri| uri.as_str().len());
        if uri > limits.uri_bytes {
            let detail = format!("path and query may have {} bytes", limits.uri_bytes);
            return Err(refuse("uri", Kind::UriTooLong, detail));
        }
        let headers = request.headers().iter();
        let headers: usize = headers
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        if headers > limits.header_bytes {
            let detail = format!(
                "all headers together may have {} bytes",
                limits.header_bytes
            );
            return Err(refuse("headers", Kind::HeadersTooLarge, detail));
        }
        let body = request.headers().get(CONTENT_LENGTH);
        let body = body.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if body.is_some_and(|bytes| bytes > limits.body_bytes) {
            return Err(body_too_large(limits.body_bytes));
        }
        if ALWAYS_ANSWERED.contains(&request.path()) {
            return Ok(None);
        }
        if let (Some(rate), Some(most)) = (&self.0.rate, limits.requests_per_second) {
            let mut bucket = rate.lock().unwrap_or_else(PoisonError::into_inner);
            if !bucket.take(Instant::now()) {
                let detail = format!("{most} requests per second are served");
                return Err(refuse("rate", Kind::RateLimited, detail).header(RETRY_AFTER, SOON));
            }
        }
        let Ok(permit) = self.0.in_flight.try_acquire() else {
            let detail = format!("{} requests are served at once", limits.concurrent_requests);
            return Err(refuse("concurrency", Kind::Overloaded, detail).header(RETRY_AFTER, SOON));
        };
        Ok(Some(permit))
    }
}

/// `Retry-After` in seconds.
const SOON: HeaderValue = HeaderValue::from_static("1");

fn refuse(limit: &'static str, kind: Kind, detail: String) -> Error {
    instruments::request_rejected(limit);
    Error::new(kind, detail)
}

/// The error for a body of more than `most` bytes, found by its length or while reading it.
pub fn body_too_large(most: usize) -> Error {
    refuse(
        "body",
        Kind::BodyTooLarge,
        format!("a request body may have {most} bytes"),
    )
}

/// The error for memory beyond what all requests may hold together.
pub fn memory_exhausted(detail: String) -> Error {
    refuse("memory", Kind::MemoryBudget, detail).header(RETRY_AFTER, SOON)
}

/// Middleware of the whole app: size, rate and number of requests.
pub async fn admit<B: MessageBody + 'static>(
    limits: web::Data<Limits>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if let Err(error) = decodable(&mut request) {
        return Ok(request.error_response(error).map_into_right_body());
    }
    match limits.admit(&request) {
        Ok(_permit) => Ok(next.call(request).await?.map_into_left_body()),
        Err(error) => Ok(request.error_response(error).map_into_right_body()),
    }
}

/// Refuses a body that the HTTP library does not decode: it would pass it on as it is. `x-gzip` is an old name of `gzip`,
/// which the library does not know. <https://www.rfc-editor.org/rfc/rfc9110#name-content-encoding>
fn decodable(request: &mut ServiceRequest) -> Result<(), Error> {
    let Some(encoding) = request.headers().get(CONTENT_ENCODING) else {
        return Ok(());
    };
    let encoding = encoding
        .to_str()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" | "gzip" | "deflate" => {}
        "x-gzip" => {
            let gzip = HeaderValue::from_static("gzip");
            request.headers_mut().insert(CONTENT_ENCODING, gzip);
        }
        _ => {
            let read = "gzip, deflate";
            let detail = format!("a body may be encoded as {read}, or not at all");
            let error = Error::new(Kind::UnsupportedMediaType, detail);
            return Err(error.header(ACCEPT_ENCODING, HeaderValue::from_static(read)));
        }
    }
    Ok(())
}

/// Middleware of a route: its time is bounded, and a panic in it is an error like any other.
pub async fn deadline<B: MessageBody + 'static>(
    limits: web::Data<Limits>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let most = limits.0.settings.request_timeout;
    let kept = request.request().clone();
    let call = AssertUnwindSafe(next.call(request)).catch_unwind();
    let error = match tokio::time::timeout(most, call).await {
        Ok(Ok(response)) => return Ok(response?.map_into_left_body()),
        Ok(Err(panic)) => {
            let error = Error::new(Kind::Internal, "the handler panicked");
            error.because(Panicked::from(panic))
        }
        Err(_) => {
            let detail = format!("a request may take {} ms", most.as_millis());
            refuse("time", Kind::DeadlineExceeded, detail)
        }
    };
    let response = actix_web::HttpResponse::from_error(error);
    Ok(ServiceResponse::new(kept, response).map_into_right_body())
}

/// What a panic said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Panicked(String);

impl From<Box<dyn Any + Send>> for Panicked {
    fn from(panic: Box<dyn Any + Send>) -> Self {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "no message".to_owned()))
    }
}

/// A token bucket: `rate` a second, at most one second's worth at once.
struct Bucket {
    rate: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(rate: u32) -> Self {
        Self {
            rate: rate.into(),
            tokens: rate.into(),
            filled: Instant::now(),
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed: Duration = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.rate).min(self.rate);
        self.filled = now;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

/// The value of a query parameter, or its default; outside its range it is an error that says the range.
pub fn bounded(
    name: &str,
    value: Option<&str>,
    default: u32,
    range: RangeInclusive<u32>,
) -> Result<u32, Error> {
    match value.map(str::parse) {
        None => Ok(default),
        Some(Ok(number)) if range.contains(&number) => Ok(number),
        Some(_) => Err(Error::out_of_range(
            name,
            format_args!("a whole number, {} to {}", range.start(), range.end()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn a_panic_is_an_error_of_its_request_alone() {
        async fn broken() -> &'static str {
            panic!("no such switch")
        }
        let settings = settings::Settings::from_lookup(settings::Role::Api, |_| None);
        let limits = Limits::new(&settings.expect("defaults are allowed").limits);
        let app = actix_web::App::new()
            .app_data(web::Data::new(limits))
            .service(
                web::resource("/")
                    .route(web::get().to(broken))
                    .wrap(actix_web::middleware::from_fn(deadline)),
            );
        let app = actix_web::test::init_service(app).await;
        for _ in 0..2 {
            let request = actix_web::test::TestRequest::default().to_request();
            let response = actix_web::test::call_service(&app, request).await;
            let error = response.response().error();
            let error = error.and_then(|error| error.as_error::<Error>());
            let error = error.expect("an error of ours");
            assert_eq!(error.kind(), Kind::Internal);
            assert_eq!(
                crate::error::causes(error),
                "the handler panicked: no such switch"
            );
        }
    }

    #[test]
    fn a_bucket_grants_its_rate_and_refills() {
        let mut bucket = Bucket::new(3);
        let start = bucket.filled;
        let granted = (0..5).filter(|_| bucket.take(start)).count();
        assert_eq!(granted, 3);
        assert!(bucket.take(start + Duration::from_millis(334)));
        assert!(!bucket.take(start + Duration::from_millis(335)));
    }

    #[test]
    fn every_wrong_value_is_told_its_range() {
        for value in ["0", "1001", "-1", "x", "", "1.5", "99999999999999999999"] {
            let error = bounded("count", Some(value), 10, 1..=1000).expect_err(value);
            assert_eq!(error.to_string(), "count must be a whole number, 1 to 1000");
        }
        assert_eq!(
            bounded("count", Some("1000"), 10, 1..=1000).ok(),
            Some(1000)
        );
        assert_eq!(bounded("count", None, 10, 1..=1000).ok(), Some(10));
    }
}
