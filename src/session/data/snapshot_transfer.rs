//! Transfers snapshot files between this machine and the keeper's storage. They are streamed, never held in memory.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};

use crate::agent::protocol::TransferLine;
use crate::data::archive::UserValues;
use crate::engine::{Engine, Exec, ExecSession, StdStream};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events, Progress};
use crate::session::lifecycle::signals::asked_to_end;
use crate::storage::{SetPath, Storage};

/// How much is read from or written to a file at a time, in bytes.
const PIECE: usize = 1024 * 1024;

/// Whether to include images: in the exported file, or when importing even if they replace images of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// Without images.
    Left,
    /// With images.
    Taken,
}

/// Statistics of a finished transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferSummary {
    /// Number of entries in all volumes.
    pub entries: u64,
    /// Size of their data, in bytes.
    pub bytes: u64,
    /// Number of sockets and devices, which a file cannot hold.
    pub left_out: u64,
    /// Size of the file, in bytes.
    pub packed: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// The storage side of a transfer.
#[derive(Clone)]
pub struct RemoteEnd {
    /// The engine's API.
    pub engine: Arc<dyn Engine>,
    /// The name of our container that mounts the storage's files.
    pub container: String,
    /// Where progress is reported.
    pub events: Events,
}

impl RemoteEnd {
    /// Writes a stored set to a file. An incomplete file is removed.
    ///
    /// # Errors
    /// Fails if there is no such set, if either side cannot be read or written, or if this process is asked to end.
    pub async fn export(
        &self,
        set: &SetPath,
        file: &Path,
        images: Images,
        values: UserValues,
    ) -> Result<TransferSummary, SessionError> {
        tokio::select! {
            moved = self.write(set, file, images, values) => moved,
            () = asked_to_end() => Err(SessionError::Cancelled),
        }
    }

    async fn write(
        &self,
        set: &SetPath,
        file: &Path,
        images: Images,
        values: UserValues,
    ) -> Result<TransferSummary, SessionError> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |error: &std::io::Error| failed("write", file, error);
        let partial = tempfile::Builder::new().permissions(readable()).tempfile_in(folder);
        let partial = partial.map_err(|error| failed(&error))?;
        // The engine sends small chunks, and each file write costs a thread switch.
        let out = File::from_std(partial.reopen().map_err(|error| failed(&error))?);
        let mut out = BufWriter::with_capacity(PIECE, out);
        let mut exec = command("export", set, images);
        if values == UserValues::Included {
            exec.cmd.push("--with-env".to_owned());
        }
        let ExecSession { mut output, .. } = self.engine.exec(&self.container, &exec).await?;
        let mut listener = Listener::new(self, format!("exporting `{}`", set.name));
        let mut packed = 0;
        // The engine reports the end of the process with a delay, and its output out of order.
        while !listener.is_through(packed)
            && let Some(chunk) = output.next().await
        {
            let chunk = chunk?;
            match chunk.stream {
                StdStream::Stdout => {
                    packed += chunk.bytes.len() as u64;
                    out.write_all(&chunk.bytes).await.map_err(|error| failed(&error))?;
                }
                StdStream::Stderr => listener.hear(&chunk.bytes),
            }
        }
        out.flush().await.map_err(|error| failed(&error))?;
        let moved = listener.outcome(packed)?;
        partial.persist(file).map_err(|error| failed(&error.error))?;
        Ok(moved)
    }

    /// Reads a set from a file. Nothing is published unless the whole file is valid.
    ///
    /// # Errors
    /// Fails if the name is taken, if the file cannot be read, or if its content is invalid.
    pub async fn import(
        &self,
        to: &SetPath,
        file: &Path,
        images: Images,
    ) -> Result<TransferSummary, SessionError> {
        let mut source = File::open(file).await.map_err(|error| failed("read", file, &error))?;
        if source.metadata().await.is_ok_and(|metadata| metadata.is_dir()) {
            return Err(failed("read", file, &std::io::ErrorKind::IsADirectory.into()));
        }
        let exec = Exec { stdin: true, ..command("import", to, images) };
        let ExecSession { mut input, mut output, .. } = self.engine.exec(&self.container, &exec).await?;
        let feed = async {
            let mut piece = vec![0; PIECE];
            let mut packed = 0;
            let fed = loop {
                let length = match source.read(&mut piece).await {
                    Ok(0) => break Ok(packed),
                    Ok(length) => length,
                    Err(error) => break Err(error),
                };
                // A reader that found an error has closed its input: its error message says more.
                if input.write_all(&piece[..length]).await.is_err() {
                    break Ok(packed);
                }
                packed += length as u64;
            };
            // In any case: tells the other side that no more data follows.
            let _ = input.shutdown().await;
            fed
        };
        let mut listener = Listener::new(self, format!("importing `{}`", file.display()));
        let listen = async {
            while let Some(Ok(chunk)) = output.next().await {
                listener.hear(&chunk.bytes);
            }
        };
        let (fed, ()) = tokio::join!(feed, listen);
        let packed = fed.map_err(|error| failed("read", file, &error))?;
        listener.outcome(packed)
    }

    /// The set that holds a file's content. It is imported if it is missing, and may be evicted like any baseline when
    /// space is needed.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if its content is invalid.
    pub async fn kept(&self, storage: &dyn Storage, file: &Path) -> Result<SetPath, SessionError> {
        let set = content_of(file).await?;
        if storage.inspect(&set).await?.is_none() {
            match self.import(&set, file, Images::Left).await {
                // Another client may have imported it first.
                Err(_) if storage.inspect(&set).await?.is_some() => {}
                imported => drop(imported?),
            }
        }
        Ok(set)
    }
}

