//! `timeline`: draws how long each step of an `up` took.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Context, Exit, Failure};
use crate::report::Output;
use crate::report::timeline::{Span, picture, spans};
use crate::session::event::Recorded;
use crate::session::inspect;

/// Arguments of `timeline`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output of `up --progress json`, or `-` for standard input (default: what the engine knows of the sandbox)
    recording: Option<PathBuf>,
}

/// Runs `timeline`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let spans = match &self.recording {
            Some(path) => recorded(path)?,
            None => remembered(context).await?,
        };
        let mut out = Output::stdout();
        if context.globals.json {
            out.json(&spans);
        } else if spans.is_empty() {
            Output::stderr().line("nothing there took any time");
        } else {
            let width = usize::from(console::Term::stdout().size().1);
            out.lines(picture(out.look(), width, &spans));
        }
        Ok(Exit::Done)
    }
}

fn recorded(path: &Path) -> Result<Vec<Span>, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::failed(format!("cannot read `{}`: {error}", path.display()), None))?;
    // The file may also contain output of other programs: lines that are not events are ignored.
    let events: Vec<Recorded> =
        String::from_utf8_lossy(&bytes).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if events.is_empty() {
        return Err(Failure::usage(
            format!("`{}` holds no events", path.display()),
            Some("`sandbox up --progress json 2> FILE` writes them".to_owned()),
        ));
    }
    Ok(spans(&events))
}

async fn remembered(context: &Context) -> Result<Vec<Span>, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    Ok(spans(&inspect::recollection(engine.as_ref(), &observed).await?))
}
