//! Commands that a spec has run in a service's container.

use futures_util::StreamExt;

use super::error::SessionError;
use crate::engine::{Engine, Exec};
use crate::spec::Hook;

/// Runs a hook to its end.
///
/// # Errors
/// When it does not succeed, with what it wrote; when the engine refuses.
pub(super) async fn run(
    engine: &dyn Engine,
    service: &str,
    container: &str,
    hook: &Hook,
) -> Result<(), SessionError> {
    let environment = hook.environment.iter();
    let exec = Exec {
        env: environment.filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect(),
        user: hook.user.clone(),
        workdir: hook.working_dir.clone(),
        privileged: hook.privileged,
        ..Exec::new(hook.command.iter().cloned())
    };
    let mut session = engine.exec(container, &exec).await?;
    let mut output = Vec::new();
    while let Some(chunk) = session.output.next().await {
        output.extend_from_slice(&chunk?.bytes);
    }
    match engine.exec_exit_code(&session.id).await? {
        Some(0) => Ok(()),
        code => Err(SessionError::Hook {
            service: service.to_owned(),
            command: hook.command.join(" "),
            code: code.unwrap_or(-1),
            log: String::from_utf8_lossy(&output).lines().map(str::to_owned).collect(),
        }),
    }
}
