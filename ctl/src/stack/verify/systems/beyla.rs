//! Beyla counts, from the kernel, the requests that the service counts itself.

use super::World;
use crate::stack::verify::marked::COUNTED;

pub async fn counted(world: &World<'_>) -> Result<String, String> {
    let query = format!(
        r#"sum(http_server_request_duration_seconds_count{{service_name="signalbox-api-ebpf",http_route="/api",http_response_status_code="{}"}})"#,
        world.marked.status
    );
    // Its counters begin with its start, the service's with the service's: at least the marked ones are in both.
    match world.store.instant(&query, None).await?.first() {
        Some(count) if *count >= COUNTED => Ok(format!("{count} requests seen from the kernel")),
        other => Err(format!(
            "{query} returns {other:?}: `make logs-beyla`; it needs a kernel with probes"
        )),
    }
}
