//! `images`: lists the images of a sandbox's containers.

use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::support::containers;
use super::support::format::{self, Form};
use super::{Context, Exit, Failure, complete};
use crate::report::Output;
use crate::report::amount;
use crate::report::table::Table;
use crate::session::inspect::log_name;

/// Arguments of `images`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Print only the images' ids
    #[arg(long, short)]
    quiet: bool,
    /// Form of the output: table, json, or a template such as `{{.Repository}}`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Form,
}

/// Number of digits of a short id.
const SHORT: usize = 12;

/// Runs `images`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    let mut rows = Vec::new();
    let mut table = Table::new(["service", "repository", "tag", "platform", "id", "size"]).right(5);
    for summary in containers::chosen(&observed, &args.services)? {
        let Some(container) = engine.container(&summary.name).await? else { continue };
        let image = engine.image(&container.image_id).await?;
        let (repository, tag) = split(&container.image);
        let id: String = container.image_id.trim_start_matches("sha256:").chars().take(SHORT).collect();
        let platform = image.as_ref().map(|image| format!("{}/{}", image.os, image.arch)).unwrap_or_default();
        let size = image.as_ref().map_or(0, |image| image.size);
        rows.push(json!({
            "ID": container.image_id, "ContainerName": container.name, "Service": log_name(summary),
            "Repository": repository, "Tag": tag, "Platform": platform, "Size": size,
            "Created": image.and_then(|image| image.created),
        }));
        table.row([
            log_name(summary),
            repository.to_owned(),
            tag.to_owned(),
            platform,
            id,
            amount::bytes(size),
        ]);
    }
    let mut output = Output::stdout();
    if args.quiet {
        let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["ID"].as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        output.lines(ids);
    } else if context.globals.json {
        output.json(&rows);
    } else if !format::print(&mut output, &args.format, &rows) {
        output.table(&table);
    }
    Ok(Exit::Done)
}

/// Splits `registry:5000/web:1` into repository and tag.
fn split(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(['@', ':']) {
        Some((repository, tag)) if !tag.contains('/') => (repository.trim_end_matches("@sha256"), tag),
        _ => (reference, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_reference_is_a_repository_and_a_tag() {
        assert_eq!(split("nginx"), ("nginx", "latest"));
        assert_eq!(split("nginx:1"), ("nginx", "1"));
        assert_eq!(split("localhost:5000/nginx"), ("localhost:5000/nginx", "latest"));
        assert_eq!(split("nginx@sha256:0a"), ("nginx", "0a"));
    }
}
