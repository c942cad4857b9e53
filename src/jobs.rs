//! What the worker does with the jobs it is handed: one CONSUMER span each, in a trace of its own that links to the
//! request that caused it.
//!
//! Jobs come by `POST /jobs` into a bounded queue, and by Redis stream where one is configured. Where to look: the order's
//! trace has a span `send signalbox.jobs`; its trace links from the span `process signalbox.jobs` of another trace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::rt;
use futures_util::future::join_all;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::deps::job::Job;
use crate::deps::queue::QueueError;
use crate::deps::queue::stream::{Delivery, Stream};
use crate::deps::{Trouble, within};
use crate::instruments::{self, DESTINATION};
use crate::settings::Settings;
use signalbox_telemetry::context;

/// How long one read waits for new jobs; the stop waits for it at most.
const READ_WAIT: Duration = Duration::from_millis(500);

/// How long to wait before Redis is asked again after an error.
const RETRY: Duration = Duration::from_millis(500);

/// Where jobs are put. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    sender: mpsc::Sender<Job>,
    stream: Option<Stream>,
}

/// The tasks that do the jobs.
pub struct Running {
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Jobs {
    /// Starts to work. Must be called inside the runtime.
    pub fn start(settings: &Settings) -> Result<(Self, Running), QueueError> {
        let (sender, receiver) = mpsc::channel(settings.queue.capacity);
        let receiver = Arc::new(Mutex::new(receiver));
        let (stop, stopped) = watch::channel(false);
        let mut tasks: Vec<_> = (0..settings.queue.concurrency)
            .map(|_| rt::spawn(work(receiver.clone(), stopped.clone())))
            .collect();
        let stream = settings
            .redis_url
            .as_ref()
            .map(|url| {
                let timeout = settings.redis_timeout + READ_WAIT;
                Stream::open(url.expose(), timeout, settings.queue.capacity)
            })
            .transpose()?;
        if let Some(stream) = &stream {
            let read = follow(stream.clone(), settings.queue.concurrency, stopped);
            tasks.push(rt::spawn(read));
        }
        Ok((Self { sender, stream }, Running { tasks, stop }))
    }

    /// Puts `job` in the queue, or gives it back when the queue is full.
    pub fn push(&self, job: Job) -> Result<(), Job> {
        match self.sender.try_send(job) {
            Ok(()) => {
                instruments::queue_depth(1);
                Ok(())
            }
            Err(TrySendError::Full(job) | TrySendError::Closed(job)) => Err(job),
        }
    }

    /// Jobs that the queue holds at most.
    pub fn capacity(&self) -> usize {
        self.sender.max_capacity()
    }

    /// Whether the stream answers, within `deadline`; without one there is nothing to ask.
    pub async fn ping(&self, deadline: Duration) -> Result<(), Trouble> {
        match &self.stream {
            Some(stream) => within(deadline, stream.ping()).await,
            None => Ok(()),
        }
    }
}

impl Running {
    /// Lets what has been accepted be done until `deadline`, and says so if some of it was not.
    pub async fn finish(self, deadline: Instant) {
        let _ = self.stop.send(true);
        let all = join_all(self.tasks);
        if tokio::time::timeout_at(deadline.into(), all).await.is_err() {
            tracing::warn!("jobs were left undone at the deadline");
        }
    }
}

/// Does jobs of the queue one by one until it is told to stop and the queue is empty.
async fn work(receiver: Arc<Mutex<mpsc::Receiver<Job>>>, mut stopped: watch::Receiver<bool>) {
    loop {
        let job = {
            let mut receiver = receiver.lock().await;
            tokio::select! {
                biased;
                job = receiver.recv() => job,
                _ = stopped.wait_for(|stop| *stop) => receiver.try_recv().ok(),
            }
        };
        let Some(job) = job else { return };
        instruments::queue_depth(-1);
        process(&job, "http").await;
    }
}

/// Reads the stream until it is told to stop. Redis may go and come back.
async fn follow(stream: Stream, count: usize, stopped: watch::Receiver<bool>) {
    let consumer = format!("worker-{}", uuid::Uuid::new_v4());
    let mut away = false;
    while !*stopped.borrow() {
        match read_batch(&stream, &consumer, count).await {
            Ok(()) if away => {
                away = false;
                tracing::info!("the job stream answers again");
            }
            Ok(()) => {}
            Err(error) => {
                // Said once an outage; the readiness of the worker shows how long it lasts.
                if !away {
                    away = true;
                    tracing::warn!("the job stream does not answer: {error}");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn read_batch(stream: &Stream, consumer: &str, count: usize) -> redis::RedisResult<()> {
    let mut batch = match stream.claim(consumer, count).await {
        // The group is gone with a Redis that lost its memory, and not there yet in a new one.
        Err(error) if error.code() == Some("NOGROUP") => {
            stream.ensure_group().await?;
            Vec::new()
        }
        outcome => outcome?,
    };
    if batch.is_empty() {
        batch = stream.read(consumer, count, READ_WAIT).await?;
    }
    let done = batch.iter().map(|delivery| finish(stream, delivery));
    join_all(done).await.into_iter().collect()
}

async fn finish(stream: &Stream, delivery: &Delivery) -> redis::RedisResult<()> {
    match &delivery.job {
        Some(job) => process(job, "redis").await,
        None => tracing::warn!("an entry of the job stream is no job and is dropped"),
    }
    stream.acknowledge(delivery).await
}

/// Does one job in a trace of its own.
async fn process(job: &Job, system: &'static str) {
    let waited = job.waited();
    let span = tracing::info_span!(
        parent: None,
        "process job",
        otel.name = format!("process {DESTINATION}"),
        otel.kind = "consumer",
        messaging.system = system,
        messaging.destination.name = DESTINATION,
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.message.id = job.id,
        signalbox.order.id = job.order_id,
        signalbox.request.id = job.request_id,
    );
    context::link(&span, &job.context);
    let start = Instant::now();
    async {
        let lines = render_invoice(job);
        deliver(lines).await;
        tracing::info!(
            signalbox.order.id = job.order_id,
            signalbox.request.id = job.request_id,
            "invoice sent"
        );
    }
    .instrument(span.clone())
    .await;
    span.in_scope(|| instruments::message_processed(system, waited, start.elapsed()));
}

/// Lays the invoice out.
#[tracing::instrument(name = "render invoice", skip_all)]
fn render_invoice(job: &Job) -> usize {
    let net = job.total_cents * 100 / 119;
    let text = format!(
        "Invoice for order {}\nnet {net} ct\ntax {} ct\ntotal {} ct\n",
        job.order_id,
        job.total_cents - net,
        job.total_cents
    );
    text.lines().count()
}

/// Takes as long as a mail server takes to accept a letter.
#[tracing::instrument(name = "deliver invoice", skip_all)]
async fn deliver(lines: usize) {
    let millis = fastrand::u64(2..10) + lines as u64;
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
