//! What the query strings of pages and API can ask for. Every parameter may be absent or empty; numbers are checked here, so that a form's empty
//! field is no error and a wrong one is a 400 that says what is allowed.

use serde::{Deserialize, Serialize};

use crate::attributes::{is_hex, searched_line};
use crate::problem::Problem;
use crate::store::{Search, logs, profiles, traces};

const NS_PER_MS: f64 = 1e6;

/// The time range that every page has: the last so many, everything, or from–to. Absent parts are open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Time {
    /// A name of [`RANGES`].
    pub range: String,
    pub from_ms: String,
    pub to_ms: String,
}

/// Names of ranges, their minutes (0: everything that is kept) and labels.
pub const RANGES: [(&str, i64, &str); 4] = [
    ("5m", 5, "5 minutes"),
    ("15m", 15, "15 minutes"),
    ("1h", 60, "1 hour"),
    ("all", 0, "Everything"),
];

impl Time {
    /// First and last nanosecond; `otherwise` is the name of the range that counts if none was chosen.
    pub fn bounds(
        &self,
        otherwise: &str,
        now_ns: i64,
    ) -> Result<(Option<i64>, Option<i64>), Problem> {
        let from = milliseconds("from_ms", &self.from_ms)?;
        let to = milliseconds("to_ms", &self.to_ms)?;
        if from.is_some() || to.is_some() {
            return Ok((from, to));
        }
        let name = match self.range.as_str() {
            "" => otherwise,
            range => range,
        };
        match RANGES.iter().find(|(range, ..)| *range == name) {
            Some((_, 0, _)) => Ok((None, None)),
            Some((_, minutes, _)) => Ok((Some(now_ns - minutes * 60_000_000_000), None)),
            None => Err(Problem::bad_request("range is 5m, 15m, 1h or all")),
        }
    }
}

/// `/traces` and `/api/traces`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Traces {
    /// A trace id in any spelling, a span id, parts of names, `attribute=value`; several at once.
    pub q: String,
    pub service: String,
    pub route: String,
    /// `ok` or `error`
    pub status: String,
    pub min_ms: String,
    pub max_ms: String,
    #[serde(flatten)]
    pub time: Time,
    /// `time`, `duration`, `spans` or `errors`
    pub sort: String,
    /// Counts from 1.
    pub page: String,
    /// No trace that began later, so that later pages keep their place while new ones arrive.
    pub until_ms: String,
    pub limit: String,
}

impl Traces {
    pub fn filter(&self, default_limit: u32, now_ns: i64) -> Result<traces::Filter, Problem> {
        let limit = limit("limit", &self.limit, default_limit, 1000)?;
        let (from_ns, to_ns) = self.time.bounds("all", now_ns)?;
        let until_ns = milliseconds("until_ms", &self.until_ms)?;
        let mut filter = traces::Filter {
            service: self.service.clone(),
            route: self.route.clone(),
            failed: match self.status.as_str() {
                "" => None,
                "ok" => Some(false),
                "error" => Some(true),
                _ => return Err(Problem::bad_request("status is ok or error")),
            },
            min_ns: milliseconds("min_ms", &self.min_ms)?,
            max_ns: milliseconds("max_ms", &self.max_ms)?,
            from_ns,
            to_ns: to_ns.into_iter().chain(until_ns).min(),
            sort: match self.sort.as_str() {
                "" | "time" => traces::Sort::Time,
                "duration" => traces::Sort::Duration,
                "spans" => traces::Sort::Spans,
                "errors" => traces::Sort::Errors,
                _ => {
                    let why = "sort is time, duration, spans or errors";
                    return Err(Problem::bad_request(why));
                }
            },
            offset: (self.page()? - 1).saturating_mul(limit),
            limit,
            ..traces::Filter::default()
        };
        for term in terms(&self.q) {
            if let Some((trace_id, span_id)) = term.ids() {
                (filter.trace_id, filter.span_id) = (trace_id, span_id);
                continue;
            }
            match term {
                // The name of a header that was copied as a whole.
                Term::Word(word) if word.eq_ignore_ascii_case("traceparent:") => {}
                Term::Word(word) => filter.search.words.push(word),
                Term::Field(name, value) => filter.search.fields.push((name, value)),
            }
        }
        Ok(filter)
    }

