//! Converts the signals that a session receives into loop events.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::control::LoopEvent;

/// Stops this process until it is continued, as the default action of Ctrl-Z does.
pub(crate) fn stop_here() {
    if let Some(this) = rustix::process::Pid::from_raw(std::process::id().cast_signed()) {
        // Our handler replaces the default action of SIGTSTP; SIGSTOP has no handler.
        let _ = rustix::process::kill_process(this, rustix::process::Signal::STOP);
    }
}

/// Returns when this process is asked to end, so that the caller can clean up first. Ctrl-Z stops the process as usual.
pub(crate) async fn asked_to_end() {
    let Ok(signals) = Signals::listen() else { return std::future::pending().await };
    let mut told = signals.told();
    while let Some(happening) = told.next().await {
        match happening {
            LoopEvent::SuspendAsked => stop_here(),
            _ => return,
        }
    }
}

/// The signals that a session handles.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    suspend: Signal,
}

impl Signals {
    /// Installs the handlers, which replace the default actions.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            suspend: signal(SignalKind::from_raw(libc::SIGTSTP))?,
        })
    }

    /// A stream of the signals as loop events. It never ends.
    pub(crate) fn told(self) -> BoxStream<'static, LoopEvent> {
        stream::unfold(self, |mut signals| async { Some((signals.next().await, signals)) }).boxed()
    }

    async fn next(&mut self) -> LoopEvent {
        tokio::select! {
            _ = self.interrupt.recv() => LoopEvent::Interrupted,
            _ = self.terminate.recv() => LoopEvent::Terminated,
            _ = self.hang_up.recv() => LoopEvent::HungUp,
            _ = self.suspend.recv() => LoopEvent::SuspendAsked,
        }
    }
}
