//! Renders events and results: tty, plain, json, quiet; tables and graphs. Only this module prints.
//!
//! A [`Reporter`] receives events and returns nothing. Data goes to standard output, everything else to standard
//! error. A closed pipe is not an error.

pub mod amount;
pub mod ci;
pub mod error;
pub mod graph;
mod json;
pub mod live_view;
pub mod logs;
pub mod messages;
pub mod output;
mod plain;
mod quiet;
pub mod style;
pub mod summary;
pub mod table;
#[cfg(test)]
mod test_events;
pub mod timeline;
mod tty;

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::session::event::{Event, EventReceiver, Recorded};

use ci::groups::{GroupedLog, LogFolding};
use logs::{LogFormat, LogPrinter};
pub use output::Output;

/// Renders events.
pub trait Reporter: Send {
    /// Renders one event.
    fn event(&mut self, event: &Event);

    /// Called periodically, to redraw progress.
    fn tick(&mut self) {}

    /// Called after the last event: removes temporary output such as the board.
    fn finish(&mut self);
}

/// The form of progress output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// `Tty` on a terminal that can move its cursor, `Plain` elsewhere.
    #[default]
    Auto,
    /// A board that is redrawn.
    Tty,
    /// One line per message.
    Plain,
    /// One JSON object per line.
    Json,
    /// Errors only.
    Quiet,
}

/// The current time; tests can replace it.
pub struct Clock {
    /// Time since the session started.
    pub elapsed: Box<dyn Fn() -> Duration + Send>,
    /// Wall-clock time.
    pub now: Box<dyn Fn() -> Timestamp + Send>,
}

impl Clock {
    /// The real time; `elapsed` starts at zero.
    pub fn start() -> Self {
        let begin = Instant::now();
        Self { elapsed: Box::new(move || begin.elapsed()), now: Box::new(Timestamp::now) }
    }
}

/// Creates the renderer for `progress` on standard error. Logs of services go to standard output; with `Json` they are
/// events as well.
pub fn to_stderr(progress: Progress, logs: LogFormat) -> Box<dyn Reporter> {
    let logs = LogPrinter::new(Output::stdout(), logs);
    let output = Output::stderr();
    let clock = Clock::start();
    let term = console::Term::stderr();
    let capable =
        term.is_term() && std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb");
    match progress {
        Progress::Auto if capable => Box::new(tty::Tty::new(output, clock, tty::stderr_size(), logs)),
        Progress::Tty => Box::new(tty::Tty::new(output, clock, tty::stderr_size(), logs)),
        Progress::Auto | Progress::Plain => Box::new(plain::Plain::new(output, clock, logs)),
        Progress::Json => Box::new(json::Json::new(output, clock)),
        Progress::Quiet => Box::new(quiet::Quiet::new(output, logs)),
    }
}

/// Creates the renderer of a run. Off a terminal it folds the log where the CI service can do that, and is brief
/// elsewhere.
pub fn of_run(progress: Progress, folding: Option<LogFolding>) -> Box<dyn Reporter> {
    if progress != Progress::Auto || console::Term::stderr().is_term() {
        return to_stderr(progress, LogFormat::default());
    }
    let logs = LogPrinter::new(Output::stdout(), LogFormat::default());
    let plain = plain::Plain::new(Output::stderr(), Clock::start(), logs);
    match folding {
        Some(folding) => Box::new(GroupedLog::new(plain, Output::stderr(), Clock::start(), folding)),
        None => Box::new(plain.with_detail(plain::Detail::Brief)),
    }
}

/// Interval between redraws.
const FRAME: Duration = Duration::from_millis(100);

/// Sends events to `reporter` until all senders are dropped, and returns the events with their times, for `timeline`.
/// Log lines are not returned. Run it in its own thread (`spawn_blocking`), because a stopped terminal (Ctrl-S) blocks
/// its writer.
pub async fn drive(mut reporter: Box<dyn Reporter>, mut events: EventReceiver) -> Vec<Recorded> {
    let begin = Instant::now();
    let mut recording = Vec::new();
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => {
                    reporter.event(&event);
                    if let Event::CommandStarted { cleared } = &event {
                        cleared.give();
                    }
                    if timeline::counts(&event) {
                        recording.push(Recorded { at: begin.elapsed(), event });
                    }
                }
                None => break,
            },
            _ = frames.tick() => reporter.tick(),
        }
    }
    reporter.finish();
    recording
}
