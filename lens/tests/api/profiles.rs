use lens::pprof::{
    Label, LabelPair, Profile, PushRequest, RawProfileSeries, RawSample, Sample, ValueType,
};
use prost::Message;

use crate::support::{Lens, gzip, has, now_ns};

/// What pprof calls samples of processor time and of memory in use, and their units.
pub const CPU: (&str, &str) = ("cpu", "nanoseconds");
pub const HEAP: (&str, &str) = ("inuse_space", "bytes");

/// A profile of stacks, root first and separated by `;`, each with its value and the span it belongs to.
pub fn profile(measure: (&str, &str), time_ns: u64, stacks: &[(&str, i64, &str)]) -> Profile {
    let values: Vec<_> = stacks.iter().map(|stack| (stack.0, stack.1)).collect();
    let mut profile = Profile::of_stacks(measure, &values);
    profile.time_nanos = time_ns as i64;
    profile.duration_nanos = 10_000_000_000;
    for (sample, (.., span)) in profile.sample.iter_mut().zip(stacks) {
        let texts = ["profile_id", *span].map(str::to_owned);
        let key = profile.string_table.len() as i64;
        if !span.is_empty() {
            profile.string_table.extend(texts);
            let str = key + 1;
            sample.label = vec![Label { key, str, num: 0 }];
        }
    }
    profile
}

/// One pprof file with labels, as a part of a push.
fn series(labels: &[(&str, &str)], raw_profile: Vec<u8>) -> RawProfileSeries {
    let label = |(name, value): &(&str, &str)| LabelPair {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    let sample = RawSample {
        raw_profile,
        id: "1".to_owned(),
    };
    RawProfileSeries {
        labels: labels.iter().map(label).collect(),
        samples: vec![sample],
    }
}

/// The status of the answer to a push.
async fn pushed(lens: &Lens, series: Vec<RawProfileSeries>) -> u16 {
    let body = gzip(&PushRequest { series }.encode_to_vec());
    let response = lens.post_gzipped(PUSH, "application/proto", body).await;
    response.status().as_u16()
}

pub async fn push(lens: &Lens, service: &str, profile: &Profile, compressed: bool) {
    let plain = profile.encode_to_vec();
    let raw = if compressed { gzip(&plain) } else { plain };
    let labels = [
        ("__name__", "process_cpu"),
        ("service_name", service),
        ("region", "eu"),
    ];
    assert_eq!(pushed(lens, vec![series(&labels, raw)]).await, 200);
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

/// Asserts the stacks of an answer, root first, with their values and sorted.
pub async fn shows(lens: &Lens, path: &str, expected: &[(&str, i64)]) {
    let response = lens.get(path).await;
    assert_eq!(response.status(), 200, "{path}");
    let body = response.bytes().await.expect("a body");
    assert!(
        body.starts_with(&[0x1f, 0x8b]),
        "gzipped as pprof files are"
    );
    let profile = Profile::read(&body, 1_000_000).expect("a profile");
    let name = |id: &u64| {
        let location = profile.location.iter().find(|location| location.id == *id);
        let function = location.expect("a location").line[0].function_id;
        let function = profile.function.iter().find(|of| of.id == function);
        profile.text(function.expect("a function").name)
    };
    let stack = |sample: &Sample| {
        let names: Vec<&str> = sample.location_id.iter().rev().map(name).collect();
        (names.join(";"), sample.value[0])
    };
    let mut stacks: Vec<(String, i64)> = profile.sample.iter().map(stack).collect();
    stacks.sort();
    let stacks: Vec<_> = stacks.iter().map(|of| (of.0.as_str(), of.1)).collect();
    assert_eq!(stacks, expected, "{path}");
}

const SPAN: &str = "00f067aa0ba902b7";
pub const PUSH: &str = "/push.v1.PusherService/Push";

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
    shows(&lens, "/api/profiles/cpu?label=region=us", &[]).await;
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
    assert_eq!(kinds(&lens).await, "cpu 2, heap 1");
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
    let bomb = series(&[], gzip(&vec![0; 5_000_000]));
    assert_eq!(pushed(&lens, vec![bomb]).await, 413);
}

/// What Go's runtime writes of waiting for locks: a count, and the time, which is what is shown.
fn waiting(now: u64, value: i64) -> Profile {
    let mut profile = profile(("delay", "nanoseconds"), now, &[("main;lock", value, "")]);
    let next = profile.string_table.len() as i64;
    let texts = ["contentions", "count"].map(str::to_owned);
    profile.string_table.extend(texts);
    let (r#type, unit) = (next, next + 1);
    profile.sample_type.insert(0, ValueType { r#type, unit });
    profile.sample[0].value.insert(0, 3);
    profile
}

/// Types and counts of what is listed.
async fn kinds(lens: &Lens) -> String {
    let list: serde_json::Value = lens.json("/api/profiles").await;
    let entries = list["profiles"].as_array().expect("a list").iter();
    let kind = |entry: &serde_json::Value| {
        let kind = entry["type"].as_str().expect("a type");
        format!("{kind} {}", entry["count"])
    };
    entries.map(kind).collect::<Vec<_>>().join(", ")
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
    let named = |(name, value)| {
        let labels = [("__name__", name), ("service_name", "go")];
        series(&labels, waiting(now, value).encode_to_vec())
    };
    let both = [("mutex", 7), ("block", 70)].map(named);
    assert_eq!(pushed(&lens, both.to_vec()).await, 200);
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
        let status = lens.sent(&path, "multipart/form-data; boundary=b0", body);
        assert_eq!(status.await, 200);
    }
    for (kind, value) in [("mutex", 107), ("block", 1070)] {
        let path = format!("/api/profiles/{kind}?service=go");
        shows(&lens, &path, &[("main;lock", value)]).await;
    }
    assert_eq!(kinds(&lens).await, "block 1, block 1, mutex 1, mutex 1");
    let page = lens.text("/profiles?type=mutex").await;
    has(&page, &["mutex", "block"]);
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
        let status = lens.sent(path, content_type, body).await;
        assert_eq!(status, 200, "{path} {content_type}");
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
    for (format, content_type, body, status, said) in [
        ("jfr", "", &b"FLR\0"[..], 415, "pprof and folded are"),
        ("trie", "", b"x", 415, "pprof and folded are"),
        ("", in_form, &since_start, 415, "newer clients"),
        ("pprof", "", b"not a profile", 400, "not a pprof profile"),
        ("pprof", "", b"", 400, "without a sample type"),
    ] {
        let path = format!("/ingest?name=other&format={format}");
        let response = lens.post(&path, content_type, body.to_vec()).await;
        assert_eq!(response.status(), status, "{path}");
        has(&response.text().await.expect("text"), &[said]);
    }
}

#[tokio::test]
async fn a_name_that_is_not_utf_8_takes_nothing_with_it() {
    let lens = Lens::start().await;
    let bytes = profile(CPU, now_ns(), &[("main;caf@", 5, ""), ("main", 2, "")]).encode_to_vec();
    let latin = |byte| if byte == b'@' { 0xe9 } else { byte };
    let bytes = bytes.into_iter().map(latin).collect();
    let status = lens.sent("/ingest?name=c&format=pprof", "", bytes).await;
    assert_eq!(status, 200);
    let expected = [("main", 2), ("main;caf?", 5)];
    shows(&lens, "/api/profiles/cpu?service=c", &expected).await;
}
