//! `sandbox mcp`: serves sandboxes to a coding agent over the Model Context Protocol, on standard input and output.
//!
//! The server owns every sandbox that is made through it: each has a name with the server's suffix, is held by a lease
//! of this process, and is destroyed with it. The tools see no other sandbox. What a spec may ask for is fixed when the
//! server starts (`permissions`), never by an argument of a tool. Text that programs in a sandbox wrote is bounded
//! (`pages`) and marked (`untrusted`), because it may try to instruct the agent.

mod call;
mod feed;
mod held;
mod pages;
mod permissions;
mod registry;
mod reply;
mod server;
mod tools;
mod untrusted;

use std::path::PathBuf;
use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;

use super::build_options::duration;
use super::{Context, Exit, Failure};
use crate::session::lifecycle::signals::asked_to_end;
use permissions::Permissions;
use server::Server;

/// Arguments of `mcp`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Directory that holds the specs and every file that they name (default: this one)
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The most that a spec may allow outbound: deny, allow, or names and addresses separated by commas
    #[arg(long, value_name = "POLICY", default_value = "deny")]
    egress: String,
    /// Environment variable that specs may read
    #[arg(short, long = "env", value_name = "KEY")]
    env: Vec<String>,
    /// Snapshot that specs may take data from
    #[arg(long = "snapshot", value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Refuse specs that build images
    #[arg(long)]
    no_build: bool,
    /// Longest life of each sandbox
    #[arg(long, value_name = "DURATION", default_value = "8h", value_parser = duration)]
    ttl: Duration,
    /// Largest number of sandboxes at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    max_sandboxes: usize,
}

/// Runs `mcp`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let permissions = Permissions::new(&args, &Context::folder()?)?;
    let server = Server::new(context.clone_for(None), permissions, tools::all());
    let ended = tokio::select! {
        ended = serve(server.clone()) => ended,
        () = asked_to_end() => Ok(()),
    };
    let left = tokio::select! {
        left = server.close() => left,
        () = force(&server) => Vec::new(),
    };
    ended?;
    if left.is_empty() { Ok(Exit::Done) } else { Err(Failure::failed(left.join("; "), None)) }
}

/// Serves one client until it closes the connection.
async fn serve(server: Server) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        let hint = "an MCP client starts this command and speaks with it; `man/agents.md` shows how";
        Failure::failed(format!("the connection to the client failed: {error}"), Some(hint.to_owned()))
    };
    let running = match server.serve(stdio_pipes()).await {
        Ok(running) => running,
        // A client that only looks whether the server starts.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    running.waiting().await.map(drop).map_err(|error| failed(&error))
}

/// Cuts graceful stops short each time the process is asked to end again. Never returns.
async fn force(server: &Server) {
    loop {
        asked_to_end().await;
        server.force();
    }
}
