//! The thread that sends one signal's queue to its collector.
use std::sync::Arc;
use std::time::Instant;

use opentelemetry::Context;
use opentelemetry_http::Bytes;
use opentelemetry_sdk::Resource;

use super::buffers::Buffers;
use super::encoding;
use super::health::Cause;
use super::queue::{Flushed, Queue, Taken};
use super::retry::Backoff;
use super::transport::{Attempt, Transport};
use crate::Error;
use crate::base::random;

/// What the thread works with.
struct Exporter {
    buffers: Arc<Buffers>,
    queue: Arc<Queue>,
    transport: Transport,
    /// The resource, encoded.
    resource: Vec<u8>,
}

/// What a signal has not sent yet.
#[derive(Debug)]
pub(crate) struct Unsent {
    buffers: Arc<Buffers>,
    queue: Arc<Queue>,
}

impl Unsent {
    /// Counts all of it as lost, once the time to send it is over: the last metrics tell of it.
    pub(crate) fn give_up(&self) {
        self.buffers.drain();
        self.queue.give_up();
    }
}

/// Starts the thread. It ends after [`Queue::shut_down`].
pub(crate) fn start(
    signal: &'static str,
    buffers: &Arc<Buffers>,
    queue: &Arc<Queue>,
    transport: Transport,
    resource: &Resource,
) -> Result<Unsent, Error> {
    let exporter = Exporter {
        buffers: Arc::clone(buffers),
        queue: Arc::clone(queue),
        transport,
        resource: encoding::resource(resource),
    };
    std::thread::Builder::new()
        .name(format!("otlp-{signal}"))
        .spawn(move || exporter.run())
        .map_err(|error| Error(format!("no thread for {signal}: {error}")))?;
    Ok(Unsent {
        buffers: Arc::clone(buffers),
        queue: Arc::clone(queue),
    })
}

impl Exporter {
    fn run(&self) {
        // What the HTTP client logs and traces must not become telemetry that is sent by it.
        let _suppressed = Context::enter_telemetry_suppressed_scope();
        self.buffers.serve(&self.queue, |batch| self.deliver(batch));
    }

    /// Sends `batch`, for as long as it takes: what the collector cannot take now stays, and what comes meanwhile waits
    /// in the queue. Ends early only when the process does.
    fn deliver(&self, batch: &Taken) -> Flushed {
        let runs = batch
            .chunks
            .iter()
            .flat_map(|chunk| self.queue.taken(chunk));
        let runs = runs.map(|(run, items)| (&*run.scope, items));
        let body = self.transport.body(&encoding::frame(&self.resource, runs));
        let (lost, failure) = self.attempt(&body, batch.items);
        let refused = failure
            .as_ref()
            .filter(|(cause, _)| *cause != Cause::Rejected);
        let result = refused.map_or(Ok(()), |(_, message)| Err(message.clone()));
        self.queue.settle(batch, lost, failure);
        result
    }

    /// Sends `body` until it is accepted or refused, or the process has no time left. How many of its items are lost,
    /// and why.
    fn attempt(&self, body: &Bytes, items: usize) -> (u64, Option<(Cause, String)>) {
        let counts = &self.queue.counts;
        let items = items as u64;
        let mut backoff = Backoff::default();
        loop {
            let end = self.queue.end();
            let (cause, message) = match self.transport.post(body, end) {
                Attempt::Accepted(None) => return (0, None),
                Attempt::Accepted(Some(partial)) => {
                    let lost = partial.rejected.min(items);
                    return (
                        lost,
                        (lost > 0).then_some((Cause::Rejected, partial.message)),
                    );
                }
                Attempt::Refused(cause, message) => (cause, message),
                Attempt::Later(cause, message, asked) => {
                    if end.is_none_or(|end| Instant::now() < end) {
                        counts.postponed(items, cause, &message);
                        let chance = f64::from(random() as u32) / f64::from(u32::MAX);
                        self.queue.pause(backoff.next(asked, chance));
                        continue;
                    }
                    (cause, message)
                }
            };
            return (items, Some((cause, message)));
        }
    }
}
