//! Texts that are not UTF-8. Protobuf demands it, yet some languages' encoders do not check it: a file name, a header or the name of a C++ function
//! may be in any encoding. prost refuses the whole message for one such byte, and with it every neighbour.

use super::depth::varint;
use super::schema::{Kind, Message};

/// Decodes a message of this type that [`super::depth::check`] has let pass. Where a text is not UTF-8, `?` takes the place of each byte that is
/// wrong; says whether there was one.
///
/// # Errors
/// When the bytes are no such message.
pub fn decode<T: prost::Message + Default>(
    message: &'static Message,
    bytes: &[u8],
) -> Result<(T, bool), prost::DecodeError> {
    let error = match T::decode(bytes) {
        Ok(decoded) => return Ok((decoded, false)),
        Err(error) => error,
    };
    let mut mended = bytes.to_vec();
    if !mend(Some(message), &mut mended) {
        return Err(error);
    }
    Ok((T::decode(mended.as_slice())?, true))
}

/// Replaces what is not UTF-8 in the texts of a message; says whether there was any. As `?` is one byte, all lengths stay as they are.
fn mend(message: Option<&'static Message>, bytes: &mut [u8]) -> bool {
    let (mut at, end, mut groups, mut any) = (0, bytes.len(), 0_usize, false);
    while at < end {
        let Ok(key) = varint(bytes, &mut at, end) else {
            return any;
        };
        match key & 7 {
            0 => {
                let _ = varint(bytes, &mut at, end);
            }
            1 => at += 8,
            5 => at += 4,
            2 => {
                let length = varint(bytes, &mut at, end).unwrap_or_default() as usize;
                let begin = at.min(end);
                at = at.saturating_add(length);
                let content = &mut bytes[begin..at.min(end)];
                let field = message
                    .filter(|_| groups == 0)
                    .and_then(|message| message.field((key >> 3) as u32));
                match field.map(|field| field.kind) {
                    Some(Kind::String) => any |= mend_text(content),
                    Some(kind) if kind.message().is_some() => any |= mend(kind.message(), content),
                    _ => {}
                }
            }
            3 => groups += 1,
            _ => groups = groups.saturating_sub(1),
        }
    }
    any
}

fn mend_text(mut text: &mut [u8]) -> bool {
    let mut any = false;
    while let Err(error) = std::str::from_utf8(text) {
        any = true;
        let (begin, rest) = (error.valid_up_to(), text.len());
        let end = error.error_len().map_or(rest, |length| begin + length);
        text[begin..end].fill(b'?');
        text = &mut text[end..];
    }
    any
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

    use super::*;
    use crate::wire::schema::TRACES;

    #[test]
    fn only_what_is_no_utf_8_is_replaced() {
        for (given, expected, changed) in [
            (&b"caf\xc3\xa9"[..], &b"caf\xc3\xa9"[..], false),
            (b"caf\xe9 au lait", b"caf? au lait", true),
            (b"\xff\xfe\xc3\xa9\xc3", b"??\xc3\xa9?", true),
            (b"\xf0\x9f\x98", b"???", true),
            (b"", b"", false),
        ] {
            let mut text = given.to_vec();
            assert_eq!(mend_text(&mut text), changed, "{given:x?}");
            assert_eq!(text, expected, "{given:x?}");
        }
    }

    #[test]
    fn texts_are_mended_where_the_message_has_texts_and_nowhere_else() {
        // A span (1 2 2) with the trace id (1) and the name (5) 0xff, and the same name in a group that is unknown.
        let span = [
            &[0x0a, 1, 0xff, 0x2a, 1, 0xff][..],
            &[0x9b, 0x06, 0x2a, 1, 0xff, 0x9c, 0x06],
        ]
        .concat();
        let bytes = [2, 2, 1].iter().fold(span, |inside, field| {
            [&[field << 3 | 2, inside.len() as u8][..], &inside].concat()
        });
        let (request, changed): (ExportTraceServiceRequest, bool) =
            decode(&TRACES, &bytes).expect("a message");
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert!(
            changed && span.name == "?" && span.trace_id == [0xff],
            "{span:?}"
        );
        // What is wrong in another way stays refused: a name that is a number.
        let number = [0x0a, 4, 0x12, 2, 0x10, 5];
        assert!(decode::<ExportTraceServiceRequest>(&TRACES, &number).is_err());
    }
}
