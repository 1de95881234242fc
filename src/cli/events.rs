//! `events`: prints the keeper's records of sandboxes from the last day, and then events of their objects as they
//! happen.

use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::moment::moment;
use super::{Context, Exit, Failure, complete};
use crate::agent::client::{Keeper, Options};
use crate::agent::protocol::{Record, RecordKind};
use crate::engine::identity::{self, Role, SandboxName};
use crate::engine::{EngineEvent, Filter, ObjectKind};
use crate::report::Output;
use crate::report::style::{OutputStyle, Tint};
use clap_complete::engine::ArgValueCandidates;

/// Polling interval of the keeper's records while objects are watched.
const LOOK: Duration = Duration::from_secs(1);
/// Maximum time from the removal of a sandbox's last object to the record of its end.
const RECORDED: Duration = Duration::from_secs(5);

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services (default: all)
    #[arg(add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Start at this time: `10m`, `2026-11-01T10:00:00Z` (default: 24 hours ago)
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Show the events of all sandboxes
    #[arg(short, long)]
    all: bool,
    /// Show only recorded events, such as who destroyed what, when and why; do not wait for new ones
    #[arg(long)]
    past: bool,
}

/// An event of an object of the engine.
#[derive(Serialize)]
struct Shown<'a> {
    time: Timestamp,
    sandbox: &'a str,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    action: &'a str,
    name: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<&'a str>,
}

impl<'a> From<&'a EngineEvent> for Shown<'a> {
    fn from(event: &'a EngineEvent) -> Self {
        let attribute = |key: &str| event.attributes.get(key).map(String::as_str);
        Self {
            time: event.time,
            sandbox: attribute(identity::NAME).unwrap_or_default(),
            kind: event.object.to_string(),
            service: attribute(identity::SERVICE),
            action: &event.action,
            name: &event.name,
            id: &event.id,
            exit_code: attribute("exitCode"),
        }
    }
}

/// A record of the keeper.
#[derive(Serialize)]
struct RecordView<'a> {
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a SandboxName>,
    kind: &'a str,
    action: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The reason, the actor and the deadline.
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl<'a> From<&'a Record> for RecordView<'a> {
    fn from(record: &'a Record) -> Self {
        let mut more = match serde_json::to_value(&record.what) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        Self {
            time: record.at,
            sandbox: record.name.as_ref(),
            kind: if record.name.is_some() { "sandbox" } else { "keeper" },
            action: more.remove("event").unwrap_or_default(),
            id: record.sandbox.as_ref().map(ToString::to_string),
            more,
        }
    }
}

/// Runs `events`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    /// Shows what is on record, then what happens until the sandbox is gone.
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let keeper = Keeper::standing(&context.engine().await?, Options::from_env()?).await?;
        let mut record = OnRecord { keeper, wanted: None, since: self.since, out: Output::stdout(), context };
        if !self.all {
            match context.chosen().await {
                Ok(observed) => record.wanted = observed.name.parse().ok(),
                Err(failure) => {
                    let Some(name) = context.derived_name() else { return Err(failure) };
                    record.wanted = Some(name);
                    // The sandbox does not exist: only its records can be shown.
                    return if record.tell_new().await?.0 { Ok(Exit::Done) } else { Err(failure) };
                }
            }
        }
        if self.past {
            record.tell_new().await?;
            return Ok(Exit::Done);
        }
        self.watch(context, record).await
    }

    async fn watch(&self, context: &Context, mut record: OnRecord<'_>) -> Result<Exit, Failure> {
        let filter = match &record.wanted {
            None => Filter::all().has_label(identity::NAME),
            Some(name) => Filter::all().label(identity::NAME, name.as_str()),
        };
        let scope = context.scope()?;
        let mut events = context.engine().await?.events(&scope.narrow(filter), self.since).await?;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !record.out.is_closed() {
            let event = tokio::select! {
                event = events.next() => event,
                _ = look.tick() => {
                    record.tell_new().await?;
                    continue;
                }
            };
            let Some(event) = event.transpose()? else { break };
            if scope.owns(&event.attributes) && self.wants(&event) {
                record.show(&event);
            }
            if !self.all && is_the_end(&event) {
                record.tell_end().await?;
                break;
            }
        }
        Ok(Exit::Done)
    }

    fn wants(&self, event: &EngineEvent) -> bool {
        // Every probe of a healthcheck would produce three events.
        if event.action.starts_with("exec_") {
            return false;
        }
        self.services.is_empty()
            || event.attributes.get(identity::SERVICE).is_some_and(|service| self.services.contains(service))
    }
}

