//! How a wait fails: the service ends, is found unhealthy, or takes too long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Awaited;
use crate::engine::{Container, ContainerState, EngineError, HealthStatus};
use crate::plan::{Handover, Until};
use crate::session::error::SessionError;
use crate::session::tail::tail;

/// How often the engine is asked for its own verdict on a service's health.
const VERDICT_PAUSE: Duration = Duration::from_millis(500);
/// How often a container that ended is looked at, to see it started again.
const AGAIN: Duration = Duration::from_millis(50);
/// So many ends make a service that keeps exiting.
const ENDS: u32 = 3;

/// The waits under way that may still end well.
#[derive(Debug, Default)]
pub struct Pending(AtomicUsize);

impl Pending {
    fn enter(&self) -> PendingGuard<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        PendingGuard(Some(self))
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

struct PendingGuard<'a>(Option<&'a Pending>);

impl PendingGuard<'_> {
    fn leave(&mut self) {
        if let Some(pending) = self.0.take() {
            pending.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Awaited<'_> {
    /// Returns when the container has ended for good: with success if that is what is waited for, or if it is a
    /// one-shot service that succeeded. It is the keeper that starts it again where its `restart` says so.
    pub(super) async fn ended(&self, until: &Until) -> Result<(), SessionError> {
        let mut pending = self.pending.enter();
        let (mut ends, mut seen) = (0, None);
        loop {
            let code = self.engine.wait_container(self.container).await?;
            let found = self.engine.container(self.container).await?;
            let over = has_ended(found.as_ref());
            let finished = found.and_then(|found| found.finished_at);
            if !over && (finished.is_none() || finished == seen) {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            seen = finished;
            let again = self.restart.wants(code, ends);
            // A server that ends while its data is initialized has not completed.
            let may_complete = self.handover != Handover::Proven;
            if code == 0 && (*until == Until::Completed || (!again && may_complete)) {
                return Ok(());
            }
            ends += 1;
            if ends >= ENDS {
                pending.leave();
            }
            if !again && ends == 1 {
                return Err(self.exited(code).await);
            }
            // What it lacks may be a service that is not ready yet.
            if !again || (ends >= ENDS && !self.pending.any()) {
                return Err(self.keeps_exiting(code, ends).await);
            }
            if over {
                self.started_after(finished).await?;
            }
        }
    }

    /// Returns when the container runs again, or has ended once more, since it ended then.
    async fn started_after(&self, finished: Option<jiff::Timestamp>) -> Result<(), EngineError> {
        loop {
            tokio::time::sleep(AGAIN).await;
            let now = self.engine.container(self.container).await?;
            if now.is_none_or(|now| !has_ended(Some(&now)) || now.finished_at != finished) {
                return Ok(());
            }
        }
    }

    /// Returns when the engine's own verdict is that the container is not healthy, which it gives after the retries
    /// that the healthcheck allows. It says the same of one that has ended, which is no verdict.
    pub(super) async fn unhealthy(&self, until: &Until) -> Result<(), SessionError> {
        loop {
            tokio::time::sleep(VERDICT_PAUSE).await;
            let container = self.engine.container(self.container).await?;
            let running = container.filter(|container| container.state == ContainerState::Running);
            let health = running.and_then(|container| container.health);
            if let (Until::Ready { .. }, Some(health)) = (until, health)
                && health.status == HealthStatus::Unhealthy
            {
                return Err(SessionError::Unhealthy {
                    service: self.service.to_owned(),
                    last: health.log.last().map(|probe| probe.output.trim().to_owned()).unwrap_or_default(),
                    log: tail(&**self.engine, self.container).await,
                    waited_for_by: self.waited_for_by.clone(),
                    refused: self.prober.refused(self.service).await,
                });
            }
        }
    }

    async fn exited(&self, code: i64) -> SessionError {
        SessionError::Exited {
            service: self.service.to_owned(),
            code,
            log: tail(&**self.engine, self.container).await,
            waited_for_by: self.waited_for_by.clone(),
            refused: self.prober.refused(self.service).await,
        }
    }

    async fn keeps_exiting(&self, code: i64, times: u32) -> SessionError {
        SessionError::KeepsExiting {
            service: self.service.to_owned(),
            code,
            times,
            log: tail(&**self.engine, self.container).await,
            waited_for_by: self.waited_for_by.clone(),
            refused: self.prober.refused(self.service).await,
        }
    }

    pub(super) async fn not_ready(&self, after: Duration, says_so: bool, last: &str) -> SessionError {
        SessionError::NotReady {
            service: self.service.to_owned(),
            after,
            says_so,
            last: if last.is_empty() { "no answer".to_owned() } else { last.to_owned() },
            log: tail(&**self.engine, self.container).await,
            waited_for_by: self.waited_for_by.clone(),
            refused: self.prober.refused(self.service).await,
        }
    }
}

/// Whether a container that was looked for has no process any more.
fn has_ended(container: Option<&Container>) -> bool {
    container.is_none_or(|container| {
        matches!(container.state, ContainerState::Exited | ContainerState::Dead | ContainerState::Removing)
    })
}
