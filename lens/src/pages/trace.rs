//! `/traces/{trace_id}`: one trace as a waterfall. Every span is a `<details>`, so that it opens by mouse, keyboard and `#span-…`.

use std::collections::{HashMap, HashSet};

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{PageProblem, Services, Shell, Tab, heading, href, http_status, level, same, shown};
use crate::attributes::{find, find_renamed, hex, is_hex};
use crate::format;
use crate::problem::Problem;
use crate::query;
use crate::store::logs::{self, Entry};
use crate::store::origins::Origin;
use crate::store::traces::{self, BackLink, Summary, is_error};
use crate::store::{Store, aside, origins, profiles, time_ns};

/// Spans arranged; the API gives all.
const MOST_SPANS: u32 = 20_000;
/// Spans drawn at a time; the next ones follow as one scrolls.
const SPANS_A_CHUNK: usize = 100;
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
    /// Where the page has it: spans may share an id.
    anchor: String,
    depth: usize,
    children: usize,
}

impl Row {
    fn start(&self) -> i64 {
        traces::times(&self.span).0
    }

    /// Clamped at 0, because clocks of two hosts differ.
    fn duration(&self) -> i64 {
        let (start, end) = traces::times(&self.span);
        end.saturating_sub(start)
    }

    /// What is not known of its time.
    fn unknown(&self) -> Option<&'static str> {
        match (self.span.start_time_unix_nano, self.span.end_time_unix_nano) {
            (0, _) => Some("start unknown"),
            (_, 0) => Some("not ended yet"),
            _ => None,
        }
    }

    fn attribute(&self, key: &str) -> String {
        find_renamed(&self.span.attributes, key)
    }
}

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    trace_id: web::Path<String>,
    query: web::Query<query::Trace>,
) -> Result<HttpResponse, PageProblem> {
    if !is_hex(&trace_id, 16) {
        return Err(Problem::bad_request("A trace id has 32 hexadecimal digits.").into());
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
    let origins = spans.iter().map(|(origin, _)| *origin).collect();
    let origins = origins::all(&store.pool, origins).await?;
    let rows = arrange(spans, &origins);
    let filter = logs::Filter {
        trace_id: trace_id.clone(),
        limit: MOST_LOGS,
        ..logs::Filter::default()
    };
    let (mut entries, more_entries) = logs::list(&store.pool, &filter).await?;
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
        // What was scrolled to stays, which asking for the page anew would undo.
        signals: if rows.len() > SPANS_A_CHUNK {
            ""
        } else {
            "traces logs profiles"
        },
        not: "Lens shows a trace as it arrived; it compares no two traces.",
        same: same::trace(&trace_id).into(),
        ..Shell::of(&request, &store).await?
    };
    let critical = critical_path(&rows);
    let zoom = rows
        .iter()
        .find(|row| row.id == query.zoom.to_ascii_lowercase());
    let (begin, length) = match zoom {
        Some(row) => (row.start(), row.duration()),
        None => (whole.start_ns, whole.duration()),
    };
    let window = (begin, begin.saturating_add(length.max(1)));
    let mut from = query.from()?;
    if let Some(place) = rows
        .iter()
        .position(|row| row.id == query.span.to_ascii_lowercase())
    {
        from = place.saturating_sub(SPANS_A_CHUNK / 4);
    }
    let view = View {
        window,
        zoomed: zoom.is_some(),
        critical,
        from,
        query: query.into_inner(),
        more_entries,
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
    let service = |(origin, _): &(i64, Span)| origins.get(origin).map(Origin::service);
    let services = spans.iter().map(|span| service(span).unwrap_or_default());
    let services: Vec<String> = services.collect();
    let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (place, (_, span)) in spans.iter().enumerate() {
        places.entry(&span.span_id).or_default().push(place);
    }
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    let mut tops = Vec::new();
    for (place, (_, span)) in spans.iter().enumerate() {
        match parent(place, span, &spans, &services, &places) {
            Some(parent) => children[parent].push(place),
            None => tops.push(place),
        }
    }
    let mut waiting: Vec<(usize, usize)> = tops.into_iter().rev().map(|place| (place, 0)).collect();
    let mut order = Vec::with_capacity(spans.len());
    let mut placed = vec![false; spans.len()];
    let mut unplaced = 0;
    loop {
        while let Some((place, depth)) = waiting.pop() {
            if std::mem::replace(&mut placed[place], true) {
                continue;
            }
            let below = children[place].iter().rev();
            waiting.extend(below.map(|child| (*child, depth + 1)));
            order.push((place, depth));
        }
        // Spans that are each other's parent hang under no top.
        match (unplaced..spans.len()).find(|place| !placed[*place]) {
            Some(place) => waiting.push((place, 0)),
            None => break,
        }
        unplaced += 1;
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut spans: Vec<Option<(i64, Span)>> = spans.into_iter().map(Some).collect();
    let row = |(place, depth): (usize, usize)| {
        let (origin, span) = spans[place].take()?;
        let id = hex(&span.span_id);
        let number = seen
            .entry(id.clone())
            .and_modify(|number| *number += 1)
            .or_insert(1);
        Some(Row {
            service: services[place].clone(),
            origin,
            anchor: match number {
                1 => format!("span-{id}"),
                _ => format!("span-{id}-{number}"),
            },
            id,
            depth,
            children: children[place].len(),
            span,
        })
    };
    order.into_iter().filter_map(row).collect()
}

/// Place of the span under which another one stands. Of a client and a server that share an id, the server stands under the client, and what
/// names that id as its parent under the one of its own service.
fn parent(
    place: usize,
    span: &Span,
    spans: &[(i64, Span)],
    services: &[String],
    places: &HashMap<&[u8], Vec<usize>>,
) -> Option<usize> {
    let kind = |place: &usize| spans[*place].1.kind();
    if span.kind() == SpanKind::Server {
        let same = places.get(span.span_id.as_slice())?;
        if let Some(client) = same.iter().find(|other| kind(other) == SpanKind::Client) {
            return Some(*client);
        }
    }
    let candidates = places.get(span.parent_span_id.as_slice())?;
    let mut others = candidates.iter().filter(|other| **other != place);
    let mut of_same = others
        .clone()
        .filter(|other| services[**other] == services[place]);
    let mut servers = others
        .clone()
        .filter(|other| kind(other) == SpanKind::Server);
    let first = of_same.next().or_else(|| servers.next());
    first.or_else(|| others.next()).copied()
}

/// Which spans, by their place, the trace would have been shorter without: from the end of each backwards, the child that ended last, then what ended
/// before that one began. What outlives its parent did not hold it up.
fn critical_path(rows: &[Row]) -> Vec<bool> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
    let mut above: Vec<usize> = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        above.truncate(row.depth);
        if let Some(parent) = above.last() {
            children[*parent].push(place);
        }
        above.push(place);
    }
    let end = |place: &usize| rows[*place].start().saturating_add(rows[*place].duration());
    let mut critical = vec![false; rows.len()];
    let mut waiting = vec![0];
    while let Some(place) = waiting.pop() {
        critical[place] = true;
        let mut until = end(&place);
        let mut under = std::mem::take(&mut children[place]);
        under.sort_by_key(|child| std::cmp::Reverse(end(child)));
        for child in under {
            if end(&child) <= until && rows[child].start() >= rows[place].start() {
                until = rows[child].start();
                waiting.push(child);
            }
        }
    }
    critical
}

