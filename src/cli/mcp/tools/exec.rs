//! `exec`: runs a command in a service.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::reply::{ErrorReply, Reply, ToolResult};
use crate::cli::mcp::server::{Server, Target};
use crate::cli::mcp::untrusted;
use crate::engine::Exec;
use crate::session::error::SessionError;
use crate::session::exec::captured::{self, Bounds, Captured, End};

/// How much output of a command is kept.
const MOST_BYTES: usize = 4 << 20;
/// How long a command may take, in seconds.
pub(super) const SECONDS: u64 = 60;
/// The longest time that can be asked for, in seconds.
pub(super) const MOST_SECONDS: u64 = 3600;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cli::mcp) struct ExecArgs {
    /// Default: the only one
    #[serde(default)]
    sandbox: Option<String>,
    service: String,
    /// Program and arguments, one item each: `sh`, `-c`, `ls | wc -l`
    command: Vec<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    workdir: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    stdin: Option<String>,
    /// Kill it after this time (default: 60)
    #[serde(default)]
    timeout_seconds: Option<u64>,
}

/// Runs a command.
pub(in crate::cli::mcp) async fn exec(server: Server, args: ExecArgs, call: Call) -> ToolResult {
    let target = server.target(args.sandbox.as_deref()).await?;
    if args.command.is_empty() {
        return Err(Failure::usage("`command` is empty", None).into());
    }
    let program = args.command[0].clone();
    let exec =
        Exec { cmd: args.command, env: args.env, user: args.user, workdir: args.workdir, ..Exec::default() };
    let stdin = args.stdin.as_deref().map(str::as_bytes);
    let done = capture(&target, &args.service, exec, stdin, args.timeout_seconds, &call).await?;
    reply(&server, &args.service, &program, &done)
}

/// Runs a command in a running service, bounded in time and output.
pub(super) async fn capture(
    target: &Target,
    service: &str,
    exec: Exec,
    stdin: Option<&[u8]>,
    seconds: Option<u64>,
    call: &Call,
) -> Result<Captured, ErrorReply> {
    let container = &target.running(service)?.name;
    let seconds = seconds.unwrap_or(SECONDS).min(MOST_SECONDS);
    let bounds =
        Bounds { bytes: MOST_BYTES, time: Duration::from_secs(seconds), stop: call.cancelled.clone() };
    Ok(captured::run(&target.engine, container, exec, stdin, &bounds).await?)
}

/// The reply for a command that ran.
///
/// # Errors
/// Fails if the command did not start, or was killed.
pub(super) fn reply(server: &Server, service: &str, program: &str, done: &Captured) -> ToolResult {
    let mut facts = match done.end {
        End::Exited(code) => json!({ "exit_code": code }),
        End::NotBegun(code) => {
            let why = if code == 127 { "it is not in the image" } else { "it may not be executed" };
            let error = format!("cannot run `{program}` in `{service}`: {why}");
            return Err(Reply::new(json!({ "error": error, "exit_code": code })).into_error());
        }
        End::TimedOut => json!({
            "error": "the command took too long and was killed", "exit_code": 124,
            "hint": "give it more `timeout_seconds`, or run it in the background",
        }),
        End::Stopped => return Err(SessionError::Cancelled.into()),
    };
    if done.discarded > 0 {
        facts["bytes_discarded"] = done.discarded.into();
    }
    let failed = facts.get("error").is_some_and(Value::is_string);
    let text = untrusted::plain(&String::from_utf8_lossy(&done.output));
    let reply = server.pages.reply(facts, service, &text);
    if failed { Err(reply.into_error()) } else { Ok(reply) }
}
