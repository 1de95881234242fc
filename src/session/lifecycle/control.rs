//! The state machine of a session: reacts to signals, deadlines and the end of its work. Pure, so that tests need no
//! process.
//!
//! The session's event loop turns everything that happens into a [`LoopEvent`], passes it to [`Control::handle`] and
//! performs the [`Response`]. Stop reasons are ordered by severity; a less severe one never replaces a more severe one.

use std::time::Duration;

/// An input of the session's event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopEvent {
    /// Ctrl-C, or `SIGINT` from elsewhere.
    Interrupted,
    /// `SIGTERM`.
    Terminated,
    /// The terminal was closed (`SIGHUP`).
    HungUp,
    /// Ctrl-Z (`SIGTSTP`).
    SuspendAsked,
    /// Every step of the plan is done.
    Built,
    /// A step of the plan failed.
    BuildFailed,
    /// The session's command exited with this code.
    CommandEnded(i32),
    /// The time that is left until the deadline.
    DeadlineIn(Duration),
    /// Every service has exited without being stopped.
    ServicesEnded,
    /// Another process destroys the sandbox (another `down`, or the keeper).
    Vanished,
    /// The keeper destroys the sandbox because it was idle.
    Unused,
    /// The keeper cannot be reached, or no longer holds the lease.
    Lost,
    /// The engine has restarted, which stopped every service.
    EngineRestarted,
    /// The teardown has finished.
    TornDown,
}

/// Why a session ends, least severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// Its command ended with this exit code.
    CommandEnded(i32),
    /// All its services exited without being stopped.
    ServicesEnded,
    /// Another process destroyed the sandbox.
    Vanished,
    /// The sandbox was idle for too long.
    Unused,
    /// Its deadline passed.
    DeadlinePassed,
    /// The connection to the keeper, or the lease, was lost.
    Lost,
    /// The engine restarted.
    EngineRestarted,
    /// It could not be built.
    BuildFailed,
    /// The terminal was closed.
    HungUp,
    /// It received `SIGTERM`.
    Terminated,
    /// The user pressed Ctrl-C.
    Interrupted,
    /// The user pressed Ctrl-C again during the teardown.
    Forced,
}

/// What the event loop must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Response {
    /// Do nothing.
    Continue,
    /// Follow logs and start the command.
    Serve,
    /// Cancel all work and destroy the sandbox, with a graceful stop.
    TearDown(StopReason),
    /// Cut the graceful stop short: kill services that are still stopping.
    Force,
    /// Warn the user how much time is left.
    Warn(Duration),
    /// Notify the keeper, then stop this process until it is continued.
    Suspend,
    /// Exit the loop.
    Leave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Building,
    Serving,
    TearingDown,
    Over,
}

/// The state of a session.
#[derive(Debug)]
pub struct Control {
    phase: Phase,
    reason: Option<StopReason>,
    warned: Option<Duration>,
}

/// How long before the deadline to warn the user, earliest warning first.
const WARNINGS: [Duration; 2] = [Duration::from_mins(10), Duration::from_mins(1)];

impl Default for Control {
    fn default() -> Self {
        Self { phase: Phase::Building, reason: None, warned: None }
    }
}

impl Control {
    /// Why the session ends, once it has begun to end.
    pub fn reason(&self) -> Option<StopReason> {
        self.reason
    }

    /// Whether the build is in progress and nothing has stopped it.
    pub fn is_building(&self) -> bool {
        self.phase == Phase::Building
    }

    /// Updates the state and returns what to do.
    pub fn handle(&mut self, happening: LoopEvent) -> Response {
        match happening {
            LoopEvent::Interrupted if self.phase == Phase::TearingDown => self.force(),
            LoopEvent::Interrupted => self.stop(StopReason::Interrupted),
            // A CI runner that sent SIGINT follows it with SIGTERM and soon with SIGKILL.
            LoopEvent::Terminated if self.is_interrupted() => self.force(),
            LoopEvent::Terminated => self.stop(StopReason::Terminated),
            LoopEvent::HungUp => self.stop(StopReason::HungUp),
            LoopEvent::BuildFailed => self.stop(StopReason::BuildFailed),
            LoopEvent::ServicesEnded => self.stop(StopReason::ServicesEnded),
            LoopEvent::Vanished => self.leave(StopReason::Vanished),
            LoopEvent::Unused => self.stop(StopReason::Unused),
            LoopEvent::Lost => self.stop(StopReason::Lost),
            LoopEvent::EngineRestarted => self.stop(StopReason::EngineRestarted),
            LoopEvent::CommandEnded(code) => self.stop(StopReason::CommandEnded(code)),
            LoopEvent::DeadlineIn(left) if left.is_zero() => self.stop(StopReason::DeadlinePassed),
            LoopEvent::DeadlineIn(left) => self.warn(left),
            LoopEvent::SuspendAsked => match self.phase {
                Phase::Building | Phase::Serving => Response::Suspend,
                Phase::TearingDown | Phase::Over => Response::Continue,
            },
            LoopEvent::Built if self.phase == Phase::Building => {
                self.phase = Phase::Serving;
                Response::Serve
            }
            LoopEvent::Built => Response::Continue,
            LoopEvent::TornDown => {
                self.phase = Phase::Over;
                Response::Leave
            }
        }
    }

    fn is_interrupted(&self) -> bool {
        self.phase == Phase::TearingDown && self.reason == Some(StopReason::Interrupted)
    }

