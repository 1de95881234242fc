//! Shows the output of a matrix: folded by entry on a CI service that folds its log, else line by line, each with its
//! entry.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::process::Stdio;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use super::Entry;
use crate::cli::Globals;
use crate::cli::support::options::Progress;
use crate::engine::StdStream;
use crate::report::amount;
use crate::report::ci::groups::LogFolding;
use crate::report::ci::record::RunRecord;

/// A longer line is shown in parts.
const LONGEST: usize = 64 << 10;

/// How the output of entries is shown.
pub(in crate::cli::run) struct EntryLog {
    folding: Option<LogFolding>,
    form: LineForm,
    /// Where the standard output of entries goes.
    data: StdStream,
    /// Held by the entry whose folded output is being written.
    turn: Mutex<()>,
}

/// How a line shows its entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineForm {
    /// `NODE=20 | line`
    Prefix,
    /// `{"entry":"NODE=20",…`: the line is an object.
    JsonField,
}

impl EntryLog {
    /// The form that the options ask for. With `--json` standard output is for the records.
    pub fn new(folding: Option<LogFolding>, globals: &Globals) -> Self {
        let is_json = globals.progress == Progress::Json;
        Self {
            folding: folding.filter(|_| matches!(globals.progress, Progress::Auto | Progress::Plain)),
            form: if is_json { LineForm::JsonField } else { LineForm::Prefix },
            data: if globals.json { StdStream::Stderr } else { StdStream::Stdout },
            turn: Mutex::new(()),
        }
    }

    /// The form of progress of the entries, if not that of the options: folded output has all details.
    pub fn progress(&self) -> Option<&'static str> {
        self.folding.map(|_| "plain")
    }

    /// Connects the output of a command that is about to be started. Folded output is collected in a file, both streams
    /// in their order.
    pub fn connect(&self, command: &mut Command) -> io::Result<Option<File>> {
        if self.folding.is_none() {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            return Ok(None);
        }
        let file = tempfile::tempfile()?;
        command.stdout(file.try_clone()?).stderr(file.try_clone()?);
        Ok(Some(file))
    }

    /// Shows that an entry has started, if its output is shown only at its end.
    pub async fn started(&self, label: &str) {
        if self.folding.is_some() {
            let _turn = self.turn.lock().await;
            let mut to = output(self.data);
            // Output without a reader is discarded.
            let _ = to.write_all(format!("{label}: started\n").as_bytes()).await;
            let _ = to.flush().await;
        }
    }

    /// Shows the output of a child line by line until it ends.
    pub fn follow(&self, child: &mut Child, label: &str) -> BoxFuture<'static, ()> {
        let stdout = child
            .stdout
            .take()
            .map(|pipe| copy_lines(pipe, output(self.data), self.lead(label, StdStream::Stdout)));
        let stderr = child
            .stderr
            .take()
            .map(|pipe| copy_lines(pipe, output(StdStream::Stderr), self.lead(label, StdStream::Stderr)));
        let copies: Vec<_> =
            [stdout.map(tokio::spawn), stderr.map(tokio::spawn)].into_iter().flatten().collect();
        Box::pin(async move {
            futures_util::future::join_all(copies).await;
        })
    }

    /// Shows that an entry has ended, with its folded output.
    pub async fn ended(&self, collected: Option<File>, entry: &Entry, record: &RunRecord) {
        let title =
            format!("{}: {} after {}", entry.label(), record.result(), amount::duration(record.elapsed));
        let _turn = self.turn.lock().await;
        let Some((folding, file)) = self.folding.zip(collected) else {
            let mut line = self.lead(entry.label(), StdStream::Stderr).apply(title.as_bytes());
            line.push(b'\n');
            let mut to = output(StdStream::Stderr);
            // Output without a reader is discarded.
            let _ = to.write_all(&line).await;
            let _ = to.flush().await;
            return;
        };
        let to = self.data;
        let written = tokio::task::spawn_blocking(move || write_folded(folding, &title, file, to)).await;
        if let Ok(Err(error)) = written {
            tracing::debug!(%error, "output is gone");
        }
    }

    fn lead(&self, label: &str, stream: StdStream) -> Lead {
        Lead { form: self.form, label: label.to_owned(), stream }
    }
}

/// What shows the entry of a line.
struct Lead {
    form: LineForm,
    label: String,
    stream: StdStream,
}

impl Lead {
    fn apply(&self, line: &[u8]) -> Vec<u8> {
        match (self.form, self.stream, line.strip_prefix(b"{")) {
            (LineForm::JsonField, StdStream::Stderr, Some(rest)) => {
                let label = serde_json::Value::from(self.label.as_str());
                [format!("{{\"entry\":{label},").as_bytes(), rest].concat()
            }
            _ => [format!("{} | ", self.label).as_bytes(), line].concat(),
        }
    }
}

fn output(stream: StdStream) -> Box<dyn AsyncWrite + Send + Unpin> {
    match stream {
        StdStream::Stdout => Box::new(tokio::io::stdout()),
        StdStream::Stderr => Box::new(tokio::io::stderr()),
    }
}

/// Copies lines with what shows their entry. If our output has no reader, the pipe is closed.
async fn copy_lines(from: impl AsyncRead + Unpin, mut to: Box<dyn AsyncWrite + Send + Unpin>, lead: Lead) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        let Ok(available) = from.fill_buf().await else { return };
        let ends = available.is_empty();
        let newline = available.iter().position(|byte| *byte == b'\n');
        let length = newline.map_or(available.len(), |at| at + 1);
        line.extend_from_slice(&available[..length]);
        from.consume(length);
        if newline.is_some() || line.len() > LONGEST || (ends && !line.is_empty()) {
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            if to.write_all(&lead.apply(&line)).await.is_err() || to.flush().await.is_err() {
                return;
            }
            line.clear();
        }
        if ends {
            return;
        }
    }
}

/// Writes the collected output of an entry between the marks of a group.
fn write_folded(folding: LogFolding, title: &str, mut file: File, to: StdStream) -> io::Result<()> {
    let mut to: Box<dyn Write> = match to {
        StdStream::Stdout => Box::new(io::stdout().lock()),
        StdStream::Stderr => Box::new(io::stderr().lock()),
    };
    let id: String = title.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    file.rewind()?;
    to.write_all(folding.start(&id, title, jiff::Timestamp::now()).as_bytes())?;
    io::copy(&mut file, &mut to)?;
    to.write_all(b"\n")?;
    to.write_all(folding.end(&id, jiff::Timestamp::now()).as_bytes())?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_shows_its_entry() {
        let lead = |form| Lead { form, label: "PG=16".to_owned(), stream: StdStream::Stderr };
        assert_eq!(lead(LineForm::Prefix).apply(b"ok\n"), b"PG=16 | ok\n");
        assert_eq!(lead(LineForm::JsonField).apply(b"{\"at\":1}\n"), b"{\"entry\":\"PG=16\",\"at\":1}\n");
        assert_eq!(lead(LineForm::JsonField).apply(b"no event\n"), b"PG=16 | no event\n");
    }
}
