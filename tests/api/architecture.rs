//! The invariants of the house, read from the sources.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            found.push((path, text));
        }
    }
    found
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Lines of code, without comments and without the tests below it.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// The lines under `root` that contain one of `words`, as `file: line`.
fn lines_with(root: &Path, words: &[&str], skip: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources(root) {
        let name = path
            .strip_prefix(source_root())
            .unwrap_or(&path)
            .display()
            .to_string();
        if skip.iter().any(|skipped| name.starts_with(skipped)) {
            continue;
        }
        let bad = code(&text).filter(|line| words.iter().any(|word| line.contains(word)));
        found.extend(bad.map(|line| format!("{name}: {}", line.trim())));
    }
    found
}

#[test]
fn only_settings_read_the_environment() {
    let words = ["env::var", "env::vars", "option_env!", "dotenv"];
    let lines = lines_with(&source_root(), &words, &["settings.rs"]);
    assert!(lines.is_empty(), "{lines:#?}");
}

#[test]
fn routes_and_deps_know_no_exporter() {
    for folder in ["routes", "deps"] {
        let words = [
            "opentelemetry",
            "tracing_opentelemetry",
            "pyroscope",
            "global::meter",
        ];
        let lines = lines_with(&source_root().join(folder), &words, &[]);
        assert!(lines.is_empty(), "{lines:#?}");
    }
}

#[test]
fn nothing_goes_back_up() {
    let deps = lines_with(
        &source_root().join("deps"),
        &["crate::routes", "crate::server"],
        &[],
    );
    assert!(deps.is_empty(), "deps know no route: {deps:#?}");
    let below = lines_with(
        &source_root(),
        &["crate::server", "crate::jobs"],
        &["server.rs", "main.rs", "routes/"],
    );
    assert!(below.is_empty(), "{below:#?}");
}

#[test]
fn attributes_of_our_own_metrics_are_declared_and_closed() {
    let closed = [
        "db.system.name",
        "db.namespace",
        "db.operation.name",
        "db.collection.name",
        "db.query.summary",
        "db.client.connection.pool.name",
        "db.client.connection.state",
        "server.address",
        "server.port",
        "error.type",
        "messaging.system",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.destination.name",
        "signalbox.cache.backend",
        "signalbox.cache.operation",
        "signalbox.cache.result",
        "signalbox.product.category",
        "signalbox.limit",
        "signalbox.fault.kind",
        "signalbox.dependency.name",
    ];
    for metric in signalbox::instruments::CATALOGUE {
        for attribute in metric.attributes {
            assert!(
                closed.contains(attribute),
                "{attribute} of {} is no closed set",
                metric.name
            );
        }
        assert!(
            !metric.help.is_empty() && !metric.unit.is_empty(),
            "{}",
            metric.name
        );
    }
}

#[test]
fn main_is_a_table_of_contents() {
    let main = fs::read_to_string(source_root().join("main.rs")).expect("text");
    assert!(main.lines().count() <= 60);
}

#[test]
fn nothing_in_production_panics_on_purpose() {
    let words = [
        ".unwrap()",
        ".expect(",
        "panic!(",
        "todo!(",
        "unimplemented!(",
        "dbg!(",
        "println!(",
    ];
    let lines = lines_with(&source_root(), &words, &["main.rs"]);
    let bad: Vec<_> = lines
        .iter()
        .filter(|line| !line.contains("eprintln!("))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
