//! `/logs`: search. A record opens to its fields, and each field is a filter.

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

use super::{
    PageProblem, Services, Shell, Tab, TimeRange, address, filters, heading, href, level, marked,
    message, same, select, shown,
};
use crate::attributes::{hex_id, text};
use crate::format;
use crate::problem::Problem;
use crate::query;
use crate::store::logs::{self, Entry};
use crate::store::{Signal, Store, origins, traces};

const LISTED: u32 = 200;
/// Longest name and value that are a link to their like.
const LONGEST_FIELD: usize = 2000;
const LEVELS: [&str; 6] = ["fatal", "error", "warn", "info", "debug", "trace"];

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    query: web::Query<query::Logs>,
) -> Result<HttpResponse, PageProblem> {
    let now_ns = format::now_ns();
    let filter = query.filter(LISTED, now_ns)?;
    let around = query.around()?;
    let (entries, more) = match around {
        Some(id) => (context(&store, id).await?, false),
        None => logs::list(&store.pool, &filter).await?,
    };
    let volume = match around {
        Some(_) => None,
        None => Volume::of(&store, &filter, now_ns).await?,
    };
    let (services, _) = traces::choices(&store.pool).await?;
    let fields = logs::fields(&store.pool).await?;
    let origins = entries.iter().map(|entry| entry.origin).collect();
    let origins = origins::all(&store.pool, origins).await?;
    let shell = Shell {
        tab: Tab::Logs,
        title: "Logs".to_owned(),
        signals: "logs",
        range: Some(TimeRange {
            kept_since: store.kept_since(Signal::Logs).await?,
            ..TimeRange::of(&request, &query.time, "all", now_ns)
        }),
        not: "Lens finds texts, levels and fields; it has no pipelines, no parsers and no metrics from logs, and Loki keeps more and longer.",
        same: vec![same::logs(&query)],
        ..Shell::of(&request, &store).await?
    };
    let levels: Vec<String> = LEVELS
        .iter()
        .flat_map(|level| [format!("{level}+"), (*level).to_owned()])
        .collect();
    let fixed = html! {
        (heading(html! { "Logs" }, html! { a.button href=(shell.at("/api/export", &[("signal", "logs")])) { "Export" } }))
        (filters("/logs", &query.time, html! {
            label.field.grow {
                span { "Search" }
                input type="search" name="q" value=(query.q) placeholder="Text, \"a phrase\", or field=value" list="fields" data-focus="/" autocomplete="off" data-testid="log-search";
            }
            datalist id="fields" { @for field in &fields { option value={ (field) "=" } {} } }
            label.field { span { "Level" } select name="level" data-testid="log-level" {
                option value="" selected[query.level.is_empty()] { "Any level" }
                @for level in &levels { option value=(level) selected[*level == query.level] { (level.replace('+', " and above")) } }
            } }
            (select("service", "Service", "Any service", &query.service, &services))
            label.field { span { "Field" } input name="field" value=(query.field) placeholder="name=value" list="fields" autocomplete="off" data-testid="log-field"; }
            label.field { span { "Trace id" } input name="trace_id" value=(query.trace_id) placeholder="32 hex digits" pattern="[0-9a-fA-F]{32}" autocomplete="off"; }
            label.field { span { "Span id" } input name="span_id" value=(query.span_id) placeholder="16 hex digits" pattern="[0-9a-fA-F]{16}" autocomplete="off"; }
        }))
    };
    let words = filter.search.words.iter();
    let words: Vec<String> = words.map(|word| word.to_ascii_lowercase()).collect();
    // Of one record only; the list of all has its filters.
    let without_place = query::Logs {
        before: String::new(),
        around: String::new(),
        ..query.clone().into_inner()
    };
    let changing = html! {
        (chips(&without_place))
        @if !query.trace_id.is_empty() {
            p.context { "Records of one trace. " a.button href={ "/traces/" (query.trace_id) @if !query.span_id.is_empty() { "#span-" (query.span_id) } } data-testid="log-context-trace" { "Show the trace" } }
        }
        @if around.is_some() {
            p.context data-testid="log-context" { "What the same service wrote around this record. " a.button href=(address("/logs", &without_place)) { "Back to the search" } }
        }
        @if let Some(volume) = &volume { (volume.markup()) }
        @if entries.is_empty() {
            (shell.nothing("No record passes these filters.", html! { "A part of a word is enough; a field is compared whole." }))
        } @else {
            div.records data-testid="log-list" {
                @for entry in &entries {
                    (record(entry, &shell.services, &words, origins.get(&entry.origin), Some(&without_place), around == Some(entry.id)))
                }
            }
            @if let Some(last) = entries.last().filter(|_| more) {
                p.pager { a.button href=(address("/logs", &query::Logs { before: format!("{}.{}", last.time_ns, last.id), ..without_place.clone() })) data-testid="logs-older" { "Older" } }
            }
        }
    };
    Ok(shell.page(&store, fixed, changing))
}

