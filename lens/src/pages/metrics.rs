//! `/metrics`: one metric at a time, as charts, with the latest point of each of its series.

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use serde::Serialize;

use super::{
    MOST_CHOICES, PageProblem, Services, Shell, Tab, TimeRange, filters, heading, href, nothing,
    same, select, shown,
};
use crate::attributes::{find, text};
use crate::chart::{Chart, Grouped, Range};
use crate::format;
use crate::problem::Problem;
use crate::quantile::Distribution;
use crate::query;
use crate::store::metrics::{self, Kind, Listed, Point, Series};
use crate::store::{Signal, Store, aside, traces};

/// Rows of the table of series: the newest, which are those of the processes that run.
const MOST_SERIES: usize = 100;
/// Shown when no metric is asked for, if it is there.
const FIRST: &str = "http.server.request.duration";
/// A point this long before the range says where its first increment begins.
const LEAD_NS: i64 = 120 * format::NS_PER_S;

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    query: web::Query<query::Metrics>,
) -> Result<HttpResponse, PageProblem> {
    let mut query = query.into_inner();
    let now_ns = format::now_ns();
    query.time.bounds("15m", now_ns)?;
    let all = metrics::list(&store.pool, "").await?;
    if query.name.is_empty() {
        let first = all.iter().find(|metric| metric.name == FIRST);
        let first = first.or(all.first()).map(|metric| metric.name.clone());
        query.name = first.unwrap_or_default();
    }
    let chosen = all.iter().find(|metric| metric.name == query.name);
    let series = select_series(&store, &query).await?;
    let (services, _) = traces::choices(&store.pool).await?;
    let attributes: BTreeSet<String> = metrics::series(&store.pool, &query.name, "")
        .await?
        .into_iter()
        .flat_map(|series| series.attributes)
        .map(|attribute| attribute.key)
        .collect();
    let attributes: Vec<String> = attributes.into_iter().take(MOST_CHOICES).collect();
    let newest = &series[series.len().saturating_sub(MOST_SERIES)..];
    let latest = metrics::latest(&store.pool, newest).await?;
    let shell = Shell {
        tab: Tab::Metrics,
        title: match query.name.as_str() {
            "" => "Metrics".to_owned(),
            name => name.to_owned(),
        },
        signals: "metrics",
        range: Some(TimeRange {
            kept_since: store.kept_since(Signal::Metrics).await?,
            ..TimeRange::of(&request, &query.time, "15m", now_ns)
        }),
        not: "Lens draws one metric at a time; it evaluates no PromQL, has no dashboards, no alerts and no recording rules.",
        same: chosen.map_or_else(Vec::new, |metric| {
            same::metric(&query, metric.kind, &metric.unit)
        }),
        ..Shell::of(&request, &store).await?
    };
    let fixed = html! { (heading(html! { "Metrics" }, html! { a.button href=(shell.at("/api/export", &[("signal", "metrics")])) { "Export" } })) };
    let changing = html! {
        @if all.is_empty() {
            (nothing("No metric has arrived yet.", html! { "Exporters send metrics every minute unless " code { "OTEL_METRIC_EXPORT_INTERVAL" } " says otherwise." }))
        } @else {
            div.metrics {
                (list(&all, &query, &shell))
                div.charts-side {
                    @if let Some(metric) = chosen { (title(metric)) }
                    @else { (nothing("There is no such metric.", html! { "It may have been let go; choose another." })) }
                    (filters("/metrics", &query.time, html! {
                        input type="hidden" name="name" value=(query.name);
                        (select("service", "Service", "Any service", &query.service, &services))
                        (select("by", "A line for each", "service", &query.by, &attributes))
                        label.field { span { "Only" } input name="only" value=(query.only) placeholder="attribute=value" list="only" autocomplete="off"; }
                        datalist id="only" { @for value in values(&series) { option value=(value) {} } }
                    }))
                    // Drawn by chart.js, which looks for another data-src after each change.
                    div id="charts" tabindex="-1" hx-morph-skip-children="" data-testid="charts" data-src=(href("/metrics/data", &[("name", &query.name), ("service", &query.service), ("by", &query.by), ("only", &query.only), ("range", &query.time.range), ("from_ms", &query.time.from_ms), ("to_ms", &query.time.to_ms)])) {}
                    (latest_points(&latest, &shell.services, series.len()))
                }
            }
        }
    };
    Ok(shell.page(&store, fixed, changing))
}

