//! `/profiles`: flame graphs of CPU time and of memory in use, by label, time and span.

use actix_web::{HttpRequest, HttpResponse, web};
use maud::{Markup, html};

use super::{PageProblem, Shell, Tab, TimeRange, filters, heading, href, same, select};
use crate::flame::{self, Flame, Function, Known, Spent};
use crate::format;
use crate::pprof::Merged;
use crate::problem::Problem;
use crate::query;
use crate::source::Sources;
use crate::store::profiles::{self, Pushed};
use crate::store::{Signal, Store, aside, traces};

pub async fn page(
    request: HttpRequest,
    store: web::Data<Store>,
    sources: web::Data<Sources>,
    query: web::Query<query::Profiles>,
) -> Result<HttpResponse, PageProblem> {
    let query = query.into_inner();
    let now_ns = format::now_ns();
    let kind = kind_of(&query);
    let (pushed, merged, left_out) = merge(&store, &query, now_ns).await?;
    let (own_only, heap) = (query.frames != "all", kind == "heap");
    let function = query.function.clone();
    let (flame, flame_json, functions, source) = aside(move || {
        let known = Known::of(&merged, &sources, heap, own_only);
        let flame = Flame::of(&merged, &known);
        let json = serde_json::to_string(&flame).unwrap_or_default();
        let source = (!function.is_empty()).then(|| source(&merged, &known, &sources, &function));
        (flame, json, flame::functions(&merged, &known), source)
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
        // A span may arrive after its samples, and then leads back to its trace.
        signals: if query.profile_id.is_empty() {
            "profiles"
        } else {
            "profiles traces"
        },
        range: Some(TimeRange {
            kept_since: store.kept_since(Signal::Profiles).await?,
            ..TimeRange::of(&request, &query.time, otherwise(&query), now_ns)
        }),
        not: "Lens merges what was pushed; it compares no two profiles, and of a heap it shows the fullest moment, not an average.",
        same: vec![same::profile(kind, &query)],
        ..Shell::of(&request, &store).await?
    };
    let of_type = |kind: &str| {
        href(
            "/profiles",
            &[
                ("type", kind),
                ("service", &query.service),
                ("range", &query.time.range),
                ("from_ms", &query.time.from_ms),
                ("to_ms", &query.time.to_ms),
            ],
        )
    };
    let fixed = html! {
        (heading(html! { "Profiles" }, html! {
            div.segments role="group" aria-label="Type" {
                @for other in &types { a href=(of_type(other)) aria-current=[(other == kind).then_some("true")] data-testid={ "profile-type-" (other) } { (name_of(other)) } }
            }
        }))
        (filters("/profiles", &query.time, html! {
            input type="hidden" name="type" value=(kind);
            (select("service", "Service", "Any service", &query.service, &services))
            (select("label", "Label", "Any label", &query.label, &labels))
            label.field { span { "Span id" } input name="profile_id" value=(query.profile_id) placeholder="16 hex digits" pattern="[0-9a-fA-F]{16}" autocomplete="off"; }
            label.field { span { "Frames" } select name="frames" data-testid="flame-frames" {
                option value="" selected[own_only] { "The program's" }
                option value="all" selected[!own_only] { "The runtime's too" }
            } }
            label.field.grow { span { "Mark functions" } input type="search" name="q" value=(query.q) placeholder="Part of a name" data-focus="/" autocomplete="off" data-testid="flame-search"; }
        }))
    };
    let file_from = query
        .time
        .bounds(otherwise(&query), now_ns)?
        .0
        .map_or_else(String::new, |from| (from / 1_000_000).to_string());
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
            (shell.nothing("No samples of this span have arrived.", html! { "CPU profiles are pushed every few seconds: this page waits for the next ones. A span has samples if it was at work when one was taken." }))
        } @else if pushed.is_empty() {
            (shell.nothing("No profile passes these filters.", html! { "CPU profiles are pushed every few seconds; a span has samples if it was at work when one was taken." }))
        } @else {
            (timeline(&pushed, &query, kind, &flame.unit, &shell.services))
            dl.facts {
                div { dt { (if kind == "heap" { "In use" } else { "Total" }) } dd.number data-testid="profile-total" { (format::value(flame.total as f64, &flame.unit)) } }
                div { dt { "Profiles" } dd.number { (pushed.len()) @if kind == "heap" { ", at its fullest" } @if left_out > 0 { ", the oldest " (left_out) " left out" } } }
                div { dt { "From" } dd.number { (format::date_time(pushed.last().map_or(0, |push| push.time_ns))) } }
                div { dt { "To" } dd.number { (format::date_time(pushed.first().map_or(0, |push| push.time_ns.saturating_add(push.duration_ns)))) } }
                div { dt { "File" } dd { a href=(href(&format!("/api/profiles/{kind}"), &[("service", &query.service), ("profile_id", &query.profile_id), ("label", &query.label), ("from_ms", &file_from), ("to_ms", &query.time.to_ms)])) { "pprof" } } }
            }
            // Drawn by flame.js out of the text beside it.
            div.profile {
                div {
                    div id="flame" hx-morph-skip-children="" data-testid="flame" data-mark=(query.q) {}
                    div id="flame-data" hidden { (flame_json) }
                    div id="source" hx-morph-skip-children="" data-of=(shell.at("/profiles", &of_function(&query, kind, ""))) { @if let Some(source) = source { (source) } }
                }
                (top(&functions, &flame, &query.q, |function| format!("{}#source", shell.at("/profiles", &of_function(&query, kind, function)))))
            }
        }
    };
    Ok(shell.page(&store, fixed, changing))
}

