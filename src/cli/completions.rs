//! `completions`: prints the script that completes verbs, options, sandboxes and services in a shell; installs the man
//! pages.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};

use super::{Exit, Failure, help};
use crate::report::Output;

/// The environment variable by which a shell requests completions.
pub const VARIABLE: &str = "SANDBOX_COMPLETE";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell
    #[arg(required_unless_present = "man")]
    shell: Option<Shell>,
    /// Write the man pages to this directory, such as ~/.local/share/man/man1
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    man: Option<PathBuf>,
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

/// Runs `completions`: prints the script, or writes the man pages.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    if let Some(folder) = &args.man {
        write_pages(folder).map_err(|error| {
            Failure::failed(format!("cannot write man pages to `{}`: {error}", folder.display()), None)
        })?;
        Output::stderr().line(&format!("wrote the man pages to `{}`", folder.display()));
    }
    if let Some(shell) = args.shell {
        print_script(shell);
    }
    Ok(Exit::Done)
}

/// Writes a man page for each verb.
pub(super) fn write_pages(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(help::documented(), folder)
}

fn print_script(shell: Shell) {
    let completer: &dyn EnvCompleter = match shell {
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
}
