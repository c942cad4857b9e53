//! How deep a message nests, found out before it is decoded.
//!
//! prost counts its own recursion unless any crate of the build enables its feature `no-recursion-limit`, and `pprof_util` does. What comes from
//! outside is therefore looked at here first, in a loop: 20 kB of nested lists would otherwise overflow the stack, which ends the process.

use prost::encoding::decode_varint;

use super::schema::Message;

/// Messages and groups inside each other, as many as prost allows by default.
pub const DEEPEST: usize = 100;

/// Spans, records or points of one message, and messages of any type in it: decoded, they take many times the two bytes that an empty one takes.
pub const MOST_ITEMS: usize = 100_000;
const MOST_MESSAGES: usize = 2_000_000;

/// Why bytes are not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("its messages are nested more than {DEEPEST} deep")]
    TooDeep,
    #[error("it has more than {MOST_ITEMS} items")]
    TooMany,
    #[error("its fields cannot be read")]
    Malformed,
}

/// What encloses the bytes that are being read.
struct Level {
    /// Where it ends; of a group, where what encloses it does.
    end: usize,
    /// The message's type, `None` inside a field that the decoder skips.
    message: Option<&'static Message>,
    /// Number of the field that began a group.
    group: Option<u32>,
}

/// Checks that a message of this type can be decoded without recursing deeper than [`DEEPEST`], and into bounded memory. Gives the number of its
/// items: spans, records or points.
///
/// # Errors
/// When it nests deeper, has too many parts, or is no sequence of fields.
pub fn check(message: &'static Message, bytes: &[u8]) -> Result<usize, Refused> {
    let mut at = 0;
    let (mut items, mut messages) = (0, 0);
    let mut levels = vec![Level {
        end: bytes.len(),
        message: Some(message),
        group: None,
    }];
    while let Some(level) = levels.last() {
        if at == level.end {
            if level.group.is_some() {
                return Err(Refused::Malformed);
            }
            levels.pop();
            continue;
        }
        let end = level.end;
        let key = varint(bytes, &mut at, end)?;
        let number = u32::try_from(key >> 3).map_err(|_| Refused::Malformed)?;
        match key & 7 {
            0 => {
                varint(bytes, &mut at, end)?;
            }
            1 => at += 8,
            5 => at += 4,
            2 => {
                let length = varint(bytes, &mut at, end)?;
                let length = usize::try_from(length).map_err(|_| Refused::Malformed)?;
                if length > end - at {
                    return Err(Refused::Malformed);
                }
                let nested = level
                    .message
                    .and_then(|message| message.field(number)?.kind.message());
                match nested {
                    Some(message) => {
                        messages += 1;
                        items += usize::from(message.item);
                        if items > MOST_ITEMS || messages > MOST_MESSAGES {
                            return Err(Refused::TooMany);
                        }
                        levels.push(Level {
                            end: at + length,
                            message: nested,
                            group: None,
                        });
                    }
                    None => at += length,
                }
            }
            3 => levels.push(Level {
                end,
                message: None,
                group: Some(number),
            }),
            4 if level.group == Some(number) => {
                levels.pop();
            }
            _ => return Err(Refused::Malformed),
        }
        if levels.len() > DEEPEST + 1 {
            return Err(Refused::TooDeep);
        }
        if at > end {
            return Err(Refused::Malformed);
        }
    }
    Ok(items)
}

