//! The marked request's order was written to MySQL (or MariaDB), and its exporter says that it is up.

use super::World;

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

pub async fn exported(world: &World<'_>) -> Result<String, String> {
    match world.store.instant("mysql_up", None).await?.as_slice() {
        [up] if *up == 1.0 => Ok("mysql_up is 1".into()),
        other => Err(format!("mysql_up is {other:?}: `make logs-alloy-mysql`")),
    }
}