/// What the service of a record wrote before and after it, the record in the middle.
async fn context(store: &Store, id: i64) -> Result<Vec<Entry>, Problem> {
    const AROUND: u32 = 25;
    let gone = || Problem::NotFound("This record was let go.".to_owned());
    let (time_ns, service) = logs::place(&store.pool, id).await?.ok_or_else(gone)?;
    let before = logs::Filter {
        service: service.clone(),
        before: Some((time_ns, id + 1)),
        limit: AROUND + 1,
        ..logs::Filter::default()
    };
    let after = logs::Filter {
        service,
        from_ns: Some(time_ns),
        oldest_first: true,
        limit: AROUND + 1,
        ..logs::Filter::default()
    };
    let (mut entries, _) = logs::list(&store.pool, &after).await?;
    entries.retain(|entry| (entry.time_ns, entry.id) > (time_ns, id));
    entries.extend(logs::list(&store.pool, &before).await?.0);
    Ok(entries)
}

/// The filters that are set, each with a way to remove it.
fn chips(query: &query::Logs) -> Markup {
    let mut chips: Vec<(String, query::Logs)> = Vec::new();
    let terms = query::terms(&query.q);
    for (place, term) in terms.iter().enumerate() {
        let mut others = terms.clone();
        others.remove(place);
        let label = match term {
            query::Term::Word(word) => word.clone(),
            query::Term::Field(name, value) => format!("{name}={value}"),
        };
        let without = query::Logs {
            q: query::typed(&others),
            ..query.clone()
        };
        chips.push((label, without));
    }
    type Part = fn(&mut query::Logs) -> &mut String;
    let fields: [(&str, Part); 5] = [
        ("level", |query| &mut query.level),
        ("service", |query| &mut query.service),
        ("field", |query| &mut query.field),
        ("trace", |query| &mut query.trace_id),
        ("span", |query| &mut query.span_id),
    ];
    for (label, field) in fields {
        let mut without = query.clone();
        let value = std::mem::take(field(&mut without));
        if !value.is_empty() {
            chips.push((format!("{label}: {value}"), without));
        }
    }
    html! {
        @if !chips.is_empty() {
            ul.chips data-testid="chips" { @for (label, without) in chips {
                li { (label) " " a href=(address("/logs", &without)) data-testid="chip-remove" aria-label={ "Remove " (label) } { "×" } }
            } }
        }
    }
}

/// The number of records by time and level.
struct Volume {
    from_ns: i64,
    step_ns: i64,
    counts: Vec<logs::Volume>,
}

impl Volume {
    const STEPS: i64 = 100;

    async fn of(store: &Store, filter: &logs::Filter, now_ns: i64) -> sqlx::Result<Option<Self>> {
        let Some((first, last)) = logs::extent(&store.pool).await? else {
            return Ok(None);
        };
        let from_ns = filter.from_ns.unwrap_or(first).max(first);
        let to_ns = filter
            .to_ns
            .unwrap_or(now_ns.min(last))
            .min(last)
            .max(from_ns);
        let step_ns = (to_ns.saturating_sub(from_ns) / Self::STEPS + 1).max(1_000_000);
        let counts = logs::volume(&store.pool, filter, from_ns, step_ns).await?;
        Ok((!counts.is_empty()).then_some(Self {
            from_ns,
            step_ns,
            counts,
        }))
    }

