//! `/traces/{trace_id}`: one trace as a waterfall. Every span is a `<details>`, so that it opens by mouse, keyboard and `#span-…`.

use std::collections::{HashMap, HashSet};

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{
    PageProblem, Services, Shell, Tab, format, heading, http_status, level, query_string, same,
    shown, uri,
};
use crate::attributes::{find, hex, is_hex};
use crate::problem::Problem;
use crate::store::logs::{self, Entry};
use crate::store::origins::Origin;
use crate::store::traces::{self, BackLink, Summary, is_error};
use crate::store::{Store, aside, origins, profiles, time_ns};

/// Spans drawn; the API gives all.
const MOST_SPANS: u32 = 2000;
/// Links drawn above the waterfall, and events drawn of one span.
const MOST_LINKS: usize = 100;
const MOST_EVENTS: usize = 200;
/// Attributes drawn of anything.
const MOST_ATTRIBUTES: usize = 500;
const MOST_LOGS: u32 = 1000;
const DEEPEST_INDENT: usize = 20;

/// A span and where it stands.
struct Row {
    span: Span,
    service: String,
    origin: i64,
    id: String,
    depth: usize,
    children: usize,
}

impl Row {
    fn start(&self) -> i64 {
        time_ns(self.span.start_time_unix_nano)
    }

    /// None lasts less than nothing.
    fn duration(&self) -> i64 {
        time_ns(self.span.end_time_unix_nano)
            .saturating_sub(self.start())
            .max(0)
    }

    fn attribute(&self, key: &str) -> String {
        find(&self.span.attributes, key).unwrap_or_default()
    }
}

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    trace_id: web::Path<String>,
) -> Result<HttpResponse, PageProblem> {
    if !is_hex(&trace_id, 16) {
        return Err(Problem::BadRequest("A trace id has 32 hexadecimal digits.".to_owned()).into());
    }
    let trace_id = trace_id.to_ascii_lowercase();
    let spans = traces::spans(&store.pool, &[&trace_id], MOST_SPANS).await?;
    let whole = traces::one(&store.pool, &trace_id).await?;
    let Some(whole) = whole.filter(|_| !spans.is_empty()) else {
        return Err(Problem::NotFound(format!(
            "No span of trace {trace_id} has arrived yet, or it was let go."
        ))
        .into());
    };
    let origins = origins::all(
        &store.pool,
        spans.iter().map(|(origin, _)| *origin).collect(),
    )
    .await?;
    let rows = arrange(spans, &origins);
    let filter = logs::Filter {
        trace_id: trace_id.clone(),
        limit: MOST_LOGS,
        ..logs::Filter::default()
    };
    let (mut entries, _) = logs::list(&store.pool, &filter).await?;
    entries.sort_by_key(|entry| entry.time_ns);
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let profiled: HashSet<String> = profiles::spans_with_samples(&store.pool, &ids)
        .await?
        .into_iter()
        .collect();
    let back = traces::links_into(&store.pool, &trace_id).await?;
    let linked: Vec<String> = rows
        .iter()
        .flat_map(|row| traces::links(&row.span).map(|link| hex(&link.trace_id)))
        .collect();
    let known = traces::names(&store.pool, &linked).await?;

    let root = &rows[0];
    let shell = Shell {
        tab: Tab::Traces,
        title: root.span.name.clone(),
        uri: uri(&request),
        signals: "traces logs profiles",
        services: Services::load(&store).await?,
        not: "Lens shows a trace as it arrived; it has no critical path, no comparison of traces and no search inside a trace.",
        same: same::trace(&trace_id).into(),
    };
    let view = View {
        whole,
        rows,
        origins,
        entries,
        profiled,
        back,
        known,
        services: shell.services.clone(),
        trace_id,
    };
    let markup = aside(move || view.markup()).await?;
    Ok(shell.page(&store, html! {}, markup))
}

