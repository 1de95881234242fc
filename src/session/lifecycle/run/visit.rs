//! Runs a command next to an existing sandbox: this process gets the sandbox's notices, but holds no lease.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::StartCommand;
use crate::agent::client::{Keeper, KeeperError};
use crate::agent::protocol::Notice;
use crate::engine::identity::{SandboxId, SandboxName};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};

/// How long a command may take to exit once its sandbox has ended.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs a command and returns its exit code.
///
/// # Errors
/// [`SessionError::Ended`] if the sandbox ends before the command does.
pub async fn visit(
    keeper: &Keeper,
    events: &Events,
    name: &SandboxName,
    id: &SandboxId,
    start: StartCommand,
) -> Result<i32, SessionError> {
    let mut watch = keeper.watch(id).await?;
    events.hand_over().await;
    let stop = CancellationToken::new();
    let mut command = start(stop.clone());
    let ended = loop {
        let notice = tokio::select! {
            code = &mut command => return Ok(code),
            notice = watch.notice() => notice,
        };
        match heard(notice, events) {
            Ok(()) => {}
            Err(why) => break why,
        }
    };
    stop.cancel();
    // A command that does not exit in time is not awaited.
    let _ = tokio::time::timeout(LAST_WORDS, command).await;
    Err(SessionError::Ended { name: name.clone(), why: ended })
}

/// Reports a notice; `Err` says why the sandbox ends.
fn heard(notice: Result<Notice, KeeperError>, events: &Events) -> Result<(), String> {
    match notice {
        Ok(Notice::Ending { reason, .. }) => return Err(super::ended_by(reason)),
        Ok(Notice::EndsSoon { ends, .. }) => {
            let left = Duration::try_from(ends.duration_since(Timestamp::now())).unwrap_or_default();
            events.emit(Event::DeadlineNear { left });
        }
        Ok(Notice::EndMoved { end, by_use, .. }) => {
            events.emit(Event::DeadlineMoved { deadline: end.at, if_unused: end.unless_used, by_use });
        }
        Ok(Notice::OutOfMemory { .. } | Notice::Exited { .. } | Notice::Other) => {}
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}
