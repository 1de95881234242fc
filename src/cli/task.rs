//! `task`: lists and runs the named commands of a spec.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;

use super::command::{Command, CommandTarget, Target, not_running};
use super::{Context, Exit, Failure, SpecOptions, complete, consent, keeper};
use crate::agent::client::{self, Keeper};
use crate::engine::Engine;
use crate::report::Output;
use crate::report::style::Tint;
use crate::report::table::Table;
use crate::session::inspect;
use crate::session::inspect::ObservedSandbox;
use crate::spec::{self, HostAccess, SandboxName, Spec, SpecOrigin, Task, TaskName};

/// Arguments of `task`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecOptions,
    /// Task (default: list all)
    #[arg(value_name = "TASK", add = ArgValueCandidates::new(complete::tasks))]
    task: Option<String>,
    /// Arguments to append to the task's command
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// A line of the list.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a TaskName,
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    run: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

/// Runs `task`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let spec = context.spec_here(&args.spec).await?;
    let Some(name) = &args.task else {
        list(context, &spec.tasks);
        return Ok(Exit::Done);
    };
    let task = find(&spec.tasks, name)?;
    may_run(&spec, name, task, args.spec.allow_host_access).await?;
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    if let Some(service) = &task.service {
        let container = observed.container(service.as_str(), 1)?;
        if !container.state.is_alive() {
            return Err(not_running(service.as_str(), container.state));
        }
    }
    if !args.spec.allow_host_access {
        unchanged(&engine, &observed, &spec, (name, task)).await?;
    }
    let sandbox =
        SandboxName::new(&*observed.name).map_err(|error| Failure::usage(error.to_string(), None))?;
    let _use = keeper::UsageGuard::of(&engine, &observed.name);
    // Whoever lets a stranger's task run lets it set its variables, too.
    let access = if spec.origin == SpecOrigin::Local { args.spec.host_access() } else { HostAccess::Allowed };
    let target = Target { engine, scope: context.scope()?, name: sandbox, access };
    let code = command(name, task, &args.arguments, &spec.folder).run(&target).await;
    Ok(Exit::Command(u8::try_from(code).unwrap_or(1)))
}

/// Asks the user before a task of an untrusted spec runs on this machine.
async fn may_run(spec: &Spec, name: &str, task: &Task, allowed: bool) -> Result<(), Failure> {
    if spec.origin == SpecOrigin::Local || task.service.is_some() || allowed {
        return Ok(());
    }
    let came = spec.origin.came();
    let what = format!("task `{name}` {came} and runs `{}` on this machine", shown(&task.command));
    if consent::ask(vec![what.clone()]).await? {
        return Ok(());
    }
    Err(Failure::failed(what, Some("if you trust its maker, add `--allow-host-access`".to_owned())))
}

/// Asks the user before a task runs on this machine that is not the one that the sandbox was started with, if a service
/// can write the spec.
async fn unchanged(
    engine: &Arc<dyn Engine>,
    observed: &ObservedSandbox,
    spec: &Spec,
    (name, task): (&str, &Task),
) -> Result<(), Failure> {
    if spec.origin != SpecOrigin::Local || task.service.is_some() {
        return Ok(());
    }
    let keeper = Keeper::ensure(engine, client::Options::from_env()?).await?;
    let started = inspect::declared(&keeper, observed).await?;
    if !started.is_some_and(|started| may_be_planted(&started, spec, name, task)) {
        return Ok(());
    }
    let what = format!(
        "task `{name}` runs `{}` on this machine; `{}` was started with another one, and a service can write the spec",
        shown(&task.command),
        observed.name
    );
    if consent::ask(vec![what.clone()]).await? {
        return Ok(());
    }
    let hint = "if you wrote it, `sandbox up` takes it over; `--allow-host-access` runs it once";
    Err(Failure::failed(what, Some(hint.to_owned())))
}

fn may_be_planted(started: &Spec, spec: &Spec, name: &str, task: &Task) -> bool {
    let writable = started.writable_folders();
    started.tasks.get(name) != Some(task) && spec.files.iter().any(|file| writable.holds(file))
}