    pub fn page(&self) -> Result<u32, Problem> {
        limit("page", &self.page, 1, 1_000_000)
    }
}

/// Trace id or span id that a text may stand for: 32 or, as some write them, fewer hexadecimal digits, upper case, dashes or `0x` as well; 16 digits
/// alone are a span's. Of a whole `traceparent` the trace counts, since its span is the caller's, who may send no spans. Empty text for the other.
pub fn ids(text: &str) -> Option<(String, String)> {
    let text = text.trim().to_ascii_lowercase();
    if let [version, trace_id, span_id, ..] = text.split('-').collect::<Vec<_>>()[..]
        && is_hex(version, 1)
        && is_hex(trace_id, 16)
        && is_hex(span_id, 8)
    {
        return Some((trace_id.to_owned(), String::new()));
    }
    let digits = text.trim_start_matches("0x").replace('-', "");
    let hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    match digits.len() {
        16 if hexadecimal => Some((String::new(), digits)),
        // Some tools leave out the zeros in front.
        25..=32 if hexadecimal => Some((format!("{digits:0>32}"), String::new())),
        _ => None,
    }
}

/// What was typed into a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    Word(String),
    Field(String, String),
}

impl Term {
    /// As [`ids`], also with a name in front: `trace_id=…`.
    pub fn ids(&self) -> Option<(String, String)> {
        const NAMES: [&str; 5] = ["trace_id", "traceid", "traceparent", "span_id", "spanid"];
        match self {
            Self::Word(word) => ids(word),
            Self::Field(name, value) => NAMES
                .contains(&&*name.to_ascii_lowercase())
                .then(|| ids(value))?,
        }
    }
}

/// Words, `"phrases in quotation marks"` and `name=value`, each of both perhaps in quotation marks. In these, `\"` stands for one and `\\` for `\`.
pub fn terms(typed: &str) -> Vec<Term> {
    let mut terms = Vec::new();
    let (mut term, mut equals, mut quoted) = (String::new(), None, false);
    let mut letters = typed.chars().chain([' ']).peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quoted => term.push(
                letters
                    .next_if(|next| ['"', '\\'].contains(next))
                    .unwrap_or('\\'),
            ),
            '"' => quoted = !quoted,
            '=' if !quoted && equals.is_none() && !term.is_empty() => {
                equals = Some(term.len());
                term.push('=');
            }
            _ if letter.is_whitespace() && !quoted => {
                let term = std::mem::take(&mut term);
                match equals.take() {
                    Some(at) => terms.push(Term::Field(
                        term[..at].to_owned(),
                        term[at + 1..].to_owned(),
                    )),
                    None if term.is_empty() => {}
                    None => terms.push(Term::Word(term)),
                }
            }
            _ => term.push(letter),
        }
    }
    // The quotation mark that is missing at the end is thought.
    let rest = term.trim_end();
    if !rest.is_empty() {
        terms.push(Term::Word(rest.to_owned()));
    }
    terms
}

/// `/traces/{trace_id}`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Trace {
    /// Only spans that have this in their name, service or attributes.
    pub q: String,
    /// Id of a span whose time fills the width.
    pub zoom: String,
    /// Number of the first span that is shown, from 0.
    pub from: String,
    /// Id of a span that must be among those shown.
    pub span: String,
}

impl Trace {
    pub fn from(&self) -> Result<usize, Problem> {
        let from = whole("from", &self.from)?.unwrap_or(0);
        usize::try_from(from).map_err(|_| Problem::bad_request("from counts from 0"))
    }
}

/// The terms as one would type them.
pub fn typed(terms: &[Term]) -> String {
    let quoted = |text: &str| {
        let special = |letter: char| letter.is_whitespace() || ['"', '='].contains(&letter);
        match text.contains(special) || text.is_empty() {
            true => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            false => text.to_owned(),
        }
    };
    let typed = terms.iter().map(|term| match term {
        Term::Word(word) => quoted(word),
        Term::Field(name, value) => format!("{}={}", quoted(name), quoted(value)),
    });
    typed.collect::<Vec<String>>().join(" ")
}