/// Spans under their parents, each level by start; those whose parent has not arrived stand at the top.
fn arrange(spans: Vec<(i64, Span)>, origins: &HashMap<i64, Origin>) -> Vec<Row> {
    let ids: HashSet<Vec<u8>> = spans.iter().map(|(_, span)| span.span_id.clone()).collect();
    let mut children: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    let mut tops = Vec::new();
    for (place, (_, span)) in spans.iter().enumerate() {
        if ids.contains(&span.parent_span_id) && span.parent_span_id != span.span_id {
            children
                .entry(span.parent_span_id.clone())
                .or_default()
                .push(place);
        } else {
            tops.push(place);
        }
    }
    let mut spans: Vec<Option<(i64, Span)>> = spans.into_iter().map(Some).collect();
    let mut waiting: Vec<(usize, usize)> = tops.into_iter().rev().map(|place| (place, 0)).collect();
    let mut rows = Vec::with_capacity(spans.len());
    while let Some((place, depth)) = waiting.pop() {
        let Some((origin, span)) = spans[place].take() else {
            continue;
        };
        let under = children.get(&span.span_id).map_or(&[][..], Vec::as_slice);
        waiting.extend(under.iter().rev().map(|place| (*place, depth + 1)));
        let service = origins
            .get(&origin)
            .map_or_else(String::new, Origin::service);
        rows.push(Row {
            service,
            origin,
            id: hex(&span.span_id),
            depth,
            children: under.len(),
            span,
        });
    }
    // Spans that are each other's parent hang under no top.
    for (origin, span) in spans.into_iter().flatten() {
        let service = origins
            .get(&origin)
            .map_or_else(String::new, Origin::service);
        rows.push(Row {
            service,
            origin,
            id: hex(&span.span_id),
            depth: 0,
            children: 0,
            span,
        });
    }
    rows
}

struct View {
    whole: Summary,
    rows: Vec<Row>,
    origins: HashMap<i64, Origin>,
    entries: Vec<Entry>,
    profiled: HashSet<String>,
    back: Vec<BackLink>,
    known: HashMap<String, (String, String)>,
    services: Services,
    trace_id: String,
}

impl View {
    fn markup(&self) -> Markup {
        let from = self.whole.start_ns;
        let to = self.whole.end_ns.max(from.saturating_add(1));
        let whole = to.saturating_sub(from) as f64;
        let (spans, errors) = (self.whole.spans, self.whole.errors);
        let mut services: Vec<&str> = self.rows.iter().map(|row| row.service.as_str()).collect();
        services.sort_unstable();
        services.dedup();
        let root = &self.rows[0];
        let route = root.attribute("http.route");
        html! {
            (heading(html! { (root.span.name) " " (http_status(root.attribute("http.response.status_code").parse().unwrap_or(0))) }, html! {
                a.button href={ "/logs?" (query_string(&[("trace_id", &self.trace_id)])) } data-testid="trace-logs-link" { "Logs" }
                a.button href={ "/metrics?" (query_string(&[("service", &root.service), ("name", "http.server.request.duration"), ("only", &if route.is_empty() { String::new() } else { format!("http.route={route}") })])) } data-testid="trace-metrics-link" { "Metrics" }
                a.button href={ "/api/traces/" (self.trace_id) } { "JSON" }
            }))
            dl.facts {
                div { dt { "Trace" } dd { code data-testid="trace-id" { (self.trace_id) } button.copy type="button" data-copy=(self.trace_id) aria-label="Copy the trace id" { "Copy" } } }
                div { dt { "Started" } dd.number { (format::date_time(from)) } }
                div { dt { "Duration" } dd.number data-testid="trace-duration" { (format::duration(whole)) } }
                div { dt { "Spans" } dd.number data-testid="trace-spans" { (spans) } }
                div { dt { "Errors" } dd.number.bad[errors > 0] data-testid="trace-errors" { (errors) } }
                div { dt { "Services" } dd { @for service in services { (self.services.tag(service)) } } }
            }
            (self.linked())
            section.waterfall aria-label="Waterfall" data-testid="waterfall" {
                div.ruler aria-hidden="true" {
                    span { "Span" }
                    svg { @for quarter in 0..=4 {
                        text x={ (quarter * 25) "%" } y="15" text-anchor=(match quarter { 0 => "start", 4 => "end", _ => "middle" }) {
                            (format::duration(whole * f64::from(quarter) / 4.0))
                        }
                    } }
                }
                @for row in &self.rows { (self.span(row, from, to)) }
                @if spans > self.rows.len() as i64 { p.faint { "And " (spans - self.rows.len() as i64) " more spans, which began later; the JSON has more of them." } }
            }
            section {
                h2 { "Logs of this trace " span.faint.number { (self.entries.len()) } }
                @if self.entries.is_empty() { p.faint { "No record carries this trace id." } }
                @else { div.lines data-testid="trace-logs" { @for entry in &self.entries { (self.log(entry)) } } }
            }
        }
    }

