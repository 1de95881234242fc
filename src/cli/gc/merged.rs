//! `gc --merged`: destroys sandboxes whose branch is merged or gone.

use serde::Serialize;

use crate::agent::client::{Keeper, Options};
use crate::agent::protocol::LeaseStatus;
use crate::cli::support::branches;
use crate::cli::{Context, Exit, Failure, down};
use crate::report::Output;
use crate::report::table::Table;
use crate::session::git::branches::BranchState;
use crate::session::git::store;
use crate::session::inspect::{self, ObservedSandbox};

/// What is done with a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// It is destroyed.
    Goes,
    /// A session holds it, so it stays.
    InUse,
}

#[derive(Serialize)]
struct Row {
    name: String,
    branch: String,
    branch_state: BranchState,
    verdict: Verdict,
}

/// Runs `gc --merged`.
pub(super) async fn run(context: &Context, dry_run: bool) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let scope = context.scope()?;
    let observed = inspect::sandboxes(&*engine, &scope).await?;
    if observed.is_empty() {
        show(context, &[]);
        return Ok(Exit::Done);
    }
    let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
    let found = branches::of(&keeper, &observed).await?;
    let standings = keeper.sandboxes().await?;
    let is_held = |sandbox: &ObservedSandbox| {
        let mut of_it = standings.iter().filter(|standing| standing.sandbox.as_str() == sandbox.id);
        of_it.any(|it| matches!(it.hold, LeaseStatus::Held | LeaseStatus::Suspended))
    };
    let mut rows = Vec::new();
    let mut chosen = Vec::new();
    for sandbox in &observed {
        let Some(branch) = found.get(&sandbox.id) else { continue };
        let Some(state @ (BranchState::Merged | BranchState::Gone)) = branch.state else { continue };
        let verdict = if is_held(sandbox) { Verdict::InUse } else { Verdict::Goes };
        if verdict == Verdict::Goes {
            chosen.push(sandbox);
        }
        let (name, branch) = (sandbox.name.clone(), branch.name.clone());
        rows.push(Row { name, branch, branch_state: state, verdict });
    }
    show(context, &rows);
    if dry_run || chosen.is_empty() {
        return Ok(Exit::Done);
    }
    let reporting = context.reporter();
    let doomed = down::teardowns(&engine, &keeper, &scope, &chosen, None, &reporting).await?;
    let exit = down::destroy(doomed, "its branch is merged or gone").await;
    reporting.finish().await;
    store::sweep(&*engine, &scope).await?;
    exit
}

fn show(context: &Context, rows: &[Row]) {
    let mut out = Output::stdout();
    if context.globals.json {
        out.json(&rows);
        return;
    }
    if rows.is_empty() {
        Output::stderr().line("no sandbox has a branch that is merged or gone");
        return;
    }
    let mut table = Table::new(["name", "branch", "", ""]);
    for row in rows {
        let state = match row.branch_state {
            BranchState::Merged => "merged",
            BranchState::Gone => "gone",
            BranchState::Open => "open",
        };
        let verdict = match row.verdict {
            Verdict::Goes => "goes",
            Verdict::InUse => "stays: a session uses it",
        };
        table.row([row.name.clone(), row.branch.clone(), state.to_owned(), verdict.to_owned()]);
    }
    out.table(&table);
}
