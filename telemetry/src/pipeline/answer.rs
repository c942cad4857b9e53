//! What a collector says of a request that it accepted.
//!
//! `opentelemetry-proto` could decode it, but not safely: nested groups among unknown fields make `prost` call itself, and
//! a crate anywhere in the program can switch off the limit of that (`prost/no-recursion-limit`; features are united over
//! all crates). Sixty thousand bytes of an answer then overflow the stack. This reads the two fields that matter in a
//! loop, and ignores an answer that has anything nested.

use std::io::Read;
use std::time::Instant;

use super::encoding::{Field, Fields};

/// Bytes of an answer that are read at most: a collector's is some bytes long, whatever else answers must not fill the
/// memory.
const MAX_ANSWER: usize = 64 * 1024;

/// The answer's body as far as it comes before `until`; the connection of one that does not end is given up.
pub(crate) fn read_answer(mut response: reqwest::blocking::Response, until: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    let mut piece = [0; 1024];
    while body.len() < MAX_ANSWER && Instant::now() < until {
        match response.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(length) => body.extend_from_slice(&piece[..length]),
        }
    }
    body
}

/// What an `Export…ServiceResponse` says in its `partial_success`. The fields have the same numbers for all signals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PartialSuccess {
    /// Items that the collector dropped.
    pub(crate) rejected: u64,
    pub(crate) message: String,
}

/// Reads `body`; `None` if it has no `partial_success` or is none of these messages.
pub(crate) fn partial_success(body: &[u8]) -> Option<PartialSuccess> {
    let mut partial = None;
    for field in Fields(body) {
        match field? {
            (1, Field::Bytes(message)) => partial = Some(message),
            _ => continue,
        }
    }
    let mut result = PartialSuccess::default();
    for field in Fields(partial?) {
        match field? {
            // An int64: a negative one is nonsense and counts as none.
            (1, Field::Varint(count)) => result.rejected = (count as i64).max(0) as u64,
            (2, Field::Bytes(message)) => {
                result.message = std::str::from_utf8(message).ok()?.to_owned()
            }
            _ => continue,
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceResponse,
    };
    use prost::Message;

    #[test]
    fn the_rejected_are_read_as_they_were_written() {
        for (rejected, message) in [(0, ""), (1, "no"), (i64::MAX, "äöü")] {
            let answer = ExportLogsServiceResponse {
                partial_success: Some(ExportLogsPartialSuccess {
                    rejected_log_records: rejected,
                    error_message: message.to_owned(),
                }),
            };
            let expected = PartialSuccess {
                rejected: rejected as u64,
                message: message.to_owned(),
            };
            assert_eq!(partial_success(&answer.encode_to_vec()), Some(expected));
        }
        assert_eq!(partial_success(&[]), None);
    }

    #[test]
    fn unknown_fields_are_passed_over() {
        // 7: varint, 8: fixed64, 9: fixed32, then the partial success with an unknown field 5 of its own.
        let mut body = vec![
            7 << 3,
            1,
            8 << 3 | 1,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            9 << 3 | 5,
            0,
            0,
            0,
            0,
        ];
        body.extend_from_slice(&[1 << 3 | 2, 5, 1 << 3, 3, 5 << 3 | 2, 1, 0]);
        assert_eq!(
            partial_success(&body).map(|partial| partial.rejected),
            Some(3)
        );
    }

    #[test]
    fn an_answer_of_any_depth_is_ignored() {
        // Groups within groups, as deep as the answer is long.
        let group = vec![3 << 3 | 3; 60_000];
        assert_eq!(partial_success(&group), None);
        // The same inside of a partial success, where it is an unknown field.
        let mut inside = vec![1 << 3 | 2];
        inside.extend_from_slice(&[0xe0, 0xd4, 0x03]); // 60,000
        inside.extend_from_slice(&group);
        assert_eq!(partial_success(&inside), None);
    }

    #[test]
    fn what_is_no_message_is_ignored() {
        let negative = [
            1 << 3 | 2,
            11,
            1 << 3,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            1,
        ];
        assert_eq!(
            partial_success(&negative).map(|partial| partial.rejected),
            Some(0)
        );
        for body in [
            b"<html>502 Bad Gateway</html>".as_slice(),
            &[0xff; 32],
            &[1 << 3 | 2, 5, 1 << 3, 3],           // shorter than it says
            &[1 << 3 | 2, 3, 2 << 3 | 2, 1, 0xff], // no UTF-8
        ] {
            assert_eq!(partial_success(body), None, "{body:?}");
        }
    }
}
