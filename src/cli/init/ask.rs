//! Asks questions on a terminal. Without one, or if the user wants no questions, returns the defaults.

use std::io::{ErrorKind, IsTerminal};
use std::time::Duration;

use console::Term;
use dialoguer::theme::{ColorfulTheme, SimpleTheme, Theme};
use dialoguer::{Confirm, Input, Select};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Failure;
use crate::report::output::stderr_look;
use crate::report::style::Colour;

/// How long an interrupted prompt may take to restore the terminal.
const PARTING: Duration = Duration::from_millis(300);

/// Asks the user, or uses the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Asks on the terminal.
    Person,
    /// Uses the defaults: there is no terminal, or the user wants no questions.
    Nobody,
}

impl Asker {
    /// Asks only on a terminal, and not if `yes` is set.
    pub fn new(yes: bool) -> Self {
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if terminal && !yes { Self::Person } else { Self::Nobody }
    }

    /// Runs a dialogue in its own thread; `None` if it was interrupted. An interrupted prompt hides the cursor, so
    /// this shows it again.
    pub async fn on_its_own<T: Send + 'static>(
        self,
        dialogue: impl FnOnce(Self) -> Result<T, Failure> + Send + 'static,
    ) -> Option<Result<T, Failure>> {
        let mut interrupted = signal(SignalKind::interrupt()).ok()?;
        let mut dialogue = tokio::task::spawn_blocking(move || dialogue(self));
        let answer = tokio::select! {
            biased;
            _ = interrupted.recv() => {
                // Gives the prompt time to restore the terminal.
                let _ = tokio::time::timeout(PARTING, &mut dialogue).await;
                None
            }
            answer = &mut dialogue => answer.ok(),
        };
        let answer = answer.filter(
            |answer| !matches!(answer, Err(Failure::Io(error)) if error.kind() == ErrorKind::Interrupted),
        );
        if answer.is_none() {
            let term = Term::stderr();
            let _ = term.show_cursor();
            let _ = term.write_line("");
        }
        answer
    }

    /// Asks whether to overwrite a file.
    pub fn overwrite(self, file: &str) -> Result<bool, Failure> {
        match self {
            Self::Person => self.confirm(&format!("There is a {file}. Write over it?"), false),
            Self::Nobody => Err(Failure::failed(
                format!("there is a `{file}` already"),
                Some("`--force` writes over it, `--print` only shows what would be written".to_owned()),
            )),
        }
    }

    /// Asks a yes/no question.
    pub fn confirm(self, question: &str, default: bool) -> Result<bool, Failure> {
        match self {
            Self::Nobody => Ok(default),
            Self::Person => {
                let theme = theme();
                let prompt = Confirm::with_theme(&*theme).with_prompt(question).default(default);
                prompt.interact_on(&Term::stderr()).map_err(failed)
            }
        }
    }

    /// Asks for one of several choices; the first is the default.
    pub fn choose<T: Copy>(self, question: &str, choices: &[(&str, T)]) -> Result<T, Failure> {
        let index = match self {
            Self::Nobody => 0,
            Self::Person => {
                let theme = theme();
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                let prompt = Select::with_theme(&*theme).with_prompt(question).items(&names).default(0);
                prompt.interact_on(&Term::stderr()).map_err(failed)?
            }
        };
        Ok(choices[index].1)
    }

    /// Asks for a line of text.
    pub fn text(self, question: &str, default: &str) -> Result<String, Failure> {
        self.parsed(question, default, |text| Ok(text.to_owned()))
    }

    /// Asks for a line until `parse` accepts it.
    pub fn parsed<T>(
        self,
        question: &str,
        default: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let text = match self {
            Self::Nobody => default.to_owned(),
            Self::Person => {
                let theme = theme();
                let mut prompt = Input::<String>::with_theme(&*theme).with_prompt(question).allow_empty(true);
                if !default.is_empty() {
                    prompt = prompt.default(default.to_owned());
                }
                let check = |text: &String| read(text.trim()).map(drop);
                prompt.validate_with(check).interact_text_on(&Term::stderr()).map_err(failed)?
            }
        };
        read(text.trim()).map_err(|error| Failure::usage(error, None))
    }
}

fn theme() -> Box<dyn Theme> {
    match stderr_look().colour {
        Colour::On => Box::new(ColorfulTheme::default()),
        Colour::Off => Box::new(SimpleTheme),
    }
}

fn failed(error: dialoguer::Error) -> Failure {
    let dialoguer::Error::IO(error) = error;
    Failure::Io(error)
}
