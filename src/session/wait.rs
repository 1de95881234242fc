//! Waits until a service is where it should be, and tells meanwhile what it waits for.
//!
//! TCP and HTTP are tried from inside the sandbox by its gateway, every few ten milliseconds. A command costs about
//! 41 ms of a processor each time to start alone, so it is tried once a port answers (where one is known) and then at a
//! [`Pace`] at which it takes less than a tenth of a core.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use regex::bytes::Regex;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::SessionError;
use super::event::{Event, Events};
use super::meter::Meter;
use super::pace::Pace;
use super::probe::Prober;
use super::reading::{Found, Reading, read_on};
use super::tail::tail;
use crate::engine::{Container, ContainerState, Engine, EngineError, Exec, HealthStatus, LogOptions};
use crate::plan::Until;
use crate::spec::{Probe, RestartPolicy};

/// How often the engine is asked for its own verdict on a service's health.
const VERDICT_PAUSE: Duration = Duration::from_millis(500);
/// How long a port is waited for before a command is tried.
const PORT_FIRST: Duration = Duration::from_secs(10);
/// How long a service runs that has nothing by which to tell that it is ready, before it counts as started: what cannot
/// begin at all ends within it.
const SETTLED: Duration = Duration::from_millis(200);
/// How often a container that ended is looked at, to see it started again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long one try of a command may take: as long as the engine's own default for a healthcheck.
const LONGEST_TRY: Duration = Duration::from_secs(30);
/// What is kept of what a command writes, in bytes.
const TAIL: usize = 4 << 10;
/// How often the last answer is shown.
const TELL: Duration = Duration::from_millis(250);

/// A service's container that is waited for.
pub(super) struct Awaited<'a> {
    /// The engine.
    pub engine: &'a Arc<dyn Engine>,
    /// Tries ports from the inside.
    pub prober: &'a Prober,
    /// Where to tell.
    pub events: &'a Events,
    /// The service's name.
    pub service: &'a str,
    /// Its container.
    pub container: &'a str,
    /// What happens when it exits.
    pub restart: RestartPolicy,
    /// Services that wait for it.
    pub waited_for_by: Vec<String>,
    /// The longest that is waited, if the service itself does not say.
    pub patience: Duration,
}

