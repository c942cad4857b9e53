//! The drills on the real demo: begun, seen in the signals, answered wrongly and rightly, and gone when they are over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

#[expect(dead_code, reason = "each test program uses a part of it")]
mod support;

use support::{Demo, PATIENCE, folder, get, signalboxctl};

fn drill(demo: &Demo, data: &Path, arguments: &[&str]) -> Output {
    let drills = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../drills");
    signalboxctl()
        .args([
            "drill",
            "--url",
            &demo.service,
            "--viewer",
            &demo.viewer,
            "--drills",
        ])
        .arg(drills)
        .arg("--data-dir")
        .arg(data)
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Asks again and again until there is an answer.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn attribute(item: &Value, name: &str) -> String {
    let found = list(&item["attributes"])
        .iter()
        .find(|attribute| attribute["key"] == name);
    let value = found.map(|attribute| &attribute["value"]);
    let text = value.and_then(|value| value.as_object()?.values().next());
    text.map_or_else(String::new, |text| {
        text.as_str().map_or(text.to_string(), str::to_owned)
    })
}

/// Every record that the viewer's page of the walk-through shows.
fn records(demo: &Demo, query: &str) -> Vec<Value> {
    let answer = get(&format!("{}/api/logs?limit=1000&{query}", demo.viewer)).unwrap_or_default();
    let scopes = list(&answer["resourceLogs"])
        .iter()
        .flat_map(|resource| list(&resource["scopeLogs"]));
    scopes
        .flat_map(|scope| list(&scope["logRecords"]).to_vec())
        .collect()
}

/// Name and length in milliseconds of every span of the newest traces that pass the filter.
fn spans(demo: &Demo, query: &str) -> Vec<(String, u128)> {
    let answer = get(&format!("{}/api/traces?{query}", demo.viewer)).unwrap_or_default();
    let nanos = |value: &Value| {
        value
            .as_str()
            .and_then(|text| text.parse::<u128>().ok())
            .unwrap_or(0)
    };
    list(&answer["resourceSpans"])
        .iter()
        .flat_map(|resource| list(&resource["scopeSpans"]))
        .flat_map(|scope| list(&scope["spans"]))
        .map(|span| {
            let took = nanos(&span["endTimeUnixNano"]) - nanos(&span["startTimeUnixNano"]);
            (
                span["name"].as_str().unwrap_or_default().to_owned(),
                took / 1_000_000,
            )
        })
        .collect()
}

#[test]
fn the_impatient_client_is_found_by_its_request_ids() {
    let data = folder("impatient");
    let demo = Demo::start_in(&data, &[]);
    let begun = drill(&demo, &data, &["start", "2"]);
    assert!(begun.status.success(), "{}", said(&begun));
    assert!(
        said(&begun).contains("Which client's requests fail?"),
        "{}",
        said(&begun)
    );
    assert!(said(&drill(&demo, &data, &["start", "1"])).contains("drill 2 is on since"));

    // Client and tries of a call that is over: another one has begun since.
    let (client, attempts) = eventually("two whole calls are seen", || {
        let mut calls: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for record in records(&demo, "q=503&service=signalbox-api") {
            let client = attribute(&record, "signalbox.client.id");
            // The access log has one record of each try.
            let line = record["body"]["stringValue"].as_str().unwrap_or_default();
            if line.starts_with("GET /api 503") {
                let call = calls
                    .entry(attribute(&record, "signalbox.request.id"))
                    .or_default();
                *call = (call.0 + 1, client);
            }
        }
        let most = calls.values().map(|(count, _)| *count).max()?;
        let whole: Vec<_> = calls.values().filter(|(count, _)| *count == most).collect();
        let clients: BTreeSet<&String> = calls.values().map(|(_, client)| client).collect();
        (whole.len() >= 3 && clients.len() == 1).then(|| (whole[0].1.clone(), most))
    });
    assert!(
        ["11111", "22222", "33333"].contains(&client.as_str()),
        "{client}"
    );
    assert!([4, 6, 9].contains(&attempts), "{attempts}");

    let hint = said(&drill(&demo, &data, &["hint"]));
    assert!(hint.starts_with("hint 1 of 3: Which status"), "{hint}");
    let wrong = format!("client={client} status=500 attempts={attempts}");
    let refused = drill(&demo, &data, &["answer", &wrong]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("  status       wrong\n"),
        "{}",
        said(&refused)
    );
    let right = format!("client={client} status=503 attempts={attempts}");
    let solved = drill(&demo, &data, &["answer", &right]);
    assert!(solved.status.success(), "{}", said(&solved));
    assert!(
        said(&solved).contains("with 1 hints. The shortest way:"),
        "{}",
        said(&solved)
    );
    assert!(
        said(&solved).contains(&format!("{attempts} tries of one call")),
        "{}",
        said(&solved)
    );

    // After it nobody fails any more.
    let newest = || records(&demo, "q=503&service=signalbox-api&limit=1").len();
    let before = eventually("what was on its way has arrived", || {
        let count = newest();
        std::thread::sleep(Duration::from_secs(2));
        (newest() == count).then_some(count)
    });
    assert_eq!(newest(), before);
    let listed = said(&drill(&demo, &data, &["list"]));
    assert!(listed.contains(", 1 hints"), "{listed}");
    assert!(listed.contains("make drill-1 begins the first"), "{listed}");
}

#[test]
fn the_order_that_waits_is_found_by_the_span_that_waits_and_a_crash_heals() {
    let data = folder("waits");
    let demo = Demo::start_in(&data, &[]);
    let begun = drill(&demo, &data, &["start", "1"]);
    assert!(begun.status.success(), "{}", said(&begun));
    let longest = eventually("an order waited for the lock", || {
        let slow = spans(
            &demo,
            "service=signalbox-api&route=%2Fdemo%2Fwork&min_ms=1000&limit=1000",
        );
        let waits = slow
            .iter()
            .filter(|(name, took)| name == "UPDATE products" && *took > 1000);
        waits.map(|(_, took)| *took).max()
    });
    assert!(longest < 4500, "{longest} ms is more than the longest hold");
    // No signal says what was done to it.
    let telling = records(&demo, "")
        .into_iter()
        .map(|record| record.to_string().to_lowercase());
    let telling: Vec<String> = telling
        .filter(|text| ["drill", "inject"].iter().any(|word| text.contains(word)))
        .collect();
    assert_eq!(telling, Vec::<String>::new());

    // A player that is killed leaves nothing behind, and the next command says so.
    let pid = std::fs::read_to_string(data.join("drill/player.pid")).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the player is gone", || {
        said(&drill(&demo, &data, &["list"]))
            .contains("its player has ended")
            .then_some(())
    });
    let order = eventually("orders go through at once", || {
        get(&format!("{}/demo/work", demo.service))
    });
    assert!(
        order["order"]["id"].as_i64().is_some_and(|id| id > 0),
        "{order}"
    );
    let stopped = drill(&demo, &data, &["stop"]);
    assert!(
        said(&stopped).starts_with("drill 1 is over"),
        "{}",
        said(&stopped)
    );
    assert!(said(&drill(&demo, &data, &["stop"])).starts_with("no drill is on"));
}