/// Checks that JSON nests no deeper than serde_json would go, for the same reason: a feature could switch that limit off as well.
///
/// # Errors
/// When it nests deeper.
pub fn check_json(bytes: &[u8]) -> Result<(), Refused> {
    const DEEPEST_JSON: usize = 127;
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > DEEPEST_JSON {
                    return Err(Refused::TooDeep);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn varint(bytes: &[u8], at: &mut usize, end: usize) -> Result<u64, Refused> {
    let mut rest = bytes.get(*at..end).ok_or(Refused::Malformed)?;
    let value = decode_varint(&mut rest).map_err(|_| Refused::Malformed)?;
    *at = end - rest.len();
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::schema::{LOGS, PROFILE, PUSH, TRACES};

    /// `inside` as a field of that number, again and again.
    fn nested(fields: &[u8], times: usize, mut inside: Vec<u8>) -> Vec<u8> {
        for _ in 0..times {
            for field in fields {
                let mut outside = vec![field << 3 | 2];
                prost::encoding::encode_varint(inside.len() as u64, &mut outside);
                outside.extend(inside);
                inside = outside;
            }
        }
        inside
    }

    #[test]
    fn nested_values_are_counted_and_texts_are_not() {
        // A record (1 2 2) with an attribute (6) whose value (2) is a list (5) of values (1).
        let of_lists = |lists| nested(&[2, 6, 2, 2, 1], 1, nested(&[1, 5], lists, vec![]));
        assert_eq!(check(&LOGS, &of_lists(40)), Ok(1));
        for lists in [60, 1500, 10_000, 60_000] {
            let checked = check(&LOGS, &of_lists(lists));
            assert_eq!(checked, Err(Refused::TooDeep), "{lists}");
        }
        // The same bytes as the text of an attribute's value.
        let text = nested(&[1, 2, 6, 2, 2, 1], 1, nested(&[1, 5], 200, vec![]));
        assert_eq!(check(&LOGS, &text), Ok(1));
    }

    #[test]
    fn groups_are_counted_wherever_they_stand() {
        for levels in [101, 1500, 10_000, 60_000] {
            let groups = [[0x9b, 0x06].repeat(levels), [0x9c, 0x06].repeat(levels)].concat();
            for (message, fields) in [
                (&TRACES, &[][..]),
                (&PUSH, &[]),
                (&PROFILE, &[]),
                (&TRACES, &[15, 2, 2, 1]), // in the status of a span
                (&PROFILE, &[4, 4]),       // in the line of a location
            ] {
                let checked = check(message, &nested(fields, 1, groups.clone()));
                assert_eq!(checked, Err(Refused::TooDeep), "{levels}");
            }
        }
        let few = [[0x9b, 0x06].repeat(50), [0x9c, 0x06].repeat(50)].concat();
        assert_eq!(check(&TRACES, &few), Ok(0));
    }

    #[test]
    fn what_would_take_much_memory_is_refused_before_it_is_decoded() {
        let spans = |count: usize| nested(&[2, 1], 1, [0x12, 0].repeat(count));
        assert_eq!(check(&TRACES, &spans(MOST_ITEMS)), Ok(MOST_ITEMS));
        let more = spans(MOST_ITEMS + 1);
        assert_eq!(check(&TRACES, &more), Err(Refused::TooMany));
        let attributes = nested(&[2, 2, 1], 1, [0x4a, 0].repeat(MOST_MESSAGES));
        assert_eq!(check(&TRACES, &attributes), Err(Refused::TooMany));
    }

    #[test]
    fn what_is_no_sequence_of_fields_is_refused() {
        for bytes in [
            &[0x0a, 0x05][..],
            &[0x80],
            &[0x9b, 0x06],
            &[0x9c, 0x06],
            &[0x9b, 0x06, 0xa4, 0x06],
            &[0x0f],
            &[0x09, 1, 2],
            &[0xff; 12],
        ] {
            assert_eq!(check(&TRACES, bytes), Err(Refused::Malformed), "{bytes:x?}");
        }
    }

    #[test]
    fn brackets_in_texts_are_no_depth() {
        assert_eq!(check_json(br#"{"a":"[[[\"[[["}"#), Ok(()));
        for levels in [128, 1500, 10_000, 60_000] {
            let lists = "[".repeat(levels);
            assert_eq!(check_json(lists.as_bytes()), Err(Refused::TooDeep));
        }
        let lists = ["[".repeat(127), "]".repeat(127)].concat();
        assert_eq!(check_json(lists.as_bytes()), Ok(()));
    }
}
