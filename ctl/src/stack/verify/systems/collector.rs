//! The OpenTelemetry Collector delivers what it is given, and Jaeger has the very trace that Tempo has.

use serde_json::Value;

use super::World;
use crate::http;
use crate::stack::send::Kind;
use crate::stack::verify::hops::through;

/// A sample of ours, in at the Collector and out of Tempo.
pub async fn delivers(world: &World<'_>) -> Result<String, String> {
    through(
        world.client,
        world.client,
        Kind::Traces,
        world.way,
        ("otel-collector", "http://otel-collector:4318"),
        world.deadline,
    )
    .await
}

pub async fn in_jaeger(world: &World<'_>) -> Result<String, String> {
    let id = &world.marked.trace_id;
    let url = format!("http://jaeger:16686/api/traces/{id}");
    let answer: Value = http::ask_json(world.client.get(url)).await?;
    let spans = answer["data"][0]["spans"].as_array().map_or(0, Vec::len);
    let expected = world.store.trace(id).await?.len();
    if spans != expected || spans == 0 {
        return Err(format!(
            "{spans} spans in Jaeger, {expected} in Tempo: `make logs-otel-collector`"
        ));
    }
    Ok(format!("{spans} spans in Jaeger as in Tempo"))
}