    fn stop(&mut self, reason: StopReason) -> Response {
        self.reason = self.reason.max(Some(reason));
        match self.phase {
            Phase::Building | Phase::Serving => {
                self.phase = Phase::TearingDown;
                Response::TearDown(reason)
            }
            Phase::TearingDown | Phase::Over => Response::Continue,
        }
    }

    /// Ends without a teardown, which another process does.
    fn leave(&mut self, reason: StopReason) -> Response {
        self.reason = self.reason.max(Some(reason));
        match self.phase {
            Phase::Building | Phase::Serving => {
                self.phase = Phase::Over;
                Response::Leave
            }
            Phase::TearingDown | Phase::Over => Response::Continue,
        }
    }

    fn force(&mut self) -> Response {
        if self.reason == Some(StopReason::Forced) {
            return Response::Continue;
        }
        self.reason = Some(StopReason::Forced);
        Response::Force
    }

    fn warn(&mut self, left: Duration) -> Response {
        let due = WARNINGS.into_iter().rfind(|mark| left <= *mark);
        match due {
            Some(mark) if self.warned.is_none_or(|warned| mark < warned) => {
                self.warned = Some(mark);
                Response::Warn(left)
            }
            // The deadline may have been extended since the last warning.
            due => {
                self.warned = due;
                Response::Continue
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ctrl_c_tears_down_and_the_second_forces() {
        let mut control = Control::default();
        assert_eq!(control.handle(LoopEvent::Interrupted), Response::TearDown(StopReason::Interrupted));
        assert_eq!(control.handle(LoopEvent::Interrupted), Response::Force);
        assert_eq!(control.handle(LoopEvent::Interrupted), Response::Continue);
        assert_eq!(control.handle(LoopEvent::TornDown), Response::Leave);
        assert_eq!(control.reason(), Some(StopReason::Forced));
    }

    #[test]
    fn a_sigterm_after_ctrl_c_forces() {
        let mut control = Control::default();
        let _ = control.handle(LoopEvent::Interrupted);
        assert_eq!(control.handle(LoopEvent::Terminated), Response::Force);
        assert_eq!(control.reason(), Some(StopReason::Forced));
    }

    #[test]
    fn a_milder_reason_never_replaces_a_harsher_one() {
        let mut control = Control::default();
        let _ = control.handle(LoopEvent::Interrupted);
        let _ = control.handle(LoopEvent::BuildFailed);
        assert_eq!(control.reason(), Some(StopReason::Interrupted));
    }

    #[test]
    fn a_harsher_reason_replaces_a_milder_one() {
        let mut control = Control::default();
        let _ = control.handle(LoopEvent::CommandEnded(0));
        let _ = control.handle(LoopEvent::Terminated);
        assert_eq!(control.reason(), Some(StopReason::Terminated));
    }

    #[test]
    fn each_warning_is_given_once() {
        let mut control = Control::default();
        let mut minutes = |left| control.handle(LoopEvent::DeadlineIn(Duration::from_mins(left)));
        assert_eq!(minutes(11), Response::Continue);
        assert_eq!(minutes(10), Response::Warn(Duration::from_mins(10)));
        assert_eq!(minutes(9), Response::Continue);
        assert_eq!(minutes(1), Response::Warn(Duration::from_mins(1)));
        assert_eq!(minutes(1), Response::Continue);
        assert_eq!(minutes(0), Response::TearDown(StopReason::DeadlinePassed));
    }

    #[test]
    fn a_later_deadline_gets_a_new_warning() {
        let mut control = Control::default();
        let mut minutes = |left| control.handle(LoopEvent::DeadlineIn(Duration::from_mins(left)));
        assert_eq!(minutes(1), Response::Warn(Duration::from_mins(1)));
        assert_eq!(minutes(5), Response::Continue);
        assert_eq!(minutes(1), Response::Warn(Duration::from_mins(1)));
        assert_eq!(minutes(120), Response::Continue);
        assert_eq!(minutes(10), Response::Warn(Duration::from_mins(10)));
    }

    #[test]
    fn a_session_that_starts_near_its_deadline_is_warned_once() {
        let mut control = Control::default();
        let left = Duration::from_secs(30);
        assert_eq!(control.handle(LoopEvent::DeadlineIn(left)), Response::Warn(left));
        assert_eq!(control.handle(LoopEvent::DeadlineIn(left)), Response::Continue);
    }

    #[test]
    fn a_build_that_ends_after_ctrl_c_does_not_begin_to_serve() {
        let mut control = Control::default();
        let _ = control.handle(LoopEvent::Interrupted);
        assert_eq!(control.handle(LoopEvent::Built), Response::Continue);
    }

    #[test]
    fn a_sandbox_that_another_client_destroys_is_left_to_it() {
        let mut control = Control::default();
        let _ = control.handle(LoopEvent::Built);
        assert_eq!(control.handle(LoopEvent::Vanished), Response::Leave);
        assert_eq!(control.reason(), Some(StopReason::Vanished));
    }

    #[test]
    fn nothing_is_suspended_while_it_is_destroyed() {
        let mut control = Control::default();
        assert_eq!(control.handle(LoopEvent::SuspendAsked), Response::Suspend);
        let _ = control.handle(LoopEvent::Terminated);
        assert_eq!(control.handle(LoopEvent::SuspendAsked), Response::Continue);
    }
}
