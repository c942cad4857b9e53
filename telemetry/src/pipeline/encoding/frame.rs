//! What stands around the items of a request: resource and scopes.
use std::borrow::Cow;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use super::value::attribute;
use super::wire::{Field, Fields, message, text};

/// Field of an item in its scope: `ScopeSpans.spans` and `ScopeLogs.log_records` have the same number, as have all fields
/// of this file.
pub(crate) const ITEM: u8 = 2;

/// Items of one scope, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) scope: InstrumentationScope,
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
            scope,
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

/// One `ExportTraceServiceRequest` or `ExportLogsServiceRequest` of `runs`, each with its encoded items.
pub(crate) fn frame<'a>(
    resource: &[u8],
    runs: impl Iterator<Item = (&'a InstrumentationScope, &'a [u8])> + Clone,
) -> Vec<u8> {
    let length: usize = runs.clone().map(|(_, items)| items.len() + 256).sum();
    let mut out = Vec::with_capacity(resource.len() + length);
    let mut runs = runs.peekable();
    message(&mut out, 1, |out| {
        out.extend_from_slice(resource);
        while let Some((scope, items)) = runs.next() {
            message(out, 2, |out| {
                message(out, 1, |out| fields(out, scope));
                text(out, 3, scope.schema_url().unwrap_or_default());
                out.extend_from_slice(items);
                while let Some((_, items)) = runs.next_if(|(next, _)| *next == scope) {
                    out.extend_from_slice(items);
                }
            });
        }
    });
    out
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
