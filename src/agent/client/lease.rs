//! A held lease: the sandbox lives for as long as this value, its process and their connection do. Or a watch: it lives
//! as it does, and this client hears of it.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::connection::{Command, LeaseNews};
use super::{Keeper, KeeperError};
use crate::agent::protocol::{Destroyed, Lifetime, Notice, Reason, RequestKind, Standing};
use crate::engine::identity::SandboxId;

/// A lease on a sandbox. Dropping it without [`Lease::release`], [`Lease::detach`] or [`Lease::relinquish`] is no end of the
/// lease as long as the [`Keeper`] it came from is in use: say what is meant.
pub struct Lease {
    keeper: Keeper,
    sandbox: SandboxId,
    standing: Standing,
    told: mpsc::UnboundedReceiver<LeaseNews>,
    notices: VecDeque<Notice>,
}

impl Lease {
    pub(super) fn new(keeper: Keeper, standing: Standing, told: mpsc::UnboundedReceiver<LeaseNews>) -> Self {
        Self { keeper, sandbox: standing.sandbox.clone(), standing, told, notices: VecDeque::new() }
    }

    /// How the sandbox stood when the lease was given.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What the keeper says of the sandbox unasked. Ends with an error once the lease is lost: the keeper destroys
    /// the sandbox, or has. Nothing is lost if the future is dropped.
    pub async fn notice(&mut self) -> Result<Notice, KeeperError> {
        if let Some(notice) = self.notices.pop_front() {
            return Ok(notice);
        }
        self.hear().await
    }

    /// Waits until the lease is lost and says why. Notices that come meanwhile are kept.
    pub async fn lost(&mut self) -> KeeperError {
        loop {
            match self.hear().await {
                Ok(notice) => self.notices.push_back(notice),
                Err(error) => return error,
            }
        }
    }

    /// Says that this process is about to be stopped (Ctrl-Z).
    pub async fn suspend(&self) -> Result<(), KeeperError> {
        self.keeper.ask(RequestKind::Suspend).await
    }

    /// Says that this process runs again.
    pub async fn resume(&self) -> Result<(), KeeperError> {
        self.keeper.ask(RequestKind::Resume).await
    }

    /// Ends the lease but not the sandbox, which lives to its deadline.
    pub async fn detach(self, lifetime: Lifetime) -> Result<Standing, KeeperError> {
        let standing =
            self.keeper.ask(RequestKind::Detach { sandbox: self.sandbox.clone(), lifetime }).await?;
        self.keeper.command(Command::LetGo(self.sandbox))?;
        Ok(standing)
    }

    /// Ends the lease on a sandbox that was only being changed: it lives to the deadline that it had.
    pub async fn relinquish(self) -> Result<Standing, KeeperError> {
        let standing = self.keeper.ask(RequestKind::Relinquish { sandbox: self.sandbox.clone() }).await?;
        self.keeper.command(Command::LetGo(self.sandbox))?;
        Ok(standing)
    }

    /// Ends the lease as [`Lease::relinquish`] does, and goes on to hear of the sandbox.
    pub async fn watch(&mut self) -> Result<(), KeeperError> {
        self.standing = self.keeper.watch_by(&self.sandbox, None).await?;
        Ok(())
    }

    /// Hears no more of a sandbox that is only watched.
    pub fn let_go(self) {
        // A connection that is gone has nothing to let go of.
        let _ = self.keeper.command(Command::LetGo(self.sandbox));
    }

    /// Ends the lease and the sandbox. What the caller has not destroyed itself, the keeper does; what is left after
    /// that is in the answer.
    pub async fn release(self, reason: Reason) -> Result<Destroyed, KeeperError> {
        let destroyed =
            self.keeper.ask(RequestKind::Release { sandbox: self.sandbox.clone(), reason }).await?;
        self.keeper.command(Command::LetGo(self.sandbox))?;
        Ok(destroyed)
    }

    async fn hear(&mut self) -> Result<Notice, KeeperError> {
        match self.told.recv().await {
            Some(LeaseNews::Notice(notice)) => Ok(notice),
            Some(LeaseNews::Lost(cause)) => Err(KeeperError::Lost { cause }),
            None => Err(KeeperError::Lost { cause: "the connection was given up".to_owned() }),
        }
    }
}
