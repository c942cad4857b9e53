//! The console as HTML: what can be sent, with the bounds of each parameter, and where it can be followed.

use maud::{DOCTYPE, Markup, html};

use super::faro::Faro;
use super::go::Facts;
use crate::faults::plan::Plan;
use crate::settings::Links;

/// One endpoint that the console offers.
struct Offer {
    path: &'static str,
    /// What it does and what to look for, in one line.
    lesson: &'static str,
    fields: &'static [Field],
}

/// A number that the caller chooses, within its bounds.
struct Field {
    name: &'static str,
    unit: &'static str,
    value: &'static str,
    least: u32,
    most: u32,
}

const fn field(
    name: &'static str,
    unit: &'static str,
    value: &'static str,
    least: u32,
    most: u32,
) -> Field {
    Field {
        name,
        unit,
        value,
        least,
        most,
    }
}

const fn offer(path: &'static str, lesson: &'static str, fields: &'static [Field]) -> Offer {
    Offer {
        path,
        lesson,
        fields,
    }
}

const WORKS: [Offer; 7] = [
    offer(
        "/demo/work",
        "An order: cache, database, a call of the worker, a job. One trace over two processes.",
        &[field("quantity", "pieces", "2", 1, 100)],
    ),
    offer(
        "/demo/cpu",
        "Burns a processor. The span has a flame graph of its own.",
        &[field("ms", "ms", "300", 1, 5000)],
    ),
    offer(
        "/demo/lock",
        "Keeps a row locked. Whoever needs it meanwhile, as with the fault lock_wait_ms, waits.",
        &[field("ms", "ms", "2000", 1, 8000)],
    ),
    offer(
        "/demo/memory",
        "Allocates and holds. Stands out in the heap profile while it does.",
        &[
            field("mb", "MiB", "64", 1, 128),
            field("hold_ms", "ms", "3000", 0, 5000),
        ],
    ),
    offer(
        "/demo/logs",
        "Records of every level with fields, all of one trace.",
        &[field("count", "records", "20", 1, 1000)],
    ),
    offer(
        "/api",
        "Answers with the status and after the delay you ask for.",
        &[
            field("sc", "status", "200", 200, 599),
            field("delay_ms", "ms", "", 0, 5000),
        ],
    ),
    offer("/ping", "Four spans, one inside the other.", &[]),
];

const FAILS: [Offer; 3] = [
    offer(
        "/demo/work-error",
        "The database refuses: a failed span, an exception, an ERROR record.",
        &[],
    ),
    offer("/demo/cpu-error", "Work whose result fails its check.", &[]),
    offer(
        "/demo/memory-error",
        "An allocation that cannot be had.",
        &[],
    ),
];

/// The default faults that can be switched on, with a value worth trying.
const FAULTS: [Field; 6] = [
    field("latency_ms", "ms", "400", 0, Plan::MAX_LATENCY_MS),
    field("error_rate", "0 to 1", "0.3", 0, 1),
    field("slow_query_ms", "ms", "800", 0, Plan::MAX_SLOW_QUERY_MS),
    field("lock_wait_ms", "ms", "800", 0, Plan::MAX_LOCK_WAIT_MS),
    field("leak_kb", "KiB", "1024", 0, Plan::MAX_LEAK_KB),
    field("block_ms", "ms", "200", 0, Plan::MAX_BLOCK_MS),
];

/// In the page, because browsers ask for one and a request of its own would be one more trace.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
    %3Cpath d='M1 9h3l2-6 4 11 2-5h3' fill='none' stroke='%236d66e8' stroke-width='2'/%3E%3C/svg%3E";

