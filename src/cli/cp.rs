//! `cp`: copies files into and out of services.

use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use tokio_util::io::ReaderStream;

use super::{Context, Exit, Failure};
use crate::report::Output;
use crate::session::exec::copy::{self, Links, Owners};

/// Arguments of `cp`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Source: SERVICE:PATH, a local path, or `-` for a tar archive on standard input
    from: String,
    /// Destination: SERVICE:PATH, a local path, or `-` for a tar archive on standard output
    to: String,
    /// Keep the owners of files
    #[arg(short, long)]
    archive: bool,
    /// Follow symbolic links in the source
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Index of the replica
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    index: u32,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Service { service: String, path: String },
    Here(PathBuf),
    Pipe,
}

impl End {
    fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Pipe;
        }
        match text.split_once(':') {
            // To use a local path with a colon, the user starts it with a slash or a dot.
            Some((service, path)) if !service.is_empty() && !service.starts_with(['/', '.']) => {
                let path = if path.is_empty() { "/" } else { path };
                let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
                Self::Service { service: service.to_owned(), path }
            }
            _ => Self::Here(PathBuf::from(text)),
        }
    }
}

/// Runs `cp`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let links = if self.follow_link { Links::Followed } else { Links::Kept };
        let owners = if self.archive { Owners::Kept } else { Owners::Copier };
        let (from, to) = (End::parse(&self.from), End::parse(&self.to));
        let (service, path) = match (&from, &to) {
            (End::Service { service, path }, End::Here(_) | End::Pipe)
            | (End::Here(_) | End::Pipe, End::Service { service, path }) => (service, path),
            (End::Service { .. }, End::Service { .. }) => {
                return Err(Failure::usage(
                    "both ends are services",
                    Some("copy through a pipe: `sandbox cp A:PATH - | sandbox cp - B:PATH`".to_owned()),
                ));
            }
            _ => {
                return Err(Failure::usage(
                    "neither end is a service",
                    Some("write one of them as SERVICE:PATH".to_owned()),
                ));
            }
        };
        let engine = context.engine().await?;
        let observed = context.chosen().await?;
        let container = &observed.container(service, self.index)?.name;
        let engine = engine.as_ref();
        match (&from, &to) {
            (End::Service { .. }, End::Pipe) => {
                let mut archive = copy::archive(engine, service, container, path).await?;
                let mut out = Output::stdout();
                while let Some(piece) = archive.next().await {
                    let piece = piece.map_err(copy::CopyError::Archive)?;
                    out.bytes(&piece);
                    if out.is_closed() {
                        break;
                    }
                }
            }
            (End::Service { .. }, End::Here(here)) => {
                let here = absolute(here)?;
                let writable = observed.writable_folders();
                copy::out(engine, service, container, path, &here, &writable, links, owners).await?;
            }
            (End::Pipe | End::Service { .. }, _) => {
                let stdin = ReaderStream::new(tokio::io::stdin());
                copy::unpack_into(engine, container, path, Box::pin(stdin)).await?;
            }
            (End::Here(here), _) => {
                copy::into(engine, container, &absolute(here)?, path, links, owners).await?;
            }
        }
        Ok(Exit::Done)
    }
}

/// The absolute path; a trailing `/` or `/.` is kept.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let mut whole = Context::folder()?.into_os_string();
    whole.push("/");
    whole.push(path);
    Ok(PathBuf::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_and_a_path_are_told_from_a_path() {
        let service = |service: &str, path: &str| End::Service { service: service.into(), path: path.into() };
        assert_eq!(End::parse("db:/var/lib"), service("db", "/var/lib"));
        assert_eq!(End::parse("db:etc/hosts"), service("db", "/etc/hosts"));
        assert_eq!(End::parse("./db:odd"), End::Here("./db:odd".into()));
        assert_eq!(End::parse("/tmp/a:b"), End::Here("/tmp/a:b".into()));
        assert_eq!(End::parse("notes.txt"), End::Here("notes.txt".into()));
        assert_eq!(End::parse("-"), End::Pipe);
    }
}
