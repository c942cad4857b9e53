//! The marked request's order was written to MySQL (or MariaDB), and its exporter counts another one.

use super::World;
use crate::stack::verify::hops::until;
use crate::stack::verify::marked::Marked;

/// Statements executed, by the server's own count.
const INSERTS: &str = r#"mysql_global_status_commands_total{command="insert"}"#;

pub async fn written(world: &World<'_>) -> Result<String, String> {
    let spans = world.store.trace(&world.marked.trace_id).await?;
    let insert = spans.iter().find(|span| span.name == "INSERT orders");
    let system = insert.and_then(|span| span.attributes.get("db.system.name"));
    match system.map(String::as_str) {
        Some(system @ ("mysql" | "mariadb")) => Ok(format!("INSERT orders into {system}")),
        other => Err(format!(
            "INSERT orders went into {other:?}: DATABASE_URL of signalbox-api"
        )),
    }
}

/// By an order of its own: the exporter is asked every 15 s, and may not have been yet when the marked one was written.
pub async fn exported(world: &World<'_>) -> Result<String, String> {
    let before = until(world.deadline, || inserts(world)).await?;
    Marked::follow_up(world.client, world.api, false).await?;
    until(world.deadline, || async move {
        let now = inserts(world).await?;
        if now <= before {
            return Err(format!(
                "{INSERTS} stays {now} over an order: `make logs-alloy-mysql`"
            ));
        }
        Ok(format!(
            "{} more INSERT counted since an order",
            now - before
        ))
    })
    .await
}

async fn inserts(world: &World<'_>) -> Result<f64, String> {
    match world.store.instant(INSERTS, None).await?.as_slice() {
        [count] => Ok(*count),
        other => Err(format!("{INSERTS} is {other:?}: `make logs-alloy-mysql`")),
    }
}
