//! The signals that a session hears, as what they mean to it.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::control::LoopEvent;

/// Stops this process until it is continued, as Ctrl-Z does by itself.
pub(crate) fn stop_here() {
    if let Some(this) = rustix::process::Pid::from_raw(std::process::id().cast_signed()) {
        // The default action of SIGTSTP is taken by our own handler: SIGSTOP has no handler.
        let _ = rustix::process::kill_process(this, rustix::process::Signal::STOP);
    }
}

/// Returns when this process is asked to end, for who has something to clear away first. Ctrl-Z stops it as ever.
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

/// The signals that a session hears.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    suspend: Signal,
}

impl Signals {
    /// Hears them from now on: none does any more what it does by itself.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            suspend: signal(SignalKind::from_raw(libc::SIGTSTP))?,
        })
    }

    /// What they mean, without end.
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
