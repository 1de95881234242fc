//! A held lease: the sandbox lives as long as this value, its process and their connection. Or a watch, which does not
//! keep the sandbox alive and only receives its notices.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::connection::{Command, LeaseNews};
use super::{Keeper, KeeperError};
use crate::agent::protocol::{Destroyed, Lifetime, Notice, Reason, RequestKind, Standing};
use crate::engine::identity::SandboxId;

/// A lease on a sandbox. End it with [`Lease::release`], [`Lease::detach`] or [`Lease::relinquish`]. Dropping it does
/// not end the lease as long as its [`Keeper`] is in use.
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

    /// The status of the sandbox when the lease was granted.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Waits for the next notice about the sandbox. Returns an error once the lease is lost: the keeper then destroys
    /// the sandbox, or has done so. Cancel-safe.
    pub async fn notice(&mut self) -> Result<Notice, KeeperError> {
        if let Some(notice) = self.notices.pop_front() {
            return Ok(notice);
        }
        self.hear().await
    }

    /// Waits until the lease is lost and returns why. Notices that arrive meanwhile are kept.
    pub async fn lost(&mut self) -> KeeperError {
        loop {
            match self.hear().await {
                Ok(notice) => self.notices.push_back(notice),
                Err(error) => return error,
            }
        }
    }

    /// Announces that this process is about to be stopped (Ctrl-Z).
    pub async fn suspend(&self) -> Result<(), KeeperError> {
        self.keeper.ask(RequestKind::Suspend).await
    }

    /// Announces that this process runs again.
    pub async fn resume(&self) -> Result<(), KeeperError> {
        self.keeper.ask(RequestKind::Resume).await
    }

    /// Ends the lease but not the sandbox, which lives until its deadline.
    pub async fn detach(self, lifetime: Lifetime) -> Result<Standing, KeeperError> {
        let standing =
            self.keeper.ask(RequestKind::Detach { sandbox: self.sandbox.clone(), lifetime }).await?;
        self.keeper.command(Command::LetGo(self.sandbox))?;
        Ok(standing)
    }

    /// Ends the lease on a sandbox that was only being changed. The sandbox keeps its previous deadline.
    pub async fn relinquish(self) -> Result<Standing, KeeperError> {
        let standing = self.keeper.ask(RequestKind::Relinquish { sandbox: self.sandbox.clone() }).await?;
        self.keeper.command(Command::LetGo(self.sandbox))?;
        Ok(standing)
    }

    /// Ends the lease as [`Lease::relinquish`] does, and keeps watching the sandbox.
    pub async fn watch(&mut self) -> Result<(), KeeperError> {
        self.standing = self.keeper.watch_by(&self.sandbox, None).await?;
        Ok(())
    }

    /// Stops watching a sandbox.
    pub fn let_go(self) {
        // If the connection is gone, there is nothing to unsubscribe from.
        let _ = self.keeper.command(Command::LetGo(self.sandbox));
    }

    /// Ends the lease and the sandbox. The keeper destroys what the caller has not; the reply lists what is left after
    /// that.
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