impl Awaited<'_> {
    /// Waits.
    ///
    /// # Errors
    /// When the container ends (and is not to be started again), is not ready in time, or somebody asks to stop.
    pub(super) async fn until(&self, until: &Until, token: &CancellationToken) -> Result<(), SessionError> {
        let began = Instant::now();
        let (last, told) = watch::channel(String::new());
        let own = match until {
            Until::Ready { timeout, .. } => *timeout,
            Until::Running | Until::Completed => None,
        };
        let outcome = tokio::select! {
            biased;
            () = token.cancelled() => return Err(SessionError::Cancelled),
            outcome = self.reached(until, began, &last) => outcome,
            outcome = self.ended(until) => outcome,
            outcome = self.unhealthy(until) => outcome,
            () = self.tell(until, told.clone(), began) => Ok(()),
            () = tokio::time::sleep(own.unwrap_or(self.patience)) => {
                let last = told.borrow().clone();
                Err(self.not_ready(began.elapsed(), own.is_some(), &last).await)
            }
        };
        if outcome.is_ok() {
            self.events.emit(Event::Ready { service: self.service.to_owned(), after: began.elapsed() });
        }
        outcome
    }

    /// Never returns: tells what is waited for.
    async fn tell(&self, until: &Until, told: watch::Receiver<String>, began: Instant) {
        loop {
            let last = told.borrow().clone();
            self.events.emit(Event::Waiting {
                service: self.service.to_owned(),
                what: until.goal(),
                last: (!last.is_empty()).then_some(last),
                since: began.elapsed(),
            });
            tokio::time::sleep(TELL).await;
        }
    }

    async fn reached(
        &self,
        until: &Until,
        began: Instant,
        last: &watch::Sender<String>,
    ) -> Result<(), SessionError> {
        match until {
            Until::Completed => std::future::pending().await,
            Until::Running => self.running().await,
            Until::Ready { probe: Probe::Exec(command), after_port, .. } => {
                if let Some(port) = after_port {
                    self.port_first(*port, last).await?;
                }
                self.command(command, began, last).await
            }
            Until::Ready { probe: Probe::Log { pattern }, .. } => self.log(pattern, began, last).await,
            Until::Ready { probe, .. } => {
                self.prober.until_ready(self.service, self.container, probe, last).await
            }
        }
    }

    /// Waits for a port, but not for ever: an image may expose one on which nobody listens.
    async fn port_first(&self, port: u16, last: &watch::Sender<String>) -> Result<(), SessionError> {
        let probe = Probe::Tcp { port };
        let ready = self.prober.until_ready(self.service, self.container, &probe, last);
        tokio::time::timeout(PORT_FIRST, ready).await.unwrap_or(Ok(()))
    }

    /// Returns when the container runs and has not ended at once; one that did is looked at again, for it may have been
    /// started again since.
    async fn running(&self) -> Result<(), SessionError> {
        loop {
            let lived = self.lives().await?;
            tokio::time::sleep(SETTLED).await;
            if lived && self.lives().await? {
                return Ok(());
            }
        }
    }

    async fn lives(&self) -> Result<bool, EngineError> {
        let container = self.engine.container(self.container).await?;
        Ok(container.is_some_and(|container| container.state.is_alive()))
    }

    /// Returns when the container has ended for good: with success if that is what is waited for, or if it is a
    /// one-shot service that succeeded. It is the keeper that starts it again where its `restart` says so.
    async fn ended(&self, until: &Until) -> Result<(), SessionError> {
        let mut restarts = 0;
        loop {
            let code = self.engine.wait_container(self.container).await?;
            let ended = self.engine.container(self.container).await?;
            if !has_ended(ended.as_ref()) {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            if code == 0 && (*until == Until::Completed || !self.restart.wants(code, restarts)) {
                return Ok(());
            }
            let Some(ended) = ended.filter(|_| self.restart.wants(code, restarts)) else {
                return Err(self.exited(code).await);
            };
            restarts += 1;
            self.started_after(&ended).await?;
        }
    }

    /// Returns when the container runs again, or has ended once more, since it was seen to have ended.
    async fn started_after(&self, ended: &Container) -> Result<(), EngineError> {
        loop {
            tokio::time::sleep(AGAIN).await;
            let now = self.engine.container(self.container).await?;
            if now.is_none_or(|now| !has_ended(Some(&now)) || now.finished_at != ended.finished_at) {
                return Ok(());
            }
        }
    }

    /// Returns when the engine's own verdict is that the container is not healthy, which it gives after the retries
    /// that the healthcheck allows.
    async fn unhealthy(&self, until: &Until) -> Result<(), SessionError> {
        loop {
            tokio::time::sleep(VERDICT_PAUSE).await;
            let container = self.engine.container(self.container).await?;
            let health = container.and_then(|container| container.health);
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

    async fn not_ready(&self, after: Duration, says_so: bool, last: &str) -> SessionError {
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

    async fn command(
        &self,
        command: &[String],
        began: Instant,
        last: &watch::Sender<String>,
    ) -> Result<(), SessionError> {
        let (mut pace, mut meter) = (Pace::new(), Meter::new(&**self.engine, self.container));
        loop {
            let tried = Instant::now();
            let outcome = meter.during(timeout(LONGEST_TRY, self.try_command(command))).await;
            let (ended, took) = (Instant::now(), tried.elapsed());
            match outcome {
                Ok(Ok((0, _))) => return Ok(()),
                Ok(Ok((code, output))) => {
                    let output = output.lines().last().unwrap_or_default().trim().to_owned();
                    let words = if output.is_empty() { format!("exit code {code}") } else { output };
                    last.send_replace(words);
                }
                // The container is restarting, or has not quite started.
                Ok(Err(error)) => {
                    last.send_replace(error.to_string());
                }
                Err(_) => {
                    last.send_replace(format!("no answer within {} s", LONGEST_TRY.as_secs()));
                }
            }
            let cost = meter.cost(took).await;
            let pause = pace.pause_after(cost, ended.duration_since(began));
            meter.rest(pause.saturating_sub(ended.elapsed())).await;
        }
    }

    async fn try_command(&self, command: &[String]) -> Result<(i64, String), EngineError> {
        let exec = Exec::new(command.iter().cloned());
        let mut session = self.engine.exec(self.container, &exec).await?;
        let mut output = Vec::new();
        while let Some(chunk) = session.output.next().await {
            output.extend_from_slice(&chunk?.bytes);
            // Only the end is told.
            output.drain(..output.len().saturating_sub(TAIL));
        }
        let code = self.engine.exec_exit_code(&session.id).await?.unwrap_or(-1);
        Ok((code, String::from_utf8_lossy(&output).into_owned()))
    }

    async fn log(
        &self,
        pattern: &str,
        began: Instant,
        last: &watch::Sender<String>,
    ) -> Result<(), SessionError> {
        let regex = Regex::new(pattern).map_err(|error| SessionError::Data {
            what: format!("`{pattern}` is not a regular expression: {error}"),
            hint: None,
        })?;
        let mut reading = Reading::since(began);
        loop {
            // What an earlier run of the container wrote is no answer. The start of this one would not do: an engine
            // under load takes note of it later than of the first lines.
            let since =
                self.engine.container(self.container).await?.and_then(|container| container.finished_at);
            let options = LogOptions { follow: true, since, ..LogOptions::default() };
            let mut logs = self.engine.logs(self.container, &options).await?;
            let mut seen = Vec::new();
            while let Some(found) = reading.count(read_on(&mut logs, &mut seen, &regex, last)).await {
                if found? == Found::Match {
                    return Ok(());
                }
                reading.rest().await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whether a container that was looked for has no process any more.
fn has_ended(container: Option<&Container>) -> bool {
    container.is_none_or(|container| {
        matches!(container.state, ContainerState::Exited | ContainerState::Dead | ContainerState::Removing)
    })
}