/// `/logs` and `/api/logs`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Logs {
    /// Parts of words, `"phrases"`, `name=value`; several at once.
    pub q: String,
    /// `trace`, `debug`, `info`, `warn`, `error` or `fatal`; with a `+` behind it, that level and those above.
    pub level: String,
    pub service: String,
    /// `name=value`
    pub field: String,
    pub trace_id: String,
    pub span_id: String,
    #[serde(flatten)]
    pub time: Time,
    /// Time and id of a record, `1795626080569588891.17`: only those that are older.
    pub before: String,
    /// Id of a record: what its service wrote around it (pages only).
    pub around: String,
    pub limit: String,
}

impl Logs {
    pub fn filter(&self, default_limit: u32, now_ns: i64) -> Result<logs::Filter, Problem> {
        let (from_ns, to_ns) = self.time.bounds("all", now_ns)?;
        let mut search = Search::default();
        search.fields.extend(pair("field", &self.field)?);
        let mut alike = Vec::new();
        for term in terms(&self.q) {
            match (term.ids(), term) {
                (Some(ids), Term::Word(word)) => alike.push((word, ids)),
                (Some(ids), Term::Field(name, value)) => {
                    alike.push((searched_line(&name, &value), ids))
                }
                (None, Term::Word(word)) => search.words.push(word),
                (None, Term::Field(name, value)) => search.fields.push((name, value)),
            }
        }
        let before = self.before.split_once('.');
        let before = before.and_then(|(time, id)| Some((time.parse().ok()?, id.parse().ok()?)));
        if before.is_none() && !self.before.is_empty() {
            return Err(Problem::bad_request("before is a record's time and id"));
        }
        Ok(logs::Filter {
            search,
            service: self.service.clone(),
            severity: severities(&self.level)?,
            trace_id: id("trace_id", &self.trace_id, 16)?,
            span_id: id("span_id", &self.span_id, 8)?,
            alike,
            from_ns,
            to_ns,
            before,
            oldest_first: false,
            limit: limit("limit", &self.limit, default_limit, 10_000)?,
        })
    }

    /// Id of the record to look around of.
    pub fn around(&self) -> Result<Option<i64>, Problem> {
        whole("around", &self.around)
    }
}

/// `/metrics` and `/api/metrics`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Metrics {
    pub name: String,
    pub service: String,
    /// Attribute whose values each get a line of their own.
    pub by: String,
    /// `attribute=value`: only series that have it.
    pub only: String,
    #[serde(flatten)]
    pub time: Time,
    /// Newest points of each series (API only).
    pub points: String,
}

impl Metrics {
    pub fn points(&self) -> Result<u32, Problem> {
        limit("points", &self.points, 1, 1000)
    }
}

/// `/profiles` and `/api/profiles/{type}`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Profiles {
    /// `cpu` or `heap` (pages only; in the API it is in the path)
    pub r#type: String,
    pub service: String,
    /// A span's id: only its samples.
    pub profile_id: String,
    /// `name=value`: only samples with this label.
    pub label: String,
    #[serde(flatten)]
    pub time: Time,
    /// Function to mark (pages only).
    pub q: String,
    /// `all` shows the runtime's frames as well (pages only).
    pub frames: String,
    /// Function whose source to show (pages only).
    pub function: String,
}

impl Profiles {
    /// `otherwise` is the range that counts if none was chosen.
    pub fn filter(
        &self,
        kind: &str,
        otherwise: &str,
        now_ns: i64,
    ) -> Result<profiles::Filter, Problem> {
        let (from_ns, to_ns) = self.time.bounds(otherwise, now_ns)?;
        Ok(profiles::Filter {
            kind: kind.to_owned(),
            service: self.service.clone(),
            span_id: id("profile_id", &self.profile_id, 8)?,
            label: pair("label", &self.label)?,
            from_ns,
            to_ns,
        })
    }
}

/// `name=value` in two; `None` for an empty text.
pub fn pair(parameter: &str, text: &str) -> Result<Option<(String, String)>, Problem> {
    let pair = text.split_once('=');
    if pair.is_none() && !text.is_empty() {
        let why = format!("{parameter} is written name=value");
        return Err(Problem::BadRequest(why));
    }
    Ok(pair.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())))
}

