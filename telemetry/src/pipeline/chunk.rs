//! Encoded items on their way: what a thread fills, what queues hold, and what is sent.
use std::borrow::Cow;

use opentelemetry::InstrumentationScope;

use super::encoding::{ITEM, Run, long_message};

/// How many runs back a scope is looked for that may be used again.
const SCOPES_SEARCHED: usize = 8;
/// Bytes of a chunk that has just been begun. Most threads write little.
const FIRST_BYTES: usize = 4 * 1024;

/// Encoded items of one thread, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) runs: Vec<Run>,
    pub(super) items: usize,
}

impl Chunk {
    /// Bytes of memory that it holds.
    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity()
    }

    /// Each run with its encoded items.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&Run, &[u8])> + Clone {
        let ends = self.runs.iter().skip(1).map(|next| next.start);
        let ends = ends.chain(std::iter::once(self.bytes.len()));
        self.runs
            .iter()
            .zip(ends)
            .map(|(run, end)| (run, &self.bytes[run.start..end]))
    }

    /// Appends the item that `write` encodes.
    pub(super) fn push(
        &mut self,
        scope: &InstrumentationScope,
        name: Option<&Cow<'static, str>>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(FIRST_BYTES);
        }
        let goes_on = |run: &Run| run.continues(scope, name);
        if !self.runs.last().is_some_and(goes_on) {
            // A request's records are of few scopes, which take turns.
            let start = self.bytes.len();
            let mut before = self.runs.iter().rev().take(SCOPES_SEARCHED);
            let known = before.find(|run| goes_on(run));
            let run = known.map_or_else(|| Run::new(scope, name, start), |run| run.again(start));
            self.runs.push(run);
        }
        long_message(&mut self.bytes, ITEM, write);
        self.items += 1;
        if let Some(run) = self.runs.last_mut() {
            run.items += 1;
        }
    }

    /// Takes out what comes before the last item, which begins at `start`.
    pub(super) fn before_last(&mut self, start: usize) -> Self {
        let mut runs = std::mem::take(&mut self.runs);
        if let Some(mut run) = runs.pop() {
            self.runs.push(Run {
                items: 1,
                ..run.again(0)
            });
            run.items -= 1;
            if run.items > 0 {
                runs.push(run);
            }
        }
        Self {
            bytes: self.bytes.drain(..start).collect(),
            runs,
            items: std::mem::replace(&mut self.items, 1) - 1,
        }
    }
}
