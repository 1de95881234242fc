//! `doctor`: checks whether this machine can run sandboxes.

use std::process::Command;
use std::sync::Arc;

use super::{Context, Exit, Failure, SpecOptions, keeper};
use crate::agent::client;
use crate::engine::Engine;
use crate::report::Output;
use crate::report::style::{Glyph, OutputStyle, Tint};
use crate::session::inspect::doctor::{self, Finding, Keeper, Verdict};
use crate::session::inspect::requirements;
use crate::session::settings;
use crate::spec::{Refusals, Requirements};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `doctor`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let (findings, exit) = match context.engine().await {
            Ok(engine) => {
                let options = client::Options::from_env()?;
                let keeper = match client::keeper_state(&engine, &options).await? {
                    None => Keeper::Absent,
                    Some(state) if state.is_alive() => asked(&engine).await,
                    Some(_) => Keeper::Down,
                };
                let subnets = settings::subnets()?;
                let trial = client::trial(&engine, &options).await;
                let mut findings =
                    doctor::examine(engine.as_ref(), &context.scope()?, &subnets, &keeper, &trial).await?;
                findings.extend(git());
                findings.extend(required(context, &engine).await?);
                let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
                (findings, if failed { Exit::Failed } else { Exit::Done })
            }
            Err(Failure::NoEngine(error)) => (doctor::unreachable(&error), Exit::NoEngine),
            Err(other) => return Err(other),
        };
        let mut out = Output::stdout();
        if context.globals.json {
            out.json(&findings);
        } else {
            out.lines(lines(out.look(), &findings));
        }
        Ok(exit)
    }
}

/// Asks the keeper for its state.
async fn asked(engine: &Arc<dyn Engine>) -> Keeper {
    match keeper::running(engine).await {
        Ok(None) => Keeper::Down,
        Ok(Some(keeper)) => {
            let greeting = keeper.greeting();
            let version = greeting.build.version.map(|number| number.to_string()).join(".");
            let refused = greeting.storage_refused.iter();
            Keeper::Answers {
                version,
                storage: greeting.storage,
                refused: refused.map(|(kind, why)| format!("{kind}: {why}")).collect(),
                ungrouped: greeting.groups_refused.clone(),
            }
        }
        Err(failure) => Keeper::Fails { cause: crate::report::error::chain(&failure).join(": ") },
    }
}

/// What the spec of this folder requires of the machine; nothing without a valid spec.
async fn required(context: &Context, engine: &Arc<dyn Engine>) -> Result<Vec<Finding>, Failure> {
    let Ok(loaded) = context.load(&SpecOptions::default(), &[], Refusals::Warn) else {
        return Ok(Vec::new());
    };
    if loaded.spec.requires == Requirements::default() {
        return Ok(Vec::new());
    }
    let checked = requirements::check(&loaded.spec.requires, &engine.info().await?);
    let finding = |it: requirements::CheckedRequirement| Finding {
        check: "requires",
        verdict: if it.unmet.is_some() { Verdict::Fail } else { Verdict::Ok },
        found: it.found,
        hint: it.unmet,
    };
    Ok(checked.into_iter().map(finding).collect())
}

/// Without git a sandbox is named after its folder only.
fn git() -> Option<Finding> {
    let works = Command::new("git").arg("--version").output().is_ok_and(|output| output.status.success());
    (!works).then(|| Finding {
        check: "git",
        verdict: Verdict::Ok,
        found: "not installed: branches are read without it".to_owned(),
        hint: None,
    })
}

fn lines(look: OutputStyle, findings: &[Finding]) -> Vec<String> {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Ok => Glyph::Done,
            Verdict::Warn => Glyph::Warning,
            Verdict::Fail => Glyph::Failed,
        };
        let word = match finding.verdict {
            Verdict::Ok => look.paint(Tint::Good, "ok  "),
            Verdict::Warn => look.paint(Tint::Warn, "warn"),
            Verdict::Fail => look.paint(Tint::Bad, "fail"),
        };
        lines.push(format!("{} {word}  {:width$}  {}", look.mark(mark), finding.check, finding.found));
        if let Some(hint) = &finding.hint {
            lines.push(format!("        {:width$}  {} {hint}", "", look.mark(Glyph::Arrow)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_and_the_way_out_stands_below_it() {
        let finding = |check, verdict, found: &str, hint: Option<&str>| Finding {
            check,
            verdict,
            found: found.into(),
            hint: hint.map(Into::into),
        };
        let findings = [
            finding("engine", Verdict::Ok, "Docker 26.1.5 at unix:///var/run/docker.sock", None),
            finding("disk", Verdict::Warn, "3 GiB free", Some("`sandbox gc` shows what is kept")),
        ];
        insta::assert_snapshot!(lines(OutputStyle::BARE, &findings).join("\n"), @r"
        ✔ ok    engine  Docker 26.1.5 at unix:///var/run/docker.sock
        ! warn  disk    3 GiB free
                        → `sandbox gc` shows what is kept
        ");
    }
}
