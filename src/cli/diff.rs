//! `diff`: lists what changed in a sandbox's data.

use clap_complete::engine::ArgValueCandidates;

use super::change::existing;
use super::snapshot::named;
use super::{Context, Exit, Failure, complete};
use crate::data::diff::{Change, ChangeKind, VolumeDiff};
use crate::report::{Output, amount};
use crate::session::existing::DataDiff;
use crate::storage::SetPath;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Snapshot to compare with (default: the baseline or snapshot that the data was cloned from)
    #[arg(long, value_name = "SNAPSHOT", value_parser = named, add = ArgValueCandidates::new(complete::snapshots))]
    from: Option<SetPath>,
}

/// Runs `diff`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let reporting = context.reporter();
    let compared = async {
        let existing = existing(context, &reporting).await?;
        Ok::<_, Failure>(existing.diff(args.from.as_ref()).await?)
    }
    .await;
    reporting.finish().await;
    let diff = compared?;
    if context.globals.json {
        Output::stdout().json(&json(&diff));
        return Ok(Exit::Done);
    }
    let mut out = Output::stdout();
    diff.volumes
        .iter()
        .for_each(|volume| out.lines(volume.changes.iter().map(|change| line(volume, change))));
    let mut notes = Output::stderr();
    notes.lines(diff.volumes.iter().map(summary));
    if !diff.without_origin.is_empty() {
        let names: Vec<String> = diff.without_origin.iter().map(ToString::to_string).collect();
        notes.line(&format!(
            "nothing to compare with: {}; `--from SNAPSHOT` names a snapshot",
            names.join(", ")
        ));
    }
    Ok(Exit::Done)
}

/// A comparison as JSON.
pub(in crate::cli) fn json(diff: &DataDiff) -> serde_json::Value {
    serde_json::json!({ "volumes": diff.volumes, "without_origin": diff.without_origin })
}

/// A change as one line.
pub(in crate::cli) fn line(volume: &VolumeDiff, change: &Change) -> String {
    let size = |bytes: Option<u64>| bytes.map(amount::bytes);
    let (mark, detail) = match change.what {
        ChangeKind::Added => ('+', size(change.bytes)),
        ChangeKind::Removed => ('-', size(change.bytes_before)),
        ChangeKind::Changed => ('~', changed(change)),
    };
    let path = if change.path.is_empty() { "." } else { &change.path };
    let detail = detail.map(|detail| format!("  {detail}")).unwrap_or_default();
    format!("{mark} {}/{path}{detail}", volume.volume)
}

fn changed(change: &Change) -> Option<String> {
    let (before, now) = (change.bytes_before?, change.bytes?);
    let length = if before == now {
        amount::bytes(now)
    } else {
        format!("{} → {}", amount::bytes(before), amount::bytes(now))
    };
    Some(match change.changed_bytes {
        Some(bytes) => format!("{length}, {} differ", amount::bytes(bytes)),
        None => format!("{length}, same content"),
    })
}

fn summary(diff: &VolumeDiff) -> String {
    let VolumeDiff { volume, added, removed, changed, changes } = diff;
    let more = added + removed + changed - changes.len() as u64;
    let more = if more > 0 { format!("; {more} are not listed") } else { String::new() };
    format!("{volume}: {added} added, {removed} removed, {changed} changed{more}")
}
