//! Prometheus asks the service for what it also pushes: the same count, both ways.

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
