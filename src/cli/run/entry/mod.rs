//! An entry of a matrix: this program again as a child, with the variables in its environment.

mod output;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::matrix::folder_name;
use super::recording::command_line;
use super::{Args, OURS};
use crate::report::ci::capture::Capture;
use crate::report::ci::record::{RunEnd, RunRecord, Variable, label};
use crate::report::ci::recorder::Recorder;
use crate::session::lifecycle::run::exit_code;
pub(super) use output::EntryLog;

/// How long to wait for the end of an entry's output once it has exited.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// One entry of a matrix.
pub(super) struct Entry {
    variables: Vec<Variable>,
    label: String,
    command: String,
    /// The file in which the child leaves its record.
    record: PathBuf,
    artifacts: Option<PathBuf>,
}

impl Entry {
    /// The entry with this number, from 1 on. `work` is a folder for its record.
    pub fn new(number: usize, variables: Vec<Variable>, args: &Args, work: &Path) -> Self {
        let artifacts = args.report.artifacts.as_ref();
        Self {
            label: label(&variables),
            command: command_line(&args.command),
            record: work.join(format!("{number}.json")),
            artifacts: artifacts.map(|folder| folder.join(folder_name(number, &variables))),
            variables,
        }
    }

    /// Its variables in one line.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its variables.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// Its record so far.
    pub fn record(&self) -> RunRecord {
        let written = std::fs::read(&self.record).ok().and_then(|json| serde_json::from_slice(&json).ok());
        written.unwrap_or_else(|| self.not_run())
    }

    fn not_run(&self) -> RunRecord {
        let new = RunRecord::new(self.variables.clone(), self.command.clone(), Timestamp::now());
        RunRecord { end: RunEnd::NotRun, ..new }
    }

    /// Runs the entry to its end, unless the matrix has been stopped. Each change of `stop` is a signal to this process.
    pub async fn run(&self, log: &EntryLog, stop: watch::Receiver<u32>) -> RunRecord {
        if *stop.borrow() > 0 {
            return self.not_run();
        }
        match self.run_child(log, stop).await {
            Ok(status) => self.ended(status),
            Err(error) => {
                let mut recorder = Recorder::new(self.not_run(), Capture::default());
                recorder.failed(&["cannot start the entry".to_owned(), error.to_string()], &[]);
                recorder.ended(RunEnd::Exited { code: OURS.into() }, Duration::ZERO);
                recorder.record()
            }
        }
    }

    async fn run_child(&self, log: &EntryLog, stop: watch::Receiver<u32>) -> io::Result<ExitStatus> {
        let mut command = self.child(log)?;
        let output = log.connect(&mut command)?;
        let mut child = command.spawn()?;
        // The command holds copies of the child's output.
        drop(command);
        log.started(&self.label).await;
        let following = log.follow(&mut child, &self.label);
        let status = wait(&mut child, stop).await?;
        // A process that the command left behind may hold its output open.
        let _ = tokio::time::timeout(LAST_OUTPUT, following).await;
        log.ended(output, self, &self.ended(status)).await;
        Ok(status)
    }

    fn child(&self, log: &EntryLog) -> io::Result<Command> {
        let mut options: Vec<OsString> = vec!["--entry-record".into(), self.record.clone().into()];
        for variable in &self.variables {
            options.extend(["--entry".into(), variable.to_string().into()]);
        }
        if let Some(folder) = &self.artifacts {
            options.extend(["--artifacts".into(), folder.clone().into()]);
        }
        if let Some(progress) = log.progress() {
            options.extend(["--progress".into(), progress.into()]);
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(before_command(std::env::args_os().skip(1).collect(), options));
        command.envs(self.variables.iter().map(|it| (&it.name, &it.value))).stdin(Stdio::null());
        // Ctrl-C reaches this process only, which forwards it once.
        command.process_group(0);
        end_with_parent(&mut command);
        Ok(command)
    }

    /// The record of a child that has exited. A child that was killed has left it as it was.
    fn ended(&self, status: ExitStatus) -> RunRecord {
        let record = self.record();
        match record.end {
            RunEnd::Running | RunEnd::NotRun if status.code().is_some() => {
                let began = record.began;
                let mut recorder = Recorder::new(record, Capture::default());
                let elapsed = Timestamp::now().duration_since(began).try_into().unwrap_or_default();
                recorder.ended(RunEnd::Exited { code: exit_code(status) }, elapsed);
                recorder.record()
            }
            RunEnd::NotRun => RunRecord { end: RunEnd::Running, ..record },
            _ => record,
        }
    }
}

/// Inserts options before the command of `run … -- CMD`. The later of two options counts.
fn before_command(mut arguments: Vec<OsString>, options: Vec<OsString>) -> Vec<OsString> {
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    arguments.splice(end..end, options);
    arguments
}

/// Waits for a child and forwards signals: the first as `SIGTERM`, which ends it gracefully, each other one as `SIGINT`,
/// which cuts that short.
async fn wait(child: &mut Child, mut stop: watch::Receiver<u32>) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            Ok(()) = stop.changed() => {
                let signal = if *stop.borrow_and_update() > 1 { Signal::INT } else { Signal::TERM };
                let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
                if let Some(pid) = pid {
                    // The child may have exited meanwhile.
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
    }
}

/// Has the child tear down its sandbox when this process dies, even by `SIGKILL`.
fn end_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe, and the closure allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn options_of_an_entry_stand_before_its_command() {
        let made = before_command(words("run --matrix A=1 -- npm -- test"), words("--entry A=1"));
        assert_eq!(made, words("run --matrix A=1 --entry A=1 -- npm -- test"));
    }
}
