//! What the service writes on stdout comes to Loki beside what it sends: the marked request's records, with their ids.

use std::time::Duration;

use super::World;

const MINUTE: Duration = Duration::from_secs(60);

pub async fn read(world: &World<'_>) -> Result<String, String> {
    let marked = world.marked;
    let query = format!(
        r#"{{service_name="stdout/signalbox-api"}} | trace_id="{}""#,
        marked.trace_id
    );
    let records = world
        .store
        .logs(&query, marked.time - MINUTE, marked.time + 10 * MINUTE)
        .await?;
    let whole = records.iter().filter(|record| {
        let field = |name: &str| record.fields.get(name).map(String::as_str);
        field("signalbox_request_id") == Some(&marked.request_id)
            && field("span_id").is_some_and(|id| id.len() == 16)
    });
    match whole.count() {
        0 => Err(format!(
            "{query} finds {} records, none with span and request id: `make logs-alloy-containers`",
            records.len()
        )),
        count => Ok(format!(
            "{count} records of the request, with span and request id"
        )),
    }
}
