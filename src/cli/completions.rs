//! `completions`: what a shell runs once to complete our verbs, options, sandboxes and services.

use clap::ValueEnum;
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};

use super::Exit;
use crate::report::Output;

/// The variable by which a shell asks for completions.
pub const VARIABLE: &str = "SANDBOX_COMPLETE";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    /// `source <(sandbox completions bash)` in ~/.bashrc
    Bash,
    /// `source <(sandbox completions zsh)` in ~/.zshrc
    Zsh,
    /// `sandbox completions fish | source` in ~/.config/fish/config.fish
    Fish,
    /// `eval (sandbox completions elvish | slurp)` in ~/.elvish/rc.elv
    Elvish,
    /// `sandbox completions powershell | Out-String | Invoke-Expression` in $PROFILE
    Powershell,
}

/// Runs the verb: prints the script.
pub fn run(args: &Args) -> Exit {
    let completer: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
        Shell::Elvish => &Elvish,
        Shell::Powershell => &Powershell,
    };
    let mut script = Vec::new();
    // Writing to memory does not fail.
    let _ = completer.write_registration(VARIABLE, "sandbox", "sandbox", "sandbox", &mut script);
    Output::stdout().bytes(&script);
    Exit::Done
}
