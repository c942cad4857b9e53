//! Protobuf's wire format: <https://protobuf.dev/programming-guides/encoding/>.
use std::ops::Range;

use opentelemetry::trace::{SpanId, TraceId};

/// Wire types, the lowest three bits of a field's tag.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED32: u8 = 5;

pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What stands before the `length` bytes of field `number` (at most 15).
pub(super) fn head(out: &mut Vec<u8>, number: u8, length: usize) {
    out.push(delimited(number));
    varint(out, length as u64);
}

/// Bytes of [`head`].
pub(super) fn head_size(length: usize) -> usize {
    let bits = usize::BITS - (length | 1).leading_zeros();
    1 + bits.div_ceil(7) as usize
}

/// Tag of the length-delimited field `number`, which is at most 15.
pub(super) const fn delimited(number: u8) -> u8 {
    number << 3 | LENGTH_DELIMITED
}

/// Field `number` (at most 15) as an integer.
pub(super) fn integer(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3 | VARINT);
    varint(out, value);
}

/// As [`integer`]; 0 is what an absent field means and is left out.
pub(super) fn count(out: &mut Vec<u8>, number: u8, value: u32) {
    if value > 0 {
        integer(out, number, u64::from(value));
    }
}

pub(super) fn fixed64(out: &mut Vec<u8>, number: u8, value: u64) {
    let mut field = [number << 3 | FIXED64; 9];
    field[1..].copy_from_slice(&value.to_le_bytes());
    out.extend_from_slice(&field);
}

/// Field `number`, which may exceed 15, as four bytes.
pub(super) fn fixed32(out: &mut Vec<u8>, number: u64, value: u32) {
    varint(out, number << 3 | u64::from(FIXED32));
    out.extend_from_slice(&value.to_le_bytes());
}

/// Field `number` (at most 15) as bytes, present even if empty.
pub(super) fn bytes(out: &mut Vec<u8>, number: u8, value: &[u8]) {
    head(out, number, value.len());
    out.extend_from_slice(value);
}

/// Fields `first` and `first + 1` (at most 15) as the ids of a trace and of its span, which every item has. In one piece.
pub(super) fn ids(out: &mut Vec<u8>, first: u8, trace: TraceId, span: SpanId) {
    let mut fields = [0; 2 + 16 + 2 + 8];
    fields[..2].copy_from_slice(&[delimited(first), 16]);
    fields[2..18].copy_from_slice(&trace.to_bytes());
    fields[18..20].copy_from_slice(&[delimited(first + 1), 8]);
    fields[20..].copy_from_slice(&span.to_bytes());
    out.extend_from_slice(&fields);
}

/// As [`bytes`]; an empty text is what an absent field means and is left out.
pub(super) fn text(out: &mut Vec<u8>, number: u8, value: &str) {
    if !value.is_empty() {
        bytes(out, number, value.as_bytes());
    }
}

/// Field `number` (at most 15) as the message that `write` appends.
///
/// Its length comes before it and is known after it. One byte is left for it, which is enough for what is nested.
pub(crate) fn message(out: &mut Vec<u8>, number: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[delimited(number), 0]);
    let start = out.len();
    write(out);
    match out.len() - start {
        length @ 0..0x80 => out[start - 1] = length as u8,
        length => replace_length(out, start - 1..start, length),
    }
}

/// As [`message`], with two bytes for the length, which is that of most spans and records. A short one keeps both: a varint
/// may end in groups of zeros, as every decoder must accept.
pub(crate) fn long_message(out: &mut Vec<u8>, number: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[delimited(number), 0, 0]);
    let start = out.len();
    write(out);
    match out.len() - start {
        length @ 0..0x4000 => {
            out[start - 2] = length as u8 | 0x80;
            out[start - 1] = (length >> 7) as u8;
        }
        length => replace_length(out, start - 2..start, length),
    }
}

/// Puts `length` in the place that was left for it, and moves what follows.
fn replace_length(out: &mut Vec<u8>, place: Range<usize>, length: usize) {
    let mut prefix = Vec::new();
    varint(&mut prefix, length as u64);
    out.splice(place, prefix);
}

/// The fields of a message, by number; `None` where the bytes are no message that could be read without nesting.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

/// A field's value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed64(u64),
    /// Nothing that is read has one.
    Fixed32,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.bytes(usize::try_from(length).ok()?)?)
            }
            5 => self.fixed::<4>().map(|_| Field::Fixed32)?,
            // Groups, which nest and which OTLP has none of, and what is no wire type.
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_before_it() {
        for length in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x20_0000] {
            let content = vec![7; length];
            let mut out = b"before".to_vec();
            message(&mut out, 1, |out| out.extend_from_slice(&content));
            long_message(&mut out, 2, |out| out.extend_from_slice(&content));
            let fields: Vec<_> = Fields(&out[6..]).map(|field| field.unwrap()).collect();
            assert_eq!(fields.len(), 2);
            for ((number, field), expected) in fields.into_iter().zip([1, 2]) {
                assert_eq!(number, expected);
                assert!(
                    matches!(field, Field::Bytes(bytes) if bytes == content),
                    "{length}"
                );
            }
            // No byte more than the lengths need, but for the second one of a short length.
            let spare = usize::from(length < 0x80);
            assert_eq!(out.len(), 6 + 2 * (head_size(length) + length) + spare);
        }
    }
}
