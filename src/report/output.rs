//! Where text goes: a writer that forgives a reader who has left.

use std::io::{self, ErrorKind, Write};

use super::style::{OutputStyle, json_on_terminal, on_terminal};
use crate::report::table::Table;

/// A writer and what it shows. A closed pipe is no error: from then on nothing is written.
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
    /// Writes to `to` as `look` allows.
    pub fn new(to: Box<dyn Write + Send>, look: OutputStyle) -> Self {
        Self { to, look, device: Device::Other, reader: Reader::Listens }
    }

    /// Writes to a terminal if `term` is one.
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

    /// What may be shown here.
    pub fn look(&self) -> OutputStyle {
        self.look
    }

    /// Writes as to a terminal.
    #[cfg(test)]
    pub(crate) fn terminal(to: Box<dyn Write + Send>, look: OutputStyle) -> Self {
        Self { device: Device::Terminal, ..Self::new(to, look) }
    }

    /// Whether this is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.device == Device::Terminal
    }

    /// Writes `text` and an end of line. Other people's words may stand in it: no control sequence of theirs is written.
    pub fn line(&mut self, text: &str) {
        self.bytes(format!("{}\n", on_terminal(text)).as_bytes());
    }

    /// Writes a value as JSON over several lines, for people and programs alike.
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

    /// Writes a table, as wide as the terminal behind standard output is, if there is one.
    pub fn table(&mut self, table: &Table) {
        let width = console::Term::stdout().size_checked().map_or(0, |(_, columns)| columns.into());
        for line in table.lines(self.look, width) {
            self.line(&line);
        }
    }

    /// Writes each line and an end of line.
    pub fn lines<L: AsRef<str>>(&mut self, lines: impl IntoIterator<Item = L>) {
        for line in lines {
            self.line(line.as_ref());
        }
    }

    /// Writes a text of several lines that ends one itself, as [`Output::line`] does.
    pub fn block(&mut self, text: &str) {
        self.bytes(on_terminal(text).as_bytes());
    }

    /// Writes `text` as it is: it is ours alone, or somebody asked for it byte for byte.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Writes `bytes` as they are, at once.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.reader == Reader::Left || bytes.is_empty() {
            return;
        }
        if let Err(error) = self.to.write_all(bytes).and_then(|()| self.to.flush()) {
            // A full disk behind a redirection has nobody to be told to either: this *is* where errors are told.
            self.reader = Reader::Left;
            if error.kind() != ErrorKind::BrokenPipe {
                tracing::debug!(%error, "output is gone");
            }
        }
    }

    /// Whether the reader has left, so that a verb that follows something may end.
    pub fn is_closed(&self) -> bool {
        self.reader == Reader::Left
    }
}

/// What standard output shows.
pub fn stdout_look() -> OutputStyle {
    OutputStyle::detect(console::Term::stdout().is_term(), |name| std::env::var(name).ok())
}

/// What standard error shows.
pub fn stderr_look() -> OutputStyle {
    OutputStyle::detect(console::Term::stderr().is_term(), |name| std::env::var(name).ok())
}

#[cfg(test)]
pub(crate) mod memory {
    //! A writer that a test can read.

    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    /// Shared bytes.
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
    fn a_closed_pipe_is_no_error_and_is_noticed() {
        let mut output = Output::new(Box::new(Broken), OutputStyle::BARE);
        output.line("to nobody");
        assert!(output.is_closed());
        output.line("to nobody again");
    }
}
