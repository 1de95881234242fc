//! Redraws a view in place on standard output.

use super::style::OutputStyle;
use crate::report::output::Output;
use crate::report::tty::{Painter, stdout_size};

/// A redrawn view on a terminal; the last drawing stays.
pub struct Live(Painter);

impl Live {
    /// A view on standard output, if that is a terminal.
    pub fn stdout() -> Option<Self> {
        let term = console::Term::stdout();
        term.is_term().then(|| Self(Painter::new(Output::stdout(), stdout_size())))
    }

    /// Draws the lines that `picture` returns for this style and width.
    pub fn show(&mut self, picture: impl FnOnce(OutputStyle, usize) -> Vec<String>) {
        let (_, columns) = self.0.size();
        let lines = picture(self.0.look(), columns);
        self.0.paint(&[], &lines);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.leave();
    }
}
