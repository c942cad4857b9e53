use lens::pprof::{
    Function, Label, LabelPair, Line, Location, Profile, PushRequest, RawProfileSeries, RawSample,
    Sample, ValueType,
};
use prost::Message;

use crate::support::{Lens, gzip, now_ns};

/// What pprof calls samples of processor time and of memory in use, and their units.
pub const CPU: (&str, &str) = ("cpu", "nanoseconds");
pub const HEAP: (&str, &str) = ("inuse_space", "bytes");

/// A profile of stacks, root first and separated by `;`, each with its value and the span it belongs to.
pub fn profile(measure: (&str, &str), time_ns: u64, stacks: &[(&str, i64, &str)]) -> Profile {
    let mut strings = vec![String::new()];
    let mut text = |value: &str| {
        let place = strings
            .iter()
            .position(|known| known == value)
            .unwrap_or_else(|| {
                strings.push(value.to_owned());
                strings.len() - 1
            });
        place as i64
    };
    let mut profile = Profile {
        sample_type: vec![ValueType {
            r#type: text(measure.0),
            unit: text(measure.1),
        }],
        time_nanos: time_ns as i64,
        duration_nanos: 10_000_000_000,
        ..Profile::default()
    };
    for (stack, value, span) in stacks {
        let mut locations = Vec::new();
        for name in stack.rsplit(';') {
            let id = profile.function.len() as u64 + 1;
            let name = text(name);
            profile.function.push(Function {
                id,
                name,
                system_name: name,
                filename: 0,
            });
            profile.location.push(Location {
                id,
                address: 0,
                line: vec![Line {
                    function_id: id,
                    line: 7,
                }],
            });
            locations.push(id);
        }
        let label = if span.is_empty() {
            vec![]
        } else {
            vec![Label {
                key: text("profile_id"),
                str: text(span),
                num: 0,
            }]
        };
        profile.sample.push(Sample {
            location_id: locations,
            value: vec![*value],
            label,
        });
    }
    profile.string_table = strings;
    profile
}

