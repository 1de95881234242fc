//! Sets the user's terminal to raw mode while a command in a container uses it, and restores it afterwards.

use std::io::{self, IsTerminal};

use rustix::termios::{self, OptionalActions, Termios};

/// Keeps standard input in raw mode; dropping it restores the previous mode.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Sets standard input to raw mode, if it is a terminal.
    pub fn stdin() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Ignored: a terminal that is closed needs no restoring.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Rows and columns of the terminal on standard input or output, if there is one.
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdin()).or_else(|_| termios::tcgetwinsize(io::stdout())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
