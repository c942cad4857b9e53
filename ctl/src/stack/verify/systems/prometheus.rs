//! Prometheus asks the service for what it also pushes: the same count, both ways, and exemplars that lead to their traces.

use super::World;

pub async fn agree(world: &World<'_>) -> Result<String, String> {
    let status = world.marked.status;
    let pushed = world.store.counted(status).await?;
    let query = format!(
        r#"sum(http_server_request_duration_seconds_count{{job="signalbox-pull",pulled="signalbox-api",http_route="/api",http_response_status_code="{status}"}})"#
    );
    let pulled = world.store.instant(&query, None).await?;
    let pulled = pulled.first().copied().unwrap_or_default();
    if pulled != pushed || pushed == 0.0 {
        return Err(format!(
            "{pushed} requests with status {status} were pushed, {pulled} pulled: `make logs-prometheus`"
        ));
    }
    Ok(format!("{pushed} requests with status {status}, both ways"))
}

/// Prometheus keeps the exemplars of a converted histogram with the native series.
pub async fn exemplar(world: &World<'_>) -> Result<String, String> {
    let query = format!(
        r#"http_server_request_duration_seconds{{job="signalbox-pull",pulled="signalbox-api",http_response_status_code="{}"}}"#,
        world.marked.status
    );
    let exemplars = world.store.exemplars(&query, world.marked.time).await?;
    let id = exemplars.iter().find_map(|labels| labels.get("trace_id"));
    let id = id.ok_or_else(|| {
        format!("{query} has no exemplar with a trace_id: send_exemplars in systems/prometheus/prometheus.yml")
    })?;
    match world.store.trace(id).await?.len() {
        0 => Err(format!(
            "Tempo has no trace {id}, which an exemplar of {query} names"
        )),
        spans => Ok(format!(
            "a pulled exemplar leads to its trace of {spans} spans"
        )),
    }
}
