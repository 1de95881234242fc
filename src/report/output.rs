//! An output stream that tolerates a closed pipe.

use std::io::{self, ErrorKind, Write};

use super::style::{OutputStyle, json_on_terminal, on_terminal};
use crate::report::table::Table;

/// A writer and its style. A closed pipe is not an error: later output is discarded.
pub struct Output {
    to: Box<dyn Write + Send>,
    look: OutputStyle,
    device: Device,
    reader: Reader,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Terminal,
    Other,
}

#[derive(PartialEq, Eq)]
enum Reader {
    Listens,
    Left,
}

impl Output {
    /// Creates an output in a given style.
    pub fn new(to: Box<dyn Write + Send>, look: OutputStyle) -> Self {
        Self { to, look, device: Device::Other, reader: Reader::Listens }
    }

    /// Creates an output for a terminal if `term` is one.
    fn to_term(to: Box<dyn Write + Send>, look: OutputStyle, term: &console::Term) -> Self {
        let device = if term.is_term() { Device::Terminal } else { Device::Other };
        Self { device, ..Self::new(to, look) }
    }

    /// Standard output: data.
    pub fn stdout() -> Self {
        Self::to_term(Box::new(io::stdout()), stdout_look(), &console::Term::stdout())
    }

    /// Standard error: everything else.
    pub fn stderr() -> Self {
        Self::to_term(Box::new(io::stderr()), stderr_look(), &console::Term::stderr())
    }

    /// The style of this output.
    pub fn look(&self) -> OutputStyle {
        self.look
    }

    /// Creates an output that behaves as a terminal.
    #[cfg(test)]
    pub(crate) fn terminal(to: Box<dyn Write + Send>, look: OutputStyle) -> Self {
        Self { device: Device::Terminal, ..Self::new(to, look) }
    }

    /// Whether the output is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.device == Device::Terminal
    }

    /// Writes `text` and a newline. The text may be untrusted: control sequences other than colours are removed.
    pub fn line(&mut self, text: &str) {
        self.bytes(format!("{}\n", on_terminal(text)).as_bytes());
    }

    /// Writes a value as indented JSON.
    pub fn json(&mut self, value: &impl serde::Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.bytes(format!("{}\n", json_on_terminal(&text)).as_bytes()),
            Err(error) => tracing::error!(%error, "a value that is not JSON"),
        }
    }

    /// Writes a value as JSON on one line.
    pub fn json_line(&mut self, value: &impl serde::Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.bytes(format!("{}\n", json_on_terminal(&text)).as_bytes()),
            Err(error) => tracing::error!(%error, "a value that is not JSON"),
        }
    }

    /// Writes a table, limited to the terminal's width if standard output is a terminal.
    pub fn table(&mut self, table: &Table) {
        let width = console::Term::stdout().size_checked().map_or(0, |(_, columns)| columns.into());
        for line in table.lines(self.look, width) {
            self.line(&line);
        }
    }

    /// Writes each line and a newline.
    pub fn lines<L: AsRef<str>>(&mut self, lines: impl IntoIterator<Item = L>) {
        for line in lines {
            self.line(line.as_ref());
        }
    }

    /// Writes a text of several lines that ends with a newline, as [`Output::line`] does.
    pub fn block(&mut self, text: &str) {
        self.bytes(on_terminal(text).as_bytes());
    }

    /// Writes a document of YAML or JSON, in which characters that a terminal interprets are escaped.
    pub fn document(&mut self, text: &str) {
        self.bytes(json_on_terminal(text).as_bytes());
    }

    /// Writes text that programs read: unchanged, but for a terminal as [`Output::block`] does.
    pub fn data(&mut self, text: &str) {
        match self.device {
            Device::Terminal => self.block(text),
            Device::Other => self.text(text),
        }
    }

    /// Writes `text` unchanged: it is trusted, or the user asked for the exact bytes.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Writes `bytes` unchanged and flushes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.reader == Reader::Left || bytes.is_empty() {
            return;
        }
        if let Err(error) = self.to.write_all(bytes).and_then(|()| self.to.flush()) {
            // There is no other place to report this, for example a full disk behind a redirection.
            self.reader = Reader::Left;
            if error.kind() != ErrorKind::BrokenPipe {
                tracing::debug!(%error, "output is gone");
            }
        }
    }

    /// Whether the pipe is closed, so that a following command can stop.
    pub fn is_closed(&self) -> bool {
        self.reader == Reader::Left
    }
}

/// The style of standard output.
pub fn stdout_look() -> OutputStyle {
    OutputStyle::detect(console::Term::stdout().is_term(), |name| std::env::var(name).ok())
}

/// The style of standard error.
pub fn stderr_look() -> OutputStyle {
    OutputStyle::detect(console::Term::stderr().is_term(), |name| std::env::var(name).ok())
}

#[cfg(test)]
pub(crate) mod memory {
    //! A writer for tests that can be read back.

    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    /// A shared byte buffer.
    #[derive(Clone, Default)]
    pub(crate) struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        pub(crate) fn take(&self) -> Vec<u8> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn data_reaches_a_terminal_without_control_sequences_and_a_program_unchanged() {
        let data = "a=\u{9b}2J\u{1b}[2Jb\n";
        for (is_terminal, expected) in [(true, "a=b\n"), (false, data)] {
            let memory = memory::Memory::default();
            let to = Box::new(memory.clone());
            let mut output = Output::new(to, OutputStyle::BARE);
            if is_terminal {
                output.device = Device::Terminal;
            }
            output.data(data);
            assert_eq!(memory.text(), expected);
        }
        let memory = memory::Memory::default();
        Output::new(Box::new(memory.clone()), OutputStyle::BARE).document("k: \"\u{9b}\"\n");
        assert_eq!(memory.text(), "k: \"\\u009b\"\n");
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_is_noticed() {
        let mut output = Output::new(Box::new(Broken), OutputStyle::BARE);
        output.line("to no reader");
        assert!(output.is_closed());
        output.line("to no reader again");
    }
}
