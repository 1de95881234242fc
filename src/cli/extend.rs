//! `sandbox extend`: adds to a sandbox's remaining time, or sets its deadline.

use std::time::Duration;

use jiff::civil::Time;
use jiff::{Timestamp, ZonedDateTime};

use super::build_options::duration;
use super::{Context, Exit, Failure, complete};
use crate::agent::client::{Keeper, Options};
use crate::agent::protocol::Extension;
use crate::report::Output;
use crate::report::messages;
use crate::session::lifecycle::open;
use crate::spec::SandboxName;
use clap_complete::engine::ArgValueCandidates;

/// Arguments of `extend`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sandbox (default: that of the directory) and time to add to what it has left
    #[arg(value_name = "[NAME] DURATION", num_args = 0..=2, add = ArgValueCandidates::new(complete::sandboxes))]
    words: Vec<String>,
    /// Set the deadline instead: a time of day (18:00), a timestamp, or a duration from now (2h)
    #[arg(long, visible_alias = "to", value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
}

/// Runs `extend`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let (name, length) = read(&args)?;
    let how = match (args.until, length) {
        (Some(until), None) => Extension::To(until),
        (None, Some(length)) => Extension::By(length),
        (Some(_), Some(_)) => return Err(wrong("either a duration or `--until`, not both")),
        (None, None) => return Err(wrong("how long? `sandbox extend 2h`, or `--until 18:00`")),
    };
    let context = name.map_or_else(|| context.clone_for(None), |name| context.clone_for(Some(name)));
    let engine = context.engine().await?;
    let name = context.chosen().await?.name;
    let name = SandboxName::new(name).map_err(|error| wrong(&error.to_string()))?;
    let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
    let standing = keeper.extend(&name, how).await?;
    if context.globals.json {
        Output::stdout().json(&standing);
    } else {
        let ends = standing.ends.map(|at| messages::ends(at, standing.unless_used));
        let ends = ends.unwrap_or_else(|| "has no deadline: it ends with its session".to_owned());
        Output::stdout().line(&format!("{name} {ends}"));
    }
    Ok(Exit::Done)
}

fn read(args: &Args) -> Result<(Option<SandboxName>, Option<Duration>), Failure> {
    let name = |text: &str| SandboxName::new(text).map_err(|error| wrong(&error.to_string()));
    match args.words.as_slice() {
        [] => Ok((None, None)),
        [one] => match duration(one) {
            Ok(length) => Ok((None, Some(length))),
            Err(_) if args.until.is_some() => Ok((Some(name(one)?), None)),
            Err(error) => Err(wrong(&format!("`{one}`: {error}"))),
        },
        [first, second, ..] => {
            let length = duration(second).map_err(|error| wrong(&format!("`{second}`: {error}")))?;
            Ok((Some(name(first)?), Some(length)))
        }
    }
}

fn wrong(message: &str) -> Failure {
    Failure::usage(message, None)
}

/// Parses a time of day (its next occurrence in local time) or an RFC 3339 timestamp.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Ok(length) = duration(text) {
        return open::from_now(length).ok_or_else(|| "too far ahead".to_owned());
    }
    let time: Time = text.parse().map_err(|_| {
        "not a time such as 18:00 or 2026-11-23T18:00:00Z, nor a length such as 2h".to_owned()
    })?;
    let now = ZonedDateTime::now();
    let today = now.with().time(time).build().map_err(|error| error.to_string())?;
    let next = if today > now {
        today
    } else {
        today.checked_add(jiff::Span::new().days(1)).map_err(|error| error.to_string())?
    };
    Ok(next.timestamp())
}
