//! Profiles: Pyroscope's push, as its clients and Alloy send it, and `/ingest`, which its older clients use.

use std::collections::HashMap;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use prost::Message;
use serde::Deserialize;

use super::{Encoding, Limits, decoded, header_value};
use crate::format::now_ns;
use crate::pprof::{LabelPair, Profile, PushRequest, RawProfileSeries, RawSample, Unreadable};
use crate::problem::Problem;
use crate::store::profiles::ProfileRow;
use crate::store::{Rows, Store};
use crate::wire::{depth, schema, text};

/// `POST /push.v1.PusherService/Push`
pub async fn push(
    request: HttpRequest,
    payload: web::Payload,
    limits: web::Data<Limits>,
    store: web::Data<Store>,
) -> Result<HttpResponse, Problem> {
    if Encoding::of(&request)? == Encoding::Json {
        return Err(Problem::UnsupportedMediaType(
            "profiles are taken as application/proto only".to_owned(),
        ));
    }
    let budget = limits.decoded_bytes;
    let rows = decoded(&request, payload, &limits, move |body| {
        let refused = |error: &dyn std::fmt::Display| {
            Problem::BadRequest(format!("not a push message: {error}"))
        };
        depth::check(&schema::PUSH, body).map_err(|error| refused(&error))?;
        let (message, _): (PushRequest, bool) =
            text::decode(&schema::PUSH, body).map_err(|error| refused(&error))?;
        rows_of(message.series, budget)
    })
    .await?;
    store.write(Vec::new(), Rows::Profiles(rows)).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/proto")
        .body(Vec::new()))
}

fn rows_of(series: Vec<RawProfileSeries>, mut budget: usize) -> Result<Vec<ProfileRow>, Problem> {
    let now = now_ns();
    let mut rows = Vec::new();
    for series in series {
        rows.extend(ProfileRow::of_series(series, &mut budget, now).map_err(
            |error| match error {
                Unreadable::TooLarge(_) => Problem::TooLarge(error.to_string()),
                _ => Problem::BadRequest(error.to_string()),
            },
        )?);
    }
    Ok(rows)
}

/// What `/ingest` says in its query string.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ingest {
    /// `application{label=value,…}`
    name: String,
    /// `pprof`, or stacks as text: `folded`, which is the default.
    format: String,
    /// Samples a second.
    sample_rate: u32,
    /// `samples`, `bytes` …
    units: String,
    /// Begin and end, in seconds since 1970.
    from: i64,
    until: i64,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            name: String::new(),
            format: String::new(),
            sample_rate: 100,
            units: String::new(),
            from: 0,
            until: 0,
        }
    }
}

/// `POST /ingest`: pprof, bare or as a form's part, and stacks as text.
pub async fn ingest(
    request: HttpRequest,
    payload: web::Payload,
    limits: web::Data<Limits>,
    store: web::Data<Store>,
    query: web::Query<Ingest>,
) -> Result<HttpResponse, Problem> {
    // A page of another site may send forms and text without asking, but not without these headers.
    if ["origin", "sec-fetch-site"].map(|name| request.headers().contains_key(name)) != [false; 2] {
        return Err(Problem::bad_request("profiles are not taken from browsers"));
    }
    let boundary = header_value(&request, header::CONTENT_TYPE)
        .split_once("boundary=")
        .map(|(_, boundary)| boundary.trim_matches('"').to_owned());
    let budget = limits.decoded_bytes;
    let rows = decoded(&request, payload, &limits, move |body| {
        let (mut labels, prefix) = labels_of(&query.name);
        let parts = boundary.map_or_else(HashMap::new, |boundary| parts(body, &boundary));
        let body = parts.get("profile").copied().unwrap_or(body);
        let raw_profile = match query.format.as_str() {
            "pprof" => body.to_vec(),
            "" if !parts.is_empty() => body.to_vec(),
            "" | "folded" | "collapsed" | "lines" => {
                let text = std::str::from_utf8(body)
                    .map_err(|_| Problem::bad_request("the stacks are no text"))?;
                of_text(text, &query)?.encode_to_vec()
            }
            other => {
                return Err(Problem::UnsupportedMediaType(format!(
                    "profiles in the format {other:?} are not taken: pprof and folded are"
                )));
            }
        };
        // The older Go client names its types here, and counts some of them from the start of the process.
        let types = parts.get("sample_type_config").copied().unwrap_or(b"{}");
        depth::check_json(types).map_err(|error| Problem::BadRequest(error.to_string()))?;
        let types: serde_json::Value = serde_json::from_slice(types).unwrap_or_default();
        let delay = &types["delay"];
        if delay["cumulative"] == true && parts.contains_key("prev_profile") {
            return Err(Problem::UnsupportedMediaType(
                "mutex and block profiles that count from the start are not taken: newer clients send what was added".to_owned(),
            ));
        }
        let name = delay["display-name"].as_str().and_then(|name| name.split('_').next());
        if let Some(name) = name.or(prefix.as_deref()) {
            labels.push(label("__name__", name));
        }
        let samples = vec![RawSample {
            raw_profile,
            id: String::new(),
        }];
        rows_of(vec![RawProfileSeries { labels, samples }], budget)
    })
    .await?;
    store.write(Vec::new(), Rows::Profiles(rows)).await?;
    Ok(HttpResponse::Ok().finish())
}

