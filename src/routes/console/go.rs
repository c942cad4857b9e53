//! Short links. `GET /go/{signal}/{trace_id}` answers 302 to where that signal of a request can be seen.
//!
//! A viewer's own address holds a whole query and has up to 700 characters: nobody reads or copies it. These have about 80, and a
//! terminal, a page or a chat needs to know the service alone. The address is made of the templates in the settings.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Path, Query};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::error::{Error, Kind};
use crate::settings::{Links, Role};

/// How far around a request its signals are shown: wide enough for a chart, narrow enough that a route's profile is mostly its own.
const AROUND: Duration = Duration::from_secs(60);
/// The year 5138, in milliseconds since 1970: far enough, and small enough to add to.
const LATEST_MS: u64 = 100_000_000_000_000;
/// No request lasts longer, in milliseconds.
const LONGEST_MS: u64 = 3_600_000;

/// What of a request is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    Trace,
    Logs,
    Metrics,
    Profile,
}

/// What a template may need beside the trace id.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// The server span: 16 hexadecimal digits.
    #[param(value_type = Option<String>, pattern = "^[0-9a-f]{16}$")]
    pub span: Option<String>,
    /// The route, as a pattern.
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9/_.{}*:-]{1,128}$")]
    pub route: Option<String>,
    /// The request id.
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub request: Option<String>,
    /// The id of the request's own samples (`x-profile-id`): 16 hexadecimal digits.
    #[param(value_type = Option<String>, pattern = "^[0-9a-f]{16}$")]
    pub profile: Option<String>,
    /// When it was sent, in milliseconds since 1970. Absent: now.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 100_000_000_000_000_i64)]
    pub at_ms: Option<String>,
    /// How long it took, in milliseconds. Absent: 0.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 3_600_000)]
    pub took_ms: Option<String>,
}

/// Where a signal of a request can be seen.
#[utoipa::path(get, path = "/go/{signal}/{trace_id}", tag = "operations",
    params(("signal" = Signal, Path, description = "What to show"),
        ("trace_id" = String, Path, description = "32 hexadecimal digits", pattern = "^[0-9a-f]{32}$"), Params),
    responses((status = 302, description = "The address is in `Location`"),
        (status = 404, description = "No template is configured for it", body = crate::error::Problem, content_type = "application/problem+json")))]
pub async fn go(
    links: Data<Links>,
    path: Path<(Signal, String)>,
    params: Query<Params>,
) -> Result<HttpResponse, Error> {
    let (signal, trace_id) = path.into_inner();
    let facts = Facts::read(trace_id, params.into_inner())?;
    let own_profile = links
        .span_profile
        .as_ref()
        .filter(|_| !facts.profile_id.is_empty());
    let (template, setting) = match signal {
        Signal::Trace => (links.trace.as_ref(), "SIGNALBOX_LINK_TRACE_URL"),
        Signal::Logs => (links.logs.as_ref(), "SIGNALBOX_LINK_LOGS_URL"),
        Signal::Metrics => (links.metrics.as_ref(), "SIGNALBOX_LINK_METRICS_URL"),
        Signal::Profile => (
            own_profile.or(links.profile.as_ref()),
            "SIGNALBOX_LINK_PROFILE_URL",
        ),
    };
    let template =
        template.ok_or_else(|| Error::new(Kind::NotFound, format!("{setting} is not set")))?;
    Ok(HttpResponse::Found()
        .insert_header((LOCATION, facts.expand(template)))
        .finish())
}

/// What the links of one request are made of.
pub struct Facts {
    pub trace_id: String,
    pub span_id: String,
    pub request_id: String,
    pub profile_id: String,
    /// The matched pattern.
    pub route: String,
    /// Since 1970: when it was sent and when it was answered.
    pub from: Duration,
    pub to: Duration,
}

impl Facts {
    /// Those of a request that is answered just now.
    pub fn now(trace_id: String, span_id: String, request_id: String, route: String) -> Self {
        let now = now();
        Self {
            trace_id,
            span_id,
            request_id,
            profile_id: String::new(),
            route,
            from: now,
            to: now,
        }
    }