pub async fn push(lens: &Lens, service: &str, profile: &Profile, compressed: bool) {
    let plain = profile.encode_to_vec();
    let label = |name: &str, value: &str| LabelPair {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let request = PushRequest {
        series: vec![RawProfileSeries {
            labels: vec![
                label("__name__", "process_cpu"),
                label("service_name", service),
                label("region", "eu"),
            ],
            samples: vec![RawSample {
                raw_profile: if compressed { gzip(&plain) } else { plain },
                id: "1".to_owned(),
            }],
        }],
    };
    let body = gzip(&request.encode_to_vec());
    let response = lens.post_gzipped(PUSH, "application/proto", body).await;
    assert_eq!(response.status(), 200);
}

/// Pushes a profile of these stacks.
async fn push_stacks(
    lens: &Lens,
    service: &str,
    measure: (&str, &str),
    time_ns: u64,
    stacks: &[(&str, i64, &str)],
) {
    push(lens, service, &profile(measure, time_ns, stacks), true).await;
}

/// The stacks of an answer, root first, with their values.
pub async fn stacks(lens: &Lens, path: &str) -> Vec<(String, i64)> {
    let response = lens.get(path).await;
    assert_eq!(response.status(), 200, "{path}");
    let body = response.bytes().await.expect("a body");
    assert!(
        body.starts_with(&[0x1f, 0x8b]),
        "gzipped as pprof files are"
    );
    let profile = Profile::read(&body, 1_000_000).expect("a profile");
    let mut stacks: Vec<(String, i64)> = profile
        .sample
        .iter()
        .map(|sample| {
            let name = |id: &u64| {
                let location = profile
                    .location
                    .iter()
                    .find(|location| location.id == *id)
                    .expect("a location");
                let function = profile
                    .function
                    .iter()
                    .find(|function| function.id == location.line[0].function_id)
                    .expect("a function");
                profile.text(function.name).to_owned()
            };
            (
                sample
                    .location_id
                    .iter()
                    .rev()
                    .map(name)
                    .collect::<Vec<_>>()
                    .join(";"),
                sample.value[0],
            )
        })
        .collect();
    stacks.sort();
    stacks
}

/// Asserts the stacks of an answer, sorted.
async fn shows(lens: &Lens, path: &str, expected: &[(&str, i64)]) {
    let stacks = stacks(lens, path).await;
    let stacks: Vec<_> = stacks
        .iter()
        .map(|(stack, value)| (stack.as_str(), *value))
        .collect();
    assert_eq!(stacks, expected, "{path}");
}

const SPAN: &str = "00f067aa0ba902b7";
const PUSH: &str = "/push.v1.PusherService/Push";

#[tokio::test]
async fn equal_stacks_are_added_up_over_pushes() {
    let lens = Lens::start().await;
    let now = now_ns();
    let first = [("main;work", 30, ""), ("main;idle", 5, "")];
    let first = profile(CPU, now - 20_000_000_000, &first);
    push(&lens, "api", &first, false).await;
    let second = [("main;work", 12, ""), ("main;work;deep", 1, "")];
    push_stacks(&lens, "api", CPU, now - 10_000_000_000, &second).await;
    push_stacks(&lens, "worker", CPU, now, &[("main;work", 100, "")]).await;

    let api = "/api/profiles/cpu?service=api";
    shows(
        &lens,
        api,
        &[("main;idle", 5), ("main;work", 42), ("main;work;deep", 1)],
    )
    .await;
    let since = format!("{api}&from_ms={}", (now - 9_000_000_000) / 1_000_000);
    shows(&lens, &since, &[("main;work", 12), ("main;work;deep", 1)]).await;
    let until = format!("{api}&to_ms={}", (now - 12_000_000_000) / 1_000_000);
    shows(&lens, &until, &[("main;idle", 5), ("main;work", 30)]).await;
    shows(
        &lens,
        "/api/profiles/cpu?label=region=eu",
        &[("main;idle", 5), ("main;work", 142), ("main;work;deep", 1)],
    )
    .await;
    assert!(
        stacks(&lens, "/api/profiles/cpu?label=region=us")
            .await
            .is_empty()
    );
    assert_eq!(lens.status("/api/profiles/heap").await, 404);
}

#[tokio::test]
async fn a_span_has_its_own_samples_only() {
    let lens = Lens::start().await;
    let now = now_ns();
    let first = [
        ("main;burn", 70, SPAN),
        ("main;burn", 30, "1111111111111111"),
        ("main", 9, ""),
    ];
    push_stacks(&lens, "api", CPU, now, &first).await;
    push_stacks(&lens, "api", CPU, now, &[("main;burn;deep", 2, SPAN)]).await;
    let of_span = format!("/api/profiles/cpu?profile_id={SPAN}");
    shows(&lens, &of_span, &[("main;burn", 70), ("main;burn;deep", 2)]).await;
    for (id, status) in [("2222222222222222", 404), ("nonsense", 400)] {
        let path = format!("/api/profiles/cpu?profile_id={id}");
        assert_eq!(lens.status(&path).await, status, "{id}");
    }
}

#[tokio::test]
async fn a_heap_is_shown_at_its_fullest_and_not_added_up() {
    let lens = Lens::start().await;
    let now = now_ns();
    for (ago_s, held) in [(30, 100), (20, 900), (10, 50)] {
        let stacks = [("main;hold", held, ""), ("main", 7, "")];
        push_stacks(&lens, "api", HEAP, now - ago_s * 1_000_000_000, &stacks).await;
    }
    let fullest = [("main", 7), ("main;hold", 900)];
    shows(&lens, "/api/profiles/heap", &fullest).await;
    let late = format!(
        "/api/profiles/heap?from_ms={}",
        (now - 9_000_000_000) / 1_000_000
    );
    shows(&lens, &late, &[("main", 7), ("main;hold", 50)]).await;
}

#[tokio::test]
async fn the_list_says_what_there_is() {
    let lens = Lens::start().await;
    let now = now_ns();
    for measure in [CPU, CPU, HEAP] {
        push_stacks(&lens, "api", measure, now, &[("main", 1, "")]).await;
    }
    assert_eq!(
        kinds(&lens).await,
        [("cpu".to_owned(), 2), ("heap".to_owned(), 1)]
    );
    let list: serde_json::Value = lens.json("/api/profiles").await;
    assert_eq!(list["profiles"][0]["labels"]["region"], "eu");
}

#[tokio::test]
async fn the_oldest_profiles_go() {
    let lens = Lens::start_with(|settings| settings.bounds.profiles.rows = 2).await;
    for value in 1..=4 {
        let stack = format!("main;f{value}");
        push_stacks(&lens, "api", CPU, now_ns(), &[(&stack, value, SPAN)]).await;
    }
    let kept = [("main;f3", 3), ("main;f4", 4)];
    shows(&lens, "/api/profiles/cpu", &kept).await;
}

#[tokio::test]
async fn a_bomb_inside_a_push_is_413() {
    let lens = Lens::start_with(|settings| settings.max_decoded_bytes = 100_000).await;
    let request = PushRequest {
        series: vec![RawProfileSeries {
            labels: vec![],
            samples: vec![RawSample {
                raw_profile: gzip(&vec![0; 5_000_000]),
                id: String::new(),
            }],
        }],
    };
    let body = request.encode_to_vec();
    let response = lens.post(PUSH, "application/proto", body).await;
    assert_eq!(response.status(), 413);
}

/// What Go's runtime writes of waiting for locks: a count, and the time, which is what is shown.
fn waiting(now: u64, value: i64) -> Profile {
    let mut profile = profile(("delay", "nanoseconds"), now, &[("main;lock", value, "")]);
    let next = profile.string_table.len() as i64;
    profile
        .string_table
        .extend(["contentions".to_owned(), "count".to_owned()]);
    profile.sample_type.insert(
        0,
        ValueType {
            r#type: next,
            unit: next + 1,
        },
    );
    profile.sample[0].value.insert(0, 3);
    profile
}

async fn kinds(lens: &Lens) -> Vec<(String, i64)> {
    let list: serde_json::Value = lens.json("/api/profiles").await;
    let entries = list["profiles"].as_array().expect("a list").iter();
    entries
        .map(|entry| {
            (
                entry["type"].as_str().expect("a type").to_owned(),
                entry["count"].as_i64().expect("a count"),
            )
        })
        .collect()
}

/// A form of these parts, as Go writes it.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in parts {
        let head = format!(
            "--b0\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--b0--\r\n");
    body
}

