//! `/logs`: search. A record opens to its fields, and each field is a filter.

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

use super::{
    PageProblem, Services, Shell, Tab, filters, format, heading, level, marked, nothing,
    query_string, same, select, shown, uri,
};
use crate::attributes::{hex_id, text};
use crate::query;
use crate::store::logs::{self, Entry};
use crate::store::{Store, origins, traces};

const LISTED: u32 = 200;
/// Longest name and value that are a link to their like.
const LONGEST_FIELD: usize = 2000;
const LEVELS: [&str; 6] = ["fatal", "error", "warn", "info", "debug", "trace"];

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    query: web::Query<query::Logs>,
) -> Result<HttpResponse, PageProblem> {
    let (entries, more) = logs::list(&store.pool, &query.filter(LISTED)?).await?;
    let (services, _) = traces::choices(&store.pool).await?;
    let fields = logs::fields(&store.pool).await?;
    let origins = origins::all(
        &store.pool,
        entries.iter().map(|entry| entry.origin).collect(),
    )
    .await?;
    let shell = Shell {
        tab: Tab::Logs,
        title: "Logs".to_owned(),
        uri: uri(&request),
        signals: "logs",
        services: Services::load(&store).await?,
        not: "Lens finds words, levels and fields; it has no pipelines, no parsers and no metrics from logs, and Loki keeps more and longer.",
        same: vec![same::logs(&query)],
    };
    let fixed = html! {
        (heading(html! { "Logs" }, html! {}))
        (filters("/logs", html! {
            label.field.grow {
                span { "Search" }
                input type="search" name="q" value=(query.q) placeholder="Words, or \"a phrase\"" data-focus="/" autocomplete="off" data-testid="log-search";
            }
            (select("level", "Level", "Any level", &query.level, &LEVELS.map(str::to_owned)))
            (select("service", "Service", "Any service", &query.service, &services))
            label.field {
                span { "Field" }
                input name="field" value=(query.field) placeholder="name=value" list="fields" autocomplete="off" data-testid="log-field";
            }
            datalist id="fields" { @for field in &fields { option value={ (field) "=" } {} } }
            label.field { span { "Trace id" } input name="trace_id" value=(query.trace_id) placeholder="32 hex digits" pattern="[0-9a-fA-F]{32}" autocomplete="off"; }
            label.field { span { "Span id" } input name="span_id" value=(query.span_id) placeholder="16 hex digits" pattern="[0-9a-fA-F]{16}" autocomplete="off"; }
        }))
    };
    let words: Vec<String> = query
        .q
        .split_whitespace()
        .map(|word| word.trim_matches('"').to_ascii_lowercase())
        .filter(|word| !word.is_empty())
        .collect();
    let changing = html! {
        @if !query.trace_id.is_empty() {
            p.context { "Records of one trace. " a.button href={ "/traces/" (query.trace_id) @if !query.span_id.is_empty() { "#span-" (query.span_id) } } data-testid="log-context-trace" { "Show the trace" } }
        }
        @if entries.is_empty() {
            (nothing("No record passes these filters.", html! { "Words match from their beginning; a field is compared whole." }))
        } @else {
            div.records data-testid="log-list" {
                @for entry in &entries {
                    (record(entry, &shell.services, &words, origins.get(&entry.origin)))
                }
            }
            @if more {
                @let before = entries.last().map_or(0, |entry| entry.id);
                p.pager { a.button href={ "/logs?" (query_string(&[("q", &query.q), ("level", &query.level), ("service", &query.service), ("field", &query.field), ("trace_id", &query.trace_id), ("span_id", &query.span_id), ("before", &before.to_string())])) } { "Older" } }
            }
        }
    };
    Ok(shell.page(&store, fixed, changing))
}

/// One record; also on the overview.
pub fn record(
    entry: &Entry,
    services: &Services,
    words: &[String],
    origin: Option<&origins::Origin>,
) -> Markup {
    let record = &entry.record;
    let level = level(record.severity_number);
    let (trace_id, span_id) = (hex_id(&record.trace_id, 16), hex_id(&record.span_id, 8));
    html! {
        details.record id={ "log-" (entry.id) } data-testid="log-row" data-level=(level) data-trace-id=(trace_id) data-span-id=(span_id) {
            summary {
                span.number.faint title=(format::date_time(entry.time_ns)) { (format::time_of_day(entry.time_ns)) }
                span.level.(level) { (level) }
                (services.tag(&entry.service))
                span.message { (marked(&shown(record.body.as_ref()), words)) }
                span.fields { @for attribute in &record.attributes { span { (attribute.key) "=" (marked(&shown(attribute.value.as_ref()), words)) } } }
            }
            div.detail {
                p.actions {
                    @if !trace_id.is_empty() {
                        a.button.primary href={ "/traces/" (trace_id) "#span-" (span_id) } data-testid="log-trace-link" { "Trace" }
                        a.button href={ "/logs?" (query_string(&[("trace_id", &trace_id)])) } { "Records of this trace" }
                    } @else { span.faint { "Not written inside a trace." } }
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
                            @else { td { a href={ "/logs?" (query_string(&[("field", &format!("{}={value}", attribute.key))])) } title="Only records with this value" { (marked(&value, words)) } } }
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