/// The page.
pub fn render(links: &Links, faro: &Faro, own: &Facts) -> String {
    let named = [
        ("trace", &links.trace),
        ("logs", &links.logs),
        ("metrics", &links.metrics),
        ("profile", &links.profile),
    ];
    let own_links: Vec<_> = named
        .iter()
        .filter_map(|(name, template)| Some((*name, own.expand(template.as_deref()?))))
        .collect();
    let viewer = links.trace.as_deref().and_then(origin);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Signalbox" }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href="/console.css";
                (faro.scripts())
                script src="/console.js" defer {}
            }
            body {
                header {
                    h1 { "Signalbox" }
                    p { "Send a request, then follow it: its trace, its logs, its metrics, its flame graph." }
                    nav {
                        @if let Some(viewer) = &viewer { a href=(viewer) data-testid="viewer" { "Viewer" } }
                        a href="/docs/" { "API" }
                        // Shown on this page by its script; without it they are plain answers.
                        a href="/readyz" data-show="" { "Readiness" }
                        a href="/metrics" data-show="" { "Metrics" }
                        a href="/faults" data-show="" { "Faults" }
                    }
                }
                dialog #shown aria-labelledby="shown-name" {
                    header { h2 id="shown-name" {} input type="search" placeholder="Find" aria-label="Find"; form method="dialog" { button { "Close" } } }
                    table { tbody {} }
                }
                main {
                    section aria-labelledby="send" {
                        h2 id="send" { "Send" }
                        div.offers { @for offer in &WORKS { (card(offer)) } }
                        h2 { "Fail" }
                        div.offers { @for offer in &FAILS { (card(offer)) } (faro.offer()) }
                        (faults())
                    }
                    section.results aria-labelledby="followed" {
                        h2 id="followed" { "Follow" }
                        article.answer {
                            p.head { b { "This page" } " was a request too" }
                            p.trace { span { "trace" } code id="own-trace" { (own.trace_id) } }
                            p.links { @for (name, url) in &own_links { a data-signal=(name) href=(url) { (name) } } }
                            @if own_links.is_empty() {
                                p.hint { "No viewer is configured: set SIGNALBOX_LINK_TRACE_URL and its siblings." }
                            }
                        }
                        div #answers aria-live="polite" {}
                        template #answer {
                            article.answer data-testid="answer" {
                                p.head { b {} " " span.status {} " " span.took {} }
                                p.trace { span { "trace" } code {} button type="button" { "Copy" } }
                                p.links {}
                                details { summary { "Answer" } pre {} }
                            }
                        }
                        p.hint { "A signal takes a few seconds to arrive." }
                    }
                }
            }
        }
    }
    .into_string()
}

/// Scheme, host and port of a URL, which is where its program has its first page.
fn origin(url: &str) -> Option<&str> {
    let begin = url.find("://")? + 3;
    let end = url[begin..].find('/').map_or(url.len(), |end| begin + end);
    Some(&url[..end])
}

fn card(offer: &Offer) -> Markup {
    html! {
        form.offer action=(offer.path) method="get" {
            p.lesson { (offer.lesson) }
            div.fields { @for field in offer.fields { (input(field)) } }
            button type="submit" { "GET " (offer.path) }
        }
    }
}

fn input(field: &Field) -> Markup {
    html! {
        label {
            span { (field.name) " " small { (field.unit) } }
            input type="number" name=(field.name) value=(field.value) min=(field.least) max=(field.most)
                step=(if field.most == 1 { "any" } else { "1" }) placeholder="random"
                title=(format!("{} to {}", field.least, field.most));
        }
    }
}

/// Default faults: for every request that follows, until they are switched off.
fn faults() -> Markup {
    html! {
        h2 { "Break" }
        form.faults id="faults" {
            p.lesson { "Faults in every request from now on. Each is a span, a WARN record and a metric; off, they leave no trace." }
            @for fault in &FAULTS {
                div.fault {
                    (input(fault))
                    button type="button" name=(fault.name) aria-pressed="false" disabled { "Off" }
                }
            }
            button.quiet type="reset" disabled { "All off, leaked memory back" }
            noscript { p.hint { "Faults are switched with PUT and DELETE /faults, which a plain page cannot send." } }
        }
    }
}
