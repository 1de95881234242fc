//! `logs`: what services have written, and what they write.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::moment::moment;
use super::{Context, Exit, Failure, complete, keeper};
use crate::engine::{Engine, Tail};
use crate::report::Output;
use crate::report::logs::{Prefixes, bare, log_name};
use crate::session::logs::{self, Line, Part, Source};
use clap_complete::engine::ArgValueCandidates;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services
    #[arg(add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Go on as they write, over restarts, until the sandbox ends
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each service: a number, or `all`
    #[arg(long, value_name = "LINES", default_value = "all", value_parser = tail)]
    tail: Tail,
    /// Only what was written since: `10m`, `2026-11-01T10:00:00Z`
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what was written until then
    #[arg(long, value_name = "WHEN", value_parser = moment, conflicts_with = "follow")]
    until: Option<Timestamp>,
    /// The time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// No service's name before each line
    #[arg(long, visible_alias = "no-prefix")]
    no_log_prefix: bool,
    /// Only this replica of each service
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        number => number.parse().map(Tail::Lines).map_err(|_| "a number of lines, or `all`".to_owned()),
    }
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    /// Shows them.
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let engine = context.engine().await?;
        let sighting = context.chosen().await?;
        for service in &self.services {
            sighting.container(service, self.index.unwrap_or(1))?;
        }
        let sources: Vec<Source> = sighting
            .services
            .iter()
            .map(Source::from)
            .filter(|source| self.services.is_empty() || self.services.contains(&source.service))
            .filter(|source| self.index.is_none_or(|index| index == source.replica))
            .collect();
        let _use = keeper::Use::of(&engine, &sighting.name);
        let (sender, mut lines) = mpsc::channel(256);
        let reader = if self.follow {
            let wanted = Wanted { services: self.services.clone(), index: self.index };
            let name = sighting.name.parse().map_err(|_| Failure::failed("no name".to_owned(), None))?;
            let all = logs::Sandbox { scope: context.scope()?, name };
            tokio::spawn(follow(engine, all, wanted, self.part(), sender))
        } else {
            tokio::spawn(read(engine, sources.clone(), self.part(), sender))
        };
        let mut printer = self.printer(Output::stdout(), &sources, context.globals.json);
        while let Some(line) = lines.recv().await {
            printer.print(&line);
            if printer.out.is_closed() {
                return Ok(Exit::Done);
            }
        }
        match reader.await {
            Ok(result) => result.map(|()| Exit::Done),
            Err(error) => {
                Err(Failure::failed(format!("the logs could not be read to their end: {error}"), None))
            }
        }
    }

    fn part(&self) -> Part {
        Part { since: self.since, until: self.until, tail: self.tail }
    }

    fn printer(&self, out: Output, sources: &[Source], json: bool) -> Printer {
        let names: Vec<String> = sources.iter().map(|s| log_name(&s.service, s.replica)).collect();
        let form = if json {
            Form::Json
        } else if self.no_log_prefix {
            Form::Bare
        } else {
            Form::Prefixed(Prefixes::of(names.iter().map(String::as_str)))
        };
        Printer { out, form, timestamps: self.timestamps }
    }
}

/// Whose logs are shown.
struct Wanted {
    services: Vec<String>,
    index: Option<u32>,
}

async fn follow(
    engine: Arc<dyn Engine>,
    sandbox: logs::Sandbox,
    wanted: Wanted,
    part: Part,
    to: mpsc::Sender<Line>,
) -> Result<(), Failure> {
    let shown = |source: &Source| {
        (wanted.services.is_empty() || wanted.services.contains(&source.service))
            && wanted.index.is_none_or(|index| index == source.replica)
    };
    Ok(logs::follow_all(&engine, &sandbox, shown, part, to).await?)
}

async fn read(
    engine: Arc<dyn Engine>,
    sources: Vec<Source>,
    part: Part,
    to: mpsc::Sender<Line>,
) -> Result<(), Failure> {
    Ok(logs::recorded(&engine, &sources, &part, &to).await?)
}

struct Printer {
    out: Output,
    form: Form,
    timestamps: bool,
}

enum Form {
    Prefixed(Prefixes),
    Bare,
    Json,
}

impl Printer {
    fn print(&mut self, line: &Line) {
        let look = self.out.look();
        let text = match line.time.filter(|_| self.timestamps) {
            Some(time) => format!("{time} {}", line.text),
            None => line.text.clone(),
        };
        let text = match &mut self.form {
            Form::Prefixed(prefixes) => prefixes.line(look, &log_name(&line.service, line.replica), &text),
            Form::Bare => bare(look, &text),
            Form::Json => serde_json::json!({
                "service": line.service, "replica": line.replica, "stream": line.stream,
                "time": line.time, "line": line.text,
            })
            .to_string(),
        };
        self.out.line(&text);
    }
}
