//! Services' logs as lines: cut out of the pieces that engines send, merged by time, followed over restarts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::engine::identity::{SandboxName, Scope};
use crate::engine::{ContainerSummary, Engine, EngineError, LogOptions, LogStream, StdStream, Tail};
use crate::session::event::Stream;
use crate::session::observe::{self, replica_of, service_of};

/// A line of a service's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The service.
    pub service: String,
    /// Which replica, from 1 on.
    pub replica: u32,
    /// Where it was written to.
    pub stream: Stream,
    /// When it was written.
    pub time: Option<Timestamp>,
    /// The line, without its end; what is no UTF-8 is replaced.
    pub text: String,
}

/// Which container's log, under which name.
#[derive(Debug, Clone)]
pub struct Source {
    /// The container's id: another one may take its name.
    pub container: String,
    /// Its service.
    pub service: String,
    /// Which replica.
    pub replica: u32,
}

impl From<&ContainerSummary> for Source {
    fn from(summary: &ContainerSummary) -> Self {
        Self {
            container: summary.id.clone(),
            service: service_of(summary).to_owned(),
            replica: replica_of(summary),
        }
    }
}

/// Which part of the logs.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Only what was written since.
    pub since: Option<Timestamp>,
    /// Only what was written until then.
    pub until: Option<Timestamp>,
    /// How many of each container's last lines.
    pub tail: Tail,
}

/// Whether a container whose log is followed and that has ended may yet come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The log is at its end.
    Leaves,
    /// It is waited for as long as the container exists.
    Waits,
}