fn label(name: &str, value: &str) -> LabelPair {
    LabelPair {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

/// Labels out of `application.type{name=value,…}`, and the type if it has one.
fn labels_of(name: &str) -> (Vec<LabelPair>, Option<String>) {
    const TYPES: [&str; 9] = [
        "cpu",
        "itimer",
        "wall",
        "alloc_objects",
        "alloc_space",
        "inuse_objects",
        "inuse_space",
        "mutex",
        "block",
    ];
    let (application, rest) = name.split_once('{').unwrap_or((name, ""));
    let (application, kind) = match application.rsplit_once('.') {
        Some((before, kind)) if TYPES.contains(&kind) => (before, Some(kind.to_owned())),
        _ => (application, None),
    };
    let mut labels = Vec::new();
    if !application.is_empty() {
        labels.push(label("service_name", application));
    }
    let pairs = rest.trim_end_matches('}').split(',');
    let pairs = pairs.filter_map(|pair| pair.split_once('='));
    labels.extend(pairs.map(|(name, value)| label(name.trim(), value.trim())));
    (labels, kind)
}

/// Lines `root;…;leaf count` as a profile.
fn of_text(text: &str, query: &Ingest) -> Result<Profile, Problem> {
    let memory = query.units == "bytes";
    let (kind, unit, each) = match (memory, query.sample_rate) {
        (true, _) => ("inuse_space", "bytes", 1),
        (false, rate) => ("cpu", "nanoseconds", 1_000_000_000 / i64::from(rate.max(1))),
    };
    let mut stacks = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let counted = line.trim_end().rsplit_once(' ');
        let counted = counted.and_then(|(stack, count)| Some((stack, count.parse::<i64>().ok()?)));
        let Some((stack, count)) = counted else {
            return Err(Problem::bad_request(
                "a line of stacks is written root;…;leaf count",
            ));
        };
        stacks.push((stack, count.saturating_mul(each)));
    }
    let mut profile = Profile::of_stacks((kind, unit), &stacks);
    profile.time_nanos = query.from.clamp(0, 1 << 32) * 1_000_000_000;
    profile.duration_nanos = (query.until - query.from).clamp(0, 86_400) * 1_000_000_000;
    Ok(profile)
}

/// The parts of a form, by name: <https://www.rfc-editor.org/rfc/rfc7578>
fn parts<'a>(body: &'a [u8], boundary: &str) -> HashMap<String, &'a [u8]> {
    const MOST_PARTS: usize = 16;
    let delimiter = format!("--{boundary}");
    let mut found = HashMap::new();
    let mut rest = body;
    while let Some(begin) = find(rest, delimiter.as_bytes()) {
        rest = &rest[begin + delimiter.len()..];
        let end = find(rest, delimiter.as_bytes()).unwrap_or(rest.len());
        let part = rest[..end].strip_prefix(b"\r\n").unwrap_or(&rest[..end]);
        let Some(head) = find(part, b"\r\n\r\n") else {
            continue;
        };
        let content = &part[head + 4..];
        let content = content.strip_suffix(b"\r\n").unwrap_or(content);
        let name = String::from_utf8_lossy(&part[..head])
            .split_once(" name=\"")
            .and_then(|(_, name)| Some(name.split_once('"')?.0.to_owned()));
        if let Some(name) = name.filter(|_| found.len() < MOST_PARTS) {
            found.insert(name, content);
        }
    }
    found
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len().max(1))
        .position(|window| window == wanted)
}
