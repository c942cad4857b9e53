//! The `tracing` layer: spans become OpenTelemetry's, events become log records.
//!
//! One layer for all, because the registry's work is done for each layer of each span. Any other layer composes with it:
//! it keeps nothing from them and needs nothing but the [`Registry`] below.
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use opentelemetry::trace::{TraceContextExt, TraceId};
use opentelemetry::{Context, ContextGuard};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::registry::LookupSpan;

use super::Telemetry;
use super::held::Held;
use super::logs::{Bridge, Filter, Origin};
use super::traces;

/// What a thread is at.
struct Here {
    /// The spans that it has entered, innermost last.
    entered: Vec<Entered>,
    /// What the span holds that was made or looked up last, of those that this thread made: it is nearly always the one that
    /// is entered next. The lookup that this spares costs 250 instructions, and a request enters its span three times.
    last: Option<Last>,
    /// What the next `tracing` span stands for, already started: see [`adopt`].
    prepared: Option<Held>,
}

struct Last {
    span: Key,
    held: Held,
    /// [`CLOSED_ELSEWHERE`] when it was remembered.
    since: usize,
}

/// How many spans were closed by another thread than the one that made them. The registry gives their numbers again, so what
/// a thread remembers by number holds only as long as this stays the same.
static CLOSED_ELSEWHERE: AtomicUsize = AtomicUsize::new(0);

impl Here {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Remembers what `span` holds. What was remembered before is returned, to be dropped after the borrow: it may be the
    /// last owner of a span, which then ends.
    fn remember(&mut self, span: Key, held: Held) -> Option<Last> {
        let since = CLOSED_ELSEWHERE.load(Relaxed);
        self.last.replace(Last { span, held, since })
    }

    fn remembers(&self, span: &Key) -> Option<&Held> {
        let last = self.last.as_ref()?;
        let holds = last.span == *span && last.since == CLOSED_ELSEWHERE.load(Relaxed);
        holds.then_some(&last.held)
    }
}

/// A span of one of the process' subscribers: the address of its telemetry, and its number there.
type Key = (usize, Id);

struct Entered {
    span: Key,
    /// To tell whether the current context still belongs to it.
    trace: TraceId,
    request: Option<Arc<str>>,
    _guard: ContextGuard,
}

impl Entered {
    /// Makes the context that `held` holds current.
    fn new(span: Key, held: Held) -> Self {
        let Held {
            context, request, ..
        } = held;
        Self {
            span,
            trace: context.span().span_context().trace_id(),
            request,
            _guard: context.attach(),
        }
    }
}

thread_local! {
    static HERE: RefCell<Here> = const {
        RefCell::new(Here {
            entered: Vec::new(),
            last: None,
            prepared: None,
        })
    };
}

/// Runs `f` with what this thread is at. `None` while the thread ends and its locals are gone, one of which may hold a span,
/// and inside of another `f`, where a context that could not be made current is logged.
fn here<R>(f: impl FnOnce(&mut Here) -> R) -> Option<R> {
    let found = HERE.try_with(|here| {
        let mut here = here.try_borrow_mut().ok()?;
        Some(f(&mut here))
    });
    found.ok()?
}

/// The id of the request that this thread works for. None where the current context is another trace's, as that of a job.
pub(crate) fn request_id() -> Option<Arc<str>> {
    request_of(Context::map_current(|context| {
        context.span().span_context().trace_id()
    }))
}

/// As [`request_id`], where the current context is one of this trace.
fn request_of(trace: TraceId) -> Option<Arc<str>> {
    here(|here| {
        let innermost = here.entered.last()?;
        (innermost.trace == trace).then(|| innermost.request.clone())?
    })?
}

/// Enters what `context` carries, and the request that it belongs to, where there is no `tracing` span to enter.
pub(crate) fn within(context: Context, request: Option<Arc<str>>) -> Option<Within> {
    let entered = Entered::new(Within::key(), Held::new(context, request));
    here(|here| here.entered.push(entered))?;
    Some(Within)
}

/// Leaves what [`within`] entered when it is dropped.
pub(crate) struct Within;

impl Within {
    /// No span has it: it belongs to no telemetry.
    fn key() -> Key {
        (0, Id::from_u64(1))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        leave(&Self::key());
    }
}

/// Leaves a span that this thread has entered.
fn leave(key: &Key) {
    // What is left is dropped after the borrow.
    let _left = here(|here| match here.entered.last() {
        // Nearly always the innermost.
        Some(innermost) if innermost.span == *key => here.entered.pop(),
        _ => {
            let mut entered = here.entered.iter();
            let at = entered.rposition(|entered| entered.span == *key)?;
            Some(here.entered.remove(at))
        }
    });
}

/// Makes the `tracing` span that `make` creates stand for the span of `context`, and belong to `request`.
pub(crate) fn adopt(
    context: Context,
    request: Option<Arc<str>>,
    make: impl FnOnce() -> tracing::Span,
) -> tracing::Span {
    let _before = here(|here| here.prepared.replace(Held::new(context, request)));
    let span = make();
    let _left = here(|here| here.prepared.take()); // if no layer was listening
    span
}

/// Runs `f` with the context of `span`, if the layer knows it.
pub(crate) fn with_context<R>(span: &tracing::Span, f: impl FnOnce(&Context) -> R) -> Option<R> {
    let (id, dispatch) = span.with_subscriber(|(id, dispatch)| (id.clone(), dispatch.clone()))?;
    let span = dispatch.downcast_ref::<Registry>()?.span(&id)?;
    let extensions = span.extensions();
    extensions.get::<Held>().map(|held| f(&held.context))
}