    /// Checks what a caller wrote. An absent parameter leaves its place in the address empty.
    fn read(trace_id: String, params: Params) -> Result<Self, Error> {
        let hex = |digits: usize| {
            move |text: &str| {
                text.len() == digits && text.bytes().all(|b| b"0123456789abcdef".contains(&b))
            }
        };
        let of = |characters: &'static [u8], most: usize| {
            move |text: &str| {
                (1..=most).contains(&text.len())
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || characters.contains(&b))
            }
        };
        let from = match params.at_ms {
            Some(text) => millis("at_ms", &text, LATEST_MS)?,
            None => now(),
        };
        let took = match params.took_ms {
            Some(text) => millis("took_ms", &text, LONGEST_MS)?,
            None => Duration::ZERO,
        };
        Ok(Self {
            trace_id: fit("trace_id", Some(trace_id), "32 hexadecimal digits", hex(32))?,
            span_id: fit("span", params.span, "16 hexadecimal digits", hex(16))?,
            request_id: fit(
                "request",
                params.request,
                "at most 64 letters, digits, _ or -",
                of(b"_-", 64),
            )?,
            profile_id: fit("profile", params.profile, "16 hexadecimal digits", hex(16))?,
            route: fit(
                "route",
                params.route,
                "a pattern of at most 128 characters",
                of(b"/_.{}*:-", 128),
            )?,
            from,
            to: from + took,
        })
    }

    /// `template` with the facts put in, percent-encoded, since every place is inside a URL.
    pub fn expand(&self, template: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let millis = |time: Duration| time.as_millis().to_string();
        [
            ("{trace_id}", encode(&self.trace_id)),
            ("{span_id}", encode(&self.span_id)),
            ("{request_id}", encode(&self.request_id)),
            ("{profile_id}", encode(&self.profile_id)),
            ("{route}", encode(&self.route)),
            ("{service}", encode(Role::Api.service_name())),
            ("{from_ms}", millis(self.from.saturating_sub(AROUND))),
            ("{to_ms}", millis(self.to + AROUND)),
        ]
        .iter()
        .fold(template.to_owned(), |url, (name, value)| {
            url.replace(name, value)
        })
    }
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn fit(
    name: &str,
    text: Option<String>,
    allowed: &str,
    fits: impl Fn(&str) -> bool,
) -> Result<String, Error> {
    match text {
        None => Ok(String::new()),
        Some(text) if fits(&text) => Ok(text),
        Some(_) => Err(Error::out_of_range(name, allowed)),
    }
}

fn millis(name: &str, text: &str, most: u64) -> Result<Duration, Error> {
    let value = text.parse().ok().filter(|value| *value <= most);
    let allowed = format!("a whole number, 0 to {most}");
    let value = value.ok_or_else(|| Error::out_of_range(name, &allowed))?;
    Ok(Duration::from_millis(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn every_place_of_a_template_is_filled_in_and_encoded() {
        let params = Params {
            span: Some("b7ad6b7169203331".into()),
            route: Some("/demo/cpu".into()),
            at_ms: Some("100000".into()),
            took_ms: Some("40".into()),
            ..Params::default()
        };
        let facts = Facts::read(ID.into(), params).expect("fit");
        let template = "http://v/{trace_id}?s={span_id}&r={route}&p={profile_id}&n={service}&f={from_ms}&t={to_ms}&json={\"a\":1}";
        assert_eq!(
            facts.expand(template),
            format!(
                "http://v/{ID}?s=b7ad6b7169203331&r=%2Fdemo%2Fcpu&p=&n=signalbox%2Dapi&f=40000&t=160040&json={{\"a\":1}}"
            )
        );
    }

    #[test]
    fn what_could_change_the_address_is_refused() {
        let with = |change: fn(&mut Params)| {
            let mut params = Params::default();
            change(&mut params);
            Facts::read(ID.into(), params).is_ok()
        };
        assert!(with(|_| ()));
        assert!(!with(|params| params.route = Some("/x\"}".into())));
        assert!(!with(|params| params.route = Some("x".repeat(129))));
        assert!(!with(|params| params.span = Some("B7AD6B7169203331".into())));
        assert!(!with(|params| params.request = Some("a b".into())));
        assert!(!with(|params| params.at_ms = Some("-1".into())));
        assert!(!with(|params| params.at_ms = Some("100000000000001".into())));
        assert!(Facts::read("..".into(), Params::default()).is_err());
    }
}
