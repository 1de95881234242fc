//! Lists the host access that an untrusted spec needs, and asks once on a terminal whether to allow it.

use std::io::IsTerminal;

use console::Term;
use dialoguer::Confirm;
use dialoguer::theme::SimpleTheme;

use super::Failure;
use crate::report::Output;

/// Whether the user allows everything in `asked`. Without a terminal the answer is no.
pub async fn ask(asked: Vec<String>) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    let mut out = Output::stderr();
    asked.iter().for_each(|line| out.line(line));
    let prompt = || {
        let question = Confirm::with_theme(&SimpleTheme).with_prompt("allow this?").default(false);
        question.interact_on_opt(&Term::stderr())
    };
    let answer =
        tokio::task::spawn_blocking(prompt).await.map_err(std::io::Error::other).map_err(Failure::Io)?;
    let answer = answer.map_err(|dialoguer::Error::IO(error)| Failure::Io(error))?;
    Ok(answer.unwrap_or_default())
}
