//! The drills on the real demo: begun, seen in the signals, answered wrongly and rightly, and gone when they are over.

mod shop;
mod signals;
#[expect(dead_code, reason = "each test program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use signals::{Healed, attribute, drill, eventually, records, said, spans};
use support::{Demo, folder, get};

#[test]
fn the_impatient_client_is_found_by_its_request_ids() {
    let data = folder("impatient");
    let demo = Demo::start_in(&data, &[]);
    let _healed = Healed(&demo, &data);
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
        for record in records(&demo.viewer, "q=503&service=signalbox-api") {
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
        said(&solved).contains("with 1 hint. The shortest way:"),
        "{}",
        said(&solved)
    );
    assert!(
        said(&solved).contains(&format!("{attempts} tries of one call")),
        "{}",
        said(&solved)
    );

    // After it nobody fails any more.
    let newest = || records(&demo.viewer, "q=503&service=signalbox-api&limit=1").len();
    let before = eventually("what was on its way has arrived", || {
        let count = newest();
        std::thread::sleep(Duration::from_secs(2));
        (newest() == count).then_some(count)
    });
    assert_eq!(newest(), before);
    let listed = said(&drill(&demo, &data, &["list"]));
    assert!(listed.contains(", 1 hint"), "{listed}");
    assert!(listed.contains("make drill-1 begins the first"), "{listed}");
}

#[test]
fn the_order_that_waits_is_found_by_the_span_that_waits_and_a_crash_heals() {
    let data = folder("waits");
    let demo = Demo::start_in(&data, &[]);
    let _healed = Healed(&demo, &data);
    let begun = drill(&demo, &data, &["start", "1"]);
    assert!(begun.status.success(), "{}", said(&begun));
    let longest = eventually("an order waited for the lock", || {
        let slow = spans(
            &demo.viewer,
            "service=signalbox-api&route=%2Fdemo%2Fwork&min_ms=1000&limit=1000",
        );
        let waits = slow
            .iter()
            .filter(|span| span.name == "UPDATE products" && span.ms > 1000);
        waits.map(|span| span.ms).max()
    });
    assert!(longest < 4500, "{longest} ms is more than the longest hold");
    // No signal says what was done to it.
    let telling = records(&demo.viewer, "")
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
