//! Every name that the real program emits stands in `telemetry-schema/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use signalbox::instruments::{CATALOGUE, Kind};

use crate::harness::App;

fn files() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("telemetry-schema");
    let folders = ["telemetry", "service"].map(|folder| root.join(folder));
    let entries = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("a directory"));
    let texts = entries.map(|entry| std::fs::read_to_string(entry.expect("an entry").path()));
    texts.collect::<Result<_, _>>().expect("text")
}

/// Names, apart by what they name: attributes; metrics and events.
#[derive(Debug, Default)]
struct Names {
    attributes: BTreeSet<String>,
    signals: BTreeSet<String>,
}

impl Names {
    /// All of the registry, ours and imported.
    fn of_registry() -> Self {
        let mut names = Self::default();
        for text in files() {
            let items = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("- "));
            for item in items {
                match item.split_once(": ") {
                    Some(("key" | "ref", name)) => names.attributes.insert(name.to_owned()),
                    Some(("name", name)) => names.signals.insert(name.to_owned()),
                    Some(_) => false,
                    None => names.signals.insert(item.to_owned()),
                };
            }
        }
        names
    }

    /// Adds those of an OTLP document: keys of attributes, names of metrics and of events, on spans and as records.
    fn add(&mut self, document: &Value) {
        match document {
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(members) => {
                if let Some(Value::String(key)) = members.get("key") {
                    self.attributes.insert(key.clone());
                }
                // Most records are no event.
                if let Some(Value::String(event)) = members.get("eventName")
                    && !event.is_empty()
                {
                    self.signals.insert(event.clone());
                }
                for (member, inner) in members {
                    if member == "metrics" || member == "events" {
                        let items = inner.as_array().into_iter().flatten();
                        let names = items.filter_map(|item| item["name"].as_str());
                        self.signals.extend(names.map(str::to_owned));
                    }
                    self.add(inner);
                }
            }
            _ => {}
        }
    }

    /// Fails with the names that the registry does not have.
    fn assert_known(&self) {
        let registry = Self::of_registry();
        let attributes: Vec<_> = self.attributes.difference(&registry.attributes).collect();
        let signals: Vec<_> = self.signals.difference(&registry.signals).collect();
        assert!(
            attributes.is_empty() && signals.is_empty(),
            "not in telemetry-schema/: attributes {attributes:#?}, metrics and events {signals:#?}"
        );
    }
}

/// Instrument and unit of each metric that the registry defines itself.
fn defined() -> BTreeMap<String, (String, String)> {
    let mut defined = BTreeMap::new();
    for text in files() {
        let mut name = None;
        let mut instrument = String::new();
        for line in text.lines() {
            let line = line.trim();
            if let Some(found) = line.strip_prefix("- name: ") {
                name = Some(found.to_owned());
            } else if let Some(found) = line.strip_prefix("instrument: ") {
                instrument = found.to_owned();
            } else if let (Some(unit), Some(name)) = (line.strip_prefix("unit: "), &name) {
                let unit = unit.trim_matches('"').to_owned();
                defined.insert(name.clone(), (instrument.clone(), unit));
            }
        }
    }
    defined
}

#[test]
fn our_own_metrics_are_defined_as_they_are_recorded() {
    let defined = defined();
    for metric in CATALOGUE
        .iter()
        .filter(|metric| metric.name.starts_with("signalbox."))
    {
        let instrument = match metric.kind {
            Kind::Counter => "counter",
            Kind::UpDownCounter => "updowncounter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let expected = Some((instrument.to_owned(), metric.unit.to_owned()));
        assert_eq!(
            defined.get(metric.name).cloned(),
            expected,
            "{}",
            metric.name
        );
    }
}

#[test]
fn the_catalogue_is_in_the_schema() {
    let attributes = CATALOGUE.iter().flat_map(|metric| metric.attributes);
    let names = Names {
        attributes: attributes.map(|name| (*name).to_owned()).collect(),
        signals: CATALOGUE
            .iter()
            .map(|metric| metric.name.to_owned())
            .collect(),
    };
    names.assert_known();
}

#[test]
fn what_the_program_emits_is_in_the_schema() {
    // Arrange
    let mut app = App::with(&[("SIGNALBOX_MAX_REQUESTS_PER_SECOND", "1000")]);
    let paths = [
        "/ping",
        "/api?sc=404&delay_ms=0",
        "/demo/logs?count=50",
        "/demo/work",
        "/demo/work",
        "/demo/work-error",
        "/demo/cpu?ms=1",
        "/demo/cpu-error?ms=1",
        "/demo/memory?mb=1&hold_ms=0",
        "/demo/memory-error?mb=1&hold_ms=0",
        "/nowhere",
        "/readyz",
        "/metrics",
        "/demo/memory?mb=0",
        "/ping?fault=latency_ms%3D1",
        "/ping?fault=leak_kb%3D1",
        "/ping?fault=slow_query_ms%3D1",
        "/ping?fault=lock_wait_ms%3D1",
        "/ping?fault=block_ms%3D1",
        "/ping?fault=error_rate%3D1",
    ];
    // Act
    for path in paths {
        app.get(path);
    }
    crate::harness::eventually("the jobs are done", || {
        let sent = app
            .worker
            .records()
            .iter()
            .filter(|record| record["message"] == "invoice sent")
            .count();
        (sent == 2).then_some(())
    });
    assert!(app.worker.stop().success());
    app.get("/demo/work");
    assert!(app.api.stop().success());
    // Assert
    let mut emitted = Names::default();
    for path in [
        "/api/traces?limit=1000",
        "/api/logs?limit=2000",
        "/api/metrics",
    ] {
        emitted.add(&app.lens.get(path).expect("a document"));
    }
    emitted.assert_known();
    for name in [
        "signalbox.order.id",
        "signalbox.fault.kind",
        "db.query.text",
    ] {
        assert!(emitted.attributes.contains(name), "{name} was emitted");
    }
    for name in [
        "exception",
        "messaging.process.duration",
        "signalbox.request",
    ] {
        assert!(emitted.signals.contains(name), "{name} was emitted");
    }
    declared_as_recorded(&app);
}

/// Every point of the catalogue's metrics carries attributes that the catalogue declares, and no other.
fn declared_as_recorded(app: &App) {
    let mut recorded = BTreeSet::new();
    for metric in CATALOGUE {
        let services = ["signalbox-api", "signalbox-worker"];
        for point in services
            .map(|service| app.lens.metric(service, metric.name))
            .concat()
        {
            recorded.insert(metric.name);
            for attribute in point.attributes.keys() {
                let declared = metric.attributes.contains(&attribute.as_str());
                assert!(declared, "{} is recorded with {attribute}", metric.name);
            }
        }
    }
    for name in [
        "db.client.operation.duration",
        "db.client.connection.count",
        "messaging.client.operation.duration",
        "messaging.process.duration",
    ] {
        assert!(recorded.contains(name), "{name} was recorded: {recorded:?}");
    }
}
