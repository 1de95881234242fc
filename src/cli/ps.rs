//! `ps`: lists a sandbox's services.

use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::support::containers;
use super::support::format::{self, Form};
use super::{Context, Exit, Failure, complete};
use crate::engine::{ContainerState, ContainerSummary, Engine};
use crate::report::Output;
use crate::report::logs::log_name;
use crate::report::summary;
use crate::session::event::ServiceStatus;
use crate::session::inspect::{self, Passwords, replica_of, service_of};

/// Arguments of `ps`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Print only the containers' names
    #[arg(short, long, conflicts_with = "names")]
    quiet: bool,
    /// Print only the services' names
    #[arg(long = "services")]
    names: bool,
    /// Only services with this state: created, running, paused, restarting, exited, dead
    #[arg(long, value_name = "STATE", value_parser = state)]
    status: Vec<ContainerState>,
    /// Only services with this property: `status=STATE`
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter)]
    filter: Vec<ContainerState>,
    /// Form of the output: table, json (as Compose prints it), or a template such as `{{.Service}}`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Form,
    /// Accepted for Compose; stopped services are always listed
    #[arg(short, long, hide = true)]
    all: bool,
    /// Accepted for Compose; a sandbox has no orphans
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    orphans: Option<bool>,
}

fn state(text: &str) -> Result<ContainerState, String> {
    Ok(match text {
        "created" => ContainerState::Created,
        "running" => ContainerState::Running,
        "paused" => ContainerState::Paused,
        "restarting" => ContainerState::Restarting,
        "removing" => ContainerState::Removing,
        "exited" => ContainerState::Exited,
        "dead" => ContainerState::Dead,
        _ => return Err("created, running, paused, restarting, removing, exited or dead".to_owned()),
    })
}

fn filter(text: &str) -> Result<ContainerState, String> {
    match text.split_once('=') {
        Some(("status", value)) => state(value),
        _ => Err("`status=STATE` is the only filter".to_owned()),
    }
}

/// Runs `ps`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let mut observed = context.chosen().await?;
    containers::chosen(&observed, &args.services)?;
    let states: Vec<ContainerState> = args.status.iter().chain(&args.filter).copied().collect();
    observed.services.retain(|container| {
        let named = args.services.is_empty() || args.services.iter().any(|s| s == service_of(container));
        named && (states.is_empty() || states.contains(&container.state))
    });
    let mut out = Output::stdout();
    if args.quiet {
        out.lines(observed.services.iter().map(|container| &container.name));
        return Ok(Exit::Done);
    }
    if args.names {
        out.lines(observed.service_names());
        return Ok(Exit::Done);
    }
    let statuses = inspect::statuses(engine.as_ref(), &observed, Passwords::LeftOut).await?;
    if context.globals.json {
        out.json(&statuses);
        return Ok(Exit::Done);
    }
    if args.format != Form::Table {
        let rows = rows(engine.as_ref(), &observed.name, &observed.services, &statuses).await?;
        format::print(&mut out, &args.format, &rows);
    } else if statuses.is_empty() && (states.is_empty() || observed.services.is_empty()) {
        Output::stderr().line(&format!("sandbox `{}` has no such services", log_name(&observed.name, 1)));
    } else {
        out.table(&summary::table(out.look(), &statuses));
    }
    Ok(Exit::Done)
}

/// The services with the field names of `docker compose ps --format json`.
async fn rows(
    engine: &dyn Engine,
    project: &str,
    services: &[ContainerSummary],
    statuses: &[ServiceStatus],
) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for summary in services {
        let Some(container) = engine.container(&summary.name).await? else { continue };
        let of_this =
            |one: &&ServiceStatus| one.service == service_of(summary) && one.replica == replica_of(summary);
        let endpoints = statuses.iter().find(of_this).map(|one| one.endpoints.as_slice()).unwrap_or_default();
        let publishers: Vec<Value> = endpoints
            .iter()
            .map(|endpoint| {
                json!({
                    "URL": endpoint.host, "TargetPort": endpoint.target, "PublishedPort": endpoint.port,
                    "Protocol": endpoint.protocol,
                })
            })
            .collect();
        let health = container.health.as_ref().map(|health| format!("{:?}", health.status).to_lowercase());
        rows.push(json!({
            "ID": container.id.chars().take(12).collect::<String>(),
            "Name": container.name, "Names": container.name, "Project": project,
            "Service": service_of(summary), "Image": container.image,
            "State": container.state.to_string(), "Status": container.state.to_string(),
            "Health": health.unwrap_or_default(), "ExitCode": container.exit_code.unwrap_or(0),
            "CreatedAt": container.created, "Publishers": publishers,
        }));
    }
    Ok(rows)
}
