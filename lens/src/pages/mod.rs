//! The pages. Each is whole HTML that reads well without a script; scripts add liveness, charts and flame graphs.

mod assets;
mod home;
mod logs;
mod metrics;
mod profiles;
mod range;
mod same;
mod services;
mod trace;
mod traces;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use serde::Serialize;
use serde_json::json;

use crate::attributes::text;
use crate::format;
use crate::method::get;
use crate::problem::Problem;
use crate::query::Time;
use crate::store::{Signal, Store};
use range::TimeRange;
use same::Same;

/// The routes.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(get("/", home::page))
        .service(get("/traces", traces::page))
        .service(get("/traces/{trace_id}", trace::page))
        .service(get("/logs", logs::page))
        .service(get("/metrics", metrics::page))
        .service(get("/metrics/data", metrics::data))
        .service(get("/profiles", profiles::page))
        .service(get("/services", services::page))
        .service(get("/live", live))
        .service(get("/assets/{name}", assets::serve));
}

/// `GET /live`: a number that goes up whenever something arrives, so that a page asks for itself again only then.
async fn live(store: web::Data<Store>) -> HttpResponse {
    let revisions: Vec<u64> = Signal::ALL
        .iter()
        .map(|signal| store.revision(&[*signal]))
        .collect();
    HttpResponse::Ok().json(json!({"traces": revisions[0], "logs": revisions[1], "metrics": revisions[2], "profiles": revisions[3]}))
}

/// A problem shown as a page.
#[derive(Debug)]
pub struct PageProblem(Problem);

impl<T: Into<Problem>> From<T> for PageProblem {
    fn from(problem: T) -> Self {
        Self(problem.into())
    }
}

impl std::fmt::Display for PageProblem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl ResponseError for PageProblem {
    fn status_code(&self) -> StatusCode {
        self.0.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        if let Problem::Store(cause) = &self.0 {
            eprintln!("lens: the store failed: {cause}");
        }
        let body = html! {
            (DOCTYPE)
            html lang="en" {
                (head(status.canonical_reason().unwrap_or("Problem")))
                body.problem {
                    main {
                        p.code { (status.as_u16()) }
                        h1 { (status.canonical_reason().unwrap_or("Problem")) }
                        p data-testid="problem" { (self.0) }
                        p { a.button href="/" { "Overview" } " " a.button href="/traces" { "Traces" } }
                    }
                }
            }
        };
        HttpResponse::build(status)
            .content_type("text/html; charset=utf-8")
            .body(body.into_string())
    }
}

/// Where a page belongs in the navigation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tab {
    Home,
    Traces,
    Logs,
    Metrics,
    Profiles,
    Services,
}

impl Tab {
    const ALL: [(Self, &'static str, &'static str, &'static str); 6] = [
        (
            Self::Home,
            "/",
            "Overview",
            "M3 10.5 10 4l7 6.5V17h-5v-4H8v4H3z",
        ),
        (Self::Traces, "/traces", "Traces", "M3 5h9M6 10h9M9 15h8"),
        (
            Self::Logs,
            "/logs",
            "Logs",
            "M4 5h12M4 8.5h12M4 12h8M4 15.5h10",
        ),
        (
            Self::Metrics,
            "/metrics",
            "Metrics",
            "M3 15.5 7.5 9l3.5 3.5L17 4.5",
        ),
        (
            Self::Profiles,
            "/profiles",
            "Profiles",
            "M3 4.5h14v3H3zM3 8.5h9v3H3zM3 12.5h5v3H3z",
        ),
        (
            Self::Services,
            "/services",
            "Services",
            "M5 5.5h0M15 5.5h0M10 15h0M6 7l3.2 6.5M14 7l-3.2 6.5M7 5.5h6",
        ),
    ];
}

/// What the keyboard does.
const KEYS: [(&str, &str); 7] = [
    ("/", "search"),
    (
        "j k",
        "next and previous row; arrows too, once a row has the focus",
    ),
    ("← →", "close and open a row; of a trace, fold and unfold"),
    ("[ ]", "earlier and later"),
    ("Enter", "open; in a flame graph, zoom in"),
    ("Escape", "leave a search, zoom out of a flame graph"),
    ("?", "this list"),
];

/// What every page shows around its own.
struct Shell {
    tab: Tab,
    title: String,
    /// Path and query, so that the page can ask for itself.
    uri: String,
    /// Whose arrival changes the page.
    signals: &'static str,
    services: Services,
    /// `None` on a page of one thing.
    range: Option<TimeRange>,
    /// What the viewer is not, as to this page.
    not: &'static str,
    same: Vec<Same>,
}

/// The services in the order in which they first came, which gives each its colour.
#[derive(Clone)]
struct Services(Vec<String>);

impl Services {
    async fn load(store: &Store) -> sqlx::Result<Self> {
        let services = sqlx::query_scalar(
            "SELECT service FROM origins GROUP BY service ORDER BY min(id) LIMIT 200",
        );
        Ok(Self(services.fetch_all(&store.pool).await?))
    }

