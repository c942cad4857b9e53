//! `/traces`: the newest traces, over time and as a list.

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

use super::{
    PageProblem, Services, Shell, Tab, TimeRange, address, filters, heading, http_status, same,
    select,
};
use crate::format;
use crate::query;
use crate::store::traces::{self, Summary};
use crate::store::{Signal, Store};

const LISTED: u32 = 100;
/// Room that the axis of the dots takes, in per cent.
const AXIS: f64 = 6.0;

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    query: web::Query<query::Traces>,
) -> Result<HttpResponse, PageProblem> {
    let now_ns = format::now_ns();
    let mut filter = query.filter(LISTED, now_ns)?;
    let shown = filter.limit as usize;
    filter.limit += 1; // whether there are more
    let mut listed = traces::list(&store.pool, &filter).await?;
    let more = listed.len() > shown;
    listed.truncate(shown);
    let (services, routes) = traces::choices(&store.pool).await?;
    let shell = Shell {
        tab: Tab::Traces,
        title: "Traces".to_owned(),
        signals: "traces",
        range: Some(TimeRange {
            kept_since: store.kept_since(Signal::Traces).await?,
            ..TimeRange::of(&request, &query.time, "all", now_ns)
        }),
        not: "Lens finds traces by what one of their spans has; it has no structural or aggregating queries, and Tempo keeps more and longer.",
        same: vec![same::traces(&query)],
        ..Shell::of(&request, &store).await?
    };
    let statuses = ["error".to_owned(), "ok".to_owned()];
    let sorts = ["duration", "spans", "errors"].map(str::to_owned);
    let fixed = html! {
        (heading(html! { "Traces" }, html! { a.button href=(shell.at("/api/export", &[("signal", "traces")])) { "Export" } }))
        (filters("/traces", &query.time, html! {
            label.field.grow {
                span { "Search" }
                input type="search" name="q" value=(query.q) placeholder="Trace id, part of a name, or attribute=value" data-focus="/" autocomplete="off" data-testid="trace-search";
            }
            (select("service", "Service", "Any service", &query.service, &services))
            (select("route", "Route", "Any route", &query.route, &routes))
            (select("status", "Status", "Any status", &query.status, &statuses))
            label.field { span { "Longer than" } input type="number" name="min_ms" min="0" step="any" placeholder="ms" value=(query.min_ms); }
            label.field { span { "Shorter than" } input type="number" name="max_ms" min="0" step="any" placeholder="ms" value=(query.max_ms); }
            (select("sort", "Sort by", "time", &query.sort, &sorts))
        }))
    };
    let page = query.page()?;
    let (before, behind) = match filter.sort {
        traces::Sort::Time => ("Newer", "Older"),
        _ => ("Previous", "Next"),
    };
    // Later pages keep their place while new traces arrive.
    let until_ms = match query.until_ms.as_str() {
        "" => (now_ns / 1_000_000).to_string(),
        until => until.to_owned(),
    };
    let at = |page: u32| {
        let (page, until_ms) = match page {
            1 => Default::default(),
            page => (page.to_string(), until_ms.clone()),
        };
        address(
            "/traces",
            &query::Traces {
                page,
                until_ms,
                ..query.0.clone()
            },
        )
    };
    let changing = html! {
        @if listed.is_empty() {
            (shell.nothing("No trace passes these filters.", html! { "Send some: " code { "make generate-load" } }))
        } @else {
            (scatter(&listed))
            (table(&listed, &shell.services))
        }
        @if page > 1 || more {
            p.pager {
                @if page > 1 { a.button href=(at(page - 1)) data-testid="traces-newer" { (before) } }
                span.faint.number { "from " (format::count(i64::from(filter.offset) + 1)) " to " (format::count(i64::from(filter.offset) + listed.len() as i64)) }
                @if more { a.button href=(at(page + 1)) data-testid="traces-older" { (behind) } }
            }
        }
    };
    Ok(shell.page(&store, fixed, changing))
}

