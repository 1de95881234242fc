//! The `tty` renderer: a board at the bottom of the terminal, with lasting messages scrolling above it.

mod board;
mod painter;
#[cfg(test)]
mod tests;

pub use painter::{Painter, Size};

use std::time::Duration;

use super::messages;
use super::messages::{Fact, Severity};
use super::style::{Glyph, OutputStyle, Tint};
use crate::report::logs::{LogLine, LogPrinter};
use crate::report::output::Output;
use crate::report::{Clock, Reporter, summary};
use crate::session::event::Event;

use board::Board;

/// Minimum interval between redraws, however fast events arrive.
const SHORTEST: Duration = Duration::from_millis(40);

/// The renderer that draws the board.
pub struct Tty {
    painter: Painter,
    board: Board,
    clock: Clock,
    logs: LogPrinter,
    pending: Vec<String>,
    drawn_at: Option<Duration>,
    /// Whether a command of the user is writing to the terminal.
    handed_over: bool,
}

impl Tty {
    /// Creates a renderer on `output`; `size` returns the terminal's rows and columns. Logs are printed with `logs`.
    pub fn new(output: Output, clock: Clock, size: Size, logs: LogPrinter) -> Self {
        Self {
            painter: Painter::new(output, size),
            board: Board::default(),
            clock,
            logs,
            pending: Vec::new(),
            drawn_at: None,
            handed_over: false,
        }
    }

    fn draw(&mut self) {
        let at = (self.clock.elapsed)();
        let (rows, _) = self.painter.size();
        let lines = self.board.lines(self.painter.look(), rows, at, (self.clock.now)());
        let above = std::mem::take(&mut self.pending);
        self.painter.paint(&above, &lines);
        self.drawn_at = Some(at);
    }

    /// Prints the lines of `event` that stay on the terminal.
    fn keep(&mut self, event: &Event) {
        let look = self.painter.look();
        match event {
            Event::Log { service, replica, time, line, .. } => {
                let line = LogLine { service, replica: *replica, time: *time, text: line };
                if self.logs.output().is_terminal() {
                    // Logs go to the same terminal as the board, so one writer prints both in order.
                    self.pending.push(self.logs.shown(&line));
                } else {
                    self.logs.print(&line);
                }
            }
            Event::Up { .. } => {
                let (_, columns) = self.painter.size();
                self.pending.push(String::new());
                self.pending.extend(summary::up(look, columns, event, (self.clock.now)()));
                self.pending.push(String::new());
            }
            Event::Welcome { text, tasks } => {
                self.pending.extend(summary::welcome(look, text, tasks));
                self.pending.push(String::new());
            }
            Event::Started { services, .. } => {
                self.logs.expect(services.iter().map(String::as_str));
            }
            _ => {
                if let Some(fact) = messages::fact(event).filter(|fact| fact.weight != Severity::Detail) {
                    self.pending.extend(lines(look, &fact));
                }
            }
        }
    }
}

impl Reporter for Tty {
    fn event(&mut self, event: &Event) {
        let at = (self.clock.elapsed)();
        self.board.event(event, at);
        self.keep(event);
        match event {
            Event::CommandStarted { .. } => {
                self.draw();
                self.handed_over = true;
            }
            Event::TearingDown { .. } if std::mem::take(&mut self.handed_over) => self.painter.fresh_line(),
            _ => {}
        }
        // Many events are drawn at once per frame; the next tick draws the rest.
        if self.drawn_at.is_none_or(|last| at.saturating_sub(last) >= SHORTEST) {
            self.draw();
        }
    }

    fn tick(&mut self) {
        self.draw();
    }

    fn finish(&mut self) {
        let above = std::mem::take(&mut self.pending);
        self.painter.paint(&above, &[]);
        self.painter.clear();
    }
}

/// A message that stays on the terminal, with its mark.
fn lines(look: OutputStyle, fact: &Fact) -> Vec<String> {
    let mark = match fact.weight {
        Severity::Error => look.mark(Glyph::Failed),
        Severity::Warning => look.mark(Glyph::Warning),
        Severity::Detail | Severity::Fact => look.mark(Glyph::Arrow),
    };
    let subject = if fact.subject.is_empty() {
        String::new()
    } else {
        format!("{}: ", look.paint(Tint::Strong, &fact.subject))
    };
    let mut lines = vec![format!("{mark} {subject}{}", fact.text)];
    lines.extend(fact.below.iter().map(|line| format!("    {line}")));
    if let Some(hint) = &fact.hint {
        lines.push(format!("  {} {hint}", look.mark(Glyph::Arrow)));
    }
    lines
}

/// Current rows and columns of the terminal behind standard error.
pub fn stderr_size() -> Size {
    size_of(console::Term::stderr())
}

/// Current rows and columns of the terminal behind standard output.
pub fn stdout_size() -> Size {
    size_of(console::Term::stdout())
}

fn size_of(term: console::Term) -> Size {
    Box::new(move || {
        let (rows, columns) = term.size();
        (rows.into(), columns.into())
    })
}