    /// Class of the service's colour.
    fn colour(&self, service: &str) -> String {
        let place = self.0.iter().position(|known| known == service);
        format!("s{}", place.unwrap_or(self.0.len()) % 10)
    }

    /// The service's name with its colour.
    fn tag(&self, service: &str) -> Markup {
        html! { span.service.(self.colour(service)) { (service) } }
    }
}

impl Shell {
    /// That of a page without anything of its own yet.
    async fn of(request: &HttpRequest, store: &Store) -> sqlx::Result<Self> {
        Ok(Self {
            tab: Tab::Home,
            title: String::new(),
            uri: uri(request),
            signals: "",
            services: Services::load(store).await?,
            range: None,
            not: "",
            same: Vec::new(),
        })
    }

    /// An address with the range that was chosen on this page, so that it is kept from page to page.
    fn at(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        let time = self.range.as_ref().map(|range| &range.time);
        let mut all = parameters.to_vec();
        if let Some(time) = time {
            all.extend([
                ("range", time.range.as_str()),
                ("from_ms", &time.from_ms),
                ("to_ms", &time.to_ms),
            ]);
        }
        address(path, &all)
    }

    /// The page: `fixed` stays, `changing` is asked for again when something arrives.
    fn page(&self, store: &Store, fixed: Markup, changing: Markup) -> HttpResponse {
        let body = html! {
            (DOCTYPE)
            html lang="en" {
                (head(&self.title))
                body data-signals=(self.signals) {
                    a.skip href="#main" { "Skip to content" }
                    @if self.tab == Tab::Metrics { a.skip href="#charts" { "Skip to the charts" } }
                    header.bar {
                        a.brand href="/" aria-label="Lens, overview" {
                            svg viewBox="0 0 20 20" aria-hidden="true" { circle cx="9" cy="9" r="5.5" {} path d="m13 13 4 4" {} }
                            "Lens"
                        }
                        nav aria-label="Signals" {
                            @for (tab, href, label, icon) in Tab::ALL {
                                a href=(self.at(href, &[])) aria-current=[(tab == self.tab).then_some("page")] data-testid={ "nav-" (label.to_lowercase()) } {
                                    svg viewBox="0 0 20 20" aria-hidden="true" { path d=(icon) {} }
                                    (label)
                                }
                            }
                        }
                        div.tools {
                            button type="button" id="live-toggle" aria-pressed="true" title="New data appears by itself" { span.pulse {} span { "Live" } }
                            button type="button" id="help-toggle" title="Keys (?)" aria-label="Keys" { "?" }
                            button type="button" id="theme-toggle" title="Light, dark, or as the system has it" aria-label="Change theme" {
                                svg viewBox="0 0 20 20" aria-hidden="true" { circle cx="10" cy="10" r="6" {} path.half d="M10 4a6 6 0 0 1 0 12z" {} }
                            }
                        }
                    }
                    main id="main" tabindex="-1" {
                        (fixed)
                        // The attributes ask for this same page and put its #live in place of this one, keeping what is open and focused.
                        div id="live" hx-get=(self.uri) hx-trigger="lens:tick from:body" hx-select="#live" hx-swap="outerMorph" {
                            @if let Some(range) = &self.range { (range.markup()) }
                            (changing)
                            (self.same())
                        }
                    }
                    (footer(store))
                    dialog #help aria-label="Keys" {
                        h2 { "Keys" }
                        dl { @for (key, what) in KEYS { dt { kbd { (key) } } dd { (what) } } }
                        form method="dialog" { button { "Close" } }
                    }
                }
            }
        };
        HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .body(body.into_string())
    }

