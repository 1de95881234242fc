//! Runs seeds: copies files into volumes before services start, and runs SQL and commands in services that are ready.

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use crate::data::seed::{self, SeedCommand, VolumeContents};
use crate::engine::{ByteStream, Engine, ExecSession};
use crate::host_files::{Owner, WritableFolders, header};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::session::readiness::log_tail::tail;
use crate::spec::{Seed, Service};

/// Number of output lines to show when a seed fails.
const SHOWN: usize = 30;

/// Fills a volume through a container that does not run yet.
pub(crate) async fn fill(
    engine: &dyn Engine,
    events: &Events,
    container: &str,
    target: &str,
    seed: &Seed,
    writable: WritableFolders,
) -> Result<(), SessionError> {
    let tell = |done| {
        let what = seed.to_string();
        events.emit(Event::Seed { target: target.to_owned(), what, progress: None, done });
    };
    tell(false);
    let source = seed.clone();
    let read = move || seed::contents(&source, &writable);
    let contents = tokio::task::spawn_blocking(read).await??;
    if let Some(VolumeContents { folder, archive }) = contents {
        let folder = match folder {
            Some(folder) => {
                engine.upload(container, target, folders(&folder)?).await?;
                format!("{}/{folder}", target.trim_end_matches('/'))
            }
            None => target.to_owned(),
        };
        engine.upload(container, &folder, archive).await?;
    }
    tell(true);
    Ok(())
}

/// An archive of a path's folders, since an upload needs an existing folder.
fn folders(path: &str) -> Result<ByteStream, SessionError> {
    let failed = |cause| SessionError::Io { what: format!("cannot pack `{path}`"), cause };
    let mut archive = tar::Builder::new(Vec::new());
    let mut whole = String::new();
    for part in path.split('/') {
        whole.push_str(part);
        whole.push('/');
        let mut header = header(tar::EntryType::Directory, 0, 0o755, Owner::ROOT);
        archive.append_data(&mut header, &whole, std::io::empty()).map_err(failed)?;
    }
    let bytes = bytes::Bytes::from(archive.into_inner().map_err(failed)?);
    Ok(Box::pin(futures_util::stream::once(async move { Ok(bytes) })))
}

/// Runs the seeds of a service that is ready.
pub(crate) async fn run(
    engine: &Arc<dyn Engine>,
    events: &Events,
    service: &Service,
    container: &str,
    image: &str,
    seed: &Seed,
    writable: WritableFolders,
) -> Result<(), SessionError> {
    let image = engine.image(image).await?.ok_or_else(|| SessionError::UnfitData {
        what: format!("image `{image}` of service `{}` has gone", service.name),
        hint: None,
    })?;
    let seeding = Seeding { engine, events, service: service.name.as_str(), container, writable };
    for command in seed::commands(service, &image, seed)? {
        seeding.command(command).await?;
    }
    Ok(())
}

struct Seeding<'a> {
    engine: &'a Arc<dyn Engine>,
    events: &'a Events,
    service: &'a str,
    container: &'a str,
    writable: WritableFolders,
}

impl Seeding<'_> {
    fn tell(&self, what: &str, done: bool) {
        let (target, what) = (self.service.to_owned(), what.to_owned());
        self.events.emit(Event::Seed { target, what, progress: None, done });
    }

    async fn command(&self, command: SeedCommand) -> Result<(), SessionError> {
        let SeedCommand { label, exec, input: file } = command;
        self.tell(&label, false);
        let source = match file.clone() {
            Some(file) => {
                let writable = self.writable.clone();
                let opened = tokio::task::spawn_blocking(move || seed::open_input(&file, &writable));
                Some(opened.await??)
            }
            None => None,
        };
        let ExecSession { id, mut input, mut output } = self.engine.exec(self.container, &exec).await?;
        let mut said = Vec::new();
        let feed = async {
            let fed = match source {
                Some(source) => pour(source, &mut input).await,
                None => Ok(()),
            };
            // A client that stopped at an error has closed its input: its exit code says more.
            let _ = input.shutdown().await;
            fed
        };
        let listen = async {
            while let Some(Ok(chunk)) = output.next().await {
                said.extend_from_slice(&chunk.bytes);
            }
        };
        let (fed, ()) = tokio::join!(feed, listen);
        let code = self.engine.exec_exit_code(&id).await?.unwrap_or(-1);
        match (code, fed) {
            (0, Ok(())) => {
                self.tell(&label, true);
                Ok(())
            }
            (0, Err(error)) => Err(self.failed(&label, file.as_deref(), &error.to_string(), &said).await),
            (code, _) => {
                let cause = format!("exit code {code}");
                Err(self.failed(&label, file.as_deref(), &cause, &said).await)
            }
        }
    }

    async fn failed(&self, what: &str, file: Option<&Path>, cause: &str, said: &[u8]) -> SessionError {
        let said = String::from_utf8_lossy(said);
        let lines: Vec<&str> = said.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN)..];
        let mut log: Vec<String> = shown.iter().map(|line| (*line).to_owned()).collect();
        if let Some(file) = file.map(Path::to_owned) {
            let said = said.clone().into_owned();
            let statement = tokio::task::spawn_blocking(move || statement_near(&file, &said)).await;
            log.extend(statement.ok().flatten());
        }
        let service = tail(&**self.engine, self.container).await;
        if !service.is_empty() {
            log.push(format!("the log of `{}`:", self.service));
            log.extend(service);
        }
        SessionError::Seed {
            target: self.service.to_owned(),
            what: format!("`{what}`"),
            cause: cause.to_owned(),
            log,
        }
    }
}

/// The line of a file that a client's error message refers to (`psql:<stdin>:12: ERROR`, `ERROR 1064 (42000) at line
/// 3`).
fn statement_near(file: &Path, said: &str) -> Option<String> {
    let number = regex::Regex::new(r"<stdin>:(\d+):|at line (\d+)").ok()?;
    let found = number.captures(said)?;
    let line: usize = found.get(1).or_else(|| found.get(2))?.as_str().parse().ok()?;
    let text = std::fs::read_to_string(file).ok()?;
    let statement = text.lines().nth(line.checked_sub(1)?)?.trim().to_owned();
    Some(format!("{}:{line}: {statement}", file.display()))
}

async fn pour(mut source: ByteStream, into: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
    while let Some(piece) = source.next().await {
        let piece = piece?;
        if into.write_all(&piece).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
