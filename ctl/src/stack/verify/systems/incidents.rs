//! An incident is opened by a notification and ended by the next one of the same alert.

use serde_json::{Value, json};

use super::World;
use crate::stack::send::sample::random_id;

const DESK: &str = "http://incidents:18095";

pub async fn life(world: &World<'_>) -> Result<String, String> {
    let run = random_id();
    let id = notify(world, &run, "alerting").await?;
    expect(world, &id, "firing").await?;
    notify(world, &run, "ok").await?;
    expect(world, &id, "resolved").await?;
    Ok(format!("incident {id}, opened and resolved by webhook"))
}

/// The id of the incident that it belongs to.
async fn notify(world: &World<'_>, run: &str, state: &str) -> Result<Value, String> {
    let url = format!("{DESK}/integrations/v1/formatted_webhook/verify/");
    let notice = json!({ "alert_uid": run, "title": "make verify", "state": state, "message": "opened and ended by make verify" });
    let answer = super::json(world.client.post(url).json(&notice)).await?;
    match &answer["id"] {
        Value::Null => Err(format!("`{state}` led to no incident")),
        id => Ok(id.clone()),
    }
}

async fn expect(world: &World<'_>, id: &Value, state: &str) -> Result<(), String> {
    let url = format!("{DESK}/api/v1/alert_groups?state={state}");
    let answer = super::json(world.client.get(url)).await?;
    let listed = answer["results"].as_array().into_iter().flatten();
    if listed.into_iter().any(|incident| incident["id"] == *id) {
        return Ok(());
    }
    Err(format!(
        "incident {id} is not {state}: `make logs-incidents`"
    ))
}