/// The set for a file's content, named after its digest.
async fn content_of(file: &Path) -> Result<SetPath, SessionError> {
    let path = file.to_owned();
    let digest = tokio::task::spawn_blocking(move || {
        let mut source = std::fs::File::open(path)?;
        let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
        loop {
            match source.read(&mut piece)? {
                0 => return Ok::<_, std::io::Error>(hex::encode(hash.finalize())),
                length => hash.update(&piece[..length]),
            }
        }
    });
    let digest = digest.await.map_err(std::io::Error::other).and_then(std::convert::identity);
    let digest = digest.map_err(|error| failed("read", file, &error))?;
    Ok(SetPath::baseline(&format!("file-{}", &digest[..40]))?)
}

pub(super) fn command(verb: &str, set: &SetPath, images: Images) -> Exec {
    let mut words = ["/sandbox", "agent", verb].map(str::to_owned).to_vec();
    words.push(set.to_string());
    if images == Images::Taken {
        words.push("--with-images".to_owned());
    }
    Exec::new(words)
}

/// The usual permissions of a new file: a temporary file is readable for its owner only.
fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// Parses the messages of the storage side, line by line, and forwards them as events.
pub(super) struct Listener<'a> {
    far: &'a RemoteEnd,
    what: String,
    began: Instant,
    heard: Vec<u8>,
    last: Option<TransferLine>,
    /// Output that is not a message: a program that could not start.
    said: String,
}

impl<'a> Listener<'a> {
    pub(super) fn new(far: &'a RemoteEnd, what: String) -> Self {
        let (heard, said) = (Vec::new(), String::new());
        Self { far, what, began: Instant::now(), heard, last: None, said }
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                // Nothing is known before the data has been surveyed.
                Ok(TransferLine::Progress { done: 0, total: 0 }) => {}
                Ok(TransferLine::Progress { done, total }) => self.tell(Progress { done, total }, false),
                Ok(TransferLine::Note { text }) => self.far.events.emit(Event::Notice { text }),
                Ok(TransferLine::Warning { text }) => {
                    self.far.events.emit(Event::Warning { text, hint: None });
                }
                Ok(last) => self.last = Some(last),
                Err(_) => self.said.push_str(&String::from_utf8_lossy(&line)),
            }
        }
    }

    fn tell(&self, bytes: Progress, done: bool) {
        let rate = u128::from(bytes.done) * 1000 / self.began.elapsed().as_millis().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        self.far.events.emit(Event::Transfer { what: self.what.clone(), bytes, rate, done });
    }

    /// Whether the storage side has finished and this many bytes of the file are all that it wrote.
    pub(super) fn is_through(&self, received: u64) -> bool {
        matches!(self.last, Some(TransferLine::Done { packed, .. }) if packed <= received)
    }

    /// The final result from the storage side, given the number of bytes of the file.
    pub(super) fn outcome(self, packed: u64) -> Result<TransferSummary, SessionError> {
        let what = match &self.last {
            Some(TransferLine::Done { entries, bytes, left_out, .. }) if self.is_through(packed) => {
                let (entries, bytes, left_out) = (*entries, *bytes, *left_out);
                self.tell(Progress { done: bytes, total: bytes }, true);
                let elapsed = self.began.elapsed();
                return Ok(TransferSummary { entries, bytes, left_out, packed, elapsed });
            }
            Some(TransferLine::Failed { message, hint }) => {
                return Err(SessionError::Transfer { what: message.clone(), hint: hint.clone() });
            }
            _ if self.said.trim().is_empty() => {
                format!("{}: the keeper's end was cut short", self.what)
            }
            _ => format!("{}: {}", self.what, self.said.trim()),
        };
        Err(SessionError::Transfer { what, hint: None })
    }
}

fn failed(verb: &str, file: &Path, error: &std::io::Error) -> SessionError {
    SessionError::Transfer { what: format!("cannot {verb} `{}`: {error}", file.display()), hint: None }
}