fn find<'a>(tasks: &'a BTreeMap<TaskName, Task>, name: &str) -> Result<&'a Task, Failure> {
    tasks.get(name).ok_or_else(|| {
        let hint = match tasks.len() {
            0 => "the spec has no `tasks:`".to_owned(),
            _ => spec::did_you_mean(name, tasks.keys().map(AsRef::as_ref)),
        };
        Failure::usage(format!("there is no task `{name}`"), Some(hint))
    })
}

fn list(context: &Context, tasks: &BTreeMap<TaskName, Task>) {
    let mut out = Output::stdout();
    if context.globals.json {
        let listed = tasks.iter().map(|(name, task)| Listed {
            name,
            service: task.service.as_ref().map(AsRef::as_ref),
            run: &task.command,
            description: task.description.as_deref(),
        });
        out.json(&listed.collect::<Vec<_>>());
        return;
    }
    if tasks.is_empty() {
        Output::stderr().line("the spec has no tasks; `tasks: { test: npm test }` is one");
        return;
    }
    let mut table = Table::new(["task", "in", "what it does"]);
    for (name, task) in tasks {
        let place = task.service.as_ref().map_or_else(|| "this machine".to_owned(), ToString::to_string);
        let what = task.description.clone().unwrap_or_else(|| shown(&task.command));
        table.row([out.look().paint(Tint::Strong, name.as_str()), place, what]);
    }
    out.table(&table);
}

/// A command as it was written.
fn shown(command: &[String]) -> String {
    match command {
        [shell, flag, line] if shell == "sh" && flag == "-c" => line.clone(),
        words => shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" ")),
    }
}

/// The command of a task with additional arguments. A shell line gets them as `"$@"`, appended unless the line uses
/// them.
fn command(name: &str, task: &Task, arguments: &[String], folder: &Path) -> Command {
    let mut words = task.command.clone();
    if let [shell, flag, line] = words.as_mut_slice()
        && shell == "sh"
        && flag == "-c"
        && !arguments.is_empty()
    {
        if !["$@", "$*", "$1", "${@", "${1"].iter().any(|place| line.contains(place)) {
            line.push_str(" \"$@\"");
        }
        words.push(name.to_owned());
    }
    words.extend(arguments.iter().cloned());
    let written = task.working_dir.as_ref().map(PathBuf::from);
    let (place, folder) = if let Some(service) = &task.service {
        (CommandTarget::Service(service.clone()), written)
    } else {
        // An untrusted spec may name a folder that does not exist here.
        let folder = Some(folder).filter(|folder| folder.is_dir());
        (
            CommandTarget::Host,
            folder.map(|folder| written.map_or(folder.to_owned(), |inner| folder.join(inner))),
        )
    };
    let words = words.into_iter().map(OsString::from).collect();
    Command { environment: task.environment.clone(), folder, ..Command::new(place, words) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::At;

    fn task(command: &[&str], service: Option<&str>) -> Task {
        Task {
            command: command.iter().map(ToString::to_string).collect(),
            service: service.map(|name| name.parse().unwrap()),
            description: None,
            environment: BTreeMap::new(),
            working_dir: None,
            at: At::default(),
        }
    }

    fn words(task: &Task, arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let command = command("test", task, &arguments, Path::new("/"));
        command.words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn arguments_go_to_the_end_of_a_line_unless_it_says_where() {
        let line = |line| task(&["sh", "-c", line], None);
        assert_eq!(words(&line("npm test"), &[]), ["sh", "-c", "npm test"]);
        assert_eq!(
            words(&line("npm test"), &["-w", "a b"]),
            ["sh", "-c", "npm test \"$@\"", "test", "-w", "a b"]
        );
        assert_eq!(words(&line("say $1 twice"), &["x"]), ["sh", "-c", "say $1 twice", "test", "x"]);
        assert_eq!(words(&task(&["psql", "-d", "shop"], Some("db")), &["-A"]), ["psql", "-d", "shop", "-A"]);
    }

    #[test]
    fn a_task_of_the_host_runs_in_the_folder_of_its_spec() {
        let dir = tempfile::tempdir().unwrap();
        let mut task = task(&["true"], None);
        assert_eq!(command("t", &task, &[], dir.path()).folder.as_deref(), Some(dir.path()));
        task.working_dir = Some("inner".to_owned());
        assert_eq!(command("t", &task, &[], dir.path()).folder, Some(dir.path().join("inner")));
        assert_eq!(command("t", &task, &[], Path::new("/no/such/folder")).folder, None);
    }
}