/// How long a piece without an end of line is held back: a prompt must be seen, though no line has ended.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often a container that has ended is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What was written so far, of all sources in the order of time, sent to `to` until its reader leaves.
pub async fn recorded(
    engine: &Arc<dyn Engine>,
    sources: &[Source],
    part: &Part,
    to: &mpsc::Sender<Line>,
) -> Result<(), EngineError> {
    let mut feeds = Vec::with_capacity(sources.len());
    for source in sources {
        let stream = engine.logs(&source.container, &options(part, Following::No)).await?;
        let mut feed = Feed { lines: Lines::new(source.clone(), stream), head: None };
        feed.advance().await?;
        feeds.push(feed);
    }
    // Each feed is in the order of time; the earliest head is next.
    while let Some(feed) = feeds.iter_mut().filter(|feed| feed.head.is_some()).min_by_key(|feed| feed.time())
    {
        let Some(line) = feed.head.take() else { break };
        feed.advance().await?;
        if to.send(line).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

struct Feed {
    lines: Lines,
    head: Option<Line>,
}

impl Feed {
    async fn advance(&mut self) -> Result<(), EngineError> {
        self.head = self.lines.next().await?;
        Ok(())
    }

    fn time(&self) -> Option<Timestamp> {
        self.head.as_ref().and_then(|line| line.time)
    }
}

/// What was written and is written by one container, sent to `to` until its reader leaves, or the container is gone
/// (or has ended, if that is the end).
pub async fn follow(
    engine: Arc<dyn Engine>,
    source: Source,
    part: Part,
    ended: Ended,
    to: mpsc::Sender<Line>,
) -> Result<(), EngineError> {
    let mut part = part;
    loop {
        let stream = match engine.logs(&source.container, &options(&part, Following::Yes)).await {
            Ok(stream) => stream,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut lines = Lines::new(source.clone(), stream);
        loop {
            let line = tokio::select! {
                line = lines.next() => line?,
                () = to.closed() => return Ok(()),
            };
            let Some(line) = line else { break };
            if let Some(time) = line.time {
                // The next stream begins behind what was already told.
                part.since = time.checked_add(jiff::SignedDuration::from_nanos(1)).ok();
                part.tail = Tail::All;
            }
            if to.send(line).await.is_err() {
                return Ok(());
            }
        }
        if ended == Ended::Leaves || !comes_back(engine.as_ref(), &source.container, &to).await? {
            return Ok(());
        }
    }
}

/// A sandbox whose containers come and go.
pub struct Sandbox {
    /// Its world.
    pub scope: Scope,
    /// Its name.
    pub name: SandboxName,
}

/// What is written by the containers of a sandbox that are `shown`, those that are made later included, sent to `to` until
/// its reader leaves or the sandbox ends.
///
/// # Errors
/// When the engine does not answer.
pub async fn follow_all(
    engine: &Arc<dyn Engine>,
    sandbox: &Sandbox,
    shown: impl Fn(&Source) -> bool,
    part: Part,
    to: mpsc::Sender<Line>,
) -> Result<(), EngineError> {
    let (mut known, mut followers) = (BTreeSet::new(), JoinSet::new());
    let mut part = part;
    while let Some(there) = observe::sandbox(&**engine, &sandbox.scope, &sandbox.name).await? {
        for source in there.services.iter().map(Source::from).filter(&shown) {
            if known.insert(source.container.clone()) {
                followers.spawn(follow(Arc::clone(engine), source, part.clone(), Ended::Waits, to.clone()));
            }
        }
        // Of what comes later every line is shown.
        part = Part::default();
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = to.closed() => return Ok(()),
        }
    }
    drop(to);
    while let Some(followed) = followers.join_next().await {
        if let Ok(result) = followed {
            result?;
        }
    }
    Ok(())
}

/// Waits until an ended container runs again; false when it is gone or nobody listens any more.
async fn comes_back(
    engine: &dyn Engine,
    container: &str,
    to: &mpsc::Sender<Line>,
) -> Result<bool, EngineError> {
    loop {
        match engine.container(container).await? {
            None => return Ok(false),
            Some(container) if container.state.is_alive() => return Ok(true),
            Some(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = to.closed() => return Ok(false),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Following {
    Yes,
    No,
}

fn options(part: &Part, following: Following) -> LogOptions {
    LogOptions {
        follow: following == Following::Yes,
        since: part.since,
        until: part.until,
        tail: part.tail,
        timestamps: true,
    }
}

/// The lines of a stream of pieces. Each line of the stream starts with its time.
struct Lines {
    source: Source,
    stream: Option<LogStream>,
    out: Unended,
    err: Unended,
    ready: std::collections::VecDeque<Line>,
}

#[derive(Default)]
struct Unended {
    bytes: Vec<u8>,
    /// The time of what was already given out of a line that has not ended.
    within: Option<Timestamp>,
}

impl Lines {
    fn new(source: Source, stream: LogStream) -> Self {
        Self {
            source,
            stream: Some(stream),
            out: Unended::default(),
            err: Unended::default(),
            ready: [].into(),
        }
    }

    async fn next(&mut self) -> Result<Option<Line>, EngineError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            let Some(stream) = &mut self.stream else { return Ok(None) };
            let held = !self.out.bytes.is_empty() || !self.err.bytes.is_empty();
            let next = if held {
                tokio::time::timeout(PATIENCE, stream.next()).await
            } else {
                Ok(stream.next().await)
            };
            match next {
                Ok(Some(chunk)) => {
                    let chunk = chunk?;
                    self.take(chunk.stream, &chunk.bytes);
                }
                Ok(None) => {
                    self.stream = None;
                    self.flush();
                }
                Err(_) => self.flush(),
            }
        }
    }

    fn take(&mut self, stream: StdStream, bytes: &[u8]) {
        let buffer = match stream {
            StdStream::Stdout => &mut self.out,
            StdStream::Stderr => &mut self.err,
        };
        buffer.bytes.extend_from_slice(bytes);
        while let Some(end) = buffer.bytes.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = buffer.bytes.drain(..=end).collect();
            line.pop();
            if let Some(line) = line_of(&self.source, stream, buffer.within.take(), &line) {
                self.ready.push_back(line);
            }
        }
    }

    /// Gives out what has not ended.
    fn flush(&mut self) {
        for (stream, buffer) in [(StdStream::Stdout, &mut self.out), (StdStream::Stderr, &mut self.err)] {
            if buffer.bytes.is_empty() {
                continue;
            }
            let bytes = std::mem::take(&mut buffer.bytes);
            if let Some(line) = line_of(&self.source, stream, buffer.within, &bytes) {
                buffer.within = line.time;
                self.ready.push_back(line);
            }
        }
    }
}

/// A line, its time taken off its front. `within` says that the front was already given out: then an empty rest is
/// no line of its own.
fn line_of(source: &Source, stream: StdStream, within: Option<Timestamp>, bytes: &[u8]) -> Option<Line> {
    let text = String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes));
    let (time, text) = match (within, split_time(&text)) {
        (Some(time), None) if text.is_empty() => {
            let _ = time;
            return None;
        }
        (Some(time), None) => (Some(time), text.as_ref()),
        (_, Some((time, rest))) => (Some(time), rest),
        (None, None) => (None, text.as_ref()),
    };
    Some(Line {
        service: source.service.clone(),
        replica: source.replica,
        stream: match stream {
            StdStream::Stdout => Stream::Stdout,
            StdStream::Stderr => Stream::Stderr,
        },
        time,
        text: text.to_owned(),
    })
}

fn split_time(text: &str) -> Option<(Timestamp, &str)> {
    let (time, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some((time.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;
    use crate::engine::LogChunk;

    fn source() -> Source {
        Source { container: "sbx-shop.db".into(), service: "db".into(), replica: 1 }
    }

    fn lines(pieces: &[&'static str]) -> Lines {
        let chunks: Vec<Result<LogChunk, EngineError>> = pieces
            .iter()
            .map(|piece| {
                Ok(LogChunk { stream: StdStream::Stdout, bytes: Bytes::from_static(piece.as_bytes()) })
            })
            .collect();
        Lines::new(source(), Box::pin(stream::iter(chunks)))
    }

    async fn texts(mut lines: Lines) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            texts.push(line.text);
        }
        texts
    }

    #[tokio::test]
    async fn lines_are_put_together_from_pieces_and_the_last_needs_no_end() {
        let pieces =
            ["2026-11-01T10:00:00.5Z one\r\n2026-11-01T10:0", "0:01Z two\n2026-11-01T10:00:02Z thr", "ee"];
        assert_eq!(texts(lines(&pieces)).await, ["one", "two", "three"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_prompt_without_an_end_of_line_is_told_after_a_moment() {
        let first = Ok(LogChunk {
            stream: StdStream::Stdout,
            bytes: Bytes::from_static(b"2026-11-01T10:00:00Z password: "),
        });
        let mut lines = Lines::new(source(), Box::pin(stream::iter([first]).chain(stream::pending())));
        assert_eq!(lines.next().await.unwrap().unwrap().text, "password: ");
    }

    #[tokio::test]
    async fn an_empty_line_is_a_line() {
        assert_eq!(texts(lines(&["2026-11-01T10:00:00Z \n2026-11-01T10:00:01Z x\n"])).await, ["", "x"]);
    }
}
