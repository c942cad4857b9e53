//! The contract: as committed, complete, and true.

use std::collections::BTreeSet;
use std::path::Path;

use signalbox::routes::openapi::{ApiDocument, WorkerDocument, text};
use utoipa::OpenApi;

/// Compares a document with its committed copy. `UPDATE_SNAPSHOTS=1` writes it anew; then look at the difference.
fn assert_committed(file: &str, document: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/api/snapshots")
        .join(file);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, format!("{document}\n")).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        document,
        committed.trim_end(),
        "{file} changed: UPDATE_SNAPSHOTS=1 cargo test --test api openapi"
    );
}

#[test]
fn the_contract_is_the_committed_one() {
    assert_committed("openapi.json", &text(&ApiDocument::openapi()));
    assert_committed("openapi-worker.json", &text(&WorkerDocument::openapi()));
}

#[test]
fn every_operation_declares_what_can_go_wrong() {
    for document in [ApiDocument::openapi(), WorkerDocument::openapi()] {
        let document = serde_json::to_value(document).expect("JSON");
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                assert!(
                    operation["responses"].get("408").is_some(),
                    "{method} {path}"
                );
                for status in ["400", "405", "413", "414", "431", "500", "503", "504"] {
                    let content = &operation["responses"][status]["content"];
                    assert!(
                        content.get("application/problem+json").is_some(),
                        "{method} {path} {status}"
                    );
                }
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    // The HTTP library's own answer, which no code of the service makes.
                    assert_eq!(
                        response["headers"].get("x-request-id").is_some(),
                        status != "408",
                        "{method} {path} {status}"
                    );
                }
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    assert!(
                        parameter["description"].is_string(),
                        "{path} {}",
                        parameter["name"]
                    );
                }
            }
        }
    }
}

#[test]
fn every_route_of_the_api_is_declared() {
    // Assets and pages are for browsers; the rest is the contract.
    let undeclared = [
        "/",
        "/console.css",
        "/console.js",
        "/console/faro/{file}",
        "/docs/{file:.*}",
        "/openapi.json",
    ];
    let source = include_str!("../../src/routes/mod.rs");
    let routes: BTreeSet<&str> = source
        .split(['"'])
        .filter(|part| part.starts_with('/') && !part.contains('\n') && !part.contains(' '))
        .filter(|path| !undeclared.contains(path))
        .collect();
    let declared: BTreeSet<String> = [ApiDocument::openapi(), WorkerDocument::openapi()]
        .into_iter()
        .flat_map(|document| document.paths.paths.into_keys())
        .collect();
    let declared: BTreeSet<&str> = declared.iter().map(String::as_str).collect();
    assert_eq!(routes, declared);
}
