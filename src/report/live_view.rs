//! A picture on standard output that is drawn again and again in the same place.

use super::style::OutputStyle;
use crate::report::output::Output;
use crate::report::tty::{Painter, stdout_size};

/// Draws on a terminal; what was drawn last stays.
pub struct Live(Painter);

impl Live {
    /// On standard output, if it is a terminal.
    pub fn stdout() -> Option<Self> {
        let term = console::Term::stdout();
        term.is_term().then(|| Self(Painter::new(Output::stdout(), stdout_size())))
    }

    /// Draws what `picture` makes for this look and width.
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
