//! `exec`: the command that runs in a service.

use super::SeedCommand;
use crate::engine::Exec;
use crate::spec::ExecSeed;

pub(super) fn commands(seed: &ExecSeed) -> Vec<SeedCommand> {
    let command = seed.command.iter().cloned();
    let exec = Exec { user: seed.user.clone(), stdin: seed.stdin.is_some(), ..Exec::new(command) };
    vec![SeedCommand { label: seed.command.join(" "), exec, input: seed.stdin.clone() }]
}
