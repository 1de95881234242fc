//! Reads services' logs: selects a part of them, merges containers by time, and follows them over restarts.
//!
//! The sibling module `log_lines` splits the stream into lines.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use super::log_line::{Line, Source};
use super::log_lines::Lines;
use crate::engine::identity::{SandboxName, Scope};
use crate::engine::{Engine, EngineError, ErrorKind, LogOptions, Tail};
use crate::session::inspect;

/// The part of the logs to read.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Only lines written since this time.
    pub since: Option<Timestamp>,
    /// Only lines written until this time.
    pub until: Option<Timestamp>,
    /// How many of each container's last lines to read.
    pub tail: Tail,
}

/// How often to check whether a stopped container runs again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long to wait before reopening the log of a running container.
const REOPEN: Duration = Duration::from_millis(50);

/// Whether a log cannot be read, because the service's logging driver (`none`, `syslog`, …) does not keep it.
fn is_not_kept(error: &EngineError) -> bool {
    error.kind == ErrorKind::Unsupported
}

/// Sends what all sources have written so far, ordered by time, until the receiver is dropped. Returns the sources whose
/// logs are not kept.
pub async fn recorded(
    engine: &Arc<dyn Engine>,
    sources: &[Source],
    part: &Part,
    to: &mpsc::Sender<Line>,
) -> Result<Vec<Source>, EngineError> {
    let mut not_kept = Vec::new();
    let mut feeds = Vec::with_capacity(sources.len());
    for source in sources {
        let stream = match engine.logs(&source.container, &options(part, Following::No)).await {
            Ok(stream) => stream,
            Err(error) if is_not_kept(&error) => {
                not_kept.push(source.clone());
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut feed = Feed { lines: Lines::new(source.clone(), stream), head: None };
        feed.advance().await?;
        feeds.push(feed);
    }
    // Each feed is ordered by time, so the earliest head is next.
    while let Some(feed) = feeds.iter_mut().filter(|feed| feed.head.is_some()).min_by_key(|feed| feed.time())
    {
        let Some(line) = feed.head.take() else { break };
        feed.advance().await?;
        if to.send(line).await.is_err() {
            break;
        }
    }
    Ok(not_kept)
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

/// Sends the past and future log lines of a container, over its restarts, until the receiver is dropped or the
/// container is removed. Once `ending` is cancelled, a stopped container is no longer awaited.
pub async fn follow(
    engine: Arc<dyn Engine>,
    source: Source,
    part: Part,
    ending: CancellationToken,
    to: mpsc::Sender<Line>,
) -> Result<(), EngineError> {
    let mut reader = Reader { engine, source, part, position: Position::default(), to };
    loop {
        if reader.copy(Following::Yes).await? == Copied::UntilLeft {
            return Ok(());
        }
        match reader.is_alive().await? {
            None => return Ok(()),
            Some(true) => tokio::time::sleep(REOPEN).await,
            Some(false) => {
                // A followed stream may end before it has the last lines: only now is the log complete.
                if reader.copy(Following::No).await? == Copied::UntilLeft
                    || !reader.comes_back(&ending).await?
                {
                    return Ok(());
                }
            }
        }
    }
}

/// A sandbox whose logs are followed while its containers change.
pub struct Sandbox {
    /// Its world.
    pub scope: Scope,
    /// Its name.
    pub name: SandboxName,
}

/// Sends the log lines of a sandbox's containers that are `shown`, including containers created later, to `to` until
/// its receiver is dropped or the sandbox ends.
///
/// # Errors
/// Fails if the engine does not answer.
pub async fn follow_all(
    engine: &Arc<dyn Engine>,
    sandbox: &Sandbox,
    shown: impl Fn(&Source) -> bool,
    part: Part,
    to: mpsc::Sender<Line>,
) -> Result<(), EngineError> {
    let (mut known, mut followers) = (BTreeSet::new(), JoinSet::new());
    let mut part = part;
    while let Some(there) = inspect::sandbox(&**engine, &sandbox.scope, &sandbox.name).await? {
        for source in there.services.iter().map(Source::from).filter(&shown) {
            if known.insert(source.container.clone()) {
                let (engine, never) = (Arc::clone(engine), CancellationToken::new());
                followers.spawn(follow(engine, source, part.clone(), never, to.clone()));
            }
        }
        // For later containers every line is shown.
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

struct Reader {
    engine: Arc<dyn Engine>,
    source: Source,
    part: Part,
    position: Position,
    to: mpsc::Sender<Line>,
}

/// How far a log was read: the time of the last line, and the number of lines with that time.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    time: Option<Timestamp>,
    lines: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    /// The stream is at its end.
    ToTheEnd,
    /// The receiver was dropped, or the container was removed.
    UntilLeft,
}

impl Reader {
    /// Sends the log's lines after the position.
    async fn copy(&mut self, following: Following) -> Result<Copied, EngineError> {
        let stream = match self.engine.logs(&self.source.container, &options(&self.part, following)).await {
            Ok(stream) => stream,
            Err(error) if error.is_not_found() || is_not_kept(&error) => return Ok(Copied::UntilLeft),
            Err(error) => return Err(error),
        };
        let mut lines = Lines::new(self.source.clone(), stream);
        let from = self.position;
        let mut seen = 0;
        loop {
            let line = tokio::select! {
                line = lines.next() => line?,
                () = self.to.closed() => return Ok(Copied::UntilLeft),
            };
            let Some(line) = line else { return Ok(Copied::ToTheEnd) };
            if line.time.is_some() && line.time == from.time && seen < from.lines {
                // The engine repeats the lines with the time at which reading resumes.
                seen += 1;
                continue;
            }
            self.advance(line.time);
            if self.to.send(line).await.is_err() {
                return Ok(Copied::UntilLeft);
            }
        }
    }

    fn advance(&mut self, time: Option<Timestamp>) {
        let Some(time) = time else { return };
        let lines = if self.position.time == Some(time) { self.position.lines + 1 } else { 1 };
        self.position = Position { time: Some(time), lines };
        self.part.since = Some(time);
        self.part.tail = Tail::All;
    }

    /// Whether the container runs; `None` if it was removed.
    async fn is_alive(&self) -> Result<Option<bool>, EngineError> {
        let container = self.engine.container(&self.source.container).await?;
        Ok(container.map(|container| container.state.is_alive()))
    }

    /// Waits until a stopped container runs again; false if waiting is pointless.
    async fn comes_back(&self, ending: &CancellationToken) -> Result<bool, EngineError> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = self.to.closed() => return Ok(false),
                () = ending.cancelled() => return Ok(false),
            }
            match self.is_alive().await? {
                None => return Ok(false),
                Some(true) => return Ok(true),
                Some(false) => {}
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CreateContainer;
    use crate::engine::recording::{Fault, Recording};

    #[tokio::test]
    async fn a_log_that_is_not_kept_does_not_hide_the_others() {
        let recording = Recording::with_images(&["x"]);
        for name in ["a", "b"] {
            recording.create_container(&CreateContainer::new(name, "x")).await.unwrap();
        }
        recording.fail_when("read logs of", 1, Fault::Refuse(ErrorKind::Unsupported));
        let engine: Arc<dyn Engine> = recording;
        let source = |name: &str| Source { container: name.into(), service: name.into(), replica: 1 };
        let (sender, _receiver) = mpsc::channel(8);

        let not_kept =
            recorded(&engine, &[source("a"), source("b")], &Part::default(), &sender).await.unwrap();

        assert_eq!(not_kept.iter().map(|it| it.service.as_str()).collect::<Vec<_>>(), ["a"]);
    }
}