    /// Traces that this one links to, and those that link here.
    fn linked(&self) -> Markup {
        let out: Vec<_> = self
            .rows
            .iter()
            .flat_map(|row| traces::links(&row.span).map(move |link| (row, link)))
            .take(MOST_LINKS)
            .collect();
        html! {
            @if !out.is_empty() || !self.back.is_empty() {
                ul.links data-testid="trace-links" {
                    @for (row, link) in out {
                        @let trace_id = hex(&link.trace_id);
                        li {
                            span.faint { (row.span.name) " continues from " }
                            a href={ "/traces/" (trace_id) "#span-" (hex(&link.span_id)) } data-testid="link-out" {
                                @match self.known.get(&trace_id) { Some((_, name)) => (name), None => { "trace " (format!("{trace_id:.8}")) "…" } }
                            }
                            @if let Some((service, _)) = self.known.get(&trace_id) { " " (self.services.tag(service)) }
                        }
                    }
                    @for link in &self.back {
                        li {
                            span.faint { "Continued by " }
                            a href={ "/traces/" (link.trace_id) "#span-" (link.span_id) } data-testid="link-back" { (link.name) } " "
                            (self.services.tag(&link.service))
                        }
                    }
                }
            }
        }
    }

    fn span(&self, row: &Row, from: i64, to: i64) -> Markup {
        let whole = to.saturating_sub(from) as f64;
        let percent = |ns: i64| 100.0 * ns as f64 / whole;
        let after = row.start().saturating_sub(from);
        let x = percent(after);
        let width = percent(row.duration()).min(100.0 - x);
        let failed = is_error(&row.span);
        // The duration stands right of the bar; where there is no room, inside a wide one or left of a narrow one.
        let late = x + width > 80.0;
        let inside = late && width > 15.0;
        let label_x = if late && !inside { x } else { x + width };
        let kind = kind_name(row.span.kind());
        html! {
            details.span id={ "span-" (row.id) } data-testid="span" data-span-id=(row.id) data-name=(row.span.name) {
                summary.failed[failed] {
                    span.name.{ "d" (row.depth.min(DEEPEST_INDENT)) } {
                        span.chip.(self.services.colour(&row.service)) title=(row.service) {}
                        span.label { (row.span.name) }
                        @if failed { span.mark title="Failed" { "!" } }
                        @if self.profiled.contains(&row.id) { span.hot title="Has a flame graph of its own" { "▲" } }
                        span.kind { (kind) @if row.children > 0 { " · " (row.children) } }
                    }
                    svg.line role="img" aria-label={ (format::duration(row.duration() as f64)) " after " (format::duration(after as f64)) } {
                        rect.(self.services.colour(&row.service)) x={ (format!("{x:.3}")) "%" } width={ (format!("{width:.3}")) "%" } y="7" height="12" rx="2" {}
                        @for event in row.span.events.iter().take(MOST_EVENTS) {
                            circle.event cx={ (format!("{:.3}", percent(time_ns(event.time_unix_nano).saturating_sub(from)).clamp(0.0, 100.0))) "%" } cy="13" r="3" { title { (event.name) } }
                        }
                        text.inside[inside] x={ (format!("{label_x:.3}")) "%" } dx=(if late { -6 } else { 6 }) y="17" text-anchor=[late.then_some("end")] {
                            (format::duration(row.duration() as f64))
                        }
                    }
                }
                div.detail { (self.detail(row, from)) }
            }
        }
    }

