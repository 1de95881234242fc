//! Watches the services of a sandbox that is up: starts those again that their `restart` says, tells of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::watch;

use super::event::{AfterExit, Event, Events};
use super::tail::tail;
use super::wait::back_off;
use crate::engine::identity::{self, Role};
use crate::engine::{Engine, EngineEvent, Filter};
use crate::spec::{RestartPolicy, SandboxName, Spec};

/// What is watched.
pub(super) struct Supervised {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Where to tell.
    pub events: Events,
    /// The sandbox.
    pub name: SandboxName,
    /// Its spec, as it is now.
    pub spec: watch::Receiver<Arc<Spec>>,
}

/// What a container's end comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Restart,
    Rest,
}

impl Supervised {
    /// Watches until no service runs any more because all have ended by themselves. One that somebody stopped may be
    /// started again.
    pub(super) async fn until_all_have_ended(&self, since: Timestamp) {
        let filter = Filter::all()
            .label(identity::NAME, self.name.as_str())
            .label(identity::ROLE, Role::Service.as_str());
        let mut stopped: BTreeSet<String> = BTreeSet::new();
        let mut restarts: BTreeMap<String, u32> = BTreeMap::new();
        loop {
            if let Ok(mut stream) = self.engine.events(&filter, Some(since)).await {
                while let Some(Ok(event)) = stream.next().await {
                    match event.action.as_str() {
                        // The engine says `kill` before `die` when somebody stops a container on purpose.
                        "kill" | "stop" => drop(stopped.insert(event.name.clone())),
                        "start" => drop(stopped.remove(&event.name)),
                        "die" => self.ended(&event, &stopped, &mut restarts).await,
                        _ => continue,
                    }
                    let by_itself = event.action == "die" && !stopped.contains(&event.name);
                    if by_itself && !self.any_lives(&filter).await {
                        return;
                    }
                }
            }
            // The engine restarts: its containers may come back.
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            if self.engine.info().await.is_ok() && !self.any_lives(&filter).await {
                return;
            }
        }
    }

    async fn any_lives(&self, filter: &Filter) -> bool {
        match self.engine.containers(filter).await {
            Ok(containers) => containers.is_empty() || containers.iter().any(|one| one.state.is_alive()),
            Err(_) => true,
        }
    }

    async fn ended(
        &self,
        event: &EngineEvent,
        stopped: &BTreeSet<String>,
        restarts: &mut BTreeMap<String, u32>,
    ) {
        let Some(service) = event.attributes.get(identity::SERVICE) else { return };
        let code = event.attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(0);
        let count = restarts.entry(event.name.clone()).or_default();
        let policy =
            self.spec.borrow().services.get(service.as_str()).map(crate::spec::Service::restart_policy);
        let verdict = if stopped.contains(&event.name) {
            Verdict::Rest
        } else {
            verdict(&policy.unwrap_or_default(), code, *count)
        };
        // It may run already: the wait for its readiness starts it again as well.
        if self.runs(&event.name).await {
            return;
        }
        let then = match verdict {
            Verdict::Restart => AfterExit::Restarts,
            Verdict::Rest if stopped.contains(&event.name) => AfterExit::Stopped,
            Verdict::Rest if code == 0 => AfterExit::Completed,
            Verdict::Rest => AfterExit::Nothing,
        };
        self.tell(service, event, code, then).await;
        if verdict == Verdict::Restart {
            tokio::time::sleep(back_off(*count)).await;
            *count += 1;
            if let Err(error) = self.engine.start_container(&event.name).await {
                self.events.emit(Event::Warning { text: error.to_string(), hint: error.hint() });
            }
        }
    }

    async fn runs(&self, container: &str) -> bool {
        self.engine.container(container).await.ok().flatten().is_none_or(|found| found.state.is_alive())
    }

    async fn tell(&self, service: &str, event: &EngineEvent, code: i64, then: AfterExit) {
        let log = if code == 0 || then == AfterExit::Stopped {
            Vec::new()
        } else {
            tail(&*self.engine, &event.name).await
        };
        self.events.emit(Event::ServiceExited {
            service: service.to_owned(),
            code,
            log,
            waited_for_by: Vec::new(),
            then,
        });
    }
}

fn verdict(policy: &RestartPolicy, code: i64, restarts: u32) -> Verdict {
    let again = match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max } => code != 0 && max.is_none_or(|max| restarts < max),
    };
    if again { Verdict::Restart } else { Verdict::Rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_started_again_as_its_policy_says() {
        assert_eq!(verdict(&RestartPolicy::No, 1, 0), Verdict::Rest);
        assert_eq!(verdict(&RestartPolicy::Always, 0, 9), Verdict::Restart);
        assert_eq!(verdict(&RestartPolicy::OnFailure { max: Some(2) }, 1, 1), Verdict::Restart);
        assert_eq!(verdict(&RestartPolicy::OnFailure { max: Some(2) }, 1, 2), Verdict::Rest);
        assert_eq!(verdict(&RestartPolicy::OnFailure { max: None }, 0, 0), Verdict::Rest);
    }
}
