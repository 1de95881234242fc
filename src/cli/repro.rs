//! `repro`: runs the command of a snapshot in a sandbox of its own, and says whether it fails as it did.

use clap_complete::engine::ArgValueCandidates;

use super::build_options::{BakeOptions, BuildOptions};
use super::command::OURS;
use super::run::{SandboxRun, build_from, finish, input, start};
use super::snapshot_spec::{Source, source};
use super::support::repro;
use super::{Context, Exit, Failure, SpecOptions, complete, consent};
use crate::data::manifest::Manifest;
use crate::data::repro::{CommandResult, Difference, Repro};
use crate::report::Output;
use crate::session::lifecycle::control::StopReason;
use crate::session::lifecycle::run::Outcome;
use crate::session::request::{InstanceChoice, UpOptions};
use crate::spec::{MountKind, ServiceName, Spec};

/// Exit code of a command that was interrupted.
const INTERRUPTED: i32 = 130;

/// Arguments of `repro`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Snapshot that was taken with `snapshot create --repro`: its name, a file or oci://REF
    #[arg(value_name = "SNAPSHOT", add = ArgValueCandidates::new(complete::snapshots))]
    snapshot: String,
    #[command(flatten)]
    spec: SpecOptions,
    #[command(flatten)]
    bake: BakeOptions,
    /// Use the snapshot although an image differs from the one it was made with
    #[arg(long)]
    allow_image_drift: bool,
}

/// Runs `repro`: 0 if the failure is the same, 1 if it is not, 125 if the command could not be run.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { snapshot, spec, bake, allow_image_drift } = args;
    let Some(from) = source(context, Some(&snapshot)).await? else { return Ok(Exit::Usage) };
    let (repro, maker) = recorded(context, &from, &snapshot).await?;
    let build_options = BuildOptions { bake, allow_image_drift, ..BuildOptions::default() };
    let (command, capture) = repro::command(&repro.command, repro.service.as_ref());
    let mut run = SandboxRun {
        spec: &spec,
        build: &build_options,
        from: Some(from),
        service: repro.service.clone(),
        options: UpOptions { instance: InstanceChoice::Numbered { verb: "run" }, ..UpOptions::default() },
    };
    let input = input(&mut run, context).await?;
    if maker == Maker::Other && !context.spec_options(&spec).allow_host_access {
        may_run(&repro, &snapshot, &input.loaded.spec).await?;
    }
    let built = build_from(run, input, start(command, None), context.reporter(), context);
    let code = match built.await {
        Ok(Outcome::Ended(StopReason::CommandEnded(code))) => code,
        other => return finish(other, context),
    };
    if code == INTERRUPTED && repro.result.exit_code != INTERRUPTED {
        return Ok(Exit::Interrupted);
    }
    let now = repro::result(code, &capture);
    if repro::did_not_run(code) {
        let what = format!("cannot run {} (exit code {code}): nothing was compared", repro.title());
        super::failure::report(context.globals.failure_format(), &Failure::failed(what, None));
        return Ok(Exit::Command(OURS));
    }
    let differences = repro.result.differences(&now);
    if context.globals.json {
        print_json(&repro, &now, &differences);
    } else {
        Output::stdout().lines(verdict(&repro, &differences));
    }
    Ok(if differences.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Who made a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    /// The user of this machine.
    User,
    /// Perhaps someone else.
    Other,
}

/// The command that the snapshot was taken with.
async fn recorded(context: &Context, from: &Source, name: &str) -> Result<(Repro, Maker), Failure> {
    let info = super::snapshot::storage(context).await?.inspect(&from.set).await?;
    let manifest = info.as_ref().and_then(Manifest::of);
    let maker = manifest.as_ref().is_some_and(|manifest| !manifest.is_foreign());
    let maker = if maker { Maker::User } else { Maker::Other };
    let Some(repro) = manifest.and_then(|manifest| manifest.repro) else {
        let hint =
            "`sandbox snapshot create NAME --repro 'CMD'` keeps one; `sandbox up --from` starts the data";
        let what = format!("snapshot `{name}` was taken without a command to run");
        return Err(Failure::failed(what, Some(hint.to_owned())));
    };
    Ok((repro, maker))
}

/// Asks the user before a command of someone else runs where it reaches this machine: on it, or in a service of a
/// checkout that can write a folder of it.
async fn may_run(repro: &Repro, name: &str, spec: &Spec) -> Result<(), Failure> {
    let reach = match &repro.service {
        None => "runs on this machine".to_owned(),
        Some(service) => match written_by(spec, service) {
            Some(folder) => format!("can write `{folder}` of this machine"),
            None => return Ok(()),
        },
    };
    let what = format!("`{name}` came from someone else, and its command {} {reach}", repro.title());
    if consent::ask(vec![what.clone()]).await? {
        return Ok(());
    }
    Err(Failure::failed(what, Some("if you trust its maker, add `--allow-host-access`".to_owned())))
}

/// A folder of this machine that a service can write.
fn written_by(spec: &Spec, service: &ServiceName) -> Option<String> {
    let mounts = spec.services.get(service).into_iter().flat_map(|service| &service.mounts);
    mounts.filter(|mount| !mount.read_only).find_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => Some(source.display().to_string()),
        _ => None,
    })
}

/// What is printed of a comparison.
fn verdict(repro: &Repro, differences: &[Difference]) -> Vec<String> {
    let code = repro.result.exit_code;
    if differences.is_empty() {
        let text = format!(
            "reproduced: {} ends with exit code {code} and prints what it printed when the snapshot was taken",
            repro.title()
        );
        return vec![text];
    }
    let what: Vec<&str> = differences.iter().map(|difference| difference.what).collect();
    let mut lines = vec![format!("not reproduced: {} differs in {}", repro.title(), what.join(", "))];
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(no such line)".to_owned());
    for difference in differences {
        lines.push(format!("  {}", difference.what));
        lines.push(format!("    then  {}", shown(&difference.recorded)));
        lines.push(format!("    now   {}", shown(&difference.now)));
    }
    lines
}

fn print_json(repro: &Repro, now: &CommandResult, differences: &[Difference]) {
    Output::stdout().json(&serde_json::json!({
        "reproduced": differences.is_empty(), "command": repro.command, "service": repro.service,
        "recorded": repro.result, "now": now, "differences": differences,
    }));
}
