//! What stands around the items of a request: resource and scopes.
use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use super::value::attribute;
use super::wire::{Field, Fields, head, head_size, message, text};

/// Field of an item in its scope: `ScopeSpans.spans` and `ScopeLogs.log_records` have the same number, as have all fields
/// of this file.
pub(crate) const ITEM: u8 = 2;

/// Items of one scope, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) scope: Arc<InstrumentationScope>,
    /// Where in its buffer it begins.
    pub(crate) start: usize,
    pub(crate) items: usize,
}

impl Run {
    /// Begins a run at `start` of the buffer: of `scope`, or of what has its version, schema and attributes under `name`.
    pub(crate) fn new(
        scope: &InstrumentationScope,
        name: Option<&Cow<'static, str>>,
        start: usize,
    ) -> Self {
        let scope = match name {
            None => scope.clone(),
            Some(name) => {
                let mut builder = InstrumentationScope::builder(name.clone())
                    .with_attributes(scope.attributes().cloned());
                if let Some(version) = scope.version() {
                    builder = builder.with_version(version.to_owned());
                }
                if let Some(schema) = scope.schema_url() {
                    builder = builder.with_schema_url(schema.to_owned());
                }
                builder.build()
            }
        };
        Self {
            scope: Arc::new(scope),
            start,
            items: 0,
        }
    }

    /// Begins another run of the same scope.
    pub(crate) fn again(&self, start: usize) -> Self {
        Self {
            scope: Arc::clone(&self.scope),
            start,
            items: 0,
        }
    }

    /// Whether the next item, of `scope` under `name`, goes on with this run.
    pub(crate) fn continues(
        &self,
        scope: &InstrumentationScope,
        name: Option<&Cow<'static, str>>,
    ) -> bool {
        self.scope.name() == name.map_or(scope.name(), |name| name)
            && self.scope.version() == scope.version()
            && self.scope.schema_url() == scope.schema_url()
            && self.scope.attributes().eq(scope.attributes())
    }
}

/// `resource` as field 1 and 3 of `ResourceSpans` or `ResourceLogs`, made once a process.
pub(crate) fn resource(resource: &Resource) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, 1, |out| {
        for (key, value) in resource.iter() {
            let pair = opentelemetry::KeyValue::new(key.clone(), value.clone());
            attribute(out, 1, &pair, None);
        }
    });
    text(&mut out, 3, resource.schema_url().unwrap_or_default());
    out
}

/// What a request holds of one scope.
struct Group<'a> {
    scope: &'a InstrumentationScope,
    /// The scope, encoded.
    head: Vec<u8>,
    items: Vec<&'a [u8]>,
    length: usize,
}

impl<'a> Group<'a> {
    fn new(scope: &'a InstrumentationScope) -> Self {
        let mut head = Vec::new();
        message(&mut head, 1, |out| fields(out, scope));
        text(&mut head, 3, scope.schema_url().unwrap_or_default());
        Self {
            scope,
            length: head.len(),
            head,
            items: Vec::new(),
        }
    }
}

/// One `ExportTraceServiceRequest` or `ExportLogsServiceRequest`, in pieces: a compressor takes them from where they are.
pub(crate) struct Frame<'a>(Vec<Cow<'a, [u8]>>);

impl Frame<'_> {
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|piece| &**piece)
    }

    /// All of it.
    pub(crate) fn joined(&self) -> Vec<u8> {
        self.0.concat()
    }
}

/// The request of `runs`, each with its encoded items.
///
/// Lengths are added up first: a message of a megabyte must not be moved to make room for its length.
pub(crate) fn frame<'a>(
    resource: &'a [u8],
    runs: impl Iterator<Item = (&'a InstrumentationScope, &'a [u8])>,
) -> Frame<'a> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (scope, items) in runs {
        // The latest first: a program has few scopes at a time.
        let known = groups.iter().rposition(|group| group.scope == scope);
        let at = known.unwrap_or_else(|| {
            groups.push(Group::new(scope));
            groups.len() - 1
        });
        groups[at].items.push(items);
        groups[at].length += items.len();
    }
    let sizes = groups
        .iter()
        .map(|group| head_size(group.length) + group.length);
    let length = resource.len() + sizes.sum::<usize>();
    let mut begin = Vec::new();
    head(&mut begin, 1, length);
    let mut pieces = vec![Cow::Owned(begin), Cow::Borrowed(resource)];
    for group in groups {
        let mut begin = Vec::new();
        head(&mut begin, 2, group.length);
        begin.extend_from_slice(&group.head);
        pieces.push(Cow::Owned(begin));
        pieces.extend(group.items.into_iter().map(Cow::Borrowed));
    }
    Frame(pieces)
}

/// The items of a run, each as the bytes of its message.
pub(crate) fn items(run: &[u8]) -> impl Iterator<Item = &[u8]> {
    Fields(run).map_while(|field| match field? {
        (_, Field::Bytes(item)) => Some(item),
        _ => None, // nothing else is written into a run
    })
}

/// The fields of an `InstrumentationScope`.
fn fields(out: &mut Vec<u8>, scope: &InstrumentationScope) {
    text(out, 1, scope.name());
    text(out, 2, scope.version().unwrap_or_default());
    for pair in scope.attributes() {
        attribute(out, 3, pair, None);
    }
}
