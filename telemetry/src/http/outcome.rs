//! What a route, method and status imply: names, messages and attribute sets are made once and kept.
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use opentelemetry::{KeyValue, StringValue};
use thread_local::ThreadLocal;

use super::{CANCELLED, METHODS, method_in_name, scheme};
use crate::base::names::Names;
use crate::base::{interned, locked};
use crate::signals::logs::Access;
use crate::signals::metrics::{Histogram, Series};

/// Targets that a thread keeps, and texts that are kept for all. Routes are patterns and few; a program that takes paths
/// for routes has each made anew beyond this many.
const MOST_KEPT: usize = 2000;
/// Outcomes of one target that are kept: they are searched one after the other.
const MOST_OUTCOMES: usize = 32;

/// What a request is for, as far as it is one of few: method, scheme and route.
#[derive(Debug)]
pub(crate) struct Target {
    /// Index in [`METHODS`].
    method: usize,
    route: Option<Cow<'static, str>>,
    /// Name of the span. An unknown method is called `HTTP` in it.
    pub(crate) span_name: Cow<'static, str>,
    /// Attributes of span and metric; the first two are method and scheme.
    pub(crate) attributes: Vec<KeyValue>,
    outcomes: Mutex<Vec<Known>>,
}

/// An outcome that has been made, and what it was made of.
#[derive(Debug)]
struct Known {
    end: End,
    annotations: Vec<KeyValue>,
    outcome: Arc<Outcome>,
}

/// How a request ended: an answer's status, or why there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Status(u16),
    Unanswered(&'static str),
}

impl End {
    /// Whether it was the server's fault.
    pub(crate) fn failed(self) -> bool {
        match self {
            Self::Status(status) => status >= 500,
            Self::Unanswered(error) => error != CANCELLED,
        }
    }
}

/// What an outcome is recorded with.
#[derive(Clone, Copy)]
pub(crate) struct Recorder<'a> {
    /// Names of what is logged; nothing is without.
    pub(crate) names: Option<&'a Names>,
    /// The durations of all requests.
    pub(crate) duration: &'a Histogram,
}

/// What is recorded of a request at its end.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Message of the access-log record; `None` where no route matched, as paths are without number.
    pub(crate) message: Option<StringValue>,
    /// Attributes of metric, span and log record: those of the target, and then what is known at the end.
    pub(crate) attributes: Vec<KeyValue>,
    /// Its access-log record; absent without a start.
    pub(crate) access: Option<Access>,
    /// Where its duration is recorded.
    pub(crate) duration: Series,
    /// Whether an annotation names the error.
    pub(crate) described: bool,
}

/// The targets that have been asked for, by thread.
#[derive(Default)]
pub(crate) struct Targets(ThreadLocal<RefCell<Made>>);

/// By route.
type Made = HashMap<String, Vec<((usize, bool), Arc<Target>)>, RandomState>;

impl Targets {
    /// The target with this route, if any; `method` is an index in [`METHODS`].
    pub(crate) fn of(&self, method: usize, secure: bool, route: Option<&str>) -> Arc<Target> {
        let mut made = self.0.get_or_default().borrow_mut();
        let key = (method, secure);
        if let Some(targets) = made.get(route.unwrap_or_default())
            && let Some((_, target)) = targets.iter().find(|(known, _)| *known == key)
        {
            return Arc::clone(target);
        }
        let target = Arc::new(Target::new(method, secure, route));
        if made.len() < MOST_KEPT {
            let targets = made.entry(route.unwrap_or_default().to_owned());
            targets.or_default().push((key, Arc::clone(&target)));
        }
        target
    }
}

impl Target {
    fn new(method: usize, secure: bool, route: Option<&str>) -> Self {
        let route = route.map(|route| shared(route.to_owned()));
        let mut attributes = vec![
            KeyValue::new("http.request.method", METHODS[method]),
            KeyValue::new("url.scheme", scheme(secure)),
        ];
        attributes.extend(
            route
                .clone()
                .map(|route| KeyValue::new("http.route", route)),
        );
        let named = method_in_name(method);
        Self {
            method,
            span_name: match &route {
                Some(route) => shared(format!("{named} {route}")),
                None => Cow::Borrowed(named),
            },
            route,
            attributes,
            outcomes: Mutex::default(),
        }
    }

    #[cfg(feature = "actix")]
    pub(crate) fn has_route(&self) -> bool {
        self.route.is_some()
    }

    /// The outcome of a request that ended so, with what it was annotated with.
    pub(crate) fn outcome(
        &self,
        recorder: Recorder<'_>,
        end: End,
        annotations: Vec<KeyValue>,
    ) -> Arc<Outcome> {
        let mut outcomes = locked(&self.outcomes);
        let known = |known: &&Known| known.end == end && known.annotations == annotations;
        if let Some(known) = outcomes.iter().find(known) {
            return Arc::clone(&known.outcome);
        }
        let outcome = Arc::new(self.make(recorder, end, annotations.clone()));
        if outcomes.len() < MOST_OUTCOMES {
            outcomes.push(Known {
                end,
                annotations,
                outcome: Arc::clone(&outcome),
            });
        }
        outcome
    }

    /// `error.type` among the annotations replaces the status code as the error's type.
    fn make(&self, recorder: Recorder<'_>, end: End, annotations: Vec<KeyValue>) -> Outcome {
        let names_error = |attribute: &KeyValue| attribute.key.as_str() == "error.type";
        let described = annotations.iter().any(names_error);
        let mut attributes = self.attributes.clone();
        let error = match end {
            End::Status(status) => {
                let code = i64::from(status);
                attributes.push(KeyValue::new("http.response.status_code", code));
                (status >= 500).then(|| shared(status.to_string()))
            }
            End::Unanswered(error) => Some(error.into()),
        };
        if !described {
            attributes.extend(error.map(|error| KeyValue::new("error.type", error)));
        }
        for annotation in annotations {
            if attributes.iter().all(|known| known.key != annotation.key) {
                attributes.push(annotation);
            }
        }
        let message = self.route.as_deref().map(|route| self.message(route, end));
        Outcome {
            message: message.map(|message| shared(message).into()),
            // Not method and scheme, the first two: the message names the one, and the other is always the same.
            access: recorder
                .names
                .map(|names| Access::new(names, &attributes[2..], end.failed())),
            duration: recorder.duration.bind(&attributes),
            attributes,
            described,
        }
    }

    /// Message of an access-log record. There is no path where no head was read.
    pub(crate) fn message(&self, path: &str, end: End) -> String {
        let method = METHODS[self.method];
        match (path, end) {
            ("", End::Status(status)) => format!("unread request {status}"),
            ("", End::Unanswered(error)) => format!("unread request {error}"),
            (path, End::Status(status)) => format!("{method} {path} {status}"),
            (path, End::Unanswered(error)) => format!("{method} {path} {error}"),
        }
    }
}

/// `text`, static if it is one of the first: that is the cheapest to hand on.
fn shared(text: String) -> Cow<'static, str> {
    interned(&text, MOST_KEPT).map_or(Cow::Owned(text), Cow::Borrowed)
}
