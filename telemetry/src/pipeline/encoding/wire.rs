//! Protobuf's wire format: <https://protobuf.dev/programming-guides/encoding/>.

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

/// As [`bytes`]; an empty text is what an absent field means and is left out.
pub(super) fn text(out: &mut Vec<u8>, number: u8, value: &str) {
    if !value.is_empty() {
        bytes(out, number, value.as_bytes());
    }
}

/// Field `number` (at most 15) as the message that `write` appends.
///
/// Its length comes before it and is known after it. Most messages are shorter than 128 bytes, so one byte is left for
/// the length; a longer message is moved by the bytes that are missing.
pub(crate) fn message(out: &mut Vec<u8>, number: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[delimited(number), 0]);
    let start = out.len();
    write(out);
    let length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
    } else {
        insert_length(out, start, length);
    }
}

fn insert_length(out: &mut Vec<u8>, start: usize, length: usize) {
    let mut prefix = [0; 10];
    let mut size = 0;
    let mut rest = length;
    while rest >= 0x80 {
        prefix[size] = rest as u8 | 0x80;
        rest >>= 7;
        size += 1;
    }
    prefix[size] = rest as u8;
    let moved = start + size;
    out.resize(moved + length, 0);
    out.copy_within(start..start + length, moved);
    out[start - 1..moved].copy_from_slice(&prefix[..=size]);
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
