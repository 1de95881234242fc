//! The `json` renderer: one object per line, a [`Recorded`] as JSON. `event` names the kind (`started`, `step_done`,
//! `up`, …), `at_ms` counts from the session's start, every `…_ms` is in whole milliseconds, every timestamp is RFC
//! 3339.

use crate::report::output::Output;
use crate::report::{Clock, Reporter};
use crate::session::event::{Event, Recorded};

/// Writes every event as one line.
pub struct Json {
    output: Output,
    clock: Clock,
}

impl Json {
    /// Creates a renderer on `output`.
    pub fn new(output: Output, clock: Clock) -> Self {
        Self { output, clock }
    }
}

impl Reporter for Json {
    fn event(&mut self, event: &Event) {
        let recorded = Recorded { at: (self.clock.elapsed)(), event: event.clone() };
        match serde_json::to_string(&recorded) {
            Ok(line) => self.output.line(&line),
            Err(error) => tracing::debug!(%error, "an event that is not JSON"),
        }
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::output::memory::Memory;
    use crate::report::style::OutputStyle;
    use crate::report::test_events;

    #[test]
    fn every_event_is_one_object_on_one_line() {
        let memory = Memory::default();
        let mut json =
            Json::new(Output::new(Box::new(memory.clone()), OutputStyle::BARE), test_events::clock());
        let events: Vec<_> = test_events::of_an_up().into_iter().chain(test_events::of_a_failure()).collect();
        for event in &events {
            json.event(event);
        }
        let text = memory.text();
        let read: Vec<Recorded> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read.into_iter().map(|recorded| recorded.event).collect::<Vec<_>>(), events);
        insta::assert_snapshot!(text);
    }
}