/// What the address of a function's source says besides the time.
fn of_function<'a>(
    query: &'a query::Profiles,
    kind: &'a str,
    function: &'a str,
) -> Vec<(&'a str, &'a str)> {
    vec![
        ("type", kind),
        ("service", &query.service),
        ("label", &query.label),
        ("profile_id", &query.profile_id),
        ("frames", &query.frames),
        ("function", function),
    ]
}

/// Lines around those in which something was spent.
const AROUND: i64 = 4;
/// Lines shown of one function.
const MOST_LINES: usize = 400;

/// A function's source, each line with what was spent in it; without a checkout only the lines' numbers.
fn source(merged: &Merged, known: &Known, sources: &Sources, function: &str) -> Markup {
    let spent = flame::lines(merged, known, function);
    let whole = merged
        .stacks()
        .fold(0_i64, |sum, (_, value)| sum.saturating_add(value))
        .max(1) as f64;
    let unit = merged.unit();
    let share = |value: i64| 100.0 * value as f64 / whole;
    // A function may stand in several files: copies of a generic one do not, equal names do.
    let hottest = spent.iter().max_by_key(|spent| spent.total);
    let file = hottest.and_then(|spent| sources.find(function, &spent.file, spent.line));
    let text = file.and_then(|file| sources.lines(file));
    let in_file: Vec<&Spent> = spent
        .iter()
        .filter(|spent| hottest.is_some_and(|hottest| hottest.file == spent.file))
        .collect();
    let of_line = |line: i64| in_file.iter().find(|spent| spent.line == line);
    let bar = |total: i64| {
        html! {
            td.right.number { (format!("{:.1} %", share(total))) }
            td.share { svg.meter aria-hidden="true" { rect width={ (format!("{:.1}", share(total))) "%" } height="100%" {} } }
        }
    };
    html! {
        section.source data-testid="source" {
            h2 { code { (function) } " " @if let Some(file) = file { span.faint data-testid="source-file" { (file) } } }
            @match (file, &text) {
                _ if spent.is_empty() => p.faint { "No sample has this function." },
                (Some(file), Some(text)) => {
                    @let first = hottest.map_or(1, |spent| spent.line);
                    @let begin = sources.begin(file, first).unwrap_or(first).max(first - 200);
                    @let last = in_file.last().map_or(first, |spent| spent.line) + AROUND;
                    div.scroll tabindex="0" role="region" aria-label="Source" { table { tbody {
                        @for (number, line) in (1..).zip(text).skip_while(|(number, _)| *number < begin).take_while(|(number, _)| *number <= last).take(MOST_LINES) {
                            @let spent = of_line(number);
                            tr.hot[spent.is_some()] data-testid="source-line" data-line=(number) {
                                @match spent {
                                    Some(spent) => { (bar(spent.total)) }
                                    None => { td {} td {} }
                                }
                                th scope="row" { @match sources.link(file, number) { Some(link) => a href=(link) { (number) }, None => (number) } }
                                td title=[spent.map(|spent| format!("{} in this line itself", format::value(spent.own as f64, unit)))] { code { (line) } }
                            }
                        }
                    } } }
                }
                _ => {
                    p.faint { "The source is not here: " code { "LENS_SOURCE_DIR" } " names the checkout it is in. By line:" }
                    table { tbody { @for spent in &spent {
                        tr data-testid="source-line" data-line=(spent.line) { (bar(spent.total)) td { code { @if spent.line > 0 { (spent.file) ":" (spent.line) } @else { "line unknown" } } } }
                    } } }
                }
            }
        }
    }
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

/// The range that counts if none was chosen: everything of a span, else the last minutes.
fn otherwise(query: &query::Profiles) -> &'static str {
    if query.profile_id.is_empty() {
        "15m"
    } else {
        "all"
    }
}

