//! `sandbox gc`: lists baselines, snapshots and images, and removes those that are over the budget or unused; with
//! `--merged`, sandboxes whose branch is no longer needed.

mod merged;

use std::collections::BTreeSet;

use super::{Context, Exit, Failure};
use crate::agent::built_images::{self, Built};
use crate::agent::client::{Options, remove_everything};
use crate::data::budget::{self, EvictionScope, StoredSet};
use crate::data::snapshot;
use crate::engine::identity;
use crate::report::Output;
use crate::report::amount;
use crate::report::table::Table;
use crate::session::git::store;
use crate::session::inspect;
use crate::storage::{Detail, SetPath, Usage};

/// Arguments of `gc`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Remove all unused baselines, not only those over 90 % of the budget
    #[arg(long)]
    baselines: bool,
    /// Destroy sandboxes whose git branch is merged into the default branch, or gone
    #[arg(long, conflicts_with = "baselines")]
    merged: bool,
    /// Remove everything that sandbox has on this engine: sandboxes, snapshots, baselines, built images, the keeper
    #[arg(long, conflicts_with_all = ["dry_run", "baselines", "merged"])]
    all: bool,
}

/// Runs `gc`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    if args.merged {
        return merged::run(context, args.dry_run).await;
    }
    let engine = context.engine().await?;
    if args.all {
        let left = remove_everything(&engine, &Options::from_env()?).await?;
        store::sweep(&*engine, &context.scope()?).await?;
        return match left.as_slice() {
            [] => {
                Output::stderr()
                    .line("nothing of ours is left on this engine: no sandbox, snapshot, baseline or image");
                Ok(Exit::Done)
            }
            left => Err(Failure::failed(format!("left: {}", left.join(", ")), Some("try again".to_owned()))),
        };
    }
    let storage = super::snapshot::storage(context).await?;
    let usage = storage.usage(Detail::Sets).await?;
    let kept = snapshot::kept(&*storage, &usage).await?;
    let in_use = in_use(context).await?;
    let budget = if args.baselines { 0 } else { budget::aim(usage.budget) };
    let choice = budget::choose(&kept, &in_use, usage.used, budget, EvictionScope::Baselines);
    let images = built_images::unused(&*engine, &context.scope()?).await?;
    show(context, &usage, &kept, &choice.remove, &images);
    if !args.dry_run {
        for set in &choice.remove {
            storage.delete_set(set).await?;
        }
        for image in images.iter().filter(|image| !image.current) {
            built_images::remove(&*engine, image).await?;
        }
    }
    Ok(Exit::Done)
}

/// The sets that volumes of sandboxes were cloned from, which `reset` needs.
async fn in_use(context: &Context) -> Result<BTreeSet<SetPath>, Failure> {
    let engine = context.engine().await?;
    let observed = inspect::sandboxes(&*engine, &context.scope()?).await?;
    let labels =
        observed.iter().flat_map(|one| &one.volumes).filter_map(|one| one.labels.get(identity::FROM));
    Ok(labels.filter_map(|set| set.parse().ok()).collect())
}

fn show(context: &Context, usage: &Usage, kept: &[StoredSet], going: &[SetPath], images: &[Built]) {
    let mut out = Output::stdout();
    if context.globals.json {
        let going = going.iter().map(ToString::to_string);
        let replaced = images.iter().filter(|image| !image.current).map(|image| image.id.clone());
        let going: Vec<String> = going.chain(replaced).collect();
        out.json(&serde_json::json!({ "usage": usage, "going": going }));
        return;
    }
    let mut table = Table::new(["kept", "own", "shared", ""]).right(1).right(2);
    for one in kept {
        let goes = if going.contains(&one.path) { "goes" } else { "" };
        table.row([
            one.path.to_string(),
            amount::bytes(one.size.own),
            amount::bytes(one.size.shared),
            goes.to_owned(),
        ]);
    }
    for image in images {
        // Images may share layers, but the engine does not report which, so the shared size is empty.
        let goes = if image.current { "" } else { "replaced, goes" };
        let name = format!("image/{}", image.reference);
        table.row([name, amount::bytes(image.size), String::new(), goes.to_owned()]);
    }
    if !table.is_empty() {
        out.table(&table);
    }
    let (used, budget) = (amount::bytes(usage.used), amount::bytes(usage.budget));
    out.line(&format!("{used} of {budget} used ({} storage)", usage.kind));
}