/// Duration over time, one dot a trace, on a logarithmic scale.
fn scatter(listed: &[Summary]) -> Markup {
    let from = listed.iter().map(|trace| trace.start_ns).min().unwrap_or(0);
    let to = listed
        .iter()
        .map(|trace| trace.start_ns)
        .max()
        .unwrap_or(1)
        .max(from.saturating_add(1));
    let length = |trace: &Summary| (trace.duration() as f64).max(1e3).log10();
    let lowest = listed
        .iter()
        .map(length)
        .fold(f64::INFINITY, f64::min)
        .floor();
    let highest = listed
        .iter()
        .map(length)
        .fold(f64::NEG_INFINITY, f64::max)
        .ceil()
        .max(lowest + 1.0);
    let x = |trace: &Summary| {
        AXIS + (99.0 - AXIS) * trace.start_ns.saturating_sub(from) as f64
            / to.saturating_sub(from) as f64
    };
    let y = |exponent: f64| 8.0 + 84.0 * (highest - exponent) / (highest - lowest);
    html! {
        figure.scatter aria-label="Duration over time" data-zoom="" data-from=(from / 1_000_000) data-to=(to / 1_000_000 + 1) data-left=(AXIS) data-right="1" {
            svg role="group" aria-label={ (listed.len()) " traces by start and duration" } {
                @for exponent in lowest as i32..=highest as i32 {
                    @let at = format!("{:.1}%", y(f64::from(exponent)));
                    line.grid x1="0" x2="100%" y1=(at) y2=(at) {}
                    text.tick x="4" y=(at) dy="-3" { (format::duration(10f64.powi(exponent))) }
                }
                @for trace in listed {
                    a href={ "/traces/" (trace.trace_id) } tabindex="-1" aria-label={ (trace.name) ", " (format::duration(trace.duration() as f64)) } {
                        circle.dot.failed[trace.errors > 0] cx={ (format!("{:.2}", x(trace))) "%" } cy={ (format!("{:.1}", y(length(trace)))) "%" } r="4" {
                            title { (trace.name) " · " (format::duration(trace.duration() as f64)) }
                        }
                    }
                }
            }
            figcaption { span { (format::time_of_day(from)) } span { "duration, logarithmic; a dot opens its trace, drag to zoom" } span { (format::time_of_day(to)) } }
        }
    }
}

/// The list; also on the overview.
pub fn table(listed: &[Summary], services: &Services) -> Markup {
    let now = format::now_ns();
    let longest = listed
        .iter()
        .map(|trace| trace.duration())
        .max()
        .unwrap_or(1)
        .max(1) as f64;
    html! {
        table.list.traces data-testid="trace-list" {
            thead { tr { th { "Trace" } th { "Status" } th.right { "Duration" } th.right.wide { "Spans" } th.right.wide { "Started" } } }
            tbody {
                @for trace in listed {
                    @let duration = trace.duration() as f64;
                    tr id={ "trace-" (trace.trace_id) } data-testid="trace-row" data-trace-id=(trace.trace_id) {
                        td {
                            a.row href={ "/traces/" (trace.trace_id) } { (trace.name) }
                            (services.tag(&trace.service))
                            span.narrow.faint.small.number { (format::time_of_day(trace.start_ns)) }
                            @if trace.orphan { span.faint.small { " parent not here yet" } }
                        }
                        td {
                            (http_status(trace.http_status))
                            @if trace.errors > 0 { span.errors { (trace.errors) @if trace.errors == 1 { " error" } @else { " errors" } } }
                            @else if trace.http_status == 0 { span.faint { "ok" } }
                        }
                        td.right.length {
                            span.number { (format::duration(duration)) }
                            svg.meter.failed[trace.errors > 0] aria-hidden="true" { rect width={ (format!("{:.1}", 100.0 * duration / longest)) "%" } height="100%" {} }
                        }
                        td.right.number.wide { (trace.spans) }
                        td.right.number.wide title=(format::date_time(trace.start_ns)) {
                            (format::time_of_day(trace.start_ns)) " " span.faint.wide { (format::ago(trace.start_ns, now)) }
                        }
                    }
                }
            }
        }
    }
}