    fn detail(&self, row: &Row, from: i64) -> Markup {
        let span = &row.span;
        let entries: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| entry.record.span_id == span.span_id)
            .collect();
        let profile = find(&span.attributes, "pyroscope.profile.id")
            .filter(|id| is_hex(id, 8))
            .or_else(|| self.profiled.contains(&row.id).then(|| row.id.clone()));
        let origin = self.origins.get(&row.origin);
        html! {
            p.actions {
                (self.services.tag(&row.service))
                span.faint { (kind_name(span.kind())) " span " } code { (row.id) }
                span.faint { "starts after " span.number { (format::duration(row.start().saturating_sub(from) as f64)) } ", lasts " span.number { (format::duration(row.duration() as f64)) } }
                a.button href={ "/logs?" (query_string(&[("trace_id", &self.trace_id), ("span_id", &row.id)])) } data-testid="span-logs-link" { "Logs of this span" }
                @if let Some(profile) = profile {
                    a.button.primary href={ "/profiles?" (query_string(&[("type", "cpu"), ("service", &row.service), ("profile_id", &profile)])) } data-testid="span-profile-link" { "Flame graph of this span" }
                }
            }
            @if let Some(status) = span.status.as_ref().filter(|status| !status.message.is_empty()) { p.bad { (status.message) } }
            @if !span.attributes.is_empty() { (attributes("Attributes", &span.attributes)) }
            @if !span.events.is_empty() {
                h3 { "Events" }
                @for event in span.events.iter().take(MOST_EVENTS) {
                    div.event-detail data-testid="event" {
                        p { b { (event.name) } " " span.faint.number { "after " (format::duration(time_ns(event.time_unix_nano).saturating_sub(row.start()) as f64)) } }
                        @if !event.attributes.is_empty() { (table(&event.attributes)) }
                    }
                }
                @if span.events.len() > MOST_EVENTS { p.faint { "And " (span.events.len() - MOST_EVENTS) " more; the JSON has them." } }
            }
            @if traces::links(span).next().is_some() {
                h3 { "Links" }
                ul { @for link in traces::links(span) {
                    li {
                        a href={ "/traces/" (hex(&link.trace_id)) "#span-" (hex(&link.span_id)) } { code { (hex(&link.trace_id)) } }
                        @if !link.attributes.is_empty() { (table(&link.attributes)) }
                    }
                } }
            }
            @if !entries.is_empty() {
                h3 { "Logs " span.faint.number { (entries.len()) } }
                div.lines { @for entry in entries { (self.log(entry)) } }
            }
            @if let Some(resource) = origin.and_then(|origin| origin.resource.as_ref()) {
                details.more {
                    summary { "Resource" @if let Some(scope) = origin.and_then(|origin| origin.scope.as_ref()) { ", scope " code { (scope.name) } } }
                    (table(&resource.attributes))
                }
            }
        }
    }

    fn log(&self, entry: &Entry) -> Markup {
        let level = level(entry.record.severity_number);
        html! {
            a.line href={ "/logs?" (query_string(&[("trace_id", &self.trace_id), ("span_id", &hex(&entry.record.span_id))])) "#log-" (entry.id) } data-testid="trace-log" {
                span.number.faint { (format::time_of_day(entry.time_ns)) }
                span.level.(level) { (level) }
                (self.services.tag(&entry.service))
                span.message { (shown(entry.record.body.as_ref())) }
            }
        }
    }
}

fn attributes(title: &str, list: &[KeyValue]) -> Markup {
    html! { h3 { (title) } (table(list)) }
}

/// Names and values.
pub fn table(list: &[KeyValue]) -> Markup {
    html! {
        table.attributes { tbody { @for attribute in list.iter().take(MOST_ATTRIBUTES) {
            tr data-key=(attribute.key) { th { (attribute.key) } td { (shown(attribute.value.as_ref())) } }
        } } }
        @if list.len() > MOST_ATTRIBUTES { p.faint { "And " (list.len() - MOST_ATTRIBUTES) " more; the JSON has them." } }
    }
}

fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal | SpanKind::Unspecified => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stand_under_their_parents_and_none_is_lost() {
        let span = |id: u8, parent: u8| {
            let parent_span_id = if parent == 0 { vec![] } else { vec![parent; 8] };
            (
                0,
                Span {
                    span_id: vec![id; 8],
                    parent_span_id,
                    ..Span::default()
                },
            )
        };
        // 4's parent never came; 5 and 6 are each other's parent.
        let rows = arrange(
            vec![
                span(1, 0),
                span(2, 1),
                span(3, 2),
                span(4, 9),
                span(7, 1),
                span(5, 6),
                span(6, 5),
            ],
            &HashMap::new(),
        );
        let found: Vec<(u8, usize)> = rows
            .iter()
            .map(|row| (row.span.span_id[0], row.depth))
            .collect();
        assert_eq!(
            found,
            [(1, 0), (2, 1), (3, 2), (7, 1), (4, 0), (5, 0), (6, 0)]
        );
    }
}
