//! Runs the hooks of a spec: commands in a service's container.

use std::time::Duration;

use futures_util::StreamExt;

use crate::agent::client::in_full;
use crate::bind_check;
use crate::engine::{CreateContainer, Engine, EngineError, Exec, LogChunk, StdStream};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events, Stream};
use crate::session::readiness::log_tail::tail;
use crate::spec::{Hook, Service};

/// Runs a hook and waits for its end.
///
/// # Errors
/// Fails with the hook's output if it does not succeed, or if the engine fails.
pub(crate) async fn run(
    engine: &dyn Engine,
    service: &str,
    container: &str,
    hook: &Hook,
) -> Result<(), SessionError> {
    attempt(engine, service, container, hook, |_| {}).await
}

/// Runs a hook, waits for its end and shows its output line by line in the service's log.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_shown(
    engine: &dyn Engine,
    events: &Events,
    service: &str,
    container: &str,
    hook: &Hook,
) -> Result<(), SessionError> {
    let mut begun: [Vec<u8>; 2] = Default::default();
    let show = |stream, line: &[u8]| {
        let line = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
        events.emit(Event::Log {
            service: service.to_owned(),
            replica: 1,
            stream,
            time: None,
            line: line.into(),
        });
    };
    let streams = [Stream::Stdout, Stream::Stderr];
    let outcome = attempt(engine, service, container, hook, |chunk| {
        let index = usize::from(chunk.stream == StdStream::Stderr);
        for byte in &chunk.bytes {
            match byte {
                b'\n' => show(streams[index], &std::mem::take(&mut begun[index])),
                byte => begun[index].push(*byte),
            }
        }
    })
    .await;
    for (line, stream) in begun.iter().zip(streams).filter(|(line, _)| !line.is_empty()) {
        show(stream, line);
    }
    outcome
}

async fn attempt(
    engine: &dyn Engine,
    service: &str,
    container: &str,
    hook: &Hook,
    mut hear: impl FnMut(&LogChunk) + Send,
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
        let chunk = chunk?;
        hear(&chunk);
        output.extend_from_slice(&chunk.bytes);
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

/// Runs a `pre_start` container, waits for its end and removes it.
///
/// # Errors
/// Fails with the container's output if it does not succeed, or if the engine fails.
pub(crate) async fn run_init(
    engine: &dyn Engine,
    service: &str,
    container: &CreateContainer,
) -> Result<(), SessionError> {
    // An earlier attempt may have left a container.
    remove(engine, &container.name).await?;
    engine.create_container(container).await?;
    bind_check::start(engine, &container.name).await?;
    let code = engine.wait_container(&container.name).await?;
    let log = if code == 0 { Vec::new() } else { tail(engine, &container.name).await };
    remove(engine, &container.name).await?;
    if code == 0 {
        return Ok(());
    }
    let command = container.cmd.as_deref().unwrap_or_default().join(" ");
    Err(SessionError::Hook { service: service.to_owned(), command, code, log })
}

async fn remove(engine: &dyn Engine, container: &str) -> Result<(), EngineError> {
    match engine.remove_container(container, true, true).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Stops a container after its service's `pre_stop` hooks. It is killed if it does not end `within` that time or,
/// without it, within its own stop timeout. A hook that fails is reported and skips the hooks after it; the container
/// is stopped anyway.
///
/// # Errors
/// Fails if the engine does not stop it.
pub(crate) async fn stop_container(
    engine: &dyn Engine,
    events: &Events,
    service: Option<&Service>,
    container: &str,
    within: Option<Duration>,
) -> Result<(), EngineError> {
    for hook in service.iter().flat_map(|service| &service.pre_stop) {
        let owner = service.map_or("", |service| service.name.as_str());
        if let Err(error) = run(engine, owner, container, hook).await {
            let said = error.log().last().map(|line| format!(": {line}")).unwrap_or_default();
            let text = format!("`pre_stop` failed: {}{said}", in_full(&error));
            events.emit(Event::Warning { text, hint: error.hint() });
            break;
        }
    }
    engine.stop_container(container, None, within).await
}