#[tokio::test]
async fn mutex_and_block_profiles_of_go_keep_apart() {
    let lens = Lens::start().await;
    let now = now_ns();
    // Newer clients name them by a label of the push.
    let series = ["mutex", "block"].map(|name| RawProfileSeries {
        labels: [("__name__", name), ("service_name", "go")]
            .map(|(name, value)| LabelPair {
                name: name.to_owned(),
                value: value.to_owned(),
            })
            .to_vec(),
        samples: vec![RawSample {
            raw_profile: gzip(&waiting(now, if name == "mutex" { 7 } else { 70 }).encode_to_vec()),
            id: String::new(),
        }],
    });
    let request = PushRequest {
        series: series.to_vec(),
    };
    let body = request.encode_to_vec();
    let response = lens.post(PUSH, "application/proto", body).await;
    assert_eq!(response.status(), 200);
    // Older ones say it in a part of the form, and what their types are called.
    for (name, value) in [("mutex", 100), ("block", 1000)] {
        let types = format!(
            r#"{{"contentions":{{"units":"lock_samples","display-name":"{name}_count"}},"delay":{{"units":"lock_nanoseconds","display-name":"{name}_duration"}}}}"#
        );
        let profile = gzip(&waiting(now, value).encode_to_vec());
        let body = form(&[
            ("profile", &profile),
            ("sample_type_config", types.as_bytes()),
        ]);
        let seconds = now / 1_000_000_000;
        let path = format!(
            "/ingest?name=go%7Bregion%3Deu%7D&from={}&until={seconds}&spyName=gospy&sampleRate=100&units=&aggregationType=",
            seconds - 10
        );
        let response = lens
            .post(&path, "multipart/form-data; boundary=b0", body)
            .await;
        assert_eq!(response.status(), 200);
    }
    for (kind, value) in [("mutex", 107), ("block", 1070)] {
        let path = format!("/api/profiles/{kind}?service=go");
        shows(&lens, &path, &[("main;lock", value)]).await;
    }
    assert_eq!(
        kinds(&lens).await,
        [("block", 1), ("block", 1), ("mutex", 1), ("mutex", 1)].map(|(k, n)| (k.to_owned(), n))
    );
    let page = lens.text("/profiles?type=mutex").await;
    assert!(page.contains("mutex") && page.contains("block"));
}