    fn markup(&self) -> Markup {
        let mut sums = std::collections::BTreeMap::new();
        for volume in &self.counts {
            *sums.entry(volume.step).or_insert(0) += volume.count;
        }
        let highest = sums.values().max().copied().unwrap_or(1) as f64;
        let records = match sums.values().sum() {
            1 => "1 record".to_owned(),
            all => format!("{} records", format::count(all)),
        };
        let to_ns = self
            .from_ns
            .saturating_add(self.step_ns.saturating_mul(Self::STEPS));
        let mut below = (-1, 0.0);
        html! {
            figure.volume aria-label="Records over time" data-testid="log-volume" data-zoom="" data-from=(self.from_ns / 1_000_000) data-to=(to_ns / 1_000_000 + 1) {
                svg role="img" aria-label={ (records) " over time" } {
                    @for volume in &self.counts {
                        @let height = 100.0 * volume.count as f64 / highest;
                        @let bottom = if below.0 == volume.step { below.1 } else { 0.0 };
                        @let level = super::level((volume.level * 4) as i32);
                        rect.(level) x={ (volume.step) "%" } width="0.9%" y={ (format!("{:.2}", 100.0 - bottom - height)) "%" } height={ (format!("{height:.2}")) "%" } {
                            title { (format::time_of_day(self.from_ns.saturating_add(volume.step.saturating_mul(self.step_ns)))) ": " (format::count(volume.count)) " " (level) }
                        }
                        @let () = { below = (volume.step, bottom + height); };
                    }
                }
                figcaption { span { (format::time_of_day(self.from_ns)) } span { (records) "; drag to zoom" } span { (format::time_of_day(to_ns)) } }
            }
        }
    }
}

/// One record; also on the overview. `query` is the search that each of its fields can be added to.
pub fn record(
    entry: &Entry,
    services: &Services,
    words: &[String],
    origin: Option<&origins::Origin>,
    query: Option<&query::Logs>,
    open: bool,
) -> Markup {
    let record = &entry.record;
    let level = level(entry.severity);
    let with = |name: &str, value: &str| {
        let mut query = query.cloned().unwrap_or_default();
        let mut terms = query::terms(&query.q);
        terms.push(query::Term::Field(name.to_owned(), value.to_owned()));
        query.q = query::typed(&terms);
        address("/logs", &query)
    };
    let (trace_id, span_id) = (hex_id(&record.trace_id, 16), hex_id(&record.span_id, 8));
    html! {
        details.record id={ "log-" (entry.id) } open[open] data-testid="log-row" data-level=(level) data-trace-id=(trace_id) data-span-id=(span_id) {
            summary {
                span.number.faint title=(format::date_time(entry.time_ns)) { (format::time_of_day(entry.time_ns)) }
                span.level.(level) { (level) }
                (services.tag(&entry.service))
                span.message { (marked(&message(record), words)) }
                span.fields { @for attribute in &record.attributes { span { (attribute.key) "=" (marked(&shown(attribute.value.as_ref()), words)) } } }
            }
            div.detail {
                p.actions {
                    @if !trace_id.is_empty() {
                        a.button.primary href={ "/traces/" (trace_id) "#span-" (span_id) } data-testid="log-trace-link" { "Trace" }
                        a.button href=(href("/logs", &[("trace_id", &trace_id)])) { "Records of this trace" }
                    } @else { span.faint { "Not written inside a trace." } }
                    a.button href=(address("/logs", &query::Logs { around: entry.id.to_string(), ..query.cloned().unwrap_or_default() })) data-testid="log-around" { "Context" }
                    span.faint.number { (format::date_time(entry.time_ns)) }
                }
                table.attributes { tbody {
                    @if !record.event_name.is_empty() { tr { th { "event name" } td { (record.event_name) } } }
                    @if !record.severity_text.is_empty() { tr { th { "severity" } td { (record.severity_text) " (" (record.severity_number) ")" } } }
                    @for attribute in &record.attributes {
                        @let value = text(attribute.value.as_ref());
                        tr data-key=(attribute.key) {
                            th { (attribute.key) }
                            // What is longer than an address may be cannot be asked for.
                            @if attribute.key.len() + value.len() > LONGEST_FIELD { td { (marked(&shown(attribute.value.as_ref()), words)) } }
                            @else { td { a href=(with(&attribute.key, &value)) title="Only records with this value" { (marked(&value, words)) } } }
                        }
                    }
                    @if !trace_id.is_empty() { tr { th { "trace id" } td { code { (trace_id) } } } tr { th { "span id" } td { code { (span_id) } } } }
                } }
                @if let Some(resource) = origin.and_then(|origin| origin.resource.as_ref()) {
                    details.more { summary { "Resource" } (super::trace::table(&resource.attributes)) }
                }
            }
        }
    }
}
