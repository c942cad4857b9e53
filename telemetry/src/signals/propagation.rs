//! The caller's context, by the rules of W3C: <https://www.w3.org/TR/trace-context/>, <https://www.w3.org/TR/baggage/>.
use std::cell::OnceCell;

use opentelemetry::Context;
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{
    Extractor, Injector, TextMapCompositePropagator, TextMapPropagator,
};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

use crate::base::settings::Propagators;

const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";

/// Members a `tracestate` may have; one with more is dropped whole.
const TRACE_STATE_MEMBERS: usize = 32;

/// The propagators that the settings name.
pub(crate) fn propagator(settings: Propagators) -> Propagator {
    let mut propagators: Vec<Box<dyn TextMapPropagator + Send + Sync>> = Vec::new();
    if settings.trace_context {
        propagators.push(Box::new(Strict(TraceContextPropagator::new())));
    }
    if settings.baggage {
        propagators.push(Box::new(Strict(BaggagePropagator::new())));
    }
    Propagator(TextMapCompositePropagator::new(propagators))
}

/// What reads and writes the context of messages; by default nothing does.
#[derive(Debug)]
pub(crate) struct Propagator(TextMapCompositePropagator);

impl Default for Propagator {
    fn default() -> Self {
        Self(TextMapCompositePropagator::new(Vec::new()))
    }
}

impl std::ops::Deref for Propagator {
    type Target = TextMapCompositePropagator;

    fn deref(&self) -> &TextMapCompositePropagator {
        &self.0
    }
}

/// A propagator of the SDK that is shown headers as W3C wants them read. By itself it sees the first line of each
/// header only, and continues a trace whose id is too short or that two callers claim.
#[derive(Debug)]
struct Strict<P>(P);

impl<P: TextMapPropagator> TextMapPropagator for Strict<P> {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        self.0.inject_context(context, injector);
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        let joined = OnceCell::new();
        let headers = Headers { extractor, joined };
        self.0.extract_with_context(context, &headers)
    }

    fn fields(&self) -> FieldIter<'_> {
        self.0.fields()
    }
}

/// Headers, each as one line.
struct Headers<'a> {
    extractor: &'a dyn Extractor,
    /// The one header of the propagator that may stand on several lines.
    joined: OnceCell<String>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let lines = self.extractor.get_all(key)?;
        match (key, lines.as_slice()) {
            (_, []) => None,
            // Two callers that name a parent: neither is believed, and the trace is a new one.
            (TRACE_PARENT, [line]) => Some(line.trim()).filter(|line| is_trace_parent(line)),
            (TRACE_PARENT, _) => None,
            (_, [line]) => Some(*line),
            _ => Some(self.joined.get_or_init(|| lines.join(",")).as_str()),
        }
        .filter(|line| key != TRACE_STATE || members(line) <= TRACE_STATE_MEMBERS)
    }

    fn keys(&self) -> Vec<&str> {
        self.extractor.keys()
    }
}

/// Whether `text` has the form of a `traceparent`. That neither id is zero, the SDK looks itself.
fn is_trace_parent(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = |range| {
        let digits: Option<&[u8]> = bytes.get::<std::ops::Range<usize>>(range);
        let lower = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        digits.is_some_and(|digits| digits.iter().all(lower))
    };
    let dash = |at| bytes.get(at) == Some(&b'-');
    let fields = hex(0..2) && dash(2) && hex(3..35) && dash(35) && hex(36..52) && dash(52);
    // Versions to come may append fields; ff will never be one.
    let end = bytes.len() == 55 || !text.starts_with("00") && dash(55);
    fields && hex(53..55) && end && !text.starts_with("ff")
}

fn members(tracestate: &str) -> usize {
    let members = tracestate.split(',').map(str::trim);
    members.filter(|member| !member.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::baggage::BaggageExt;
    use opentelemetry::trace::TraceContextExt;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    struct Lines<'a>(&'a [(&'a str, &'a str)]);

    impl Extractor for Lines<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.get_all(key)?.first().copied()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.iter().map(|(name, _)| *name).collect()
        }

        fn get_all(&self, key: &str) -> Option<Vec<&str>> {
            let lines = self.0.iter().filter(|(name, _)| *name == key);
            let lines: Vec<&str> = lines.map(|(_, line)| *line).collect();
            (!lines.is_empty()).then_some(lines)
        }
    }

    fn extract(lines: &[(&str, &str)]) -> Context {
        let both = Propagators {
            trace_context: true,
            baggage: true,
        };
        propagator(both).extract_with_context(&Context::new(), &Lines(lines))
    }

    fn trace_id(lines: &[(&str, &str)]) -> Option<String> {
        let context = extract(lines);
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| ids.trace_id().to_string())
    }

    #[test]
    fn only_a_trace_parent_of_the_right_form_is_continued() {
        let known = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
        let later = PARENT.replacen("00", "cc", 1);
        for parent in [
            PARENT.to_owned(),
            format!(" {PARENT}\t"),
            PARENT.replace("-01", "-ff"),
            later.clone(),
            format!("{later}-what-comes"),
            format!("{later}-"),
        ] {
            assert_eq!(trace_id(&[(TRACE_PARENT, &parent)]), known, "{parent}");
        }
        for parent in [
            "",
            "00-abc-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033-01",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replace("-01", "-0A"),
            &PARENT.replace('-', "_"),
            &format!("{PARENT}-"),
            &format!("{PARENT}-what-comes"),
            &format!("{later}x"),
            &format!("{PARENT},{PARENT}"),
        ] {
            assert_eq!(trace_id(&[(TRACE_PARENT, parent)]), None, "{parent}");
        }
    }

    #[test]
    fn two_parents_are_none() {
        let other = PARENT.replace("0af7", "1af7");
        for second in [PARENT, other.as_str(), "", "x"] {
            let lines = [(TRACE_PARENT, PARENT), (TRACE_PARENT, second)];
            assert_eq!(trace_id(&lines), None, "{second}");
        }
    }

    #[test]
    fn lines_of_a_list_are_joined() {
        let state = |lines: &[&str]| {
            let states = lines.iter().map(|line| (TRACE_STATE, *line));
            let lines: Vec<_> = [(TRACE_PARENT, PARENT)].into_iter().chain(states).collect();
            let context = extract(&lines);
            context.span().span_context().trace_state().header()
        };
        assert_eq!(state(&["a=1", "b=2"]), "a=1,b=2");
        assert_eq!(state(&["a=1, b=2", "", "c=3"]), "a=1,b=2,c=3");
        let many: Vec<String> = (0..33).map(|n| format!("k{n}={n}")).collect();
        assert_eq!(state(&[&many[..32].join(",")]), many[..32].join(","));
        assert_eq!(state(&[&many.join(",")]), "", "one member too many");
        assert_eq!(state(&[&many[..20].join(","), &many[20..].join(",")]), "");
        assert_eq!(state(&["no member"]), "");

        let baggage = extract(&[("baggage", "a=1"), ("baggage", "b=2,c=3")]);
        let baggage = baggage.baggage();
        let values = ["a", "b", "c"].map(|key| baggage.get(key).map(ToString::to_string));
        assert_eq!(values, ["1", "2", "3"].map(|value| Some(value.to_owned())));
        let long = format!("a={}", "x".repeat(9000));
        assert_eq!(extract(&[("baggage", &long)]).baggage().len(), 0);
        assert_eq!(
            trace_id(&[(TRACE_PARENT, PARENT), ("baggage", &long)]).map(|id| id.len()),
            Some(32)
        );
    }
}
