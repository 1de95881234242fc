//! The `plain` renderer: one line per message, no timestamps, no cursor movement. For CI and pipes.

use std::collections::HashMap;
use std::time::Duration;

use super::messages::{self, Fact, Severity};
use super::style::{Glyph, OutputStyle, Tint};
use crate::report::Reporter;
use crate::report::amount;
use crate::report::logs::{LogLine, LogPrinter};
use crate::report::output::Output;
use crate::report::{Clock, summary};
use crate::session::event::Event;

/// Width of a CI log, above which the final table is printed as blocks.
const WIDTH: usize = 200;

/// Prints each message once. Repeated waits and pulls in progress are printed at increasing intervals.
pub struct Plain {
    output: Output,
    clock: Clock,
    logs: LogPrinter,
    detail: Detail,
    told: HashMap<String, LastShown>,
}

/// How much is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Every message.
    All,
    /// No details: no finished steps, no short waits, no output of builds that succeed.
    Brief,
}

/// A wait that is shorter is a detail.
const LONG_WAIT: Duration = Duration::from_secs(5);

/// The last message that was printed for a wait or a pull.
struct LastShown {
    text: String,
    /// Time of the next repetition, in seconds since the wait began.
    next: u64,
}

impl Plain {
    /// Creates a renderer on `output` that prints logs with `logs`.
    pub fn new(output: Output, clock: Clock, logs: LogPrinter) -> Self {
        Self { output, clock, logs, detail: Detail::All, told: HashMap::new() }
    }

    /// The same renderer with less or more detail.
    #[must_use]
    pub fn with_detail(self, detail: Detail) -> Self {
        Self { detail, ..self }
    }

    fn tell(&mut self, event: &Event) {
        let shown = |fact: &Fact| self.detail == Detail::All || fact.weight != Severity::Detail;
        if let Some(fact) = messages::fact(event).filter(shown) {
            self.show(&fact);
        }
    }

    fn show(&mut self, fact: &Fact) {
        let look = self.output.look();
        for line in lines(look, fact) {
            self.output.line(&line);
        }
    }

    /// Handles the events of which a brief output shows another part than a complete one.
    fn tell_briefly(&mut self, event: &Event) {
        match event {
            Event::Plan { .. } => {}
            Event::Up { name, elapsed, .. } => {
                self.output.line(&format!("sandbox `{name}` is up after {}", amount::duration(*elapsed)));
            }
            Event::Waiting { service, what, since, .. } => {
                if *since >= LONG_WAIT
                    && self.is_news(format!("wait {service}"), what, since.as_secs())
                    && let Some(fact) = messages::fact(event)
                {
                    self.show(&fact);
                }
            }
            other => self.tell(other),
        }
    }

    /// A wait is printed when it begins, when its state changes, and after 5, 10, 20, 40 … seconds.
    fn is_news(&mut self, key: String, text: &str, seconds: u64) -> bool {
        match self.told.get_mut(&key) {
            Some(told) if told.text == text && seconds < told.next => false,
            Some(told) => {
                let changed = told.text != text;
                text.clone_into(&mut told.text);
                while told.next <= seconds {
                    told.next *= 2;
                }
                changed || seconds > 0
            }
            None => {
                self.told.insert(key, LastShown { text: text.to_owned(), next: 5 });
                true
            }
        }
    }
}

impl Reporter for Plain {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Log { service, replica, time, line, .. } => {
                self.logs.print(&LogLine { service, replica: *replica, time: *time, text: line });
            }
            Event::Plan { .. } | Event::Up { .. } | Event::Waiting { .. } | Event::BuildFailed { .. }
                if self.detail == Detail::Brief =>
            {
                self.tell_briefly(event);
            }
            Event::Plan { steps } => {
                self.output.line(&format!("plan: {}", amount::count(steps.len(), "step")));
            }
            Event::Up { .. } => {
                for line in summary::up(self.output.look(), WIDTH, event, (self.clock.now)()) {
                    self.output.line(&line);
                }
            }
            Event::Welcome { text, tasks } => {
                self.output.lines(summary::welcome(self.output.look(), text, tasks));
            }
            Event::Started { services, .. } => {
                self.logs.expect(services.iter().map(String::as_str));
                self.tell(event);
            }
            Event::Pull { image, bytes, done: false, .. } => {
                // Printed once, because there is no progress bar.
                if self.is_news(format!("pull {image}"), "", 0) {
                    let of = if bytes.total > 0 {
                        format!(" ({})", amount::bytes(bytes.total))
                    } else {
                        String::new()
                    };
                    self.output.line(&format!("pulling `{image}`{of}"));
                }
            }
            Event::Transfer { what, done: false, .. } => {
                if self.is_news(format!("transfer {what}"), "", (self.clock.elapsed)().as_secs()) {
                    self.tell(event);
                }
            }
            // The output was printed line by line before.
            Event::BuildFailed { .. } => {}
            Event::Waiting { service, what, since, .. } => {
                if self.is_news(format!("wait {service}"), what, since.as_secs()) {
                    self.tell(event);
                }
            }
            _ => self.tell(event),
        }
    }

    fn finish(&mut self) {}
}

/// A message as lines: `subject: sentence`, then its indented details, then the hint.
pub fn lines(look: OutputStyle, fact: &Fact) -> Vec<String> {
    let lead = match fact.weight {
        Severity::Error => format!("{}: ", look.paint(Tint::Bad, "error")),
        Severity::Warning => format!("{}: ", look.paint(Tint::Warn, "warning")),
        Severity::Detail | Severity::Fact => String::new(),
    };
    let subject = if fact.subject.is_empty() {
        String::new()
    } else {
        format!("{}: ", look.paint(Tint::Strong, &fact.subject))
    };
    let mut lines = vec![format!("{lead}{subject}{}", fact.text)];
    lines.extend(fact.below.iter().map(|line| format!("  | {line}")));
    if let Some(hint) = &fact.hint {
        lines.push(format!("  {} {hint}", look.mark(Glyph::Arrow)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::logs::LogFormat;
    use crate::report::output::memory::Memory;
    use crate::report::test_events;

    fn told(events: &[Event]) -> String {
        told_with(Detail::All, events)
    }

    fn told_with(detail: Detail, events: &[Event]) -> String {
        let memory = Memory::default();
        let output = || Output::new(Box::new(memory.clone()), OutputStyle::BARE);
        let logs = LogPrinter::new(output(), LogFormat::default());
        let mut plain = Plain::new(output(), test_events::clock(), logs).with_detail(detail);
        for event in events {
            plain.event(event);
        }
        plain.finish();
        memory.text()
    }

    #[test]
    fn an_up_and_its_end_are_one_line_per_fact() {
        insta::assert_snapshot!(told(&test_events::of_an_up()));
    }

    #[test]
    fn a_failure_shows_the_log_and_who_waited_and_the_way_out() {
        insta::assert_snapshot!(told(&test_events::of_a_failure()));
    }

    #[test]
    fn a_brief_output_has_no_steps_and_only_long_waits() {
        insta::assert_snapshot!(told_with(Detail::Brief, &test_events::of_an_up()));
    }
}