/// The id in lower case, as it is stored.
fn id(name: &str, text: &str, bytes: usize) -> Result<String, Problem> {
    if text.is_empty() || is_hex(text, bytes) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Problem::BadRequest(format!(
        "{name} has {} hexadecimal digits",
        bytes * 2
    )))
}

fn milliseconds(name: &str, text: &str) -> Result<Option<i64>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(number) if (0.0..1e13).contains(&number) => Ok(Some((number * NS_PER_MS) as i64)),
        _ => {
            let why = format!("{name} is a number of milliseconds");
            Err(Problem::BadRequest(why))
        }
    }
}

fn whole(name: &str, text: &str) -> Result<Option<i64>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| Problem::BadRequest(format!("{name} is a whole number")))
}

fn limit(name: &str, text: &str, default: u32, most: u32) -> Result<u32, Problem> {
    match whole(name, text)? {
        None => Ok(default),
        Some(number) if (1..=i64::from(most)).contains(&number) => Ok(number as u32),
        Some(_) => Err(Problem::BadRequest(format!("{name} is from 1 to {most}"))),
    }
}

/// Severity numbers of a level: <https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber>
fn severities(level: &str) -> Result<Option<(i32, i32)>, Problem> {
    let (level, above) = match level.trim_end_matches([' ', '+']) {
        bare if bare.len() < level.len() => (bare, true),
        level => (level, false),
    };
    let lowest = match level.to_ascii_lowercase().as_str() {
        "" => return Ok(None),
        "trace" => 1,
        "debug" => 5,
        "info" => 9,
        "warn" => 13,
        "error" => 17,
        "fatal" => 21,
        _ => {
            let why = "level is trace, debug, info, warn, error or fatal";
            return Err(Problem::bad_request(why));
        }
    };
    Ok(Some((lowest, if above { 24 } else { lowest + 3 })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_becomes_words_phrases_and_fields() {
        let word = |text: &str| Term::Word(text.to_owned());
        let field = |name: &str, value: &str| Term::Field(name.to_owned(), value.to_owned());
        assert_eq!(
            terms(r#" time  "card declined" http.route=/a=b user="a b" 支付"#),
            [
                word("time"),
                word("card declined"),
                field("http.route", "/a=b"),
                field("user", "a b"),
                word("支付")
            ]
        );
        assert_eq!(terms(r#""open phrase "#), [word("open phrase")]);
        assert_eq!(terms(r#"=x "" "#), [word("=x")]);
        let odd = [
            field("a b", r#"said "no=1" \o/"#),
            field("a=b", ""),
            word("x=y"),
            word(r"C:\temp"),
            word("tab\there"),
        ];
        assert_eq!(terms(&typed(&odd)), odd, "{}", typed(&odd));
    }

    #[test]
    fn an_id_is_known_by_any_of_its_spellings() {
        let trace = ("0af7651916cd43dd8448eb211c80319c".to_owned(), String::new());
        for spelling in [
            "0af7651916cd43dd8448eb211c80319c",
            "0AF7651916CD43DD8448EB211C80319C",
            "af7651916cd43dd8448eb211c80319c",
            "0x0af7651916cd43dd8448eb211c80319c",
            "0af76519-16cd-43dd-8448-eb211c80319c",
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
        ] {
            assert_eq!(ids(spelling), Some(trace.clone()), "{spelling}");
        }
        let span = "00f067aa0ba902b7".to_owned();
        assert_eq!(ids(&span), Some((String::new(), span)));
        let no_digits = "0af7651916cd43dd8448eb211c80319g";
        for none in ["", "deadbeef", "checkout", no_digits] {
            assert_eq!(ids(none), None, "{none}");
        }
    }

    #[test]
    fn a_level_may_mean_those_above_it() {
        assert_eq!(severities("warn").ok().flatten(), Some((13, 16)));
        // A plus in an address is a space.
        for above in ["warn+", "WARN "] {
            assert_eq!(severities(above).ok().flatten(), Some((13, 24)), "{above}");
        }
    }
}
