//! `logs`: prints the logs of services, and follows them.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::moment::moment;
use super::{Context, Exit, Failure, complete, keeper};
use crate::engine::{Engine, Tail};
use crate::report::Output;
use crate::report::logs::{LogFormat, LogLine, LogPrinter, Names, Times, log_name};
use crate::report::style::{Colours, set_colours};
use crate::session::inspect::logs::{self, Line, Part, Source};
use crate::spec::SandboxName;
use clap_complete::engine::ArgValueCandidates;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Follow the output, over restarts, until the sandbox ends
    #[arg(short, long)]
    follow: bool,
    /// Number of lines to show from the end of each service's log, or `all`
    #[arg(long, short = 'n', value_name = "LINES", default_value = "all", value_parser = tail)]
    tail: Tail,
    /// Sandbox to act on (default: `SANDBOX_NAME`, else that of the directory)
    #[arg(id = "name", long = "name", short = 'p', visible_alias = "project-name", value_name = "NAME",
          add = ArgValueCandidates::new(complete::sandboxes))]
    _name: Option<SandboxName>,
    /// Show only lines since this time: `10m`, `2026-11-01T10:00:00Z`
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Show only lines until this time
    #[arg(long, value_name = "WHEN", value_parser = moment, conflicts_with = "follow")]
    until: Option<Timestamp>,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Do not show the service of each line
    #[arg(long, visible_alias = "no-prefix")]
    no_log_prefix: bool,
    /// Do not use colours
    #[arg(long)]
    no_color: bool,
    /// Index of the replica (default: all)
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        number => number.parse().map(Tail::Lines).map_err(|_| "a number of lines, or `all`".to_owned()),
    }
}

/// Runs `logs`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        if self.no_color {
            set_colours(Colours::Never);
        }
        let engine = context.engine().await?;
        let observed = context.chosen().await?;
        for service in &self.services {
            observed.container(service, self.index.unwrap_or(1))?;
        }
        let sources: Vec<Source> = observed
            .services
            .iter()
            .map(Source::from)
            .filter(|source| self.services.is_empty() || self.services.contains(&source.service))
            .filter(|source| self.index.is_none_or(|index| index == source.replica))
            .collect();
        let _use = keeper::UsageGuard::of(&engine, &observed.name);
        let (sender, mut lines) = mpsc::channel(256);
        let reader = if self.follow {
            tell_not_kept(&not_kept(&engine, &sources).await?);
            let wanted = Wanted { services: self.services.clone(), index: self.index };
            let name = observed.name.parse().map_err(|_| Failure::failed("no name".to_owned(), None))?;
            let all = logs::Sandbox { scope: context.scope()?, name };
            tokio::spawn(follow(engine, all, wanted, self.part(), sender))
        } else {
            tokio::spawn(read(engine, sources.clone(), self.part(), sender))
        };
        let mut printer = self.printer(&sources, context.globals.json);
        while let Some(line) = lines.recv().await {
            printer.print(&line);
            if printer.is_closed() {
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

    fn printer(&self, sources: &[Source], json: bool) -> Printer {
        if json {
            return Printer::Json(Output::stdout());
        }
        let names: Vec<String> = sources.iter().map(|s| log_name(&s.service, s.replica)).collect();
        let format = LogFormat {
            names: if self.no_log_prefix { Names::Hidden } else { Names::Shown },
            times: if self.timestamps { Times::Shown } else { Times::Hidden },
        };
        let mut printer = LogPrinter::new(Output::stdout(), format);
        printer.expect(names.iter().map(String::as_str));
        Printer::Lines(printer)
    }
}

/// The selected services and replicas.
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
    tell_not_kept(&logs::recorded(&engine, &sources, &part, &to).await?);
    Ok(())
}

/// The sources whose logs cannot be followed.
async fn not_kept(engine: &Arc<dyn Engine>, sources: &[Source]) -> Result<Vec<Source>, Failure> {
    let (sender, _receiver) = mpsc::channel(1);
    let nothing = Part { tail: Tail::Lines(0), ..Part::default() };
    Ok(logs::recorded(engine, sources, &nothing, &sender).await?)
}

fn tell_not_kept(sources: &[Source]) {
    for source in sources {
        let name = log_name(&source.service, source.replica);
        Output::stderr().line(&format!(
            "warning: the log of `{name}` cannot be shown: the logging driver of the service does not keep it"
        ));
    }
}

enum Printer {
    Lines(LogPrinter),
    Json(Output),
}

impl Printer {
    fn print(&mut self, line: &Line) {
        match self {
            Self::Lines(lines) => lines.print(&LogLine {
                service: &line.service,
                replica: line.replica,
                time: line.time,
                text: &line.text,
            }),
            Self::Json(output) => output.json_line(&serde_json::json!({
                "service": line.service, "replica": line.replica, "stream": line.stream,
                "time": line.time, "line": line.text,
            })),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Lines(lines) => lines.output().is_closed(),
            Self::Json(output) => output.is_closed(),
        }
    }
}
