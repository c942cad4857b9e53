//! `/`: what has arrived, how each service does, and what failed last.

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

use super::{PageProblem, Services, Shell, Tab, format, heading, query_string, same, uri};
use crate::query;
use crate::store::traces::{self, Health};
use crate::store::{Signal, Store, logs};

/// Spans that the table of services counts, in minutes.
const MINUTES: i64 = 15;
const FAILED: u32 = 6;

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageProblem> {
    let health = traces::health(
        &store.pool,
        format::now_ns() - MINUTES * 60 * format::NS_PER_S,
    )
    .await?;
    let failed = traces::list(
        &store.pool,
        &traces::Filter {
            failed: Some(true),
            limit: FAILED,
            ..Default::default()
        },
    )
    .await?;
    let (errors, _) = logs::list(
        &store.pool,
        &logs::Filter {
            severity: Some((17, 24)),
            limit: FAILED,
            ..Default::default()
        },
    )
    .await?;
    let minutes = traces::minutes_covered(&store.pool, MINUTES, format::now_ns()).await?;
    let last = last_arrivals(&store).await?;
    let shell = Shell {
        tab: Tab::Home,
        title: "Overview".to_owned(),
        uri: uri(&request),
        signals: "traces logs metrics profiles",
        services: Services::load(&store).await?,
        not: "Lens is one small process for one machine: no dashboards, no alerts, no users, and it forgets the oldest.",
        same: vec![same::traces(&query::Traces {
            status: "error".to_owned(),
            ..Default::default()
        })],
    };
    let empty = Signal::ALL
        .iter()
        .all(|signal| store.usage(*signal).rows == 0);
    let changing = html! {
        (cards(&store, &last))
        @if empty { (welcome(&request)) } @else {
            section { h2 { "Services " span.faint { "last " (format::three(minutes)) " minutes" } } (services(&health, &shell.services, minutes)) }
            @if !failed.is_empty() { section { h2 { "Last failed " a.more href="/traces?status=error" { "All" } } (super::traces::table(&failed, &shell.services)) } }
            @if !errors.is_empty() {
                section { h2 { "Last errors in logs " a.more href="/logs?level=error" { "All" } }
                    div.records { @for entry in &errors { (super::logs::record(entry, &shell.services, &[], None)) } } }
            }
        }
    };
    Ok(shell.page(&store, heading(html! { "Overview" }, html! {}), changing))
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

fn services(health: &[Health], services: &Services, minutes: f64) -> Markup {
    html! {
        @if health.is_empty() { p.faint { "No server or consumer span in this time." } } @else {
            div.scroll {
                table.list data-testid="services" {
                    thead { tr { th { "Service" } th.right { "Requests" } th.right { "Rate" } th.right { "Failed" } th.right { "Mean" } th.right { "Slowest" } th { "" } } }
                    tbody { @for service in health {
                        @let link = |page: &str| format!("/{page}?{}", query_string(&[("service", &service.service)]));
                        tr data-testid="service-row" data-service=(service.service) {
                            td { (services.tag(&service.service)) }
                            td.right.number { (format::count(service.requests)) }
                            td.right.number { (format::three(service.requests as f64 / minutes)) "/min" }
                            td.right.number.bad[service.errors > 0] { (format!("{:.1} %", 100.0 * service.errors as f64 / service.requests.max(1) as f64)) }
                            td.right.number { (format::duration(service.mean_ns)) }
                            td.right.number { (format::duration(service.slowest_ns as f64)) }
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
