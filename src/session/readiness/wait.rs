//! Waits until a service is ready, and reports what it waits for.
//!
//! The gateway probes TCP and HTTP from inside the sandbox, every few tens of milliseconds. A command costs far more,
//! so it runs once a port answers (if one is known) and then with growing pauses. A success while the image's
//! entrypoint still initializes the data comes from a temporary server, and does not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use regex::bytes::Regex;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, LogReader};
use super::backoff::Backoff;
use super::gateway_probe::GatewayProber;
use super::log_tail::tail;
use super::takeover::entrypoint_runs;
use crate::bind_check;
use crate::engine::{Container, ContainerState, Engine, EngineError, HealthStatus, LogOptions};
use crate::plan::{Handover, Until};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::spec::{Probe, RestartPolicy};

/// How often to ask the engine for a service's health.
const VERDICT_PAUSE: Duration = Duration::from_millis(500);
/// A service without any readiness condition counts as started after running this long; a service that cannot start
/// exits sooner.
const SETTLED: Duration = Duration::from_millis(200);
/// The same for a service that would be restarted: it must not be mistaken for running between two exits.
const SETTLED_IF_RESTARTED: Duration = Duration::from_secs(1);
/// How long to wait for a port that will probably open.
const OPENS_WITHIN: Duration = Duration::from_secs(10);
/// How long an entrypoint may run before it counts as one that no server replaces.
const ENTRYPOINT_WITHIN: Duration = Duration::from_mins(1);
/// How often to check whether an entrypoint still runs.
const ENTRYPOINT_PAUSE: Duration = Duration::from_millis(500);
/// How long an open port may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// How long a service that would be restarted must have run when its probe succeeds.
const OUTLIVES_ITS_PROBE: Duration = Duration::from_millis(500);
/// How often to check whether a container that exited was restarted.
const AGAIN: Duration = Duration::from_millis(50);
/// A service keeps exiting if it has exited this many times.
const ENDS: u32 = 3;
/// Timeout of one attempt of a command: the engine's default for a healthcheck.
const LONGEST_TRY: Duration = Duration::from_secs(30);
/// How often to report the last result.
const TELL: Duration = Duration::from_millis(250);

/// A wait for one service's container.
pub(crate) struct ReadinessWait<'a> {
    pub engine: &'a Arc<dyn Engine>,
    /// Probes ports from inside the sandbox.
    pub prober: &'a GatewayProber,
    pub events: &'a Events,
    pub service: &'a str,
    pub container: &'a str,
    /// The service's restart policy.
    pub restart: RestartPolicy,
    /// How certain it must be that the real server has replaced the image's entrypoint.
    pub handover: Handover,
    /// Services that wait for this one.
    pub waited_for_by: Vec<String>,
    /// The longest time to wait, if the service itself sets no timeout.
    pub patience: Duration,
    /// The number of services of the plan that are awaited and do not keep exiting.
    pub pending: &'a Pending,
}

/// The number of waits in progress that may still succeed.
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

