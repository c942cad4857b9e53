//! A queue of chunks, bounded by bytes. When it is full the oldest go, and are counted.
use std::collections::VecDeque;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};

use super::chunk::Chunk;
use super::encoding::Run;
use super::health::{Cause, Signal};
use crate::base::locked;
use crate::base::settings::Batch;

/// Whether all arrived, or why some did not.
pub(crate) type Flushed = Result<(), String>;

/// Chunks on their way to one destination: the collector, or stdout.
#[derive(Debug)]
pub(crate) struct Queue {
    batch: Batch,
    /// Which runs this destination takes.
    takes: fn(&Run) -> bool,
    pub(crate) counts: Arc<Signal>,
    state: Mutex<State>,
    /// Something changed that the sending thread waits for.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Chunk>>,
    /// Items of `waiting` that this destination takes.
    items: usize,
    /// Bytes of `waiting`.
    bytes: usize,
    /// Items of the batch that is being sent.
    sending: usize,
    /// Bytes of that batch.
    sending_bytes: usize,
    /// Who waits until everything has been sent.
    flushes: Vec<Sender<Flushed>>,
    /// When to give up, once the process is ending.
    end: Option<Instant>,
    /// Nobody sends any more.
    closed: bool,
}

/// Why the sending thread goes to work.
#[derive(Debug)]
pub(crate) enum Wake {
    /// A batch is full.
    Full,
    /// The batch's delay has passed, or somebody waits for a flush: what the threads have begun goes too.
    Due(Vec<Sender<Flushed>>),
    /// The process is ending.
    End,
}

/// What is sent at once.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) chunks: Vec<Arc<Chunk>>,
    pub(crate) items: usize,
}

