//! `/traces`: the newest traces, over time and as a list.

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

use super::{
    PageProblem, Services, Shell, Tab, filters, format, heading, http_status, nothing, same,
    select, uri,
};
use crate::query;
use crate::store::Store;
use crate::store::traces::{self, Summary};

const LISTED: u32 = 100;

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    query: web::Query<query::Traces>,
) -> Result<HttpResponse, PageProblem> {
    let listed = traces::list(&store.pool, &query.filter(LISTED)?).await?;
    let (services, routes) = traces::choices(&store.pool).await?;
    let shell = Shell {
        tab: Tab::Traces,
        title: "Traces".to_owned(),
        uri: uri(&request),
        signals: "traces",
        services: Services::load(&store).await?,
        not: "Lens looks at whole traces by these filters only; it has no structural or aggregating queries, and Tempo keeps more and longer.",
        same: vec![same::traces(&query)],
    };
    let statuses = ["error".to_owned(), "ok".to_owned()];
    let fixed = html! {
        (heading(html! { "Traces" }, html! {}))
        (filters("/traces", html! {
            (select("service", "Service", "Any service", &query.service, &services))
            (select("route", "Route", "Any route", &query.route, &routes))
            (select("status", "Status", "Any status", &query.status, &statuses))
            label.field { span { "Longer than" } input type="number" name="min_ms" min="0" step="any" placeholder="ms" value=(query.min_ms); }
            label.field { span { "Shorter than" } input type="number" name="max_ms" min="0" step="any" placeholder="ms" value=(query.max_ms); }
        }))
    };
    let changing = html! {
        @if listed.is_empty() {
            (nothing("No trace passes these filters.", html! { "Send some: " code { "make generate-load" } }))
        } @else {
            (scatter(&listed))
            (table(&listed, &shell.services))
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
        1.0 + 98.0 * trace.start_ns.saturating_sub(from) as f64 / to.saturating_sub(from) as f64
    };
    let y = |exponent: f64| 8.0 + 84.0 * (highest - exponent) / (highest - lowest);
    html! {
        figure.scatter aria-label="Duration over time" {
            svg role="img" aria-label={ (listed.len()) " traces by start and duration" } {
                @for exponent in lowest as i32..=highest as i32 {
                    @let at = format!("{:.1}%", y(f64::from(exponent)));
                    line.grid x1="0" x2="100%" y1=(at) y2=(at) {}
                    text.tick x="4" y=(at) dy="-3" { (format::duration(10f64.powi(exponent))) }
                }
                @for trace in listed {
                    a href={ "/traces/" (trace.trace_id) } tabindex="-1" {
                        circle.dot.failed[trace.errors > 0] cx={ (format!("{:.2}", x(trace))) "%" } cy={ (format!("{:.1}", y(length(trace)))) "%" } r="4" {
                            title { (trace.name) " · " (format::duration(trace.duration() as f64)) }
                        }
                    }
                }
            }
            figcaption { span { (format::time_of_day(from)) } span { "duration, logarithmic" } span { (format::time_of_day(to)) } }
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