struct View {
    /// First and last nanosecond that the width stands for.
    window: (i64, i64),
    zoomed: bool,
    critical: Vec<bool>,
    /// Number of the first span that is drawn.
    from: usize,
    query: query::Trace,
    more_entries: bool,
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
        let whole = self.whole.duration().max(1) as f64;
        let shown = self.window.1.saturating_sub(self.window.0) as f64;
        let (spans, errors) = (self.whole.spans, self.whole.errors);
        let mut services: Vec<&str> = self.rows.iter().map(|row| row.service.as_str()).collect();
        services.sort_unstable();
        services.dedup();
        let root = &self.rows[0];
        let route = root.attribute("http.route");
        html! {
            (heading(html! { (root.span.name) " " (http_status(root.attribute("http.response.status_code").parse().unwrap_or(0))) }, html! {
                a.button href=(href("/logs", &[("trace_id", &self.trace_id)])) data-testid="trace-logs-link" { "Logs" }
                a.button href=(href("/metrics", &[("service", &root.service), ("name", "http.server.request.duration"), ("only", &if route.is_empty() { String::new() } else { format!("http.route={route}") })])) data-testid="trace-metrics-link" { "Metrics" }
                a.button href={ "/api/traces/" (self.trace_id) } { "JSON" }
            }))
            dl.facts {
                div { dt { "Trace" } dd { code data-testid="trace-id" { (self.trace_id) } button.copy type="button" data-copy=(self.trace_id) aria-label="Copy the trace id" { "Copy" } } }
                div { dt { "Started" } dd.number { (format::date_time(self.whole.start_ns)) } }
                div { dt { "Duration" } dd.number data-testid="trace-duration" { (format::duration(whole)) } }
                div { dt { "Spans" } dd.number data-testid="trace-spans" { (spans) } }
                div { dt { "Errors" } dd.number.bad[errors > 0] data-testid="trace-errors" { (errors) } }
                div { dt { "Services" } dd { @for service in services { (self.services.tag(service)) } } }
            }
            @if spans > self.rows.len() as i64 {
                p.context data-testid="trace-cut" { "Shown are the first " (format::count(self.rows.len() as i64)) " of " (format::count(spans)) " spans. " a.button href={ "/api/traces/" (self.trace_id) } { "All as JSON" } }
            }
            @if self.more_entries {
                p.context { "Shown are " (format::count(self.entries.len() as i64)) " records of this trace. " a.button href=(href("/logs", &[("trace_id", &self.trace_id)])) { "All its records" } }
            }
            (self.linked())
            form.filters method="get" role="search" {
                label.field.grow { span { "Search inside" } input type="search" name="q" value=(self.query.q) placeholder="Part of a name, service or attribute" data-focus="/" autocomplete="off" data-testid="span-search"; }
                @if self.zoomed { a.button href=(self.address(&query::Trace { zoom: String::new(), ..self.query.clone() })) data-testid="zoom-out" { "Zoom out" } }
                span.legend.faint.small { i.critical {} " critical path" }
            }
            section.waterfall aria-label="Waterfall" data-testid="waterfall" {
                h2.unseen { "Spans" } // The headings inside a span that is open stand below it.
                div.ruler aria-hidden="true" {
                    span { "Span" }
                    svg { @for quarter in 0..=4 {
                        text x={ (quarter * 25) "%" } y="15" text-anchor=(match quarter { 0 => "start", 4 => "end", _ => "middle" }) {
                            (format::duration(self.window.0.saturating_sub(self.whole.start_ns) as f64 + shown * f64::from(quarter) / 4.0))
                        }
                    } }
                }
                (self.chunk())
            }
            section {
                h2 { "Logs of this trace " span.faint.number { (self.entries.len()) } }
                @if self.entries.is_empty() { p.faint { "No record carries this trace id." } }
                @else { div.lines data-testid="trace-logs" { @for entry in &self.entries { (self.log(entry)) } } }
            }
        }
    }

    /// Address of this trace with other wishes.
    fn address(&self, query: &query::Trace) -> String {
        let parameters = [
            ("q", query.q.as_str()),
            ("zoom", &query.zoom),
            ("from", &query.from),
        ];
        href(&format!("/traces/{}", self.trace_id), &parameters)
    }

    /// The spans from the first one that is wanted on, and the way to those behind them.
    fn chunk(&self) -> Markup {
        let wanted = self.query.q.to_lowercase();
        let found = |row: &&Row| {
            wanted.is_empty()
                || row.service.to_lowercase().contains(&wanted)
                || crate::attributes::searchable(&row.span.attributes, &[&row.span.name])
                    .contains(&wanted)
        };
        let rows = self
            .rows
            .iter()
            .zip(&self.critical)
            .filter(|(row, _)| found(row));
        let mut rows = rows.skip(self.from).peekable();
        html! {
            div.chunk {
                @if self.from > 0 {
                    p.pager { a.button href=(self.address(&query::Trace { from: self.from.saturating_sub(SPANS_A_CHUNK).to_string(), ..self.query.clone() })) { "Spans before" } }
                }
                @if rows.peek().is_none() { p.faint data-testid="empty" { "No span has this." } }
                @for (row, critical) in rows.by_ref().take(SPANS_A_CHUNK) { (self.span(row, *critical)) }
                @if rows.peek().is_some() {
                    @let next = self.address(&query::Trace { from: (self.from + SPANS_A_CHUNK).to_string(), ..self.query.clone() });
                    p.pager hx-get=(next) hx-trigger="intersect once" hx-target="this" hx-select=".chunk" hx-swap="outerHTML" { a.button href=(next) data-testid="more-spans" { "More spans" } }
                }
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

    fn span(&self, row: &Row, critical: bool) -> Markup {
        let from = self.window.0;
        let whole = self.window.1.saturating_sub(from) as f64;
        let percent = |ns: i64| 100.0 * ns as f64 / whole;
        let after = row.start().saturating_sub(from);
        let x = percent(after).clamp(0.0, 100.0);
        let width = (percent(after.saturating_add(row.duration())).clamp(0.0, 100.0) - x).max(0.0);
        let failed = is_error(&row.span);
        // The duration stands right of the bar; where there is no room, inside a wide one or left of a narrow one.
        let late = x + width > 80.0;
        let inside = late && width > 15.0;
        let label_x = if late && !inside { x } else { x + width };
        let kind = kind_name(row.span.kind());
        html! {
            details.span id=(row.anchor) data-testid="span" data-span-id=(row.id) data-depth=(row.depth) data-name=(row.span.name) {
                summary.failed[failed] {
                    span.name.{ "d" (row.depth.min(DEEPEST_INDENT)) } {
                        span.chip.(self.services.colour(&row.service)) title=(row.service) {}
                        span.label { (row.span.name) }
                        @if failed { span.mark title="Failed" { "!" } }
                        @if let Some(unknown) = row.unknown() { span.kind data-testid="span-unknown" { (unknown) } }
                        @if self.profiled.contains(&row.id) { span.hot title="Has a flame graph of its own" { "▲" } }
                        span.kind { (kind) }
                        @if row.children > 0 { span.fold aria-hidden="true" title="Fold and unfold" data-testid="fold" { (row.children) } }
                    }
                    svg.line role="img" aria-label={ (format::duration(row.duration() as f64)) " after " (format::duration(after as f64)) } {
                        rect.(self.services.colour(&row.service)).critical[critical] x={ (format!("{x:.3}")) "%" } width={ (format!("{width:.3}")) "%" } y="7" height="12" rx="2" {}
                        @for event in row.span.events.iter().take(MOST_EVENTS) {
                            circle.event cx={ (format!("{:.3}", percent(time_ns(event.time_unix_nano).saturating_sub(from)).clamp(0.0, 100.0))) "%" } cy="13" r="3" { title { (event.name) } }
                        }
                        text.inside[inside] x={ (format!("{label_x:.3}")) "%" } dx=(if late { -6 } else { 6 }) y="17" text-anchor=[late.then_some("end")] {
                            (format::duration(row.duration() as f64))
                        }
                    }
                }
                div.detail { (self.detail(row, self.whole.start_ns)) }
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
                a.button href=(href("/logs", &[("trace_id", &self.trace_id), ("span_id", &row.id)])) data-testid="span-logs-link" { "Logs of this span" }
                a.button href={ (self.address(&query::Trace { zoom: row.id.clone(), from: String::new(), ..self.query.clone() })) "#" (row.anchor) } data-testid="span-zoom" { "Zoom to it" }
                @if let Some(profile) = profile {
                    a.button.primary href=(href("/profiles", &[("type", "cpu"), ("service", &row.service), ("profile_id", &profile)])) data-testid="span-profile-link" { "Flame graph of this span" }
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
        let level = level(entry.severity);
        html! {
            a.line href={ (href("/logs", &[("trace_id", &self.trace_id), ("span_id", &hex(&entry.record.span_id))])) "#log-" (entry.id) } data-testid="trace-log" {
                span.number.faint { (format::time_of_day(entry.time_ns)) }
                span.level.(level) { (level) }
                (self.services.tag(&entry.service))
                span.message { (super::message(&entry.record)) }
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
    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
    use opentelemetry_proto::tonic::resource::v1::Resource;

    use super::*;

    /// A span of an unknown origin.
    fn span(id: u8, parent: u8) -> (i64, Span) {
        let span = Span {
            span_id: vec![id; 8],
            parent_span_id: vec![parent; if parent == 0 { 0 } else { 8 }],
            ..Span::default()
        };
        (0, span)
    }

    /// Numbers and depths of spans that came in this order.
    fn found(rows: &[Row]) -> Vec<(u8, usize)> {
        let found = rows.iter().map(|row| (row.span.span_id[0], row.depth));
        found.collect()
    }

    #[test]
    fn spans_stand_under_their_parents_and_none_is_lost() {
        // 4's parent never came; 5 and 6 are each other's parent.
        let spans = [(1, 0), (2, 1), (3, 2), (4, 9), (7, 1), (5, 6), (6, 5)];
        let spans = spans.map(|(id, parent)| span(id, parent)).to_vec();
        let rows = arrange(spans, &HashMap::new());
        assert_eq!(
            found(&rows),
            [(1, 0), (2, 1), (3, 2), (7, 1), (4, 0), (5, 0), (6, 1)]
        );

        // A server that shares its id with its client, and a child of each.
        let service = |name: &str| {
            let value = Some(Value::StringValue(name.to_owned()));
            let attribute = KeyValue {
                key: "service.name".to_owned(),
                value: Some(AnyValue { value }),
                ..KeyValue::default()
            };
            let resource = Resource {
                attributes: vec![attribute],
                ..Resource::default()
            };
            Origin {
                resource: Some(resource),
                ..Origin::default()
            }
        };
        let (front, back) = (1, 2);
        let origins = HashMap::from([(front, service("front")), (back, service("back"))]);
        let spans = [
            (1, 0, front, SpanKind::Internal),
            (2, 1, back, SpanKind::Server),
            (2, 1, front, SpanKind::Client),
            (3, 2, front, SpanKind::Internal),
            (4, 2, back, SpanKind::Internal),
        ];
        let spans = spans.map(|(id, parent, origin, kind)| {
            let (_, mut span) = span(id, parent);
            span.set_kind(kind);
            (origin, span)
        });
        let rows = arrange(spans.to_vec(), &origins);
        assert_eq!(found(&rows), [(1, 0), (2, 1), (2, 2), (4, 3), (3, 2)]);
        assert_eq!(rows[2].span.kind(), SpanKind::Server);
        assert_eq!(rows[1].anchor, "span-0202020202020202");
        assert_eq!(rows[2].anchor, "span-0202020202020202-2");
    }

    #[test]
    fn the_critical_path_is_what_the_trace_waited_for() {
        let span = |id, parent, start, end| {
            let (origin, span) = span(id, parent);
            let timed = Span {
                start_time_unix_nano: start,
                end_time_unix_nano: end,
                ..span
            };
            (origin, timed)
        };
        // 2 and 3 ran side by side, 4 after them; 5 outlived its parent; 6 is what 3 waited for.
        let rows = arrange(
            vec![
                span(1, 0, 100, 200),
                span(2, 1, 105, 120),
                span(3, 1, 106, 150),
                span(6, 3, 110, 140),
                span(4, 1, 160, 190),
                span(5, 1, 170, 300),
            ],
            &HashMap::new(),
        );
        let critical = critical_path(&rows);
        let all = found(&rows).into_iter().zip(critical);
        let critical = all.filter(|(_, critical)| *critical);
        assert!(critical.map(|((id, _), _)| id).eq([1, 3, 6, 4]));
    }
}