impl Queue {
    pub(crate) fn new(batch: Batch, takes: fn(&Run) -> bool, counts: &Arc<Signal>) -> Arc<Self> {
        Arc::new(Self {
            batch,
            takes,
            counts: Arc::clone(counts),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Bytes of a chunk at most: the queue holds several, so that the oldest of them is a small part.
    pub(crate) fn chunk_bytes(&self) -> usize {
        self.batch.queue_bytes / 8
    }

    /// Items of a chunk at most: no more than a batch may have.
    pub(crate) fn chunk_items(&self) -> usize {
        self.batch.size.min(self.batch.queue_items / 8).max(1)
    }

    /// The runs of `chunk` that this destination takes, with their encoded items.
    pub(crate) fn taken<'a>(
        &self,
        chunk: &'a Chunk,
    ) -> impl Iterator<Item = (&'a Run, &'a [u8])> + Clone {
        let takes = self.takes;
        chunk.runs().filter(move |(run, _)| takes(run))
    }

    fn items(&self, chunk: &Chunk) -> usize {
        self.taken(chunk).map(|(run, _)| run.items).sum()
    }

    /// Appends `chunk`. If there is no room, the oldest that wait make it, unless all of them together could not.
    pub(crate) fn offer(&self, chunk: Arc<Chunk>) {
        let items = self.items(&chunk);
        if items == 0 {
            return;
        }
        let mut state = locked(&self.state);
        // The process is ending.
        if state.closed {
            let lost = items as u64;
            return self.counts.tally(lost, lost, Some(Cause::Timeout));
        }
        let room = self.batch.queue_bytes.saturating_sub(state.sending_bytes);
        if chunk.size() > room {
            return self.counts.turn_away(items);
        }
        self.counts.enter(items);
        state.items += items;
        state.bytes += chunk.size();
        state.waiting.push_back(chunk);
        while (state.bytes > room || state.items > self.batch.queue_items)
            && let Some(oldest) = state.waiting.pop_front()
        {
            let items = self.items(&oldest);
            state.items -= items;
            state.bytes -= oldest.size();
            self.counts.drop_queued(items);
        }
        if state.items >= self.batch.size {
            self.changed.notify_one();
        }
    }

    /// Waits until there is something to do, until `due` at the latest.
    pub(crate) fn wait(&self, due: Instant) -> Wake {
        let mut state = locked(&self.state);
        loop {
            if state.end.is_some() {
                return Wake::End;
            }
            let now = Instant::now();
            if !state.flushes.is_empty() || now >= due {
                return Wake::Due(std::mem::take(&mut state.flushes));
            }
            if state.items >= self.batch.size {
                return Wake::Full;
            }
            state = self.sleep(state, due - now);
        }
    }

    /// Waits for `pause` before a batch is tried again; shorter if meanwhile somebody asks for a flush, or the process
    /// is to end.
    pub(crate) fn pause(&self, pause: Duration) {
        let mut state = locked(&self.state);
        let (flushes, ending) = (state.flushes.len(), state.end.is_some());
        let mut until = Instant::now() + pause;
        if let Some(end) = state.end {
            until = until.min(end);
        }
        while state.flushes.len() == flushes && state.end.is_some() == ending {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.sleep(state, left);
        }
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let woken = self.changed.wait_timeout(state, time);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// When to give up, if the process is ending.
    pub(crate) fn end(&self) -> Option<Instant> {
        locked(&self.state).end
    }

    /// Takes a batch: as many whole chunks as fit into its size, one at least.
    pub(crate) fn take(&self) -> Option<Taken> {
        let mut state = locked(&self.state);
        if state.closed {
            return None;
        }
        let mut taken = Taken {
            chunks: Vec::new(),
            items: 0,
        };
        let mut bytes = 0;
        while let Some(next) = state.waiting.front() {
            let items = self.items(next);
            if !taken.chunks.is_empty() && taken.items + items > self.batch.size {
                break;
            }
            taken.items += items;
            bytes += next.size();
            taken.chunks.extend(state.waiting.pop_front());
        }
        state.items -= taken.items;
        state.bytes -= bytes;
        state.sending = taken.items;
        state.sending_bytes = bytes;
        (!taken.chunks.is_empty()).then_some(taken)
    }

    /// Gives back the room that a batch took.
    pub(crate) fn release(&self) {
        let mut state = locked(&self.state);
        state.sending = 0;
        state.sending_bytes = 0;
    }

    /// Gives back the room that a batch took, and counts how it ended: `lost` of its items, for that reason. One that
    /// was given up meanwhile has been counted.
    pub(crate) fn settle(&self, taken: &Taken, lost: u64, failure: Option<(Cause, String)>) {
        let mut state = locked(&self.state);
        if state.closed {
            return;
        }
        state.sending = 0;
        state.sending_bytes = 0;
        self.counts.leave(taken.items);
        let cause = failure.as_ref().map(|(cause, _)| *cause);
        self.counts.tally(taken.items as u64, lost, cause);
        drop(state);
        self.counts.tell(lost, failure);
    }

    /// Takes and sends nothing more: what waits, and what is on its way without an answer, counts as lost.
    pub(crate) fn give_up(&self) {
        let mut state = locked(&self.state);
        if state.closed {
            return;
        }
        state.closed = true;
        state.waiting.clear();
        let lost = std::mem::take(&mut state.items) + std::mem::take(&mut state.sending);
        self.counts.leave(lost);
        self.counts
            .tally(lost as u64, lost as u64, Some(Cause::Timeout));
        drop(state);
        if lost > 0 {
            let why = "the process ends, and its time to send them is over".to_owned();
            self.counts.tell(lost as u64, Some((Cause::Timeout, why)));
        }
    }

    /// How long a batch may wait until it is full.
    pub(crate) fn delay(&self) -> Duration {
        self.batch.delay
    }

    /// Waits until everything that was finished before has been sent.
    pub(crate) fn flush(&self, timeout: Duration) -> OTelSdkResult {
        self.ask(timeout, |_| Ok(()))
    }

    /// As [`Queue::flush`], and lets the sending thread end. What cannot be sent within `timeout` is lost and counted.
    pub(crate) fn shut_down(&self, timeout: Duration) -> OTelSdkResult {
        self.ask(timeout, |state| match state.end {
            Some(_) => Err(OTelSdkError::AlreadyShutdown),
            None => {
                state.end = Some(Instant::now() + timeout);
                Ok(())
            }
        })
    }

    fn ask(
        &self,
        timeout: Duration,
        change: impl FnOnce(&mut State) -> OTelSdkResult,
    ) -> OTelSdkResult {
        let (done, result) = mpsc::channel();
        {
            let mut state = locked(&self.state);
            change(&mut state)?;
            state.flushes.push(done);
        }
        self.changed.notify_all();
        match result.recv_timeout(timeout) {
            Ok(flushed) => flushed.map_err(OTelSdkError::InternalFailure),
            Err(_) => Err(OTelSdkError::Timeout(timeout)),
        }
    }

    /// Takes nothing more, unless something waits: then it goes on. Returns who waits for the end.
    pub(crate) fn close(&self) -> Option<Vec<Sender<Flushed>>> {
        let mut state = locked(&self.state);
        if !state.waiting.is_empty() {
            return None;
        }
        state.closed = true;
        self.changed.notify_all();
        Some(std::mem::take(&mut state.flushes))
    }

    /// Waits until nobody sends any more.
    #[cfg(test)]
    pub(crate) fn join(&self) {
        let mut state = locked(&self.state);
        while !state.closed {
            state = self.sleep(state, Duration::from_secs(1));
        }
    }
}
