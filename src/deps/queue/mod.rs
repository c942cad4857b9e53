//! Jobs on their way to the worker: by Redis stream, or by `POST /jobs` where no Redis is configured or it is away.
//!
//! Handing over is a PRODUCER span; the job carries its context, and the worker does it in a trace of its own that links
//! back. Link, span kinds and metrics are the same either way; only `messaging.system` differs (`redis`, `http`).

pub mod stream;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::Instrument;
use tracing::field::Empty;
use utoipa::ToSchema;

use crate::deps::now_ms;
use crate::deps::worker_client::{WorkerClient, WorkerError};
use crate::instruments::{self, DESTINATION};
use crate::settings::Settings;
use signalbox_telemetry::context;
use stream::Stream;

/// One job: the invoice of an order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Unique name of the job, at most 64 characters.
    #[schema(min_length = 1, max_length = 64)]
    pub id: String,
    #[schema(minimum = 1)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub order_id: i64,
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub total_cents: i64,
    /// When it was handed over, in milliseconds since 1970.
    #[schema(minimum = 0)]
    #[serde(deserialize_with = "crate::whole::number")]
    pub sent_ms: i64,
    /// Id of the request that caused it.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub request_id: Option<String>,
    /// W3C context of the span that handed it over.
    #[serde(default)]
    pub context: HashMap<String, String>,
}

impl Job {
    /// The invoice of an order.
    pub fn invoice(order_id: i64, total_cents: i64, request_id: Option<String>) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            order_id,
            total_cents,
            sent_ms: now_ms(),
            request_id,
            context: HashMap::new(),
        }
    }

    /// What is outside its bounds, if anything. Jobs come from outside the process.
    pub fn check(&self) -> Result<(), &'static str> {
        let short = |text: &str| !text.is_empty() && text.len() <= 64;
        if !short(&self.id) {
            return Err("id must have 1 to 64 characters");
        }
        if self.order_id < 1 {
            return Err("order_id must be at least 1");
        }
        if !(1..=1_000_000_000).contains(&self.total_cents) {
            return Err("total_cents must be 1 to 1000000000");
        }
        if self.sent_ms < 0 {
            return Err("sent_ms must be at least 0");
        }
        if self.request_id.as_ref().is_some_and(|id| id.len() > 64) {
            return Err("request_id must have at most 64 characters");
        }
        if self.context.len() > 8 {
            return Err("context must have at most 8 members");
        }
        Ok(())
    }

    /// How long ago it was handed over, by the two processes' clocks.
    pub fn waited(&self) -> Duration {
        Duration::from_millis(u64::try_from(now_ms() - self.sent_ms).unwrap_or(0))
    }
}

/// Why a job was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("the job stream does not answer: {0}")]
    Stream(#[from] redis::RedisError),
    #[error("the job stream is full: {0} jobs wait already")]
    Full(usize),
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

impl QueueError {
    fn class(&self) -> &'static str {
        match self {
            Self::Stream(error) if error.is_timeout() => "timeout",
            Self::Stream(error) if error.is_io_error() => "unavailable",
            Self::Stream(_) => "_OTHER",
            Self::Full(_) => "full",
            Self::Worker(error) => error.class(),
        }
    }
}

/// Hands jobs over. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    stream: Option<Stream>,
    worker: WorkerClient,
}

impl Producer {
    /// By stream if settings name a Redis; it may be away. Must be called inside a runtime.
    pub fn new(settings: &Settings, worker: WorkerClient) -> Result<Self, QueueError> {
        let stream = settings
            .redis_url
            .as_deref()
            .map(|url| Stream::open(url, settings.redis_timeout, settings.queue.capacity))
            .transpose()?;
        Ok(Self { stream, worker })
    }

    /// Hands `job` over. Redis away: by HTTP, with a warning. The stream full: not at all.
    pub async fn send(&self, mut job: Job) -> Result<(), QueueError> {
        if let Some(stream) = &self.stream {
            let sent = async |job: &Job| match stream.add(job).await? {
                true => Ok(()),
                false => Err(QueueError::Full(stream.capacity())),
            };
            match observed("redis", &mut job, sent).await {
                Ok(()) => return Ok(()),
                Err(full @ QueueError::Full(_)) => return Err(full),
                Err(error) => tracing::warn!("handing the job over by HTTP instead: {error}"),
            }
        }
        let sent = async |job: &Job| Ok(self.worker.post_job(job).await?);
        observed("http", &mut job, sent).await
    }
}

async fn observed(
    system: &'static str,
    job: &mut Job,
    send: impl AsyncFnOnce(&Job) -> Result<(), QueueError>,
) -> Result<(), QueueError> {
    let span = tracing::info_span!(
        "send job",
        otel.name = format!("send {DESTINATION}"),
        otel.kind = "producer",
        otel.status_code = Empty,
        messaging.system = system,
        messaging.destination.name = DESTINATION,
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.message.id = job.id,
        signalbox.order.id = job.order_id,
        error.type = Empty,
    );
    let start = Instant::now();
    let outcome = async {
        job.context = context::inject();
        send(job).await
    }
    .instrument(span.clone())
    .await;
    let _inside = span.enter();
    let class = outcome.as_ref().err().map(QueueError::class);
    if let Some(class) = class {
        span.record("error.type", class);
        span.record("otel.status_code", "ERROR");
    }
    instruments::message_sent(system, start.elapsed(), class);
    outcome
}
