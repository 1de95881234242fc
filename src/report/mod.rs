//! Events become text: tty, plain, json, quiet; tables and pictures. The only room that prints.
//!
//! A [`Reporter`] is told events and asks for nothing. Data goes to standard output, everything else to standard
//! error; a reader who has left (a closed pipe) is no error.

pub mod amount;
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
use tokio::sync::mpsc::UnboundedReceiver;

use crate::session::event::{Event, Recorded};

use logs::{LogFormat, LogPrinter};
pub use output::Output;

/// Renders what happens.
pub trait Reporter: Send {
    /// Tells of one event.
    fn event(&mut self, event: &Event);

    /// Time has passed: what moves may be drawn anew.
    fn tick(&mut self) {}

    /// Nothing more will come: what was drawn for a moment only is taken away.
    fn finish(&mut self);
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// `Tty` on a terminal that can move its cursor, `Plain` elsewhere.
    #[default]
    Auto,
    /// A live board.
    Tty,
    /// One line per fact.
    Plain,
    /// One object per line.
    Json,
    /// Errors only.
    Quiet,
}

/// What time it is, as a test can set it.
pub struct Clock {
    /// Time since the session began.
    pub elapsed: Box<dyn Fn() -> Duration + Send>,
    /// The moment.
    pub now: Box<dyn Fn() -> Timestamp + Send>,
}

impl Clock {
    /// The real time, counted from now on.
    pub fn start() -> Self {
        let begin = Instant::now();
        Self { elapsed: Box::new(move || begin.elapsed()), now: Box::new(Timestamp::now) }
    }
}

/// The renderer for `progress` on standard error. Services' logs go to standard output, except with `Json`, where they
/// are events as well.
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

/// How often moving parts are drawn anew.
const FRAME: Duration = Duration::from_millis(100);

/// Feeds `reporter` until every sender is gone, and returns what happened and when, for `timeline`. Log lines are left
/// out of what is returned. Run it on a thread of its own (`spawn_blocking`): a terminal that is held (Ctrl-S) blocks
/// its writer.
pub async fn drive(mut reporter: Box<dyn Reporter>, mut events: UnboundedReceiver<Event>) -> Vec<Recorded> {
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