/// The keeper's records, and which of them have been printed.
struct OnRecord<'a> {
    keeper: Option<Keeper>,
    /// If set, print only records of this sandbox, and those of all.
    wanted: Option<SandboxName>,
    since: Option<Timestamp>,
    out: Output,
    context: &'a Context,
}

impl OnRecord<'_> {
    /// Prints new records. Returns whether any belonged to a selected sandbox, and whether any was its destruction.
    async fn tell_new(&mut self) -> Result<(bool, bool), Failure> {
        let Some(keeper) = &self.keeper else { return Ok((false, false)) };
        let (mut any, mut end) = (false, false);
        for record in keeper.events(self.since).await? {
            self.since = Some(record.at);
            if self.wanted.is_some() && record.name.is_some() && record.name != self.wanted {
                continue;
            }
            any |= record.name.is_some();
            end |= record.name.is_some() && matches!(record.what, RecordKind::Destroyed { .. });
            if self.context.globals.json {
                self.out.json_line(&RecordView::from(&record));
            } else {
                let who = record.name.as_ref().map_or("keeper".to_owned(), |name| format!("sandbox {name}"));
                let text = line(self.out.look(), record.at, &who, &record.what);
                self.out.line(&text);
            }
        }
        Ok((any, end))
    }

    /// Waits until the sandbox's end has been recorded, which happens shortly after its last object is removed.
    async fn tell_end(&mut self) -> Result<(), Failure> {
        let ended = async {
            while !self.tell_new().await?.1 {
                sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        };
        tokio::time::timeout(RECORDED, ended).await.unwrap_or(Ok(()))
    }

    fn show(&mut self, event: &EngineEvent) {
        let shown = Shown::from(event);
        if self.context.globals.json {
            return self.out.json_line(&shown);
        }
        let what = shown.service.map_or_else(|| format!("{} {}", shown.kind, shown.name), ToOwned::to_owned);
        let code = shown.exit_code.map(|code| format!(" ({code})")).unwrap_or_default();
        let text = line(self.out.look(), shown.time, &what, &format_args!("{}{code}", shown.action));
        self.out.line(&text);
    }
}

/// Whether an event is the removal of the gateway, which is a sandbox's last container.
fn is_the_end(event: &EngineEvent) -> bool {
    event.object == ObjectKind::Container
        && event.action == "destroy"
        && event.attributes.get(identity::ROLE).is_some_and(|role| role == Role::Gateway.as_str())
}

fn line(look: OutputStyle, time: Timestamp, what: &str, happened: &dyn std::fmt::Display) -> String {
    let time = time.to_zoned_datetime(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string();
    format!("{} {} {happened}", look.paint(Tint::Faint, &time), look.paint(Tint::Strong, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::{Actor, Reason};

    #[test]
    fn a_destruction_says_what_when_by_whom_and_why() {
        let record = Record {
            at: "2026-01-01T12:00:00Z".parse().unwrap(),
            name: Some("shop".parse().unwrap()),
            sandbox: None,
            what: RecordKind::Destroyed { reason: Reason::Idle, by: Actor::Keeper, left: Vec::new() },
        };
        let told = serde_json::to_value(RecordView::from(&record)).unwrap();
        assert_eq!(
            told,
            serde_json::json!({
                "time": "2026-01-01T12:00:00Z", "sandbox": "shop", "kind": "sandbox", "action": "destroyed",
                "reason": "idle", "by": "keeper",
            })
        );
    }
}
