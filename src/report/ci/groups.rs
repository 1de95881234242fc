//! Parts of a log that GitHub and GitLab fold, and errors that GitHub shows beside the job.

use jiff::Timestamp;

use crate::report::output::Output;
use crate::report::plain::Plain;
use crate::report::style::{Colour, harmless};
use crate::report::{Clock, Reporter};
use crate::session::event::{AfterExit, Event};

/// How a CI service folds its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFolding {
    /// `::group::` and `::endgroup::`.
    Github,
    /// `section_start` and `section_end`.
    Gitlab,
}

impl LogFolding {
    /// The CI service whose job this process is part of, if its log can be folded.
    pub fn detect(environment: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let is_set = |name| environment(name).is_some_and(|value| value == "true");
        match (is_set("GITHUB_ACTIONS"), is_set("GITLAB_CI")) {
            (true, _) => Some(Self::Github),
            (false, true) => Some(Self::Gitlab),
            (false, false) => None,
        }
    }

    /// The line that starts a part. `id` consists of letters, digits, `-` and `_`.
    pub fn start(self, id: &str, title: &str, now: Timestamp) -> String {
        let title = harmless(title, Colour::Off);
        match self {
            Self::Github => format!("::group::{title}\n"),
            Self::Gitlab => {
                let now = now.as_second();
                format!("\u{1b}[0Ksection_start:{now}:{id}[collapsed=true]\r\u{1b}[0K{title}\n")
            }
        }
    }

    /// The line that ends a part.
    pub fn end(self, id: &str, now: Timestamp) -> String {
        match self {
            Self::Github => "::endgroup::\n".to_owned(),
            Self::Gitlab => format!("\u{1b}[0Ksection_end:{}:{id}\r\u{1b}[0K\n", now.as_second()),
        }
    }

    /// The line that shows an error beside the job, if the service has such lines.
    pub fn annotation(self, title: &str, message: &str) -> Option<String> {
        let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
        match self {
            Self::Github => Some(format!("::error title={}::{}\n", property(title), data(message))),
            Self::Gitlab => None,
        }
    }
}

/// Folds the build and the teardown of a sandbox. What failed stays outside.
pub struct GroupedLog {
    inner: Plain,
    output: Output,
    clock: Clock,
    folding: LogFolding,
    /// The id of the part that is open.
    open: Option<String>,
}

impl GroupedLog {
    /// Creates a renderer that writes its markers to `output` and everything else through `inner`.
    pub fn new(inner: Plain, output: Output, clock: Clock, folding: LogFolding) -> Self {
        Self { inner, output, clock, folding, open: None }
    }

    fn start(&mut self, part: &str, name: &str, title: &str) {
        self.end();
        let id = format!("{part}_{name}");
        let line = self.folding.start(&id, title, (self.clock.now)());
        self.output.bytes(line.as_bytes());
        self.open = Some(id);
    }

    fn end(&mut self) {
        if let Some(id) = self.open.take() {
            let line = self.folding.end(&id, (self.clock.now)());
            self.output.bytes(line.as_bytes());
        }
    }
}

impl Reporter for GroupedLog {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Started { name, .. } => self.start("setup", name, &format!("sandbox {name}")),
            Event::TearingDown { name, .. } => self.start("teardown", name, &format!("removing {name}")),
            Event::ServiceExited { then: AfterExit::Ends, .. }
            | Event::Failed { .. }
            | Event::Left { .. } => {
                self.end();
            }
            _ => {}
        }
        self.inner.event(event);
        if matches!(event, Event::CommandStarted { .. } | Event::Torn { .. }) {
            self.end();
        }
    }

    fn finish(&mut self) {
        self.inner.finish();
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::logs::{LogFormat, LogPrinter};
    use crate::report::output::memory::Memory;
    use crate::report::style::OutputStyle;
    use crate::report::test_events;
    use crate::session::event::Acknowledgement;

    fn told(folding: LogFolding, events: &[Event]) -> String {
        let memory = Memory::default();
        let output = || Output::new(Box::new(memory.clone()), OutputStyle::BARE);
        let plain =
            Plain::new(output(), test_events::clock(), LogPrinter::new(output(), LogFormat::default()));
        let mut grouped = GroupedLog::new(plain, output(), test_events::clock(), folding);
        for event in events {
            grouped.event(event);
        }
        grouped.finish();
        memory.text()
    }

    fn run_that_fails() -> Vec<Event> {
        let [started, exited, ..] = &test_events::of_a_failure()[..] else { return Vec::new() };
        let torn_down = Event::TearingDown {
            name: "shop-main".into(),
            reason: "the command ended".into(),
            interrupted: false,
        };
        let command = Event::CommandStarted { cleared: Acknowledgement::default() };
        let ready = Event::Notice { text: "ready".into() };
        vec![started.clone(), ready, command, exited.clone(), torn_down]
    }

    #[test]
    fn github_folds_the_build_and_the_teardown_but_not_what_failed() {
        insta::assert_snapshot!(told(LogFolding::Github, &run_that_fails()));
    }

    #[test]
    fn gitlab_gets_sections_with_times() {
        let log = told(LogFolding::Gitlab, &run_that_fails());
        assert!(log.starts_with(
            "\u{1b}[0Ksection_start:1793000000:setup_shop-main[collapsed=true]\r\u{1b}[0Ksandbox shop-main\n"
        ));
        assert!(log.contains("\u{1b}[0Ksection_end:1793000000:setup_shop-main\r\u{1b}[0K\n"));
    }

    #[test]
    fn an_annotation_is_one_line_whatever_is_in_it() {
        let line = LogFolding::Github.annotation("PG=16: db, web", "100%\nbroken");
        assert_eq!(line.as_deref(), Some("::error title=PG=16%3A db%2C web::100%25%0Abroken\n"));
    }

    #[test]
    fn only_a_known_service_is_detected() {
        let with =
            |name: &'static str| LogFolding::detect(move |asked| (asked == name).then(|| "true".to_owned()));
        assert_eq!(with("GITHUB_ACTIONS"), Some(LogFolding::Github));
        assert_eq!(with("GITLAB_CI"), Some(LogFolding::Gitlab));
        assert_eq!(with("CI"), None);
    }
}