#[derive(Serialize)]
struct Data {
    charts: Vec<Chart>,
    /// In the order of their colours.
    services: Vec<String>,
    /// First and last second of the range.
    from: i64,
    to: i64,
}

/// `GET /metrics/data`: the page's charts as numbers.
pub async fn data(
    store: web::Data<Store>,
    query: web::Query<query::Metrics>,
) -> Result<HttpResponse, Problem> {
    let now_ns = format::now_ns();
    let (from_ns, to_ns) = query.time.bounds("15m", now_ns)?;
    let series = select_series(&store, &query).await?;
    let kept_since = store.kept_since(Signal::Metrics).await?;
    let range = Range::between(
        from_ns.or(kept_since).unwrap_or(now_ns),
        to_ns.unwrap_or(now_ns),
    );
    let kind = series.first().map_or(Kind::Gauge, |series| series.kind);
    let unit = series
        .first()
        .map_or_else(String::new, |series| series.metric.unit.clone());
    let of_kind = series.into_iter().filter(|series| series.kind == kind);
    // What was added from the beginning on makes up the value of a sum that goes up and down.
    let whole = |series: &Series| kind == Kind::UpDownCounter && metrics::is_delta(&series.metric);
    let (whole, recent): (Vec<_>, Vec<_>) = of_kind.partition(whole);
    let to = to_ns.unwrap_or(now_ns);
    let (mut series, cut) = metrics::with_points_in(
        &store.pool,
        recent,
        (range.from_ns - LEAD_NS, to),
        Point::decode,
    )
    .await?;
    let (others, more_cut) =
        metrics::with_points_in(&store.pool, whole, (0, to), Point::decode).await?;
    if cut || more_cut {
        return Err(Problem::TooLarge(
            "these are too many points: ask for fewer minutes, one service or one attribute"
                .to_owned(),
        ));
    }
    series.extend(others);
    let (range, charts) = aside(move || {
        let first = series
            .iter()
            .filter_map(|(_, points)| points.first())
            .map(Point::time)
            .min();
        let range = first.map_or(range, |first| range.beginning_at(first - range.step_ns));
        let charts = Grouped::new(kind, unit, series, &query.by).charts(range);
        (range, charts)
    })
    .await?;
    let services = Services::load(&store).await?.0;
    Ok(HttpResponse::Ok().json(Data {
        charts,
        services,
        from: range.from_ns / format::NS_PER_S,
        to: to_ns.unwrap_or(now_ns) / format::NS_PER_S,
    }))
}

/// The series of the metric that the query asks for.
async fn select_series(store: &Store, query: &query::Metrics) -> Result<Vec<Series>, Problem> {
    if query.name.is_empty() {
        return Ok(Vec::new());
    }
    let mut series = metrics::series(&store.pool, &query.name, &query.service).await?;
    if let Some((key, value)) = query::pair("only", &query.only)? {
        series.retain(|series| find(&series.attributes, &key).as_ref() == Some(&value));
    }
    Ok(series)
}

/// Every `attribute=value` there is, for suggestions.
fn values(series: &[Series]) -> Vec<String> {
    let mut values: Vec<String> = series
        .iter()
        .flat_map(|series| &series.attributes)
        .map(|attribute| format!("{}={}", attribute.key, text(attribute.value.as_ref())))
        .collect();
    values.sort_unstable();
    values.dedup();
    values.truncate(MOST_CHOICES);
    values
}

