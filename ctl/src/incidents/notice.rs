//! What alert sources send, in the two formats that OnCall's integrations take, and the one thing made of both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What tells groups and alerts apart may be this long, in bytes; longer it is refused, since a part of it could be another's.
pub const MAX_IDENTITY: usize = 4_096;
/// Every other text is kept up to this length, in characters.
const MAX_TEXT: usize = 1_000;

/// The text as it is kept.
pub fn kept(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// One notification: alerts of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What the source groups by: the same trouble has the same.
    pub group: String,
    pub title: String,
    pub alerts: Vec<Alert>,
}

/// One alert as last heard of.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Tells alerts of a group apart.
    pub fingerprint: String,
    pub name: String,
    pub firing: bool,
    pub severity: String,
    pub summary: String,
    pub description: String,
    /// Path of the dashboard that shows it, or a whole URL; may be empty.
    pub link: String,
}

/// Alertmanager's webhook: <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alertmanager {
    group_key: String,
    #[serde(default)]
    group_labels: BTreeMap<String, String>,
    alerts: Vec<AlertmanagerAlert>,
}

#[derive(Debug, Deserialize)]
struct AlertmanagerAlert {
    status: String,
    fingerprint: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl From<Alertmanager> for Notice {
    fn from(sent: Alertmanager) -> Self {
        let labels: Vec<&str> = sent
            .group_labels
            .values()
            .filter(|value| !value.is_empty())
            .map(String::as_str)
            .collect();
        Self {
            title: kept(labels.join(" · ")),
            group: sent.group_key,
            alerts: sent.alerts.into_iter().map(Alert::from).collect(),
        }
    }
}

impl From<AlertmanagerAlert> for Alert {
    fn from(mut sent: AlertmanagerAlert) -> Self {
        let mut label = |name| kept(sent.labels.remove(name).unwrap_or_default());
        let mut annotation = |name| kept(sent.annotations.remove(name).unwrap_or_default());
        Self {
            fingerprint: sent.fingerprint,
            firing: sent.status == "firing",
            name: label("alertname"),
            severity: label("severity"),
            summary: annotation("summary"),
            description: annotation("description"),
            link: annotation("dashboard"),
        }
    }
}

/// OnCall's formatted webhook, for sources that are no Alertmanager: <https://grafana.com/docs/oncall/latest/integrations/webhook/>.
#[derive(Debug, Deserialize)]
pub struct Formatted {
    alert_uid: String,
    title: String,
    /// `ok` ends it, anything else (`alerting`) begins it.
    #[serde(default)]
    state: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    link_to_upstream_details: String,
}

impl From<Formatted> for Notice {
    fn from(sent: Formatted) -> Self {
        Self {
            group: sent.alert_uid.clone(),
            title: kept(sent.title.clone()),
            alerts: vec![Alert {
                fingerprint: sent.alert_uid,
                firing: sent.state != "ok",
                summary: kept(sent.title),
                description: kept(sent.message),
                link: kept(sent.link_to_upstream_details),
                ..Alert::default()
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alertmanager_group_keeps_what_a_person_needs() {
        let sent = r#"{"version":"4","groupKey":"{}:{alertname=\"Slow\"}","status":"firing","receiver":"incident",
            "groupLabels":{"alertname":"Slow","service_name":"signalbox-api","job":""},
            "alerts":[{"status":"firing","fingerprint":"f1","labels":{"alertname":"Slow","severity":"page"},
                       "annotations":{"summary":"It is slow","dashboard":"/d/x"},"startsAt":"2026-01-01T00:00:00Z"},
                      {"status":"resolved","fingerprint":"f2"}]}"#;
        let notice = serde_json::from_str::<Alertmanager>(sent)
            .map(Notice::from)
            .expect("Alertmanager's format");
        assert_eq!(notice.title, "Slow · signalbox-api");
        assert_eq!(notice.group, r#"{}:{alertname="Slow"}"#);
        let first = &notice.alerts[0];
        assert_eq!(
            (first.name.as_str(), first.severity.as_str()),
            ("Slow", "page")
        );
        assert_eq!(
            (first.summary.as_str(), first.link.as_str()),
            ("It is slow", "/d/x")
        );
        assert_eq!(
            notice
                .alerts
                .iter()
                .map(|alert| alert.firing)
                .collect::<Vec<_>>(),
            [true, false]
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(kept("µ".repeat(MAX_TEXT)), "µ".repeat(MAX_TEXT));
        assert_eq!(kept("µ".repeat(MAX_TEXT + 1)), "µ".repeat(MAX_TEXT) + "…");
    }

    #[test]
    fn a_formatted_webhook_begins_and_ends_by_its_state() {
        let parse = |state: &str| {
            let sent = format!(
                r#"{{"alert_uid":"u1","title":"Disk full","state":"{state}","message":"95 %"}}"#
            );
            serde_json::from_str::<Formatted>(&sent)
                .map(Notice::from)
                .expect("OnCall's format")
        };
        assert_eq!(
            (
                parse("alerting").group.as_str(),
                parse("alerting").alerts[0].firing
            ),
            ("u1", true)
        );
        assert!(!parse("ok").alerts[0].firing);
    }
}
