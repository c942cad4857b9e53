//! `/profiles`: flame graphs of CPU time and of memory in use, by label, time and span.

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

use super::{
    PageProblem, Shell, Tab, filters, format, heading, nothing, query_string, same, select, uri,
};
use crate::flame::{self, Flame, Function};
use crate::pprof::Merged;
use crate::problem::Problem;
use crate::query;
use crate::store::profiles::{self, Pushed};
use crate::store::{Store, aside, traces};

/// Shown when no time is asked for, in milliseconds.
const RECENT_MS: i64 = 15 * 60 * 1000;

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    query: web::Query<query::Profiles>,
) -> Result<HttpResponse, PageProblem> {
    let query = query.into_inner();
    let kind = kind_of(&query);
    let (pushed, merged, left_out) = merge(&store, &query).await?;
    let own_only = query.frames == "own";
    let (flame, flame_json, functions) = aside(move || {
        let flame = Flame::of(&merged, own_only);
        let json = serde_json::to_string(&flame).unwrap_or_default();
        (flame, json, flame::functions(&merged))
    })
    .await?;
    let kinds = profiles::kinds(&store.pool).await?;
    let mut services: Vec<String> = kinds.iter().map(|listed| listed.service.clone()).collect();
    services.dedup();
    services.sort_unstable();
    services.dedup();
    let mut types: Vec<String> = vec!["cpu".to_owned(), "heap".to_owned()];
    types.extend(
        kinds
            .iter()
            .map(|listed| listed.kind.clone())
            .filter(|kind| kind != "cpu" && kind != "heap"),
    );
    types.dedup();
    let labels = profiles::labels(&store.pool, kind).await?;
    let span = traces::of_span(&store.pool, &query.profile_id).await?;
    let shell = Shell {
        tab: Tab::Profiles,
        title: format!("{kind} profile"),
        uri: uri(&request),
        // A span may arrive after its samples, and then leads back to its trace.
        signals: if query.profile_id.is_empty() {
            "profiles"
        } else {
            "profiles traces"
        },
        services: super::Services::load(&store).await?,
        not: "Lens merges what was pushed; it compares no two profiles, and of a heap it shows the fullest moment, not an average.",
        same: vec![same::profile(kind, &query)],
    };
    let of_type = |kind: &str| {
        query_string(&[
            ("type", kind),
            ("service", &query.service),
            ("from_ms", &query.from_ms),
            ("to_ms", &query.to_ms),
        ])
    };
    let fixed = html! {
        (heading(html! { "Profiles" }, html! {
            div.segments role="group" aria-label="Type" {
                @for other in &types { a href={ "/profiles?" (of_type(other)) } aria-current=[(other == kind).then_some("true")] data-testid={ "profile-type-" (other) } { (name_of(other)) } }
            }
        }))
        (filters("/profiles", html! {
            input type="hidden" name="type" value=(kind);
            (select("service", "Service", "Any service", &query.service, &services))
            (select("label", "Label", "Any label", &query.label, &labels))
            label.field { span { "Span id" } input name="profile_id" value=(query.profile_id) placeholder="16 hex digits" pattern="[0-9a-fA-F]{16}" autocomplete="off"; }
            label.field { span { "Frames" } select name="frames" data-testid="flame-frames" {
                option value="" selected[!own_only] { "All" }
                option value="own" selected[own_only] { "Without the runtime's" }
            } }
            label.field.grow { span { "Mark functions" } input type="search" name="q" value=(query.q) placeholder="Part of a name" data-focus="/" autocomplete="off" data-testid="flame-search"; }
        }))
    };
    let changing = html! {
        @if !query.profile_id.is_empty() {
            p.context data-testid="span-context" {
                "Samples of one span only"
                @if let Some((trace_id, service, name)) = &span {
                    ": " b { (name) } " " (shell.services.tag(service)) " "
                    a.button href={ "/traces/" (trace_id) "#span-" (query.profile_id) } data-testid="profile-trace-link" { "Show it in its trace" }
                } @else { "." }
            }
        }
        @if pushed.is_empty() && !query.profile_id.is_empty() {
            (nothing("No samples of this span have arrived.", html! { "CPU profiles are pushed every few seconds: this page waits for the next ones. A span has samples if it was at work when one was taken." }))
        } @else if pushed.is_empty() {
            (nothing("No profile passes these filters.", html! { "CPU profiles are pushed every few seconds; a span has samples if it was at work when one was taken." }))
        } @else {
            (timeline(&pushed, &query, kind, &flame.unit, &shell.services))
            dl.facts {
                div { dt { (if kind == "heap" { "In use" } else { "Total" }) } dd.number data-testid="profile-total" { (format::value(flame.total as f64, &flame.unit)) } }
                div { dt { "Profiles" } dd.number { (pushed.len()) @if kind == "heap" { ", at its fullest" } @if left_out > 0 { ", the oldest " (left_out) " left out" } } }
                div { dt { "From" } dd.number { (format::date_time(pushed.last().map_or(0, |push| push.time_ns))) } }
                div { dt { "To" } dd.number { (format::date_time(pushed.first().map_or(0, |push| push.time_ns.saturating_add(push.duration_ns)))) } }
                div { dt { "File" } dd { a href={ "/api/profiles/" (kind) "?" (query_string(&[("service", &query.service), ("profile_id", &query.profile_id), ("label", &query.label), ("from_ms", &range(&query).0), ("to_ms", &range(&query).1)])) } { "pprof" } } }
            }
            // Drawn by flame.js out of the text beside it.
            div id="flame" hx-morph-skip-children="" data-testid="flame" data-mark=(query.q) {}
            div id="flame-data" hidden { (flame_json) }
            (top(&functions, &flame, &query.q))
        }
    };
    Ok(shell.page(&store, fixed, changing))
}

