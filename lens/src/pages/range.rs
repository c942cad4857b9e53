//! The time range that every page has: chosen, moved, zoomed into and left again.

use actix_web::HttpRequest;
use maud::{Markup, html};

use super::{address, uri};
use crate::format;
use crate::query::{RANGES, Time};

/// The range of a page, and what it needs to offer others.
pub struct TimeRange {
    pub time: Time,
    /// Name of the range that counts if none was chosen.
    pub otherwise: &'static str,
    /// Path and query of the page.
    pub uri: String,
    /// Time of the oldest row that is kept, in nanoseconds since 1970.
    pub kept_since: Option<i64>,
    pub now_ns: i64,
}

/// What of a query belongs to one stretch of the list and not to another.
const OF_A_PLACE: [&str; 6] = ["range", "from_ms", "to_ms", "page", "until_ms", "before"];

impl TimeRange {
    /// Of a page that does not say since when rows are kept.
    pub fn of(request: &HttpRequest, time: &Time, otherwise: &'static str, now_ns: i64) -> Self {
        Self {
            time: time.clone(),
            otherwise,
            uri: uri(request),
            kept_since: None,
            now_ns,
        }
    }

    /// The same page with another range.
    fn with(&self, range: &[(&str, String)]) -> String {
        let (path, query) = self.uri.split_once('?').unwrap_or((&self.uri, ""));
        let mut pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(query).unwrap_or_default();
        pairs.retain(|(name, value)| !value.is_empty() && !OF_A_PLACE.contains(&name.as_str()));
        pairs.extend(
            range
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        address(path, &pairs)
    }

    /// The page at the stretch of time before (-1) or after (1) the one that is shown; `None` where everything is.
    fn moved(&self, by: i64) -> Option<String> {
        let (from, to) = self.time.bounds(self.otherwise, self.now_ns).ok()?;
        let (from, to) = (from?, to.unwrap_or(self.now_ns));
        let by = by * to.saturating_sub(from).max(1_000_000);
        let ms = |ns: i64| (ns.saturating_add(by).max(0) / 1_000_000).to_string();
        Some(self.with(&[("from_ms", ms(from)), ("to_ms", ms(to))]))
    }

    /// Name of the range that counts, empty for a stretch from one time to another.
    fn chosen(&self) -> &str {
        match self.time.range.as_str() {
            _ if !(self.time.from_ms.is_empty() && self.time.to_ms.is_empty()) => "",
            "" => self.otherwise,
            range => range,
        }
    }

    /// The page with everything that is kept; `None` where that is what it shows.
    pub fn everything(&self) -> Option<String> {
        (self.chosen() != "all").then(|| self.with(&[("range", "all".to_owned())]))
    }

    pub fn markup(&self) -> Markup {
        let chosen = self.chosen();
        let (from, to) = self
            .time
            .bounds(self.otherwise, self.now_ns)
            .unwrap_or_default();
        html! {
            div.range role="group" aria-label="Time range" data-testid="time-range" {
                @if let Some(earlier) = self.moved(-1) { a.button href=(earlier) data-key="[" aria-label="Earlier" title="Earlier ([)" data-testid="range-earlier" { "‹" } }
                div.segments {
                    @for (name, _, label) in RANGES {
                        a href=(self.with(&[("range", name.to_owned())])) aria-current=[(name == chosen).then_some("true")] data-testid={ "range-" (name) } { (label) }
                    }
                }
                @if let Some(later) = self.moved(1).filter(|_| to.is_some_and(|to| to < self.now_ns)) { a.button href=(later) data-key="]" aria-label="Later" title="Later (])" data-testid="range-later" { "›" } }
                @if chosen.is_empty() {
                    span.zoomed data-testid="range-shown" {
                        @if let Some(from) = from { (format::time_of_day(from)) } " – " @if let Some(to) = to { (format::time_of_day(to)) }
                        " " a.button href=(self.with(&[])) data-back="" data-testid="range-back" { "Zoom out" }
                    }
                }
                @if let Some(since) = self.kept_since { span.faint.small data-testid="kept-since" title=(format::date_time(since)) { "kept since " (format::time_of_day(since).split('.').next().unwrap_or_default()) } }
            }
        }
    }
}
