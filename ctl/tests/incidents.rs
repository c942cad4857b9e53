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

#[test]
fn a_page_that_rebinds_its_name_reads_and_closes_nothing() {
    let receiver = Receiver::start(&file("rebinding"));
    assert_eq!(receiver.alert("api", "firing"), 200);
    let list = format!("{}/api/v1/alert_groups", receiver.url);
    let close = format!("{}/api/v1/alert_groups/1/resolve", receiver.url);
    for host in ["evil.example", "127.0.0.1.evil.example:18095", "10.0.0.1"] {
        let read = receiver.client.get(&list).header("host", host);
        let closed = receiver.client.post(&close).header("host", host);
        for request in [read, closed.json(&json!({}))] {
            let answer = request.send().unwrap();
            assert_eq!(answer.status().as_u16(), 403, "{host}");
            assert!(answer.text().unwrap().contains("INCIDENTS_ALLOWED_HOSTS"));
        }
    }
    assert_eq!(receiver.states(), [state(1, "firing")]);
    let named = receiver.client.get(&list).header("host", "LocalHost:1");
    assert_eq!(named.send().unwrap().status().as_u16(), 200);
}

#[test]
fn head_is_answered_where_get_is_and_a_wrong_method_is_told_the_right_one() {
    let receiver = Receiver::start(&file("methods"));
    for path in [
        "/",
        "/page.js",
        "/page.css",
        "/healthz",
        "/api/v1/alert_groups",
    ] {
        let url = format!("{}{path}", receiver.url);
        let get = receiver.client.get(&url).send().unwrap();
        let head = receiver.client.head(&url).send().unwrap();
        assert_eq!(head.status(), get.status(), "{path}");
        assert_eq!(
            head.headers().get("content-length"),
            get.headers().get("content-length"),
            "{path}"
        );
        assert_eq!(head.text().unwrap(), "", "{path}");
        let delete = receiver.client.delete(&url).send().unwrap();
        assert_eq!(delete.status().as_u16(), 405, "{path}");
        assert_eq!(delete.headers()["allow"], "GET, HEAD", "{path}");
    }
    let url = format!("{}/alertmanager", receiver.url);
    let get = receiver.client.get(url).send().unwrap();
    assert_eq!(
        (get.status().as_u16(), &get.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
}

#[test]
fn what_is_nested_deep_or_too_large_is_refused_and_the_receiver_lives() {
    let receiver = Receiver::start(&file("deep"));
    let send = |body: String| {
        let request = receiver
            .client
            .post(format!("{}/alertmanager", receiver.url));
        let request = request
            .header("content-type", "application/json")
            .body(body);
        request.send().unwrap().status().as_u16()
    };
    for depth in [1_500, 400_000] {
        let nested = "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(send(nested.clone()), 400, "{depth}");
        assert_eq!(send(format!(r#"{{"alerts":{nested}}}"#)), 400, "{depth}");
        // A member that nobody knows is passed over, however deep it is.
        let unknown = format!(r#"{{"groupKey":"api","alerts":[],"unknown":{nested}}}"#);
        assert_eq!(send(unknown), 200, "{depth}");
    }
    let objects = r#"{"a":"#.repeat(100_000);
    assert_eq!(send(objects), 400);
    assert_eq!(send(" ".repeat((1 << 20) + 1)), 413);
    assert_eq!(receiver.states(), []);
}

#[test]
fn help_version_and_unknown_arguments_do_what_they_do_elsewhere() {
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signalboxctl"));
        // The help names the variables of URLs and does not show what they hold.
        command.env("SIGNALBOX_URL", "http://u:secret@host");
        command.env("SIGNALBOX_LOKI_URL", "http://u:secret@host");
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text, error)
    };
    let (code, text, _) = ask(&["--version"]);
    let version = concat!("signalboxctl ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((code, text.as_str()), (Some(0), version));
    for command in [
        "demo",
        "doctor",
        "drill",
        "incidents",
        "load",
        "probe",
        "send",
        "verify",
        "wait",
        "watch",
    ] {
        let (code, text, _) = ask(&[command, "--help"]);
        assert_eq!(code, Some(0), "{command}");
        assert!(
            text.contains(&format!("Usage: signalboxctl {command}")),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
        let (code, _, error) = ask(&[command, "--nonsense"]);
        assert_eq!(code, Some(2), "{command}");
        assert!(
            error.contains("unexpected argument '--nonsense'"),
            "{error}"
        );
    }
    let (code, _, error) = ask(&["nonsense"]);
    assert_eq!(code, Some(2));
    assert!(
        error.contains("unrecognized subcommand 'nonsense'"),
        "{error}"
    );
}
