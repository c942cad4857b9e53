//! Where the threads of the process put what they finish: each encodes into a chunk of its own, so none waits for another.
//! A chunk that is full, or due, is handed over to the queues of those who send it on.
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use opentelemetry::InstrumentationScope;

use super::chunk::Chunk;
use super::queue::{Flushed, Queue, Taken, Wake};
use crate::base::locked;

/// Bytes at which a chunk is handed over. A queue drops whole chunks, so this is also the grain of a loss.
const CHUNK_BYTES: usize = 64 * 1024;

/// Capacity of a chunk after one that was handed over with `length` bytes: with room for the item that exceeds the limit.
fn full_capacity(length: usize) -> usize {
    length + length / 16
}

type Shared = Arc<Mutex<Chunk>>;

thread_local! {
    /// This thread's chunk in each of the process' buffers, of which there are two: spans' and records'.
    static OWN: RefCell<Vec<(usize, Shared)>> = const { RefCell::new(Vec::new()) };
}

/// The chunks of all threads, for one signal.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// Finds a thread's chunk in `OWN`.
    number: usize,
    /// Every chunk that a thread writes to. The first belongs to none: threads that are ending write there.
    open: Mutex<Vec<Shared>>,
    ending: Shared,
    queues: Vec<Arc<Queue>>,
    chunk_bytes: usize,
    chunk_items: usize,
}

impl Buffers {
    /// Buffers whose chunks go to each of `queues`.
    pub(crate) fn new(queues: Vec<Arc<Queue>>) -> Self {
        static NUMBERS: AtomicUsize = AtomicUsize::new(0);
        let ending = Shared::default();
        let most = |of: fn(&Queue) -> usize| queues.iter().map(|queue| of(queue)).min();
        Self {
            number: NUMBERS.fetch_add(1, Relaxed),
            open: Mutex::new(vec![Arc::clone(&ending)]),
            ending,
            chunk_bytes: most(Queue::chunk_bytes).unwrap_or(0).min(CHUNK_BYTES),
            chunk_items: most(Queue::chunk_items).unwrap_or(1),
            queues,
        }
    }

    /// Appends the item that `write` encodes: one of `scope`, or of what is called `name` in its place.
    pub(crate) fn push(
        &self,
        scope: &InstrumentationScope,
        name: Option<&Cow<'static, str>>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut write = Some(write);
        let pushed = OWN.try_with(|own| {
            let mut own = own.borrow_mut();
            let at = own.iter().position(|(number, _)| *number == self.number);
            let at = at.unwrap_or_else(|| {
                let chunk = Shared::default();
                locked(&self.open).push(Arc::clone(&chunk));
                own.push((self.number, chunk));
                own.len() - 1
            });
            if let Some(write) = write.take() {
                self.push_to(&own[at].1, scope, name, write);
            }
        });
        // The thread's locals are gone: it is ending, and one of them held a span.
        if pushed.is_err()
            && let Some(write) = write.take()
        {
            self.push_to(&self.ending, scope, name, write);
        }
    }

    fn push_to(
        &self,
        chunk: &Shared,
        scope: &InstrumentationScope,
        name: Option<&Cow<'static, str>>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut chunk = locked(chunk);
        let start = chunk.bytes.len();
        chunk.push(scope, name, write);
        // A large item goes alone: where it finds no room, those before it stay.
        if chunk.items > 1 && chunk.bytes.len() - start > self.chunk_bytes {
            let before = chunk.before_last(start);
            self.hand_over(before);
        }
        if chunk.bytes.len() >= self.chunk_bytes || chunk.items >= self.chunk_items {
            // A thread that has filled one fills the next, which then need not grow step by step.
            let next = Chunk {
                bytes: Vec::with_capacity(full_capacity(chunk.bytes.len().min(self.chunk_bytes))),
                ..Chunk::default()
            };
            let full = std::mem::replace(&mut *chunk, next);
            // Before the chunk is free: who drains it next finds the earlier items in the queues.
            self.hand_over(full);
        }
    }

    /// Hands over what the threads have begun, whole or not, and forgets threads that have ended. All that was finished
    /// before is in the queues afterwards, also where others drain at the same time: a queue may close then.
    pub(crate) fn drain(&self) {
        locked(&self.open).retain(|chunk| {
            // The only other owner is its thread. Asked first: what it finishes before it ends is taken below.
            let is_owned = Arc::strong_count(chunk) > 1;
            let mut own = locked(chunk);
            if own.items > 0 {
                self.hand_over(std::mem::take(&mut *own));
            }
            is_owned
        });
    }

    /// Gives `send` what `queue` gets until the process ends: batches as they fill, and all that there is when the queue's
    /// delay has passed or somebody waits for a flush. The thread of the queue's destination does nothing else. `send` also
    /// gives back the room that the batch took in the queue.
    pub(crate) fn serve(&self, queue: &Queue, send: impl Fn(&Taken) -> Flushed) {
        let send_next = || queue.take().map(|batch| send(&batch));
        let mut due = Instant::now() + queue.delay();
        let mut result = Ok(());
        loop {
            let wake = queue.wait(due);
            if let Wake::Full = wake {
                send_next(); // what became of it is counted
                continue;
            }
            self.drain();
            while let Some(sent) = send_next() {
                result = result.and(sent);
            }
            let (flushes, ends) = match wake {
                Wake::Due(flushes) => (flushes, false),
                _ => match queue.close() {
                    Some(flushes) => (flushes, true),
                    None => continue, // more has come meanwhile
                },
            };
            for flush in flushes {
                let _ = flush.send(result.clone()); // who no longer waits need not know
            }
            if ends {
                return;
            }
            result = Ok(());
            due = Instant::now() + queue.delay();
        }
    }

    fn hand_over(&self, mut chunk: Chunk) {
        let length = chunk.bytes.len();
        // Capacity is what counts as used, and that of a large item may be twice its length.
        if chunk.bytes.capacity() > 2 * length || length > 2 * self.chunk_bytes {
            chunk.bytes.shrink_to_fit();
        }
        let chunk = Arc::new(chunk);
        for queue in &self.queues {
            queue.offer(Arc::clone(&chunk));
        }
    }
}
