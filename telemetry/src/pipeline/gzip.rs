//! Compresses the batches of a signal, one after the other.
use flate2::{Compress, Compression, FlushCompress, Status};

/// Bytes that are compressed before they are appended to a batch.
const ROOM: usize = 16 * 1024;
/// 32 KiB of what came before are searched, as in every gzip.
const WINDOW_BITS: u8 = 15;

/// A compressor of level 1 that is kept from batch to batch: making one clears 400 KiB, beginning anew a third of that.
#[derive(Debug)]
pub(crate) struct Gzip {
    compressor: Compress,
    /// What it writes to. `compress_vec` would clear all that a vector has left, again and again.
    room: Box<[u8; ROOM]>,
}

impl Gzip {
    pub(crate) fn new() -> Self {
        Self {
            compressor: Compress::new_gzip(Compression::fast(), WINDOW_BITS),
            room: Box::new([0; ROOM]),
        }
    }

    /// `pieces`, joined and compressed.
    pub(crate) fn compress<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        self.compressor.reset();
        let mut out = Vec::new();
        for piece in pieces {
            self.write(&mut out, piece, FlushCompress::None);
        }
        self.write(&mut out, &[], FlushCompress::Finish);
        out
    }

    fn write(&mut self, out: &mut Vec<u8>, mut input: &[u8], flush: FlushCompress) {
        loop {
            let (read, written) = (self.compressor.total_in(), self.compressor.total_out());
            // It fails only where it goes on after its end.
            let Ok(status) = self.compressor.compress(input, &mut self.room[..], flush) else {
                return;
            };
            input = &input[(self.compressor.total_in() - read) as usize..];
            out.extend_from_slice(&self.room[..(self.compressor.total_out() - written) as usize]);
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => input.is_empty(),
            };
            if done {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn each_batch_is_a_whole_gzip() {
        let mut gzip = Gzip::new();
        // From what compresses to nothing to what does not at all, which is more than there is room for.
        let noise = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
        let noise: Vec<u8> = noise.collect();
        let same = [b"a span like the one before ".as_slice(); 9000];
        let batches: [&[&[u8]]; 5] = [&[], &[b""], &same, &[&noise, b"", &noise[..7]], &[b"x"]];
        for batch in batches {
            let mut plain = Vec::new();
            let compressed = gzip.compress(batch.iter().copied());
            let mut decoder = GzDecoder::new(&*compressed);
            decoder.read_to_end(&mut plain).unwrap();
            assert_eq!(plain, batch.concat());
            assert!(decoder.into_inner().is_empty(), "nothing comes after it");
        }
    }
}
