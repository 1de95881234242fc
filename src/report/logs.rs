//! Prints lines of services' logs with coloured, aligned prefixes, in the same form for all commands.

use jiff::Timestamp;

use super::style::{OutputStyle, Tint, harmless};
use crate::engine::identity;
use crate::report::output::Output;
use crate::session::event::LogText;

/// Widths and colours of the prefixes.
#[derive(Debug, Default)]
pub struct Prefixes {
    names: Vec<String>,
    width: usize,
}

/// Wider prefixes are truncated, so that one long name does not indent every log line.
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

    /// The service's index, in the order in which services were first seen.
    pub fn index(&mut self, name: &str) -> usize {
        if let Some(index) = self.names.iter().position(|known| known == name) {
            return index;
        }
        self.names.push(name.to_owned());
        self.width = self.width.max(console::measure_text_width(name).min(WIDEST));
        self.names.len() - 1
    }

    /// A name in its colour, padded to the widest.
    pub fn name(&mut self, look: OutputStyle, name: &str) -> String {
        let index = self.index(name);
        let padded = console::pad_str(name, self.width, console::Alignment::Left, Some("…"));
        look.paint(Tint::Name(index), &padded)
    }

    /// The prefix of a line: `name |`.
    fn bar(&mut self, look: OutputStyle, name: &str) -> String {
        format!("{} {}", self.name(look, name), look.paint(Tint::Faint, "|"))
    }
}

/// Parts of a log line's prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFormat {
    /// Whether to print the service's name.
    pub names: Names,
    /// Whether to print the time.
    pub times: Times,
}

/// Whether log lines have the service's name as a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Printed.
    #[default]
    Shown,
    /// Not printed.
    Hidden,
}

/// Whether log lines have their time as a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// Printed.
    Shown,
    /// Not printed.
    #[default]
    Hidden,
}

/// A line of a service's log.
pub struct LogLine<'a> {
    pub service: &'a str,
    /// Number of the replica, from 1.
    pub replica: u32,
    /// Time of the line.
    pub time: Option<Timestamp>,
    /// The line.
    pub text: &'a LogText,
}

/// Prints log lines. On a terminal, control sequences are removed; other outputs get the original bytes.
pub struct LogPrinter {
    output: Output,
    format: LogFormat,
    prefixes: Prefixes,
}

impl LogPrinter {
    /// Creates a printer on `output`.
    pub fn new(output: Output, format: LogFormat) -> Self {
        Self { output, format, prefixes: Prefixes::default() }
    }

    /// Registers services in advance, so that all prefixes have the width of the widest.
    pub fn expect<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.prefixes = Prefixes::of(names);
    }

    /// The output of the lines.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Prints a line.
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

/// A service's name in a prefix: from the second replica on, with the replica's number.
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
