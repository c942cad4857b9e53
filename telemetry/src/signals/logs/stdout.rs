//! Records as lines on stdout, written by a thread of its own: a reader that stalls must not stop the service.
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;

use super::line;
use crate::Error;
use crate::base::settings::{Batch, LogFormat};
use crate::pipeline::buffers::Buffers;
use crate::pipeline::chunk::Chunk;
use crate::pipeline::encoding;
use crate::pipeline::queue::{Queue, Taken};

/// Longest wait before a line is written, which is soon enough for who watches.
const DELAY: Duration = Duration::from_millis(100);
/// Bytes of lines that are written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// The batch of stdout: `batch` is that of the records.
pub(super) fn batch(batch: Batch) -> Batch {
    Batch {
        delay: DELAY,
        ..batch
    }
}

/// Stdout's part of what [`crate::Guard`] owns.
#[derive(Debug, Clone)]
pub(crate) struct Stdout(Arc<Queue>);

impl Stdout {
    /// Writes what waits, for `timeout` at most.
    pub(crate) fn flush(&self, timeout: Duration) -> OTelSdkResult {
        self.0.flush(timeout)
    }
}

/// Starts the thread that writes what `queue` holds.
pub(super) fn start(
    format: LogFormat,
    request_id: &'static str,
    buffers: &Arc<Buffers>,
    queue: &Arc<Queue>,
) -> Result<Stdout, Error> {
    let writer = Writer {
        human: format == LogFormat::Human,
        request_id,
        queue: Arc::clone(queue),
    };
    let buffers = Arc::clone(buffers);
    std::thread::Builder::new()
        .name("stdout".to_owned())
        .spawn(move || {
            buffers.serve(&writer.queue, |batch| {
                writer.write_batch(batch);
                Ok(())
            });
        })
        .map_err(|error| Error(format!("no thread for stdout: {error}")))?;
    Ok(Stdout(Arc::clone(queue)))
}

struct Writer {
    human: bool,
    request_id: &'static str,
    queue: Arc<Queue>,
}

impl Writer {
    fn write_batch(&self, batch: &Taken) {
        let mut lines = Vec::with_capacity(WRITE_BYTES + WRITE_BYTES / 8);
        let mut clock = line::Clock::default();
        for chunk in &batch.chunks {
            self.write_chunk(&mut lines, &mut clock, chunk);
        }
        print(&mut lines);
        self.queue.release();
        self.queue.counts.leave(batch.items);
    }

    fn write_chunk(&self, lines: &mut Vec<u8>, clock: &mut line::Clock, chunk: &Chunk) {
        for (run, items) in self.queue.taken(chunk) {
            let target = run.scope.name();
            for record in encoding::items(items) {
                line::write(lines, clock, self.human, self.request_id, target, record);
                if lines.len() >= WRITE_BYTES {
                    print(lines);
                }
            }
        }
    }
}

/// Writes whole lines, and empties `lines`.
fn print(lines: &mut Vec<u8>) {
    // A closed stdout must not stop the service, and there is nowhere else to say so.
    let _ = std::io::stdout().lock().write_all(lines);
    lines.clear();
}
