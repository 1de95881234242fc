//! Redraws a few lines at the bottom of a terminal, and prints lines that scroll away above them.
//!
//! The painter assumes nothing about the cursor's position. It stores the widths of the drawn lines, so that after a
//! resize (the terminal wraps the lines) it clears exactly the rows that they occupy *now*.

use console::{measure_text_width, truncate_str};

use crate::report::output::Output;
use crate::report::style::on_terminal;

/// Returns the terminal's current size; called for each drawing.
pub type Size = Box<dyn Fn() -> (usize, usize) + Send>;

/// Redraws lines at the bottom of a terminal.
pub struct Painter {
    output: Output,
    size: Size,
    drawn: Vec<usize>,
    shown: Vec<String>,
}

impl Painter {
    /// Creates a painter on `output`; `size` returns the terminal's rows and columns.
    pub fn new(output: Output, size: Size) -> Self {
        Self { output, size, drawn: Vec::new(), shown: Vec::new() }
    }

    /// Rows and columns, at least one of each.
    pub fn size(&self) -> (usize, usize) {
        let (rows, columns) = (self.size)();
        (rows.max(1), columns.max(1))
    }

    /// The style of the output.
    pub fn look(&self) -> crate::report::style::OutputStyle {
        self.output.look()
    }

    /// Prints `above` permanently and draws `lines` below it, in one write.
    pub fn paint(&mut self, above: &[String], lines: &[String]) {
        let (_, columns) = self.size();
        let widest = columns.saturating_sub(1).max(1);
        let lines: Vec<String> = lines
            .iter()
            .map(|line| truncate_str(&flat(&on_terminal(line)), widest, "…").into_owned())
            .collect();
        if above.is_empty() && lines == self.shown && self.rows(columns) == self.drawn.len() {
            return;
        }
        let mut text = self.to_the_top(columns);
        if above.is_empty() && lines.is_empty() {
            text.push_str(&self.erasure(columns));
        } else {
            for line in above {
                let line = on_terminal(line);
                text.push_str(&line);
                // A full row has nothing left to clear, and some terminals would erase its last character.
                let full = measure_text_width(&line).is_multiple_of(columns) && !line.is_empty();
                text.push_str(if full { "\r\n" } else { "\u{1b}[K\r\n" });
            }
            text.push_str(&lines.join("\u{1b}[K\r\n"));
            text.push_str("\u{1b}[J");
        }
        self.drawn = lines.iter().map(|line| measure_text_width(line)).collect();
        self.shown = lines;
        // Synchronized output: terminals that support it show the drawing at once; the others ignore it.
        self.output.text(&format!("\u{1b}[?2026h{text}\u{1b}[?2026l"));
    }

    /// Moves to the start of a row below other programs' output, whether or not that ended with a newline: blanks up
    /// to the width stay in an empty row, and wrap in a row that has text.
    pub fn fresh_line(&mut self) {
        let (_, columns) = self.size();
        self.output.text(&format!("{}\r\u{1b}[K", " ".repeat(columns.saturating_sub(1))));
    }

    /// Clears the drawn lines.
    pub fn clear(&mut self) {
        if !self.drawn.is_empty() {
            self.paint(&[], &[]);
        }
    }

    /// Keeps the drawn lines and moves the cursor below them.
    pub fn leave(&mut self) {
        if !self.drawn.is_empty() {
            self.output.text("\r\n");
            self.drawn.clear();
            self.shown.clear();
        }
    }

    /// Number of rows that the drawn lines occupy on a terminal of `columns`.
    fn rows(&self, columns: usize) -> usize {
        self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum()
    }

    /// Moves to the first drawn row. Lines are overwritten rather than cleared first, which avoids flicker.
    fn to_the_top(&self, columns: usize) -> String {
        match self.rows(columns) {
            0 => String::new(),
            1 => "\r".to_owned(),
            rows => format!("\r\u{1b}[{}A", rows - 1),
        }
    }

    /// Clears the drawn rows and returns to the first. It clears row by row, because some terminals move a screen that
    /// is cleared at once into their history.
    fn erasure(&self, columns: usize) -> String {
        match self.rows(columns) {
            0 => String::new(),
            rows => format!("{}\r{}", vec!["\u{1b}[2K"; rows].join("\r\n"), self.to_the_top(columns)),
        }
    }
}

/// Replaces characters that would move the cursor to another row by spaces.
fn flat(line: &str) -> String {
    line.replace(['\n', '\r', '\t'], " ")
}
