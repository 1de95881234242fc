//! Runs git with options under which a repository cannot make it run anything: no hooks, no transport helpers, no
//! submodules.

use std::io::IsTerminal;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::GitError;

/// The settings of every call.
const SETTINGS: [&str; 9] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "advice.detachedHead=false",
    "maintenance.auto=false",
    // A transfer that stands still for a minute fails.
    "http.lowSpeedLimit=100",
    "http.lowSpeedTime=60",
];

/// Variables that would point git to another repository, such as those that a hook gets.
const FOREIGN: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];

/// How much of git's messages an error shows, in lines.
const LAST_LINES: usize = 3;

/// How long git may take to end after a signal.
const PARTING: Duration = Duration::from_secs(2);

/// Which transports git may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transports {
    /// Those of a stranger's address.
    Safe,
    /// Those that the user's own repository is set up with, except for helpers.
    Own,
}

/// Runs git in a folder and returns what it prints. `what` describes the operation, as in "clone `URL`".
pub(super) async fn git(
    folder: &Path,
    transports: Transports,
    what: &str,
    arguments: &[&str],
) -> Result<String, GitError> {
    let mut command = Command::from(prepared(folder, transports, arguments));
    command.kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| not_started(what, &error))?;
    let heard = child.id();
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| not_started(what, &error))?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| not_started(what, &error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let output = async {
        let (stdout, stderr, status) = tokio::join!(read(stdout), read(stderr), child.wait());
        status.map(|status| (status, stdout, stderr))
    };
    tokio::pin!(output);
    let ended = tokio::select! {
        ended = &mut output => ended,
        _ = interrupted.recv() => return Err(stopped(heard, output).await),
        _ = terminated.recv() => return Err(stopped(heard, output).await),
    };
    let (status, stdout, stderr) = ended.map_err(|error| not_started(what, &error))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    Err(GitError::Failed { what: what.to_owned(), said: last_lines(&String::from_utf8_lossy(&stderr)) })
}

/// The same for code that may block; `None` if git fails, which is an answer for some of its commands.
pub(super) fn answer(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = prepared(folder, Transports::Own, arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn prepared(folder: &Path, transports: Transports, arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("git");
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command.args(arguments).current_dir(folder).env("LC_ALL", "C");
    for name in FOREIGN {
        command.env_remove(name);
    }
    if transports == Transports::Safe {
        command.env("GIT_ALLOW_PROTOCOL", "file:https:ssh");
    }
    if !std::io::stdin().is_terminal() {
        command.env("GIT_TERMINAL_PROMPT", "0");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Maximum length of an output that is kept.
const LONGEST: u64 = 32 << 20;

async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What git says beyond that, and after an error of the pipe, is not needed.
        let _ = (&mut pipe).take(LONGEST).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    bytes
}

/// Ends git after a signal, and waits for it, so that it writes nothing more.
async fn stopped<T>(pid: Option<u32>, output: impl Future<Output = T>) -> GitError {
    let pid = pid.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        // It may have ended by the same signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let _ = tokio::time::timeout(PARTING, output).await;
    GitError::Cancelled
}

fn not_started(what: &str, error: &std::io::Error) -> GitError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return GitError::NotInstalled;
    }
    GitError::Failed { what: what.to_owned(), said: error.to_string() }
}

/// The last lines that say something, without the words that lead each of them.
fn last_lines(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .split(['\n', '\r'])
        .map(str::trim)
        .map(|line| line.trim_start_matches("fatal: ").trim_start_matches("error: "))
        .filter(|line| !line.is_empty() && !line.starts_with("Cloning into"))
        .collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("; ");
    if last.is_empty() { "git says nothing about it".to_owned() } else { last }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_end_of_what_git_said() {
        let said = "Cloning into 'x'...\nremote: a\nremote: b\nfatal: repository 'x' not found\n";
        assert_eq!(last_lines(said), "remote: a; remote: b; repository 'x' not found");
        assert_eq!(last_lines(""), "git says nothing about it");
    }
}
