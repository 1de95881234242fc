//! Lines of services' logs: coloured, aligned prefixes, the same everywhere that logs are shown.

use jiff::Timestamp;

use super::style::{OutputStyle, Tint, harmless};
use crate::engine::identity;
use crate::report::output::Output;
use crate::session::event::LogText;

/// Knows how wide the prefixes are and which service has which colour.
#[derive(Debug, Default)]
pub struct Prefixes {
    names: Vec<String>,
    width: usize,
}

/// Prefixes wider than this are cut, so that a long name does not push every log to the right.
const WIDEST: usize = 24;

impl Prefixes {
    /// Prefixes for these services, in this order.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut prefixes = Self::default();
        for name in names {
            prefixes.index(name);
        }
        prefixes
    }

    /// Which service this is, counted in the order in which they were first seen.
    pub fn index(&mut self, name: &str) -> usize {
        if let Some(index) = self.names.iter().position(|known| known == name) {
            return index;
        }
        self.names.push(name.to_owned());
        self.width = self.width.max(console::measure_text_width(name).min(WIDEST));
        self.names.len() - 1
    }

    /// A name as wide as the widest, in its colour.
    pub fn name(&mut self, look: OutputStyle, name: &str) -> String {
        let index = self.index(name);
        let padded = console::pad_str(name, self.width, console::Alignment::Left, Some("…"));
        look.paint(Tint::Name(index), &padded)
    }

    /// `name |`, in front of a line.
    fn bar(&mut self, look: OutputStyle, name: &str) -> String {
        format!("{} {}", self.name(look, name), look.paint(Tint::Faint, "|"))
    }
}

/// What is put before each line of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFormat {
    /// Whether the service's name is.
    pub names: Names,
    /// Whether the time is.
    pub times: Times,
}

/// Whether a service's name is put before each of its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// It is.
    #[default]
    Shown,
    /// It is not.
    Hidden,
}

/// Whether its time is put before each line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// It is.
    Shown,
    /// It is not.
    #[default]
    Hidden,
}

/// A line of a service's log.
pub struct LogLine<'a> {
    /// The service.
    pub service: &'a str,
    /// Which replica, from 1 on.
    pub replica: u32,
    /// When it was written.
    pub time: Option<Timestamp>,
    /// The line.
    pub text: &'a LogText,
}

/// Writes lines of logs. What a terminal shows is made harmless; anything else gets the bytes as they are.
pub struct LogPrinter {
    output: Output,
    format: LogFormat,
    prefixes: Prefixes,
}

impl LogPrinter {
    /// Writes to `output`.
    pub fn new(output: Output, format: LogFormat) -> Self {
        Self { output, format, prefixes: Prefixes::default() }
    }

    /// The services whose lines will come, so that all prefixes are as wide as the widest.
    pub fn expect<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.prefixes = Prefixes::of(names);
    }

    /// Where the lines go.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Writes a line.
    pub fn print(&mut self, line: &LogLine<'_>) {
        let mut bytes = self.render(line);
        bytes.push(b'\n');
        self.output.bytes(&bytes);
    }

    /// A line as it is shown on a terminal.
    pub fn shown(&mut self, line: &LogLine<'_>) -> String {
        let (look, text) = (self.output.look(), line.text.to_text());
        let text = harmless(&text, look.colour);
        let before = self.before(line);
        if text.is_empty() { before.trim_end().to_owned() } else { format!("{before}{text}") }
    }

    fn render(&mut self, line: &LogLine<'_>) -> Vec<u8> {
        if self.output.is_terminal() {
            return self.shown(line).into_bytes();
        }
        let mut bytes = self.before(line).into_bytes();
        if line.text.as_bytes().is_empty() && self.format.names == Names::Shown {
            bytes.truncate(bytes.trim_ascii_end().len());
        }
        bytes.extend_from_slice(line.text.as_bytes());
        bytes
    }

    fn before(&mut self, line: &LogLine<'_>) -> String {
        let mut before = String::new();
        if self.format.names == Names::Shown {
            let name = log_name(line.service, line.replica);
            before = format!("{} ", self.prefixes.bar(self.output.look(), &name));
        }
        if let (Times::Shown, Some(time)) = (self.format.times, line.time) {
            before = format!("{before}{time} ");
        }
        before
    }
}

/// A service's name in a prefix: replicas from the second on carry their number.
pub fn log_name(service: &str, replica: u32) -> String {
    identity::replica_name(service, replica)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::output::memory::Memory;

    fn printed(output: Output, format: LogFormat, names: &[&str], lines: &[(&str, &[u8])]) {
        let mut printer = LogPrinter::new(output, format);
        printer.expect(names.iter().copied());
        for (service, text) in lines {
            let text = LogText::from(text.to_vec());
            printer.print(&LogLine { service, replica: 1, time: None, text: &text });
        }
    }

    fn file(format: LogFormat, names: &[&str], lines: &[(&str, &[u8])]) -> Vec<u8> {
        let memory = Memory::default();
        printed(Output::new(Box::new(memory.clone()), OutputStyle::BARE), format, names, lines);
        memory.take()
    }

    #[test]
    fn prefixes_are_aligned_and_long_names_are_cut() {
        let long = "a-service-with-a-very-long-name-indeed";
        let lines: [(&str, &[u8]); 3] = [("db", b"ready"), ("web-frontend", b""), (long, b"x")];
        assert_eq!(
            String::from_utf8(file(LogFormat::default(), &["db", "web-frontend"], &lines)).unwrap(),
            "db           | ready\nweb-frontend |\na-service-with-a-very-l… | x\n"
        );
    }

    #[test]
    fn a_file_gets_the_bytes_as_they_are() {
        let bytes = b"\x1b[31mred\x1b[0m 10 %\r20 %\r \xff\xfe";
        let bare = LogFormat { names: Names::Hidden, ..LogFormat::default() };
        assert_eq!(file(bare, &["db"], &[("db", bytes)]), [&bytes[..], b"\n"].concat());
        let named = file(LogFormat::default(), &["db"], &[("db", bytes)]);
        assert_eq!(named, [b"db | ", &bytes[..], b"\n"].concat());
    }

    #[test]
    fn a_service_keeps_its_colour() {
        let mut prefixes = Prefixes::of(["db", "web"]);
        assert_eq!(prefixes.index("web"), 1);
        assert_eq!(prefixes.index("cache"), 2);
        assert_eq!(prefixes.index("web"), 1);
    }
}
