//! The real `signalboxctl incidents`: an incident's life, over a kill in the middle of it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A running receiver; killed when dropped.
struct Receiver {
    process: Child,
    url: String,
    client: reqwest::blocking::Client,
}

impl Receiver {
    fn start(file: &PathBuf) -> Self {
        // Before there is a process to clean up after. An error means that the other test was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::blocking::Client::new();
        let mut process = Command::new(env!("CARGO_BIN_EXE_signalboxctl"))
            .args(["incidents", "--listen", "127.0.0.1:0", "--file"])
            .arg(file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let url = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap()
            .to_owned();
        Self {
            process,
            url,
            client,
        }
    }

    fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let request = self.client.post(format!("{}{path}", self.url));
        let answer = request.json(body).send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    }

    /// Alertmanager's webhook about one group.
    fn alert(&self, group: &str, status: &str) -> u16 {
        let alert = json!({ "status": status, "fingerprint": "f1", "labels": { "alertname": "Slow", "severity": "page" } });
        let body = json!({ "version": "4", "groupKey": group, "groupLabels": { "alertname": "Slow" }, "alerts": [alert] });
        self.post("/alertmanager", &body).0
    }

    /// (id, state) of each incident, newest first.
    fn states(&self) -> Vec<(u64, String)> {
        let url = format!("{}/api/v1/alert_groups", self.url);
        let list: Value = self.client.get(url).send().unwrap().json().unwrap();
        let results = list["results"].as_array().unwrap();
        results
            .iter()
            .map(|incident| {
                let state = incident["state"].as_str().unwrap().to_owned();
                (incident["id"].as_u64().unwrap(), state)
            })
            .collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn file(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("incidents-{test}.json"));
    let _ = std::fs::remove_file(&path);
    path
}

fn state(id: u64, state: &str) -> (u64, String) {
    (id, state.to_owned())
}

#[test]
fn an_incident_outlives_the_receiver() {
    let file = file("life");
    let before = Receiver::start(&file);
    assert_eq!(before.alert("api", "firing"), 200);
    assert_eq!(before.alert("db", "firing"), 200);
    let ann = json!({ "by": "ann" });
    assert_eq!(
        before.post("/api/v1/alert_groups/1/acknowledge", &ann).0,
        200
    );
    drop(before); // SIGKILL

    let after = Receiver::start(&file);
    assert_eq!(
        after.states(),
        [state(2, "firing"), state(1, "acknowledged")]
    );
    assert_eq!(after.alert("api", "resolved"), 200);
    assert_eq!(after.post("/api/v1/alert_groups/2/resolve", &ann).0, 200);
    assert_eq!(after.states(), [state(2, "resolved"), state(1, "resolved")]);
    assert_eq!(after.alert("db", "firing"), 200);
    assert_eq!(after.states()[0], state(3, "firing"));
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let receiver = Receiver::start(&file("refused"));
    assert_eq!(
        receiver.post("/alertmanager", &json!({ "alerts": [] })).0,
        400
    );
    assert_eq!(
        receiver
            .post("/api/v1/alert_groups/9/resolve", &json!({}))
            .0,
        404
    );
    assert_eq!(receiver.alert("api", "firing"), 200);
    let url = format!("{}/api/v1/alert_groups/1/resolve", receiver.url);
    // What a form of another site could send.
    let form = receiver.client.post(url).body("by=mallory").send().unwrap();
    assert_eq!(form.status().as_u16(), 400);
    assert_eq!(receiver.states(), [state(1, "firing")]);
    assert_eq!(
        receiver
            .post("/api/v1/alert_groups/1/resolve", &json!({}))
            .0,
        200
    );
    let (status, text) = receiver.post("/api/v1/alert_groups/1/acknowledge", &json!({}));
    assert_eq!((status, text.as_str()), (409, "incident 1 is resolved"));
}
