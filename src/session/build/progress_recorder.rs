//! Records with the keeper what a plan has not completed yet, so that the next `up` makes it again, whatever ends this one.

use tokio::sync::Mutex;

use crate::agent::client::{Keeper, KeeperError};
use crate::agent::protocol::Declared;
use crate::engine::identity::SandboxId;
use crate::plan::{Progress, StepId, Unfinished};
use crate::session::context::Context;

/// Follows the steps of one plan.
pub struct ProgressRecorder {
    keeper: Keeper,
    sandbox: SandboxId,
    state: Mutex<(Declared, Progress)>,
}

impl ProgressRecorder {
    /// `declared` is what the keeper has recorded already.
    pub fn new(context: &Context, sandbox: &SandboxId, declared: Declared, progress: Progress) -> Self {
        let (keeper, sandbox) = (context.keeper.clone(), sandbox.clone());
        Self { keeper, sandbox, state: Mutex::new((declared, progress)) }
    }

    /// Records that a step is done, if a service or a volume is complete with it.
    ///
    /// # Errors
    /// Fails if the keeper does not answer.
    pub async fn done(&self, step: &StepId) -> Result<(), KeeperError> {
        let mut state = self.state.lock().await;
        let (declared, progress) = &mut *state;
        if progress.done(step) {
            declared.unfinished = progress.unfinished();
            self.keeper.declare(&self.sandbox, declared.clone()).await?;
        }
        Ok(())
    }

    /// What is not complete.
    pub async fn unfinished(&self) -> Unfinished {
        self.state.lock().await.0.unfinished.clone()
    }
}
