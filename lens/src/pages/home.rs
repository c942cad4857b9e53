//! `/`: what has arrived, how each service does, and what failed last.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

use super::{PageProblem, Shell, Tab, TimeRange, heading, same};
use crate::attributes::find;
use crate::chart::Grouped;
use crate::format;
use crate::problem::Problem;
use crate::query;
use crate::store::traces::{self, Health};
use crate::store::{Signal, Store, aside, logs, metrics};

const FAILED: u32 = 6;

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    time: web::Query<query::Time>,
) -> Result<HttpResponse, PageProblem> {
    let now_ns = format::now_ns();
    let bounds = time.bounds("15m", now_ns)?;
    let mut health = traces::health(&store.pool, bounds).await?;
    // Of sampled traces only some spans are here; the metric counts every request.
    let requests = totals(&store, &["http.server.request.duration"], bounds, now_ns).await?;
    for service in &mut health {
        let (counted, failed) = requests.get(&service.service).copied().unwrap_or_default();
        if counted > service.requests {
            (service.requests, service.errors) = (counted, failed.max(service.errors));
        }
    }
    let mut lost = totals(&store, &LOSSES, bounds, now_ns).await?;
    lost.retain(|_, (_, failed)| *failed > 0);
    let (from_ns, to_ns) = bounds;
    let failed = traces::Filter {
        failed: Some(true),
        from_ns,
        to_ns,
        limit: FAILED,
        ..Default::default()
    };
    let failed = traces::list(&store.pool, &failed).await?;
    let errors = logs::Filter {
        severity: Some((17, 24)),
        from_ns,
        to_ns,
        limit: FAILED,
        ..Default::default()
    };
    let (errors, _) = logs::list(&store.pool, &errors).await?;
    let minutes = traces::minutes_covered(&store.pool, bounds, now_ns).await?;
    let last = last_arrivals(&store).await?;
    let shell = Shell {
        tab: Tab::Home,
        title: "Overview".to_owned(),
        signals: "traces logs metrics profiles",
        range: Some(TimeRange::of(&request, &time, "15m", now_ns)),
        not: "Lens is one small process for one machine: no dashboards, no alerts, no users, and it forgets the oldest.",
        same: vec![same::traces(&query::Traces {
            status: "error".to_owned(),
            ..Default::default()
        })],
        ..Shell::of(&request, &store).await?
    };
    let empty = Signal::ALL
        .iter()
        .all(|signal| store.usage(*signal).rows == 0);
    let changing = html! {
        (cards(&store, &last))
        @if empty { (welcome(&request)) } @else {
            section {
                h2 { "Services " span.faint { (format::three(minutes)) " minutes" } }
                @if health.len() == traces::MOST_SERVICES { p.context { "Only the " (traces::MOST_SERVICES) " services with the most requests are shown." } }
                (services(&health, &shell, minutes))
            }
            @if !lost.is_empty() {
                p.context data-testid="lost" { "By their own metrics, services lost telemetry: " @for (service, (_, count)) in &lost { (shell.services.tag(service)) " " span.number { (format::count(*count)) } " " } "spans, records or points." }
            }
            @if !failed.is_empty() { section { h2 { "Last failed " a.more href=(shell.at("/traces", &[("status", "error")])) { "All" } } (super::traces::table(&failed, &shell.services)) } }
            @if !errors.is_empty() {
                section { h2 { "Last errors in logs " a.more href=(shell.at("/logs", &[("level", "error+")])) { "All" } }
                    div.records { @for entry in &errors { (super::logs::record(entry, &shell.services, &[], None, None, false)) } } }
            }
        }
    };
    Ok(shell.page(&store, heading(
        html! { "Overview" },
        html! {
            a.button href=(shell.at("/api/export", &[])) title="Spans, records and points as OTLP/JSON lines" data-testid="export" { "Export" }
            label.button title="A file that Export wrote" { "Import" input.hidden-input type="file" id="import" accept=".jsonl,.json"; }
            span.faint id="import-note" role="status" {}
        },
    ), changing))
}

/// What the SDK's own metrics count as lost where they carry `error.type`.
const LOSSES: [&str; 5] = [
    "otel.sdk.processor.span.processed",
    "otel.sdk.processor.log.processed",
    "otel.sdk.exporter.span.exported",
    "otel.sdk.exporter.log.exported",
    "otel.sdk.exporter.metric_data_point.exported",
];