fn kind_of(query: &query::Profiles) -> &str {
    if query.r#type.is_empty() {
        "cpu"
    } else {
        &query.r#type
    }
}

fn name_of(kind: &str) -> &str {
    match kind {
        "cpu" => "CPU",
        "heap" => "Heap",
        other => other,
    }
}

/// Begin and end that count: what is asked for, else everything of a span, else the last minutes.
fn range(query: &query::Profiles) -> (String, String) {
    if query.from_ms.is_empty() && query.to_ms.is_empty() && query.profile_id.is_empty() {
        return (
            (format::now_ns() / 1_000_000 - RECENT_MS).to_string(),
            String::new(),
        );
    }
    (query.from_ms.clone(), query.to_ms.clone())
}

/// The pushes that count, their sum, and how many of them are not in it because it became too large.
async fn merge(
    store: &Store,
    query: &query::Profiles,
) -> Result<(Vec<Pushed>, Merged, usize), Problem> {
    let kind = kind_of(query);
    let (from_ms, to_ms) = range(query);
    let filter = query::Profiles {
        from_ms,
        to_ms,
        ..query.clone()
    }
    .filter(kind)?;
    let pushed = profiles::list(&store.pool, &filter).await?;
    let to_merge = profiles::to_merge(&pushed, kind);
    let (merged, taken) = profiles::merge(&store.pool, &to_merge, &filter).await?;
    let left_out = to_merge.len() - taken;
    Ok((pushed, merged, left_out))
}

/// One bar a push; each leads to itself alone.
fn timeline(
    pushed: &[Pushed],
    query: &query::Profiles,
    kind: &str,
    unit: &str,
    services: &super::Services,
) -> Markup {
    let from = pushed.last().map_or(0, |push| push.time_ns);
    let to = pushed
        .first()
        .map_or(1, |push| {
            push.time_ns
                .saturating_add(push.duration_ns.max(format::NS_PER_S))
        })
        .max(from.saturating_add(1));
    let whole = to.saturating_sub(from) as f64;
    let highest = pushed
        .iter()
        .map(|push| push.total)
        .max()
        .unwrap_or(1)
        .max(1) as f64;
    let width = (98.0
        * pushed
            .iter()
            .map(|push| push.duration_ns)
            .min()
            .unwrap_or(0)
            .max(format::NS_PER_S) as f64
        / whole)
        .clamp(0.3, 4.0);
    let narrowed = !query.from_ms.is_empty() || !query.to_ms.is_empty();
    html! {
        figure.timeline aria-label="Pushes over time" {
            svg role="img" aria-label={ (pushed.len()) " profiles" } {
                @for push in pushed {
                    @let x = (100.0 - width) * push.time_ns.saturating_sub(from) as f64 / whole;
                    @let height = 100.0 * push.total as f64 / highest;
                    @let ms = (push.time_ns / 1_000_000).to_string();
                    @let until = (push.time_ns / 1_000_000 + 1).to_string();
                    a href={ "/profiles?" (query_string(&[("type", kind), ("service", &push.service), ("label", &query.label), ("frames", &query.frames), ("from_ms", &ms), ("to_ms", &until)])) } {
                        rect.(services.colour(&push.service)) x={ (format!("{x:.2}")) "%" } width={ (format!("{width:.2}")) "%" } y={ (format!("{:.1}", 100.0 - height)) "%" } height={ (format!("{height:.1}")) "%" } {
                            title { (format::time_of_day(push.time_ns)) " " (push.service) ": " (format::value(push.total as f64, unit)) }
                        }
                    }
                }
            }
            figcaption {
                span { (format::time_of_day(from)) }
                @if narrowed { a href={ "/profiles?" (query_string(&[("type", kind), ("service", &query.service), ("label", &query.label)])) } { "Last 15 minutes" } }
                @else { span { "choose a bar for that moment alone" } }
                span { (format::time_of_day(to)) }
            }
        }
    }
}

/// Functions by what was spent in themselves.
fn top(functions: &[Function], flame: &Flame, mark: &str) -> Markup {
    let whole = flame.total.max(1) as f64;
    let words = if mark.is_empty() {
        Vec::new()
    } else {
        vec![mark.to_ascii_lowercase()]
    };
    html! {
        h3 { "Functions" }
        div.scroll {
            table.list data-testid="functions" {
                thead { tr { th { "Function" } th.right { "Own" } th.right { "With callees" } } }
                tbody { @for function in functions {
                    tr data-testid="function-row" data-name=(function.name) {
                        td.name { code { (super::marked(&function.name, &words)) } }
                        td.right.number { (format::value(function.own as f64, &flame.unit)) " " span.faint { (format!("{:.1} %", 100.0 * function.own as f64 / whole)) } }
                        td.right.number { (format::value(function.total as f64, &flame.unit)) " " span.faint { (format!("{:.1} %", 100.0 * function.total as f64 / whole)) } }
                    }
                } }
            }
        }
    }
}
