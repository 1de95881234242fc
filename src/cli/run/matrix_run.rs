//! Runs a matrix: its entries side by side, each a child process with a sandbox of its own, and reports on all of them.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::entry::Entry;
use super::entry::EntryLog;
use super::report_files::ReportFiles;
use super::{Args, annotate, exit_unless, matrix};
use crate::cli::{Context, Exit, Failure};
use crate::report::Output;
use crate::report::ci::matrix_table;
use crate::report::ci::record::{RunRecord, worst_code};
use crate::spec::{self, Refusals};

/// How often the reports are brought up to date, so that a matrix that is killed leaves what its entries did.
const UPDATE: Duration = Duration::from_millis(500);

/// Runs all entries and reports on them.
pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let combinations = matrix::entries(&args.report.matrix).map_err(|why| Failure::usage(why, None))?;
    let work = tempfile::tempdir()?;
    let numbered = combinations.into_iter().enumerate();
    let entries: Vec<Entry> =
        numbered.map(|(index, entry)| Entry::new(index + 1, entry, args, work.path())).collect();
    check_specs(args, context, &entries)?;
    let files = ReportFiles::of(&args.report)?;
    let folding = args.report.folding();
    let mut matrix = Matrix {
        records: entries.iter().map(Entry::record).collect(),
        entries: &entries,
        files: &files,
        log: EntryLog::new(folding, &context.globals),
    };
    files.write(&matrix.records)?;
    let stopped = matrix.run(parallel(args)).await?;
    let written = files.write(&matrix.records);
    let records = matrix.records;
    show(context, &records);
    if let Some(folding) = folding {
        annotate(folding, &records);
    }
    let exit = stopped.unwrap_or_else(|| Exit::Command(u8::try_from(worst_code(&records)).unwrap_or(1)));
    exit_unless(written, exit, context)
}

fn parallel(args: &Args) -> usize {
    let cpus = || std::thread::available_parallelism().ok();
    args.report.parallel.or_else(cpus).map_or(1, NonZeroUsize::get)
}

/// Reads the spec with the variables of each entry, so that nothing is started if one of them is wrong.
fn check_specs(args: &Args, context: &Context, entries: &[Entry]) -> Result<(), Failure> {
    let options = context.spec_options(&args.spec);
    if options.files.iter().any(|file| file == Path::new("-")) {
        let hint = "name a file with `-f`".to_owned();
        return Err(Failure::usage(
            "a matrix reads its spec several times, not from standard input",
            Some(hint),
        ));
    }
    if args.build.from.is_some() {
        // The spec may be the snapshot's.
        return Ok(());
    }
    for entry in entries {
        let services: Vec<String> = args.service.iter().map(ToString::to_string).collect();
        let mut request = context.load_request(&args.spec, &services, Refusals::Fail)?;
        request.env.extend(entry.variables().iter().map(|it| (it.name.clone(), it.value.clone())));
        let loaded = spec::load(&request).map_err(Failure::Spec)?;
        if let Some(service) = args.service.as_ref().filter(|name| !loaded.spec.services.contains_key(*name))
        {
            return Err(Failure::usage(format!("the spec has no service `{service}`"), None));
        }
    }
    Ok(())
}

/// The table of all entries; with `--json` their records on standard output.
fn show(context: &Context, records: &[RunRecord]) {
    if context.globals.json {
        Output::stdout().json(&records);
        return;
    }
    let mut output = Output::stderr();
    let table = matrix_table::table(output.look(), records);
    output.line("");
    output.table(&table);
}

/// A matrix in progress.
struct Matrix<'a> {
    entries: &'a [Entry],
    records: Vec<RunRecord>,
    files: &'a ReportFiles,
    log: EntryLog,
}

impl Matrix<'_> {
    /// Runs all entries, `parallel` at a time. Returns the exit for a signal that stopped it.
    async fn run(&mut self, parallel: usize) -> Result<Option<Exit>, Failure> {
        let mut signals = Signals::listen()?;
        let (stop, stopping) = watch::channel(0_u32);
        let mut stopped = None;
        let mut update = tokio::time::interval(UPDATE);
        let (entries, log) = (self.entries, &self.log);
        let runs = entries.iter().enumerate().map(|(index, entry)| {
            let stopping = stopping.clone();
            async move { (index, entry.run(log, stopping).await) }
        });
        // The children are started by this task, not by one on a thread that may end before them: their parent-death
        // signal is bound to the thread.
        let mut runs = std::pin::pin!(stream::iter(runs).buffer_unordered(parallel));
        let mut ended = vec![false; entries.len()];
        loop {
            tokio::select! {
                run = runs.next() => {
                    let Some((index, record)) = run else { return Ok(stopped) };
                    self.records[index] = record;
                    ended[index] = true;
                    update_files(self.files, &self.records);
                }
                exit = signals.next() => {
                    stopped.get_or_insert(exit);
                    stop.send_modify(|count| *count += 1);
                }
                _ = update.tick() => update_reports(entries, &ended, &mut self.records, self.files),
            }
        }
    }
}

/// Brings the reports up to date if the record of an entry in progress has changed.
fn update_reports(entries: &[Entry], ended: &[bool], records: &mut [RunRecord], files: &ReportFiles) {
    let mut changed = false;
    for ((entry, record), _) in
        entries.iter().zip(records.iter_mut()).zip(ended).filter(|(_, ended)| !**ended)
    {
        let now = entry.record();
        if now.end != record.end || now.cases != record.cases {
            *record = now;
            changed = true;
        }
    }
    if changed {
        update_files(files, records);
    }
}

fn update_files(files: &ReportFiles, records: &[RunRecord]) {
    // The last write reports a failure.
    if let Err(error) = files.write(records) {
        tracing::warn!(%error, "the reports were not updated");
    }
}

/// The signals that stop a matrix.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The exit for the next signal.
    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Signalled(15),
            _ = self.hang_up.recv() => Exit::Signalled(1),
        }
    }
}
