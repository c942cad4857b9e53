//! Jobs on their way to the worker: by Redis stream, or by `POST /jobs` where no Redis is configured or it is away.
//!
//! Handing over is a PRODUCER span; the job carries its context, and the worker does it in a trace of its own that links
//! back. Link, span kinds and metrics are the same either way; only `messaging.system` differs (`redis`, `http`).

pub mod stream;

use std::time::Instant;

use tracing::Instrument;
use tracing::field::Empty;

use crate::deps::job::Job;
use crate::deps::worker_client::{WorkerClient, WorkerError};
use crate::instruments::{self, DESTINATION};
use crate::settings::Settings;
use signalbox_telemetry::context;
use stream::Stream;

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
            .as_ref()
            .map(|url| {
                Stream::open(
                    url.expose(),
                    settings.redis_timeout,
                    settings.queue.capacity,
                )
            })
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
