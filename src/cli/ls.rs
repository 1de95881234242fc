//! `ls`: lists the sandboxes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::support::branches::{self, SandboxBranch};
use super::support::format::{self, Form};
use super::{Context, Exit, Failure, keeper};
use crate::agent::protocol::{LeaseStatus, Standing};
use crate::report::Output;
use crate::report::amount;
use crate::report::style::{OutputStyle, Tint};
use crate::report::table::Table;
use crate::session::inspect::{self, ObservedSandbox};

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print only the names
    #[arg(short, long)]
    quiet: bool,
    /// Form of the output: table, json, or a template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Form,
    /// Accepted for Compose; all sandboxes are always listed
    #[arg(short, long, hide = true)]
    all: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    id: String,
    folder: String,
    services: usize,
    running: usize,
    created: Option<Timestamp>,
    ends: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unless_used: bool,
    hold: Option<LeaseStatus>,
    #[serde(flatten)]
    branch: Option<SandboxBranch>,
}

impl Row {
    fn new(observed: &ObservedSandbox, standings: &[Standing], branch: Option<SandboxBranch>) -> Self {
        let standing = standings.iter().find(|standing| standing.sandbox.as_str() == observed.id);
        Self {
            name: observed.name.clone(),
            id: observed.id.clone(),
            folder: observed.folder.display().to_string(),
            services: observed.services.len(),
            running: observed.services.iter().filter(|container| container.state.is_alive()).count(),
            created: observed.created,
            ends: standing.map_or(observed.expires, |standing| standing.ends),
            unless_used: standing.is_some_and(|standing| standing.unless_used),
            hold: standing.map(|standing| standing.hold),
            branch,
        }
    }
}

impl Row {
    /// The fields as `docker compose ls` names them.
    fn in_compose_words(&self) -> serde_json::Value {
        serde_json::json!({
            "Name": self.name, "Status": format!("running({})", self.running), "ConfigFiles": self.folder,
            "Created": self.created, "Ends": self.ends,
        })
    }
}

/// Runs `ls`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let engine = context.engine().await?;
        let observed = inspect::sandboxes(engine.as_ref(), &context.scope()?).await?;
        // Without the keeper's state, the first deadline comes from the labels. `doctor` reports a failing keeper.
        let keeper = keeper::running(&engine).await.ok().flatten();
        let standings = match &keeper {
            Some(keeper) => keeper.sandboxes().await.unwrap_or_default(),
            None => Vec::new(),
        };
        let mut branches = match &keeper {
            Some(keeper) if !self.quiet => branches::of(keeper, &observed).await.unwrap_or_default(),
            _ => BTreeMap::new(),
        };
        let rows: Vec<Row> = observed
            .iter()
            .map(|observed| Row::new(observed, &standings, branches.remove(&observed.id)))
            .collect();
        let mut out = Output::stdout();
        if context.globals.json {
            out.json(&rows);
        } else if self.quiet {
            out.lines(rows.iter().map(|row| &row.name));
        } else if self.format != Form::Table {
            let rows: Vec<_> = rows.iter().map(Row::in_compose_words).collect();
            format::print(&mut out, &self.format, &rows);
        } else if rows.is_empty() {
            Output::stderr().line("there is no sandbox; `sandbox up` makes one");
        } else {
            out.table(&table(out.look(), &rows, Timestamp::now()));
        }
        Ok(Exit::Done)
    }
}

fn table(look: OutputStyle, rows: &[Row], now: Timestamp) -> Table {
    let mut table = Table::new(["name", "services", "age", "left", "branch", "folder"]);
    for row in rows {
        let services = match (row.running, row.services) {
            (_, 0) => look.paint(Tint::Warn, "none"),
            (running, all) if running == all => look.paint(Tint::Good, &format!("{running} running")),
            (running, all) => look.paint(Tint::Warn, &format!("{running} of {all} running")),
        };
        let age =
            row.created.map(|created| amount::duration(amount::since(created, now))).unwrap_or_default();
        let left = match (row.hold, row.ends.map(|ends| amount::until(ends, now))) {
            (Some(LeaseStatus::Ending), _) => look.paint(Tint::Warn, "ends now"),
            (Some(LeaseStatus::Lost), _) => look.paint(Tint::Warn, "its session is gone"),
            (_, Some(Some(left))) if row.unless_used => format!("{} if unused", amount::duration(left)),
            (_, Some(Some(left))) => amount::duration(left),
            (_, Some(None)) => look.paint(Tint::Warn, "expired"),
            (_, None) => "while attached".to_owned(),
        };
        let branch = row.branch.as_ref().map(ToString::to_string).unwrap_or_default();
        table.row([look.paint(Tint::Strong, &row.name), services, age, left, branch, row.folder.clone()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::git::branches::BranchState;

    #[test]
    fn each_sandbox_is_one_row() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let row = |name: &str, running, services, ends: Option<&str>| Row {
            name: name.into(),
            id: "0a1b2c3d4e5f".into(),
            folder: "/src/shop".into(),
            services,
            running,
            created: "2026-11-23T11:00:00Z".parse().ok(),
            ends: ends.map(|moment| moment.parse().unwrap()),
            unless_used: name == "blog",
            hold: None,
            branch: (name == "blog")
                .then(|| SandboxBranch { name: "fix".into(), state: Some(BranchState::Merged) }),
        };
        let rows = [row("shop-main", 3, 3, Some("2026-11-23T20:00:00Z")), row("blog", 1, 2, None)];
        insta::assert_snapshot!(table(OutputStyle::BARE, &rows, now).lines(OutputStyle::BARE, 100).join("\n"), @r"
        NAME        SERVICES         AGE      LEFT             BRANCH         FOLDER
        shop-main   3 running        1h 00m   8h 00m                          /src/shop
        blog        1 of 2 running   1h 00m   while attached   fix (merged)   /src/shop
        ");
    }
}
