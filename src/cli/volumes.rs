//! `volumes`: lists a sandbox's volumes.

use serde_json::json;

use super::support::format::{self, Form};
use super::{Context, Exit, Failure, complete};
use crate::report::Output;
use crate::report::style::Tint;
use crate::report::table::Table;
use clap_complete::engine::ArgValueCandidates;

/// Arguments of `volumes`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services whose volumes are listed (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Print only the names
    #[arg(long, short)]
    quiet: bool,
    /// Form of the output: table, json, or a template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Form,
}

/// Runs `volumes`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    let mut used = Vec::new();
    for service in &args.services {
        observed.container(service, 1)?;
        for container in observed.containers(service) {
            let mounts = engine.container(&container.name).await?.map(|container| container.mounts);
            used.extend(mounts.unwrap_or_default().into_iter().map(|mount| mount.name));
        }
    }
    let volumes: Vec<_> = observed
        .volumes
        .iter()
        .filter(|volume| args.services.is_empty() || used.contains(&volume.name))
        .collect();
    let mut output = Output::stdout();
    if args.quiet {
        output.lines(volumes.iter().map(|volume| &volume.name));
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = volumes
        .iter()
        .map(|volume| json!({ "Name": volume.name, "Driver": volume.driver, "Volume": key(&volume.name) }))
        .collect();
    if context.globals.json {
        output.json(&rows);
    } else if !format::print(&mut output, &args.format, &rows) {
        let mut table = Table::new(["volume", "name", "driver"]);
        for volume in volumes {
            let name = output.look().paint(Tint::Strong, key(&volume.name));
            table.row([name, volume.name.clone(), volume.driver.clone()]);
        }
        output.table(&table);
    }
    Ok(Exit::Done)
}

/// The volume's name in the spec; for an anonymous one, its service and a hash.
fn key(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, key)| key.trim_start_matches('.'))
}
