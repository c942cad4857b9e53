//! What is known of incidents, and how each kind of event changes it. Knows neither files nor HTTP.

use serde::{Deserialize, Serialize};

use super::notice::{Alert, MAX_IDENTITY, Notice, kept};

/// Incidents kept. Beyond it the oldest resolved one is forgotten.
const MAX_INCIDENTS: usize = 500;
/// Bytes of all incidents as JSON, beyond which the same happens.
pub const MAX_BYTES: usize = 16 << 20;
/// Alerts kept of one incident.
const MAX_ALERTS: usize = 200;

/// The words of OnCall's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Firing,
    Acknowledged,
    Resolved,
}

/// Who did something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// A person's name, or `alert` where the alert went away by itself.
    pub by: String,
}

/// One trouble: all alerts that share a group, from the first until all are over or a person closes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    pub id: u64,
    pub group: String,
    pub title: String,
    pub state: State,
    pub created_at_ms: u64,
    pub acknowledged: Option<Mark>,
    pub resolved: Option<Mark>,
    pub alerts: Vec<Alert>,
    /// How often a notification added to it.
    pub notifications: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    pub last_id: u64,
    /// Oldest first.
    pub incidents: Vec<Incident>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no incident {0}")]
    Unknown(u64),
    #[error("incident {0} is resolved")]
    Resolved(u64),
    #[error("the book is full of unresolved incidents: close some first")]
    Full,
    #[error("what tells a group or an alert apart is longer than {MAX_IDENTITY} bytes")]
    TooLong,
}

impl Book {
    /// An alert source speaks. Returns the incident it changed; none if it is only the end of something unknown.
    pub fn notified(&mut self, notice: Notice, now_ms: u64) -> Result<Option<u64>, Refusal> {
        let identities = notice.alerts.iter().map(|alert| &alert.fingerprint);
        if identities
            .chain([&notice.group])
            .any(|id| id.len() > MAX_IDENTITY)
        {
            return Err(Refusal::TooLong);
        }
        let unresolved = |incident: &&mut Incident| {
            incident.group == notice.group && incident.state != State::Resolved
        };
        if let Some(incident) = self.incidents.iter_mut().rev().find(unresolved) {
            incident.add(notice, now_ms);
            return Ok(Some(incident.id));
        }
        if !notice.alerts.iter().any(|alert| alert.firing) {
            return Ok(None);
        }
        self.make_room()?;
        self.last_id += 1;
        let mut incident = Incident {
            id: self.last_id,
            group: notice.group.clone(),
            title: notice.title.clone(),
            state: State::Firing,
            created_at_ms: now_ms,
            acknowledged: None,
            resolved: None,
            alerts: Vec::new(),
            notifications: 0,
        };
        incident.add(notice, now_ms);
        self.incidents.push(incident);
        Ok(Some(self.last_id))
    }

    /// A person takes it on. Doing it twice keeps the first name.
    pub fn acknowledge(&mut self, id: u64, by: String, now_ms: u64) -> Result<&Incident, Refusal> {
        let incident = self.unresolved(id)?;
        if incident.acknowledged.is_none() {
            incident.state = State::Acknowledged;
            incident.acknowledged = Some(Mark {
                at_ms: now_ms,
                by: kept(by),
            });
        }
        Ok(incident)
    }

    /// A person closes it. If its alerts go on, the next notification opens another one.
    pub fn resolve(&mut self, id: u64, by: String, now_ms: u64) -> Result<&Incident, Refusal> {
        let incident = self.unresolved(id)?;
        incident.state = State::Resolved;
        incident.resolved = Some(Mark {
            at_ms: now_ms,
            by: kept(by),
        });
        Ok(incident)
    }

    fn unresolved(&mut self, id: u64) -> Result<&mut Incident, Refusal> {
        let found = self.incidents.iter_mut().find(|incident| incident.id == id);
        match found {
            None => Err(Refusal::Unknown(id)),
            Some(incident) if incident.state == State::Resolved => Err(Refusal::Resolved(id)),
            Some(incident) => Ok(incident),
        }
    }

    fn make_room(&mut self) -> Result<(), Refusal> {
        match self.incidents.len() < MAX_INCIDENTS {
            true => Ok(()),
            false => self.forget_one().map(drop),
        }
    }

    /// Forgets resolved incidents until the rest is at most `bytes` as JSON.
    pub fn shrink(&mut self, bytes: usize) -> Result<(), Refusal> {
        let size = |incident: &Incident| serde_json::to_vec(incident).map_or(0, |json| json.len());
        let mut all: usize = self.incidents.iter().map(size).sum();
        while all > bytes {
            all -= size(&self.forget_one()?);
        }
        Ok(())
    }

    /// The oldest resolved one.
    fn forget_one(&mut self) -> Result<Incident, Refusal> {
        let resolved = |incident: &Incident| incident.state == State::Resolved;
        let oldest = self
            .incidents
            .iter()
            .position(resolved)
            .ok_or(Refusal::Full)?;
        Ok(self.incidents.remove(oldest))
    }
}