impl ReadinessWait<'_> {
    /// Waits until the condition holds.
    ///
    /// # Errors
    /// Fails if the container exits (and is not restarted), if it is not ready in time, or if the token is cancelled.
    pub(crate) async fn until(&self, until: &Until, token: &CancellationToken) -> Result<(), SessionError> {
        let began = Instant::now();
        let (last, told) = watch::channel(String::new());
        let own = match until {
            Until::Ready { timeout, .. } => *timeout,
            Until::Running { .. } | Until::Completed => None,
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

    /// Reports what is awaited. Never returns.
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
        if self.handover == Handover::Proven {
            last.send_replace("its entrypoint initializes the data".to_owned());
            while self.entrypoint_runs().await {
                tokio::time::sleep(ENTRYPOINT_PAUSE).await;
            }
        }
        match until {
            Until::Completed => std::future::pending().await,
            Until::Running { ports } => {
                if !self.ports_open(ports, last).await? {
                    self.running().await?;
                    self.initialized(began).await;
                }
                Ok(())
            }
            Until::Ready { probe: Probe::None, .. } => self.running().await,
            Until::Ready { probe, after_port, .. } => loop {
                self.probed(probe, *after_port, began, last).await?;
                if self.outlives_its_probe().await? {
                    return Ok(());
                }
            },
        }
    }

    /// Returns when a probe succeeds.
    async fn probed(
        &self,
        probe: &Probe,
        after_port: Option<u16>,
        began: Instant,
        last: &watch::Sender<String>,
    ) -> Result<(), SessionError> {
        match probe {
            Probe::Exec(command) => self.command(command, after_port, began, last).await,
            Probe::Log { pattern } => self.log(pattern, began, last).await,
            probe => self.prober.until_ready(self.service, self.container, probe, last).await,
        }
    }

    /// Whether a service that would be restarted still runs a moment after its start: a probe can succeed just before a
    /// service exits.
    async fn outlives_its_probe(&self) -> Result<bool, SessionError> {
        if self.restart == RestartPolicy::No {
            return Ok(true);
        }
        let Some(started) = self.running_since().await? else { return Ok(false) };
        let age = started.and_then(|it| Duration::try_from(jiff::Timestamp::now().duration_since(it)).ok());
        let rest = OUTLIVES_ITS_PROBE.saturating_sub(age.unwrap_or_default());
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        Ok(self.running_since().await? == Some(started))
    }

    /// Whether the image's entrypoint has not been replaced by its server yet. True if the processes cannot be listed:
    /// the container does not run yet, or no longer.
    async fn entrypoint_runs(&self) -> bool {
        self.engine.processes(self.container).await.map_or(true, |lines| entrypoint_runs(&lines))
    }

    /// Whether a server may still replace an entrypoint that runs.
    fn may_hand_over(&self, began: Instant) -> bool {
        self.handover != Handover::Expected || began.elapsed() < ENTRYPOINT_WITHIN
    }

    /// Returns when the server has replaced the entrypoint, or never will.
    async fn taken_over(&self, began: Instant) {
        while self.may_hand_over(began) {
            tokio::time::sleep(ENTRYPOINT_PAUSE).await;
            if !self.entrypoint_runs().await {
                return;
            }
        }
    }

    /// Waits for the entrypoint where data is about to be published and no port shows when the server runs.
    async fn initialized(&self, began: Instant) {
        let required = self.handover == Handover::Required;
        while required && began.elapsed() < ENTRYPOINT_WITHIN && self.entrypoint_runs().await {
            tokio::time::sleep(ENTRYPOINT_PAUSE).await;
        }
    }

    /// Waits a limited time until one of the ports accepts, and returns whether one does.
    async fn ports_open(&self, ports: &[u16], last: &watch::Sender<String>) -> Result<bool, SessionError> {
        if ports.is_empty() {
            return Ok(false);
        }
        let began = Instant::now();
        let probes: Vec<Probe> = ports.iter().map(|port| Probe::Tcp { port: *port }).collect();
        let tries = probes
            .iter()
            .map(|probe| Box::pin(self.prober.until_ready(self.service, self.container, probe, last)));
        tokio::select! {
            (outcome, _, _) = select_all(tries) => outcome.map(|()| true),
            () = async {
                tokio::time::sleep(OPENS_WITHIN).await;
                self.taken_over(began).await;
            } => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                let text = format!(
                    "`{}` runs, but accepts no connection on port {} after {} s; it counts as ready",
                    self.service,
                    ports.join(" or "),
                    began.elapsed().as_secs(),
                );
                let hint = "`ready: none` ends this wait, `ready: { tcp: PORT }` makes it a condition";
                self.events.emit(Event::Warning { text, hint: Some(hint.to_owned()) });
                Ok(false)
            }
        }
    }

    /// Returns when the container has run for a moment without a restart.
    async fn running(&self) -> Result<(), SessionError> {
        let settled = if self.restart == RestartPolicy::No { SETTLED } else { SETTLED_IF_RESTARTED };
        loop {
            let before = self.running_since().await?;
            tokio::time::sleep(settled).await;
            if before.is_some() && self.running_since().await? == before {
                return Ok(());
            }
        }
    }

    /// When the container was started, if it runs.
    async fn running_since(&self) -> Result<Option<Option<jiff::Timestamp>>, EngineError> {
        let container = self.engine.container(self.container).await?;
        Ok(container.filter(|it| it.state.is_alive()).map(|it| it.started_at))
    }

    /// Returns when the container has exited for good: `Ok` if that is the condition, or if it is a one-shot service
    /// that succeeded. The keeper restarts it if its `restart` says so.
    async fn ended(&self, until: &Until) -> Result<(), SessionError> {
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
            // A server that exits while its data is initialized has not completed.
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
            // It may depend on a service that is not ready yet.
            if !again || (ends >= ENDS && !self.pending.any()) {
                return Err(self.keeps_exiting(code, ends).await);
            }
            if over {
                self.started_after(finished).await?;
            }
        }
    }

    /// Returns when the container runs again, or has exited again, since it exited at that time. Fails if the keeper
    /// refuses to start it again, because a service replaced part of a bind's source with a link.
    async fn started_after(&self, finished: Option<jiff::Timestamp>) -> Result<(), EngineError> {
        let mut checked = Instant::now();
        loop {
            tokio::time::sleep(AGAIN).await;
            if checked.elapsed() >= VERDICT_PAUSE {
                bind_check::check(&**self.engine, self.container).await?;
                checked = Instant::now();
            }
            let now = self.engine.container(self.container).await?;
            if now.is_none_or(|now| !has_ended(Some(&now)) || now.finished_at != finished) {
                return Ok(());
            }
        }
    }

    /// Returns when the engine reports the container as unhealthy, after the retries of its healthcheck. The engine
    /// also reports this for a container that has exited, which does not count.
    async fn unhealthy(&self, until: &Until) -> Result<(), SessionError> {
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
        after_port: Option<u16>,
        began: Instant,
        last: &watch::Sender<String>,
    ) -> Result<(), SessionError> {
        let open = match after_port {
            Some(port) => self.port_first(port, began, last).await?,
            None => false,
        };
        let mut backoff = Backoff::new();
        loop {
            let tried = Instant::now();
            let words =
                match timeout(LONGEST_TRY, attempt::command(&**self.engine, self.container, command)).await {
                    Ok(Ok((0, _))) if open || self.is_the_real_one(after_port, began).await => return Ok(()),
                    Ok(Ok((0, _))) => {
                        "its entrypoint still runs, and what answers is not its server yet".to_owned()
                    }
                    Ok(Ok((code, output))) => match output.lines().last().map(str::trim) {
                        Some(line) if !line.is_empty() => line.to_owned(),
                        _ => format!("exit code {code}"),
                    },
                    // The container is restarting, or has not started completely.
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("no answer within {} s", LONGEST_TRY.as_secs()),
                };
            last.send_replace(words);
            tokio::time::sleep(backoff.pause_after(tried.elapsed())).await;
        }
    }

    /// Waits until the port accepts, which a temporary server's does not. It waits only while the entrypoint runs,
    /// since an image may declare a port on which nothing listens. Returns whether the port accepts.
    async fn port_first(
        &self,
        port: u16,
        began: Instant,
        last: &watch::Sender<String>,
    ) -> Result<bool, SessionError> {
        let probe = Probe::Tcp { port };
        tokio::select! {
            outcome = self.prober.until_ready(self.service, self.container, &probe, last) => outcome.map(|()| true),
            () = self.taken_over(began) => Ok(false),
        }
    }

    /// Whether the process that answered is the real server: a temporary one runs below the entrypoint and listens on
    /// no network.
    async fn is_the_real_one(&self, port: Option<u16>, began: Instant) -> bool {
        if !self.may_hand_over(began) || !self.entrypoint_runs().await {
            return true;
        }
        let Some(port) = port else { return false };
        let (unheard, _) = watch::channel(String::new());
        let probe = Probe::Tcp { port };
        let answer = self.prober.until_ready(self.service, self.container, &probe, &unheard);
        matches!(timeout(ANSWERS_WITHIN, answer).await, Ok(Ok(())))
    }

    async fn log(
        &self,
        pattern: &str,
        began: Instant,
        last: &watch::Sender<String>,
    ) -> Result<(), SessionError> {
        let regex = Regex::new(pattern).map_err(|error| SessionError::Invalid {
            what: format!("`{pattern}` is not a regular expression: {error}"),
            hint: None,
        })?;
        loop {
            // Lines of an earlier run of the container do not count. Its start time is not usable: under load the
            // engine records it later than the first lines.
            let since =
                self.engine.container(self.container).await?.and_then(|container| container.finished_at);
            let options = LogOptions { follow: true, since, ..LogOptions::default() };
            let mut reader = LogReader::new(self.engine.logs(self.container, &options).await?, &regex);
            while reader.next_match(last).await? {
                if self.is_the_real_one(None, began).await {
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whether a container that was observed has no process any more.
fn has_ended(container: Option<&Container>) -> bool {
    container.is_none_or(|container| {
        matches!(container.state, ContainerState::Exited | ContainerState::Dead | ContainerState::Removing)
    })
}