/// The pushes that count, their sum, and how many of them are not in it because it became too large.
async fn merge(
    store: &Store,
    query: &query::Profiles,
    now_ns: i64,
) -> Result<(Vec<Pushed>, Merged, usize), Problem> {
    let kind = kind_of(query);
    let filter = query.filter(kind, otherwise(query), now_ns)?;
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
    html! {
        figure.timeline aria-label="Pushes over time" data-zoom="" data-from=(from / 1_000_000) data-to=(to / 1_000_000) {
            svg role="group" aria-label={ (pushed.len()) " profiles" } {
                @for push in pushed {
                    @let x = (100.0 - width) * push.time_ns.saturating_sub(from) as f64 / whole;
                    @let height = 100.0 * push.total as f64 / highest;
                    // Its middle: at its edges the pushes before and after it were being taken as well.
                    @let middle = push.time_ns.saturating_add(push.duration_ns / 2) / 1_000_000;
                    @let ms = middle.to_string();
                    @let until = (middle + 1).to_string();
                    a href=(href("/profiles", &[("type", kind), ("service", &push.service), ("label", &query.label), ("frames", &query.frames), ("from_ms", &ms), ("to_ms", &until)])) aria-label={ (format::time_of_day(push.time_ns)) " " (push.service) ", " (format::value(push.total as f64, unit)) } tabindex="-1" {
                        rect.(services.colour(&push.service)) x={ (format!("{x:.2}")) "%" } width={ (format!("{width:.2}")) "%" } y={ (format!("{:.1}", 100.0 - height)) "%" } height={ (format!("{height:.1}")) "%" } {
                            title { (format::time_of_day(push.time_ns)) " " (push.service) ": " (format::value(push.total as f64, unit)) }
                        }
                    }
                }
            }
            figcaption {
                span { (format::time_of_day(from)) }
                span { "choose a bar for that moment alone, or drag to zoom" }
                span { (format::time_of_day(to)) }
            }
        }
    }
}

/// The end of a function's path, which says more than its beginning.
fn short(name: &str) -> String {
    let mut bare = String::new();
    let mut depth = 0;
    for letter in name.chars() {
        match letter {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ if depth == 0 => bare.push(letter),
            _ => {}
        }
    }
    let parts: Vec<&str> = bare.split("::").filter(|part| !part.is_empty()).collect();
    match parts[..] {
        [] => name.to_owned(),
        [.., first, last] => format!("{first}::{last}"),
        [only] => only.to_owned(),
    }
}

/// Functions by what was spent in themselves.
fn top(functions: &[Function], flame: &Flame, mark: &str, link: impl Fn(&str) -> String) -> Markup {
    let whole = flame.total.max(1) as f64;
    let words = if mark.is_empty() {
        Vec::new()
    } else {
        vec![mark.to_ascii_lowercase()]
    };
    html! {
        div.functions {
            table.list data-testid="functions" data-sortable="" {
                thead { tr {
                    th { "Function" }
                    th.right aria-sort="descending" { button type="button" data-sort="own" { "Self" } }
                    th.right { button type="button" data-sort="total" { "Total" } }
                } }
                tbody { @for function in functions {
                    tr data-testid="function-row" data-name=(function.name) data-own=(function.own) data-total=(function.total) {
                        td.name.faint[function.runtime] { a href=(link(&function.name)) title=(function.name) data-testid="function-link" { code { (super::marked(&short(&function.name), &words)) } } }
                        td.right.number title=(format::value(function.own as f64, &flame.unit)) { (format!("{:.1} %", 100.0 * function.own as f64 / whole)) }
                        td.right.number title=(format::value(function.total as f64, &flame.unit)) { (format!("{:.1} %", 100.0 * function.total as f64 / whole)) }
                    }
                } }
            }
        }
    }
}
