//! Translates the engine's events about our containers into the keeper's events.

use std::collections::BTreeSet;

use super::restart::Death;
use super::state::Event;
use crate::engine::identity::{self, Role, SandboxId};
use crate::engine::{EngineEvent, ObjectKind};

/// Translates the engine's events. It remembers which containers were asked to stop, because the engine reports a stop
/// only as a death, and which have a fault, because each start of such a container has to restore its fault.
#[derive(Debug, Default)]
pub struct Watch {
    stopped: BTreeSet<String>,
    faulty: BTreeSet<String>,
}

impl Watch {
    /// Starts with these containers known to have faults.
    pub fn with_faults_of(faulty: impl IntoIterator<Item = String>) -> Self {
        Self { faulty: faulty.into_iter().collect(), ..Self::default() }
    }

    /// Returns what an event of the engine means to the keeper, if anything.
    pub fn event(&mut self, event: &EngineEvent) -> Option<Event> {
        if event.object != ObjectKind::Container {
            return None;
        }
        let sandbox: SandboxId = event.attributes.get(identity::ID)?.parse().ok()?;
        match event.action.as_str() {
            "create" => {
                if event.attributes.get(identity::ROLE).is_some_and(|role| role == Role::Fault.as_str()) {
                    self.faulty.extend(event.attributes.get(identity::FAULT_OF).cloned());
                }
                Some(Event::Appeared(sandbox))
            }
            "start" => {
                self.stopped.remove(&event.id);
                let faulty = self.faulty.contains(&event.name);
                Some(Event::Started { sandbox, container: event.name.clone(), faulty })
            }
            "kill" => {
                if event.attributes.get("signal").is_none_or(|it| ends_a_process(it)) {
                    self.stopped.insert(event.id.clone());
                }
                None
            }
            "oom" => {
                let name = event.attributes.get(identity::SERVICE).map(|_| event.name.clone())?;
                Some(Event::Starved(sandbox, name, event.id.clone()))
            }
            // This event follows the death, and reports a stop by the container's own stop signal.
            "stop" => Some(Event::Stopped(event.name.clone())),
            "destroy" => {
                self.stopped.remove(&event.id);
                Some(Event::Removed(event.name.clone()))
            }
            "die" => {
                let stopped = self.stopped.contains(&event.id);
                let service = event.attributes.get(identity::SERVICE)?.clone();
                // A policy that cannot be parsed comes from another version: the container is not restarted.
                let written = event.attributes.get(identity::RESTART).and_then(|it| it.parse().ok());
                let policy = written.unwrap_or_default();
                let code = event.attributes.get("exitCode").and_then(|it| it.parse().ok()).unwrap_or(-1);
                let container = event.name.clone();
                Some(Event::Died(Death { sandbox, service, container, code, policy, stopped }))
            }
            _ => None,
        }
    }
}

/// Whether this signal (INT, QUIT, KILL, TERM) is meant to end the process.
fn ends_a_process(signal: &str) -> bool {
    matches!(signal, "2" | "3" | "9" | "15")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, name: &str, labels: &[(&str, &str)]) -> EngineEvent {
        let id = [(identity::ID, "0123456789ab")];
        let attributes =
            labels.iter().chain(&id).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        EngineEvent {
            object: ObjectKind::Container,
            action: action.to_owned(),
            id: name.to_owned(),
            name: name.to_owned(),
            attributes: attributes.collect(),
            time: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_service_that_has_a_fault_is_told_apart_when_it_starts() {
        let mut watch = Watch::default();
        let started = event("start", "sbx-a.db", &[]);
        let has_fault = |event: Option<Event>| match event {
            Some(Event::Started { faulty, .. }) => faulty,
            other => panic!("{other:?}"),
        };
        assert!(!has_fault(watch.event(&started)));
        let labels = [(identity::ROLE, "fault"), (identity::FAULT_OF, "sbx-a.db")];
        let _ = watch.event(&event("create", "sbx-a..db.fault", &labels));
        assert!(has_fault(watch.event(&started)));
        assert!(!has_fault(watch.event(&event("start", "sbx-a.web", &[]))));
    }
}
