//! A database's own client as a long-lived command in the service's container, asked line by line. It needs no driver
//! and no route to the server, and costs a fraction of a command for each question.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use crate::engine::stream::Input;
use crate::engine::{Engine, Exec, LogStream};
use crate::session::error::SessionError;

/// The most output of one question, in bytes.
const MOST: usize = 4 << 20;

/// A client that is started when it is first asked, and again after a failure.
pub(super) struct Console {
    engine: Arc<dyn Engine>,
    container: String,
    exec: Exec,
    /// The client's command that prints a text.
    echo: &'static str,
    /// The beginnings of lines after which no answer comes.
    hopeless: &'static [&'static str],
    running: Option<Running>,
    asked: u64,
}

struct Running {
    input: Input,
    output: LogStream,
    unread: Vec<u8>,
}

impl Console {
    /// A client that is not started yet. It must read commands from its standard input, one a line, and write errors to
    /// its standard output.
    pub fn new(
        engine: &Arc<dyn Engine>,
        container: &str,
        exec: Exec,
        echo: &'static str,
        hopeless: &'static [&'static str],
    ) -> Self {
        let (engine, container) = (Arc::clone(engine), container.to_owned());
        let exec = Exec { stdin: true, ..exec };
        Self { engine, container, exec, echo, hopeless, running: None, asked: 0 }
    }

    /// Runs one command and returns the lines that it prints, and the rest of the line that marks their end. If this is
    /// cancelled, the next question starts another client.
    ///
    /// # Errors
    /// Fails if the client cannot be started, or ends, with what it said.
    pub async fn ask(
        &mut self,
        command: &str,
        mark_suffix: &str,
    ) -> Result<(Vec<String>, String), SessionError> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start().await?,
        };
        self.asked += 1;
        let mark = format!("sandbox-lend-{}", self.asked);
        let text = format!("{command}\n{} {mark}{mark_suffix}\n", self.echo);
        let written = async {
            running.input.write_all(text.as_bytes()).await?;
            running.input.flush().await
        };
        // A client that has ended is reported with its last output.
        let _ = written.await;
        let answer = self.read(&mut running, &mark).await?;
        self.running = Some(running);
        Ok(answer)
    }

    async fn start(&mut self) -> Result<Running, SessionError> {
        let session = self.engine.exec(&self.container, &self.exec).await?;
        Ok(Running { input: session.input, output: session.output, unread: Vec::new() })
    }

    async fn read(
        &mut self,
        running: &mut Running,
        mark: &str,
    ) -> Result<(Vec<String>, String), SessionError> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        loop {
            let Some(line) = next_line(running).await? else { return Err(ended(&lines)) };
            if let Some(rest) = line.strip_prefix(mark) {
                return Ok((lines, rest.trim().to_owned()));
            }
            let is_hopeless = self.hopeless.iter().any(|words| line.starts_with(words));
            bytes += line.len();
            lines.push(line);
            if is_hopeless || bytes > MOST {
                return Err(ended(&lines));
            }
        }
    }
}

async fn next_line(running: &mut Running) -> Result<Option<String>, SessionError> {
    loop {
        if let Some(end) = running.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = running.unread.drain(..=end).collect();
            return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
        }
        match running.output.next().await {
            Some(piece) if running.unread.len() <= MOST => running.unread.extend_from_slice(&piece?.bytes),
            _ => return Ok(None),
        }
    }
}

/// The error of a client that has ended.
fn ended(said: &[String]) -> SessionError {
    let last = said.iter().map(String::as_str).filter(|line| !line.is_empty()).rev().take(3);
    let said = last.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("; ");
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    SessionError::Lend { what: format!("the database's client has ended{said}"), hint: None }
}