fn list(all: &[Listed], query: &query::Metrics, shell: &Shell) -> Markup {
    html! {
        nav.metric-list aria-label="Metrics" {
            input type="search" placeholder="Find a metric" aria-label="Find a metric" data-focus="/" data-filter=".metric-list a" autocomplete="off" data-testid="metric-search";
            ul data-testid="metric-list" {
                @for metric in all {
                    li { a href=(shell.at("/metrics", &[("name", &metric.name)])) aria-current=[(metric.name == query.name).then_some("true")] data-testid="metric-link" data-name=(metric.name) title=(metric.description) {
                        span { (metric.name) } span.faint { (metric.kind.name()) }
                    } }
                }
            }
        }
    }
}

fn title(metric: &Listed) -> Markup {
    html! {
        div.metric-title {
            h2 data-testid="metric-name" { (metric.name) }
            p.faint {
                (metric.kind.name()) @if !metric.unit.is_empty() { " in " code { (metric.unit) } }
                " · " (metric.series) " series of " (metric.services.join(", "))
            }
            @if !metric.description.is_empty() { p { (metric.description) } }
        }
    }
}

fn latest_points(latest: &[(&Series, Point)], services: &Services, series: usize) -> Markup {
    html! {
        @if !latest.is_empty() {
            h3 { "Latest point of each series " span.faint.number { (series) } }
            div.scroll tabindex="0" role="region" aria-label="Table" {
                table.list data-testid="series" {
                    thead { tr { th { "Series" } th.right { "Value" } th.right { "At" } } }
                    tbody { @for (series, point) in latest {
                        tr data-testid="series-row" {
                            td {
                                (services.tag(&series.service))
                                @if metrics::is_delta(&series.metric) { span.label title="Each point says what was added since the one before; Prometheus and Mimir take sums since the start (cumulative)." { "delta" } }
                                @for attribute in &series.attributes { span.label { span.faint { (attribute.key) "=" } (shown(attribute.value.as_ref())) } }
                            }
                            td.right.number data-testid="series-value" { (value(point, &series.metric.unit)) }
                            td.right.number.faint { (format::time_of_day(point.time())) }
                        }
                    } }
                }
            }
            @if series > MOST_SERIES { p.faint { "The newest " (MOST_SERIES) " of " (format::count(series as i64)) " series; a filter chooses others." } }
        }
    }
}

fn value(point: &Point, unit: &str) -> String {
    let distribution = |count: u64, distribution: Distribution| {
        let quantile = |q| match (distribution.quantile(q), distribution.bucket(q)) {
            (None, _) => "–".to_owned(),
            (Some(_), Some(bucket)) if bucket.upper.is_infinite() => bucket.text(unit),
            (Some(value), Some(bucket)) => {
                format!("{} ({})", format::value(value, unit), bucket.text(unit))
            }
            (Some(value), None) => format::value(value, unit),
        };
        format!(
            "{} · p50 {} · p95 {}",
            format::count(i64::try_from(count).unwrap_or(i64::MAX)),
            quantile(0.5),
            quantile(0.95)
        )
    };
    match point {
        Point::Number(number) => match (crate::chart::number(number), &number.value) {
            (Some(value), _) => format::value(value, unit),
            (None, Some(number_data_point::Value::AsDouble(value))) if value.is_nan() => {
                "NaN".to_owned()
            }
            (None, _) => "no value".to_owned(),
        },
        Point::Histogram(histogram) => distribution(histogram.count, (&**histogram).into()),
        Point::Exponential(histogram) => distribution(histogram.count, (&**histogram).into()),
        Point::Summary(summary) => {
            let mut text = format::count(i64::try_from(summary.count).unwrap_or(i64::MAX));
            for quantile in &summary.quantile_values {
                text.push_str(&format!(
                    " · p{} {}",
                    quantile.quantile * 100.0,
                    format::value(quantile.value, unit)
                ));
            }
            text
        }
    }
}