    /// What to show where the range has nothing, with the way to everything that is kept.
    fn nothing(&self, text: &str, hint: Markup) -> Markup {
        let everything = self.range.as_ref().and_then(TimeRange::everything);
        nothing(
            text,
            html! {
                (hint)
                @if let Some(everything) = everything { " " a.button href=(everything) data-testid="everything" { "Everything that is kept" } }
            },
        )
    }

    fn same(&self) -> Markup {
        html! {
            aside.same aria-label="In the full stack" {
                @for same in &self.same {
                    p {
                        span.language { (same.language) }
                        code data-testid={ "same-" (same.language.to_lowercase()) } { (same.query) }
                        button.copy type="button" data-copy=(same.query) aria-label={ "Copy " (same.language) } { "Copy" }
                    }
                }
                p.not { "The same in the full Grafana stack. " (self.not) }
            }
        }
    }
}

/// A page that does not exist.
pub fn not_found(request: &HttpRequest) -> HttpResponse {
    let why = format!("There is no page {}.", request.path());
    PageProblem(Problem::NotFound(why)).error_response()
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="htmx-config" content=r#"{"includeIndicatorCSS": false, "morphIgnore": ["data-htmx-powered", "open"]}"#;
            title { (title) " · Lens" }
            link rel="icon" type="image/svg+xml" href=(assets::url("icon.svg"));
            link rel="stylesheet" href=(assets::url("uplot.css"));
            link rel="stylesheet" href=(assets::url("lens.css"));
            // Not deferred: sets the theme before anything is painted.
            script src=(assets::url("theme.js")) {}
            @for script in ["htmx.js", "uplot.js", "live.js", "chart.js", "flame.js"] {
                script defer src=(assets::url(script)) {}
            }
        }
    }
}

fn footer(store: &Store) -> Markup {
    html! {
        footer {
            ul.usage data-testid="usage" {
                @for signal in Signal::ALL {
                    @let usage = store.usage(signal);
                    li title={ "Since the start " (format::count(usage.received as i64)) " came and " (format::count(usage.evicted as i64)) " were let go, the oldest first." } {
                        b { (format!("{signal:?}")) } " "
                        span.number { (format::count(usage.rows as i64)) } " of " span.number { (format::count(usage.bound.rows as i64)) } " " (signal.unit()) ", "
                        span.number { (format::bytes(usage.bytes as f64)) } " of " span.number { (format::bytes(usage.bound.bytes as f64)) }
                    }
                }
            }
            p { "Times are UTC. Lens " (env!("CARGO_PKG_VERSION")) " keeps this much on one machine and lets the oldest go; it is no backend for production. " }
        }
    }
}

/// Title of a page, with what belongs beside it.
fn heading(title: Markup, beside: Markup) -> Markup {
    html! { div.heading { h1 { (title) } div.beside { (beside) } } }
}

/// What to show while nothing is there.
fn nothing(text: &str, hint: Markup) -> Markup {
    html! { div.empty data-testid="empty" { p { (text) } p.hint { (hint) } } }
}

/// Values that a choice offers or suggests at most.
const MOST_CHOICES: usize = 200;

/// A choice among values, with "any" first.
fn select(name: &str, label: &str, any: &str, chosen: &str, values: &[String]) -> Markup {
    html! {
        label.field {
            span { (label) }
            select name=(name) {
                option value="" selected[chosen.is_empty()] { (any) }
                @if !chosen.is_empty() && !values.iter().any(|value| value == chosen) { option value=(chosen) selected { (chosen) } }
                @for value in values { option value=(value) selected[value == chosen] { (value) } }
                @if values.len() >= MOST_CHOICES { option disabled { "only the first " (MOST_CHOICES) } }
            }
        }
    }
}

