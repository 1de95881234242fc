//! The `quiet` renderer: errors only.

use super::messages::{self, Severity};
use crate::report::Reporter;
use crate::report::logs::{LogLine, LogPrinter};
use crate::report::output::Output;
use crate::report::plain;
use crate::session::event::Event;

/// Prints failures and objects that could not be removed, nothing else.
pub struct Quiet {
    output: Output,
    logs: LogPrinter,
}

impl Quiet {
    /// Creates a renderer on `output` that prints logs with `logs`.
    pub fn new(output: Output, logs: LogPrinter) -> Self {
        Self { output, logs }
    }
}

impl Reporter for Quiet {
    fn event(&mut self, event: &Event) {
        if let Event::Log { service, replica, time, line, .. } = event {
            self.logs.print(&LogLine { service, replica: *replica, time: *time, text: line });
            return;
        }
        let Some(fact) = messages::fact(event).filter(|fact| fact.weight == Severity::Error) else { return };
        for line in plain::lines(self.output.look(), &fact) {
            self.output.line(&line);
        }
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::logs::LogFormat;
    use crate::report::output::memory::Memory;
    use crate::report::style::OutputStyle;
    use crate::report::test_events;

    #[test]
    fn nothing_but_errors_and_logs_is_written() {
        let (memory, stdout) = (Memory::default(), Memory::default());
        let logs =
            LogPrinter::new(Output::new(Box::new(stdout.clone()), OutputStyle::BARE), LogFormat::default());
        let mut quiet = Quiet::new(Output::new(Box::new(memory.clone()), OutputStyle::BARE), logs);
        for event in test_events::of_an_up() {
            quiet.event(&event);
        }
        assert_eq!(memory.text(), "");
        for event in test_events::of_a_failure() {
            quiet.event(&event);
        }
        insta::assert_snapshot!(memory.text());
    }
}
