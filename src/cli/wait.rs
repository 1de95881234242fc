//! `wait`: blocks until services stop, and returns their exit codes.

use std::sync::Arc;

use clap_complete::engine::ArgValueCandidates;
use tokio::task::JoinSet;

use super::support::containers;
use super::{Context, Exit, Failure, complete, down, keeper};
use crate::engine::ContainerState;
use crate::report::Output;
use crate::session::inspect::{log_name, service_of};

/// Arguments of `wait`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services
    #[arg(value_name = "SERVICE", required = true, add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Destroy the sandbox when the first service stops
    #[arg(long)]
    down_project: bool,
}

/// Runs `wait`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    let _use = keeper::UsageGuard::of(&engine, &observed.name);
    let mut waits = JoinSet::new();
    for container in containers::chosen(&observed, &args.services)? {
        if container.state == ContainerState::Created {
            let name = log_name(container);
            let hint = format!("`sandbox start {}` starts it", service_of(container));
            return Err(Failure::failed(format!("service `{name}` was never started"), Some(hint)));
        }
        let (engine, name, container) = (Arc::clone(&engine), log_name(container), container.name.clone());
        waits.spawn(async move { (name, engine.wait_container(&container).await) });
    }
    let (mut output, mut last) = (Output::stdout(), 0);
    while let Some(Ok((name, code))) = waits.join_next().await {
        last = code?;
        if context.globals.json {
            output.json_line(&serde_json::json!({ "service": name, "exit_code": last }));
        } else {
            output.line(&format!("service `{name}` exited with code {last}"));
        }
        if args.down_project {
            let this = context.clone_for(observed.name.parse().ok());
            down::run(down::Args::default(), &this).await?;
            break;
        }
    }
    Ok(Exit::Command(u8::try_from(last).unwrap_or(1)))
}