#[tokio::test]
async fn older_clients_send_pprof_bare_or_in_a_form() {
    let lens = Lens::start().await;
    let now = now_ns();
    let pprof = profile(CPU, now, &[("main;work", 5, ""), ("main", 2, "")]).encode_to_vec();
    let zipped = gzip(&pprof);
    let form_of = |content: &[u8]| form(&[("profile", content)]);
    let in_form = "multipart/form-data; boundary=\"b0\"";
    for (path, content_type, body) in [
        (
            "/ingest?name=old&format=pprof",
            "application/octet-stream",
            pprof.clone(),
        ),
        (
            "/ingest?name=old.cpu%7Bregion%3Deu%2Chost%3Da%7D&format=pprof",
            "",
            zipped.clone(),
        ),
        ("/ingest?name=old", in_form, form_of(&pprof)),
        ("/ingest?name=old&format=pprof", in_form, form_of(&zipped)),
    ] {
        let response = lens.post(path, content_type, body).await;
        assert_eq!(response.status(), 200, "{path} {content_type}");
    }
    let old = "/api/profiles/cpu?service=old";
    shows(&lens, old, &[("main", 8), ("main;work", 20)]).await;
    let of_host = format!("{old}&label=host%3Da");
    shows(&lens, &of_host, &[("main", 2), ("main;work", 5)]).await;
    // What is not taken says so, and which forms are.
    let started = br#"{"delay":{"cumulative":true,"display-name":"mutex_duration"}}"#;
    let since_start = form(&[
        ("profile", zipped.as_slice()),
        ("prev_profile", zipped.as_slice()),
        ("sample_type_config", started),
    ]);
    for (path, content_type, body, status, said) in [
        (
            "/ingest?name=java&format=jfr",
            "",
            b"FLR\0".to_vec(),
            415,
            "pprof and folded are",
        ),
        (
            "/ingest?name=ruby&format=trie",
            "",
            b"x".to_vec(),
            415,
            "pprof and folded are",
        ),
        (
            "/ingest?name=go",
            in_form,
            since_start,
            415,
            "newer clients",
        ),
        (
            "/ingest?name=go&format=pprof",
            "",
            b"not a profile".to_vec(),
            400,
            "not a pprof profile",
        ),
        (
            "/ingest?name=go&format=pprof",
            "",
            Vec::new(),
            400,
            "without a sample type",
        ),
    ] {
        let response = lens.post(path, content_type, body).await;
        assert_eq!(response.status(), status, "{path}");
        let text = response.text().await.expect("text");
        assert!(text.contains(said), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_name_that_is_not_utf_8_takes_nothing_with_it() {
    let lens = Lens::start().await;
    let bytes = profile(CPU, now_ns(), &[("main;caf@", 5, ""), ("main", 2, "")]).encode_to_vec();
    let bytes = bytes
        .into_iter()
        .map(|byte| if byte == b'@' { 0xe9 } else { byte })
        .collect();
    let response = lens.post("/ingest?name=c&format=pprof", "", bytes).await;
    assert_eq!(response.status(), 200);
    let expected = [("main", 2), ("main;caf?", 5)];
    shows(&lens, "/api/profiles/cpu?service=c", &expected).await;
}