/// What metrics counted in a time, by service: in all, and with an `error.type`.
async fn totals(
    store: &Store,
    names: &[&str],
    (from_ns, to_ns): (Option<i64>, Option<i64>),
    now_ns: i64,
) -> Result<BTreeMap<String, (i64, i64)>, Problem> {
    const LEAD_NS: i64 = 120 * format::NS_PER_S;
    let (from_ns, to_ns) = (from_ns.unwrap_or(0), to_ns.unwrap_or(now_ns));
    let mut totals: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for name in names {
        let series = metrics::series(&store.pool, name, "").await?;
        let found = metrics::with_points_in(
            &store.pool,
            series,
            (from_ns - LEAD_NS, to_ns),
            metrics::Point::decode_count,
        )
        .await?
        .0;
        let counted = aside(move || {
            let (failed, others): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|(series, _)| find(&series.attributes, "error.type").is_some());
            [others, failed].map(|series| Grouped::counts(series).totals(from_ns, to_ns))
        });
        for (place, counted) in counted.await?.into_iter().enumerate() {
            for (service, count) in counted {
                let total = totals.entry(service).or_default();
                total.0 += count.round() as i64;
                total.1 += place as i64 * count.round() as i64;
            }
        }
    }
    Ok(totals)
}

/// When each signal last arrived, 0 for never.
async fn last_arrivals(store: &Store) -> sqlx::Result<[i64; 4]> {
    let (traces, logs, metrics, profiles) = sqlx::query_as(
        "SELECT coalesce((SELECT end_ns FROM spans ORDER BY id DESC LIMIT 1), 0), coalesce((SELECT time_ns FROM logs ORDER BY id DESC LIMIT 1), 0),
         coalesce((SELECT time_ns FROM points ORDER BY id DESC LIMIT 1), 0), coalesce((SELECT time_ns + duration_ns FROM profiles ORDER BY id DESC LIMIT 1), 0)",
    )
    .fetch_one(&store.pool)
    .await?;
    Ok([traces, logs, metrics, profiles])
}

fn cards(store: &Store, last: &[i64; 4]) -> Markup {
    let now = format::now_ns();
    html! {
        div.cards {
            @for signal in Signal::ALL {
                @let usage = store.usage(signal);
                @let share = (usage.rows as f64 / usage.bound.rows as f64).max(usage.bytes as f64 / usage.bound.bytes as f64).min(1.0);
                a.card href={ "/" (format!("{signal:?}").to_lowercase()) } data-testid={ "card-" (format!("{signal:?}").to_lowercase()) } {
                    span.title { (format!("{signal:?}")) }
                    span.big.number data-testid="count" { (format::count(usage.rows as i64)) }
                    span.faint { (signal.unit()) @if last[signal as usize] > 0 { ", last " (format::ago(last[signal as usize], now)) } @else { ", none yet" } }
                    svg.meter aria-hidden="true" { rect width={ (format!("{:.2}", 100.0 * share)) "%" } height="100%" {} }
                    span.faint.small { (format::bytes(usage.bytes as f64)) " of " (format::bytes(usage.bound.bytes as f64)) }
                }
            }
        }
    }
}

fn services(health: &[Health], shell: &Shell, minutes: f64) -> Markup {
    html! {
        @if health.is_empty() { (shell.nothing("No server or consumer span in this time.", html! {})) } @else {
            div.scroll tabindex="0" role="region" aria-label="Table" {
                table.list data-testid="services" {
                    thead { tr { th { "Service" } th.right { "Requests" } th.right { "Rate" } th.right { "Failed" } th.right { "Mean" } th.right { "Slowest" } th.right { "Follow" } } }
                    tbody { @for service in health {
                        @let link = |page: &str| shell.at(&format!("/{page}"), &[("service", &service.service)]);
                        @let list = |name: &'static str, value: &'static str| shell.at("/traces", &[("service", &service.service), (name, value)]);
                        tr data-testid="service-row" data-service=(service.service) {
                            td { (shell.services.tag(&service.service)) }
                            td.right.number { (format::count(service.requests)) }
                            td.right.number { (format::three(service.requests as f64 / minutes)) "/min" }
                            td.right.number.bad[service.errors > 0] {
                                @let share = format!("{:.1} %", 100.0 * service.errors as f64 / service.requests.max(1) as f64);
                                @if service.errors > 0 { a href=(list("status", "error")) title="The failed ones" { (share) } } @else { (share) }
                            }
                            td.right.number { (format::duration(service.mean_ns)) }
                            td.right.number { a href=(list("sort", "duration")) title="The slowest first" { (format::duration(service.slowest_ns as f64)) } }
                            td.right.ways { a href=(link("traces")) { "Traces" } a href=(link("logs")) { "Logs" } a href=(link("metrics")) { "Metrics" } a href=(link("profiles")) { "Profiles" } }
                        }
                    } }
                }
            }
        }
    }
}

fn welcome(request: &HttpRequest) -> Markup {
    let connection = request.connection_info();
    let address = format!("http://{}", connection.host());
    html! {
        section.welcome data-testid="empty" {
            h2 { "Nothing has arrived yet" }
            p { "Lens takes OTLP over HTTP, and profiles as Pyroscope's clients push them. Start a program with" }
            pre { "OTEL_EXPORTER_OTLP_ENDPOINT=" (address) "\nOTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nPYROSCOPE_SERVER_ADDRESS=" (address) }
            p.faint { "This page shows what comes as it comes." }
        }
    }
}