impl Incident {
    fn add(&mut self, notice: Notice, now_ms: u64) {
        self.notifications += 1;
        for alert in notice.alerts {
            let same = |known: &Alert| known.fingerprint == alert.fingerprint;
            if let Some(place) = self.alerts.iter().position(same) {
                self.alerts[place] = alert;
            } else if self.alerts.len() < MAX_ALERTS {
                self.alerts.push(alert);
            }
        }
        if self.alerts.iter().all(|alert| !alert.firing) {
            self.state = State::Resolved;
            self.resolved = Some(Mark {
                at_ms: now_ms,
                by: "alert".into(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(group: &str, alerts: &[(&str, bool)]) -> Notice {
        Notice {
            group: group.into(),
            title: format!("trouble in {group}"),
            alerts: alerts
                .iter()
                .map(|&(fingerprint, firing)| Alert {
                    fingerprint: fingerprint.into(),
                    name: "Slow".into(),
                    firing,
                    ..Alert::default()
                })
                .collect(),
        }
    }

    fn state(book: &Book, id: u64) -> Option<State> {
        let found = book.incidents.iter().find(|incident| incident.id == id);
        found.map(|incident| incident.state)
    }

    #[test]
    fn alerts_of_one_group_are_one_incident_until_all_are_over() {
        let mut book = Book::default();
        assert_eq!(book.notified(notice("api", &[("a", true)]), 1), Ok(Some(1)));
        assert_eq!(
            book.notified(notice("api", &[("a", true), ("b", true)]), 2),
            Ok(Some(1))
        );
        assert_eq!(book.notified(notice("db", &[("c", true)]), 3), Ok(Some(2)));
        assert_eq!(
            book.notified(notice("api", &[("a", false)]), 4),
            Ok(Some(1))
        );
        assert_eq!(state(&book, 1), Some(State::Firing));
        assert_eq!(
            book.notified(notice("api", &[("b", false)]), 5),
            Ok(Some(1))
        );
        let first = &book.incidents[0];
        assert_eq!(
            (first.state, first.alerts.len(), first.notifications),
            (State::Resolved, 2, 4)
        );
        assert_eq!(
            first.resolved,
            Some(Mark {
                at_ms: 5,
                by: "alert".into()
            })
        );
        assert_eq!(state(&book, 2), Some(State::Firing));
    }

    #[test]
    fn what_comes_back_after_the_end_is_another_incident() {
        let mut book = Book::default();
        let _ = book.notified(notice("api", &[("a", true)]), 1);
        assert!(book.resolve(1, "ann".into(), 2).is_ok());
        assert_eq!(book.notified(notice("api", &[("a", true)]), 3), Ok(Some(2)));
        assert_eq!(book.notified(notice("gone", &[("x", false)]), 4), Ok(None));
    }

    #[test]
    fn who_acknowledged_first_is_remembered_and_a_closed_one_cannot_be() {
        let mut book = Book::default();
        let _ = book.notified(notice("api", &[("a", true)]), 1);
        assert!(book.acknowledge(1, "ann".into(), 2).is_ok());
        let again = book
            .acknowledge(1, "bob".into(), 3)
            .map(|incident| incident.acknowledged.clone());
        assert_eq!(
            again,
            Ok(Some(Mark {
                at_ms: 2,
                by: "ann".into()
            }))
        );
        assert_eq!(state(&book, 1), Some(State::Acknowledged));
        assert!(book.resolve(1, "ann".into(), 4).is_ok());
        assert_eq!(
            book.acknowledge(1, "bob".into(), 5),
            Err(Refusal::Resolved(1))
        );
        assert_eq!(book.resolve(7, "ann".into(), 6), Err(Refusal::Unknown(7)));
    }

    #[test]
    fn a_full_book_forgets_the_oldest_resolved_one_and_refuses_without_one() {
        let mut book = Book::default();
        for number in 0..MAX_INCIDENTS {
            assert!(
                book.notified(notice(&number.to_string(), &[("a", true)]), 1)
                    .is_ok()
            );
        }
        assert_eq!(
            book.notified(notice("more", &[("a", true)]), 2),
            Err(Refusal::Full)
        );
        assert!(book.resolve(3, "ann".into(), 3).is_ok());
        assert_eq!(
            book.notified(notice("more", &[("a", true)]), 4),
            Ok(Some(501))
        );
        assert_eq!(
            (book.incidents.len(), state(&book, 3)),
            (MAX_INCIDENTS, None)
        );
    }

    #[test]
    fn a_book_that_grows_too_large_forgets_resolved_incidents_and_no_other() {
        let mut book = Book::default();
        for group in ["one", "two", "three"] {
            let _ = book.notified(notice(group, &[("a", true)]), 1);
        }
        assert!(book.resolve(2, "ann".into(), 2).is_ok());
        let size = |book: &Book| serde_json::to_vec(&book.incidents).unwrap().len();
        let bytes = size(&book);
        assert_eq!(book.shrink(bytes), Ok(()));
        assert_eq!(book.incidents.len(), 3);
        assert_eq!(book.shrink(bytes * 2 / 3), Ok(()));
        let left: Vec<u64> = book.incidents.iter().map(|incident| incident.id).collect();
        assert_eq!(left, [1, 3]);
        assert_eq!(book.shrink(1), Err(Refusal::Full));
    }

    #[test]
    fn an_identity_that_is_too_long_is_refused_and_changes_nothing() {
        let mut book = Book::default();
        let long = "x".repeat(MAX_IDENTITY + 1);
        for notice in [
            notice(&long, &[("a", true)]),
            notice("api", &[(&long, true)]),
        ] {
            assert_eq!(book.notified(notice, 1), Err(Refusal::TooLong));
        }
        assert_eq!(book, Book::default());
    }
}