/// A form whose every change asks for the page anew and goes into its address.
fn filters(action: &str, time: &Time, fields: Markup) -> Markup {
    html! {
        form.filters action=(action) method="get" role="search" hx-get=(action) hx-trigger="submit, change, input delay:250ms"
            hx-target="#live" hx-select="#live" hx-swap="outerMorph" hx-push-url="true" hx-sync="this:replace" {
            @for (name, value) in [("range", &time.range), ("from_ms", &time.from_ms), ("to_ms", &time.to_ms)] {
                @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
            }
            (fields)
            noscript { button type="submit" { "Apply" } }
        }
    }
}

/// The address of a page with these parameters; what is empty stays out.
fn href(path: &str, parameters: &[(&str, &str)]) -> String {
    address(path, &parameters)
}

/// The address of a page with what is asked of it; what is empty stays out.
fn address(path: &str, query: &impl Serialize) -> String {
    let text = serde_urlencoded::to_string(query).unwrap_or_default();
    let pairs: Vec<&str> = text
        .split('&')
        .filter(|pair| !pair.ends_with('='))
        .collect();
    match pairs.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", pairs.join("&")),
    }
}

/// Path and query of a request.
fn uri(request: &HttpRequest) -> String {
    request
        .uri()
        .path_and_query()
        .map_or_else(|| "/".to_owned(), ToString::to_string)
}

/// HTTP status with the colour of its class; nothing for none.
fn http_status(status: i64) -> Markup {
    match status {
        0 => html! {},
        1..400 => html! { span.status.ok { (status) } },
        400..500 => html! { span.status.warn { (status) } },
        _ => html! { span.status.bad { (status) } },
    }
}

/// A level's name and class by its severity number.
fn level(severity: i32) -> &'static str {
    match severity {
        1..=4 => "trace",
        5..=8 => "debug",
        9..=12 => "info",
        13..=16 => "warn",
        17..=20 => "error",
        21.. => "fatal",
        _ => "none",
    }
}

/// Text of a value that a page shows; what is longer is whole in the API.
const SHOWN_BYTES: usize = 10_000;

/// What a record says: its body, or the name of the event that it is.
fn message(record: &LogRecord) -> String {
    match shown(record.body.as_ref()) {
        empty if empty.is_empty() => record.event_name.clone(),
        text => text,
    }
}

/// A value as text, without the end of a very long one.
fn shown(value: Option<&AnyValue>) -> String {
    let mut text = text(value);
    if text.len() > SHOWN_BYTES {
        let whole = text.len();
        text.truncate(text.floor_char_boundary(SHOWN_BYTES));
        text.push_str(&format!("… ({} in all)", format::bytes(whole as f64)));
    }
    text
}

/// `text` with every occurrence of a searched word marked.
fn marked(text: &str, words: &[String]) -> Markup {
    let lower = text.to_ascii_lowercase(); // as long as the text, so that places in it are places in the text
    let mut html = String::with_capacity(text.len() + 16);
    let mut rest = 0;
    let mut found: Vec<_> = words
        .iter()
        .map(|word| lower.match_indices(word.as_str()).peekable())
        .collect();
    while rest < text.len() {
        let next = found
            .iter_mut()
            .filter_map(|places| {
                while places.next_if(|(place, _)| *place < rest).is_some() {}
                places.peek().map(|(place, word)| (*place, word.len()))
            })
            .min_by_key(|(place, length)| (*place, std::cmp::Reverse(*length)));
        let Some((place, length)) = next else { break };
        html.push_str(
            &html! { (text[rest..place]) mark { (text[place..place + length]) } }.into_string(),
        );
        rest = place + length;
    }
    html.push_str(&html! { (text[rest..]) }.into_string());
    PreEscaped(html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_words_are_marked_and_markup_is_escaped() {
        let words = ["card".to_owned(), "<b>".to_owned()];
        let html = "A <mark>Card</mark> <mark>&lt;b&gt;</mark>é";
        assert_eq!(marked("A Card <b>é", &words).into_string(), html);
        assert_eq!(marked("nothing", &words).into_string(), "nothing");
        let asked = [("q", "a b"), ("level", ""), ("field", "x=y")];
        assert_eq!(href("/logs", &asked), "/logs?q=a+b&field=x%3Dy");
        assert_eq!(href("/logs", &[("q", "")]), "/logs");
    }
}