/// The layer of a [`crate::Guard`].
pub(crate) struct TelemetryLayer {
    pub(crate) telemetry: Arc<Telemetry>,
    /// What becomes a span or record: `RUST_LOG`.
    filter: Filter,
    /// Whether nobody but this layer listens. Then what it does not want is not even made.
    alone: bool,
    /// Absent where records go nowhere.
    logs: Option<Bridge>,
}

impl TelemetryLayer {
    pub(crate) fn new(
        telemetry: &Arc<Telemetry>,
        filter: Filter,
        alone: bool,
        logs: Option<Bridge>,
    ) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            filter,
            alone,
            logs,
        }
    }

    fn key(&self, id: &Id) -> Key {
        (Arc::as_ptr(&self.telemetry).addr(), id.clone())
    }

    /// Whether anything becomes of what this layer is told. Where the SDK is disabled and no line is written, nothing does.
    fn idle(&self) -> bool {
        self.telemetry.tracer.is_none() && self.logs.is_none()
    }

    /// Whether something is worth making, where nobody but this layer listens.
    fn lets(&self, metadata: &Metadata<'_>) -> bool {
        !self.idle() && self.filter.lets(metadata)
    }
}

fn with_held<S, R>(id: &Id, spans: &LayerContext<'_, S>, f: impl FnOnce(&Held) -> R) -> Option<R>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let span = spans.span(id)?;
    let extensions = span.extensions();
    extensions.get::<Held>().map(f)
}

/// What a new span's parent holds.
fn parent<S>(attributes: &Attributes<'_>, spans: &LayerContext<'_, S>) -> Held
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let none = || Held::new(Context::new(), None);
    match attributes.parent() {
        Some(parent) => with_held(parent, spans, Held::clone).unwrap_or_else(none),
        None if attributes.is_contextual() => {
            let context = Context::current();
            let request = request_of(context.span().span_context().trace_id());
            Held::new(context, request)
        }
        None => none(),
    }
}

impl<S> Layer<S> for TelemetryLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.alone && !self.lets(metadata) {
            Interest::never()
        } else {
            Interest::always()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: LayerContext<'_, S>) -> bool {
        !self.alone || self.lets(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.alone.then(|| match self.idle() {
            true => LevelFilter::OFF,
            false => self.filter.max_level(),
        })
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, spans: LayerContext<'_, S>) {
        if !self.alone && !self.filter.lets(attributes.metadata()) {
            return;
        }
        let prepared = here(|here| here.prepared.take()).flatten();
        let mut held = prepared.unwrap_or_else(|| {
            let mut held = parent(attributes, &spans);
            held.context = traces::start(&self.telemetry, attributes, held.context);
            held
        });
        let key = self.key(id);
        let _before = here(|here| {
            held.made_by = here.address();
            here.remember(key, held.clone())
        });
        if let Some(span) = spans.span(id) {
            span.extensions_mut().insert(held);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, spans: LayerContext<'_, S>) {
        with_held(id, &spans, |held| traces::record(&held.context, values));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, spans: LayerContext<'_, S>) {
        let cause = with_held(follows, &spans, |held| {
            held.context.span().span_context().clone()
        });
        if let Some(cause) = cause {
            with_held(id, &spans, |held| {
                held.context.span().add_link(cause, Vec::new());
            });
        }
    }

    fn on_event(&self, event: &Event<'_>, spans: LayerContext<'_, S>) {
        let Some(logs) = &self.logs else {
            return;
        };
        let origin = Origin::of(event);
        if self.alone
            || self
                .filter
                .lets_event(&origin.target, *event.metadata().level())
        {
            let _within = match event.parent() {
                Some(parent) => with_held(parent, &spans, Held::clone),
                None if event.is_root() => Some(Held::new(Context::new(), None)),
                None => None,
            }
            .and_then(|held| within(held.context, held.request));
            logs.write(event, origin);
        }
    }

    fn on_enter(&self, id: &Id, spans: LayerContext<'_, S>) {
        let key = self.key(id);
        let entered = here(|here| {
            let held = here.remembers(&key)?.clone();
            here.entered.push(Entered::new(key.clone(), held));
            Some(())
        });
        if entered.flatten().is_some() {
            return;
        }
        let Some(held) = with_held(id, &spans, Held::clone) else {
            return;
        };
        let _before = here(|here| {
            here.entered.push(Entered::new(key.clone(), held.clone()));
            (held.made_by == here.address()).then(|| here.remember(key, held))
        });
    }

    fn on_exit(&self, id: &Id, _: LayerContext<'_, S>) {
        leave(&self.key(id));
    }

    fn on_close(&self, id: Id, spans: LayerContext<'_, S>) {
        let key = self.key(&id);
        let last = here(|here| {
            here.remembers(&key)?;
            here.last.take()
        });
        // A span that has ended before, as a request's has, stays as it is.
        let end = |held: &Held| held.context.span().end();
        match last.flatten() {
            Some(last) => end(&last.held),
            None => {
                with_held(&id, &spans, |held| {
                    if here(|here| here.address()) != Some(held.made_by) {
                        CLOSED_ELSEWHERE.fetch_add(1, Relaxed);
                    }
                    end(held);
                });
            }
        }
    }
}
