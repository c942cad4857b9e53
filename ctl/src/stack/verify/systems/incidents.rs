//! An incident is opened by a notification and ended by the next one of the same alert: by a webhook of our own, and by an alert that
//! goes the rules' way, through Alertmanager.

use serde_json::{Value, json};

use super::World;
use crate::http;
use crate::stack::send::sample::random_id;

const DESK: &str = "http://incidents:18095";
/// Where the rulers send theirs.
const ALERTMANAGER: &str = "http://nginx-query:19009/alertmanager/api/v2/alerts";

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
    let answer: Value = http::ask_json(world.client.post(url).json(&notice)).await?;
    match &answer["id"] {
        Value::Null => Err(format!("`{state}` led to no incident")),
        id => Ok(id.clone()),
    }
}

async fn expect(world: &World<'_>, id: &Value, state: &str) -> Result<(), String> {
    let url = format!("{DESK}/api/v1/alert_groups?state={state}");
    let answer: Value = http::ask_json(world.client.get(url)).await?;
    let listed = answer["results"].as_array().into_iter().flatten();
    if listed.into_iter().any(|incident| incident["id"] == *id) {
        return Ok(());
    }
    Err(format!(
        "incident {id} is not {state}: `make logs-incidents`"
    ))
}

/// An alert of this run, at Alertmanager. It ends by itself after 5 minutes, should nobody end it.
pub struct Raised {
    run: String,
}

impl Raised {
    pub async fn raise(world: &World<'_>) -> Result<Self, String> {
        let alert = Self {
            run: format!("verify-{}", random_id()),
        };
        post(world, &json!([alert.body()])).await?;
        Ok(alert)
    }

    fn body(&self) -> Value {
        json!({
            // One group for each run: it is grouped by both.
            "labels": { "alertname": "SignalboxVerify", "service_name": self.run, "severity": "ticket" },
            "annotations": { "summary": "raised and ended by make verify" },
        })
    }

    /// Alertmanager's notification has opened an incident, and somebody takes it on.
    pub async fn opened(
        world: &World<'_>,
        raised: &Result<Self, String>,
    ) -> Result<String, String> {
        let raised = raised.as_ref().map_err(Clone::clone)?;
        let Some(incident) = raised.incident(world).await? else {
            raised.known(world).await?;
            return Err(format!(
                "Alertmanager has the alert, the desk no incident of {}: mimir/alertmanager.yaml, `make logs-mimir-1`, `make logs-incidents`",
                raised.run
            ));
        };
        let id = &incident["id"];
        let url = format!("{DESK}/api/v1/alert_groups/{id}/acknowledge");
        let request = world.client.post(url).json(&json!({ "by": "make verify" }));
        let taken: Value = http::ask_json(request).await?;
        if taken["state"] != "acknowledged" || taken["acknowledged"]["by"] != "make verify" {
            return Err(format!("incident {id} is {}", taken["state"]));
        }
        Ok(format!("incident {id} of {}, acknowledged", raised.run))
    }

    /// Says that it is over, by Alertmanager's own clock.
    pub async fn end(world: &World<'_>, raised: &Result<Self, String>) -> Result<(), String> {
        let raised = raised.as_ref().map_err(Clone::clone)?;
        let known = raised.known(world).await?;
        post(world, &json!([raised.over(&known)])).await
    }

    fn over(&self, known: &Value) -> Value {
        let mut alert = self.body();
        alert["startsAt"] = known["startsAt"].clone();
        alert["endsAt"] = known["updatedAt"].clone();
        alert
    }

    /// Its end has closed the incident. Alertmanager tells of it at the group's next turn, which comes every 15 s.
    pub async fn closed(
        world: &World<'_>,
        raised: &Result<Self, String>,
        ended: &Result<(), String>,
    ) -> Result<String, String> {
        let raised = raised.as_ref().map_err(Clone::clone)?;
        ended.clone()?;
        let incident = raised.incident(world).await?.unwrap_or_default();
        let (id, state) = (&incident["id"], &incident["state"]);
        if *state != "resolved" || incident["resolved"]["by"] != "alert" {
            return Err(format!(
                "the alert is over, incident {id} is {state}: `make logs-mimir-1`, `make logs-incidents`"
            ));
        }
        Ok(format!("incident {id}, closed by the alert's end"))
    }

    /// The alert as Alertmanager shows it.
    async fn known(&self, world: &World<'_>) -> Result<Value, String> {
        let filter = format!(r#"service_name="{}""#, self.run);
        let request = world.client.get(ALERTMANAGER).query(&[("filter", filter)]);
        let alerts: Value = http::ask_json(request)
            .await
            .map_err(|reason| format!("Alertmanager: {reason}"))?;
        match &alerts[0] {
            Value::Null => Err(format!(
                "Alertmanager took the alert of {} and does not show it",
                self.run
            )),
            alert => Ok(alert.clone()),
        }
    }

    async fn incident(&self, world: &World<'_>) -> Result<Option<Value>, String> {
        let list: Value =
            http::ask_json(world.client.get(format!("{DESK}/api/v1/alert_groups"))).await?;
        Ok(self.own(&list))
    }

    /// The key of a group holds the labels that it is grouped by.
    fn own(&self, list: &Value) -> Option<Value> {
        let mut incidents = list["results"].as_array()?.iter();
        let own = |incident: &&Value| {
            let group = incident["group"].as_str();
            group.is_some_and(|group| group.contains(&self.run))
        };
        incidents.find(own).cloned()
    }
}

async fn post(world: &World<'_>, alerts: &Value) -> Result<(), String> {
    let answer = http::ask(world.client.post(ALERTMANAGER).json(alerts)).await;
    answer
        .map(drop)
        .map_err(|reason| format!("Alertmanager did not take the alert: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised() -> Raised {
        Raised {
            run: "verify-a1".into(),
        }
    }

    #[test]
    fn the_incident_of_the_run_is_found_by_its_group() {
        let incident = |id: u64, run: &str| json!({ "id": id, "group": format!("{{}}:{{alertname=\"SignalboxVerify\", service_name=\"{run}\"}}") });
        let list = json!({ "results": [incident(9, "verify-b2"), incident(8, "verify-a1")] });
        assert_eq!(raised().own(&list), Some(incident(8, "verify-a1")));
        assert_eq!(
            raised().own(&json!({ "results": [incident(9, "verify-b2")] })),
            None
        );
        assert_eq!(raised().own(&Value::Null), None);
    }

    #[test]
    fn the_end_is_of_the_same_alert() {
        let known = json!({ "startsAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:01.000Z", "endsAt": "later" });
        let over = raised().over(&known);
        assert_eq!(over["labels"], raised().body()["labels"]);
        assert_eq!(over["startsAt"], "2026-01-01T00:00:00.000Z");
        assert_eq!(over["endsAt"], "2026-01-01T00:00:01.000Z");
    }
}
