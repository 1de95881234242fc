//! A few lines at the bottom of a terminal that are drawn again and again, and lines that scroll away above them.
//!
//! Nothing is assumed about where the cursor was: what was drawn is remembered by width, so that after a resize (the
//! terminal wraps what it shows) the rows that it takes up *now* are taken away, no more and no fewer.

use console::{measure_text_width, truncate_str};

use crate::report::output::Output;
use crate::report::style::on_terminal;

/// A terminal's size, asked anew for each picture.
pub type Size = Box<dyn Fn() -> (usize, usize) + Send>;

/// Draws.
pub struct Painter {
    output: Output,
    size: Size,
    drawn: Vec<usize>,
    shown: Vec<String>,
}

impl Painter {
    /// Draws on `output`, whose rows and columns `size` tells.
    pub fn new(output: Output, size: Size) -> Self {
        Self { output, size, drawn: Vec::new(), shown: Vec::new() }
    }

    /// Rows and columns, at least one each.
    pub fn size(&self) -> (usize, usize) {
        let (rows, columns) = (self.size)();
        (rows.max(1), columns.max(1))
    }

    /// What may be shown here.
    pub fn look(&self) -> crate::report::style::OutputStyle {
        self.output.look()
    }

    /// Writes `above` for good and draws `lines` below it, in one write.
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
                // A row that is full has nothing left to clear, and on some terminals would lose its last character.
                let full = measure_text_width(&line).is_multiple_of(columns) && !line.is_empty();
                text.push_str(if full { "\r\n" } else { "\u{1b}[K\r\n" });
            }
            text.push_str(&lines.join("\u{1b}[K\r\n"));
            text.push_str("\u{1b}[J");
        }
        self.drawn = lines.iter().map(|line| measure_text_width(line)).collect();
        self.shown = lines;
        // Terminals that know it show the picture at once; the others ignore it.
        self.output.text(&format!("\u{1b}[?2026h{text}\u{1b}[?2026l"));
    }

    /// Moves to the start of a row below what somebody else has written, whether or not they ended their line: blanks to
    /// the end of an empty row stay in it, others wrap.
    pub fn fresh_line(&mut self) {
        let (_, columns) = self.size();
        self.output.text(&format!("{}\r\u{1b}[K", " ".repeat(columns.saturating_sub(1))));
    }

    /// Takes away what is drawn.
    pub fn clear(&mut self) {
        if !self.drawn.is_empty() {
            self.paint(&[], &[]);
        }
    }

    /// Leaves what is drawn where it is, and the cursor below it.
    pub fn leave(&mut self) {
        if !self.drawn.is_empty() {
            self.output.text("\r\n");
            self.drawn.clear();
            self.shown.clear();
        }
    }

    /// How many rows what is drawn takes up on a terminal of `columns`.
    fn rows(&self, columns: usize) -> usize {
        self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum()
    }

    /// Moves to the first row of what is drawn. It is written over, not taken away first, so that nothing flickers.
    fn to_the_top(&self, columns: usize) -> String {
        match self.rows(columns) {
            0 => String::new(),
            1 => "\r".to_owned(),
            rows => format!("\r\u{1b}[{}A", rows - 1),
        }
    }

    /// Takes away what is drawn, from its first row on, and returns there. Row by row: a terminal that is cleared from
    /// its first row on may keep what was there in its history.
    fn erasure(&self, columns: usize) -> String {
        match self.rows(columns) {
            0 => String::new(),
            rows => format!("{}\r{}", vec!["\u{1b}[2K"; rows].join("\r\n"), self.to_the_top(columns)),
        }
    }
}

/// What would move the cursor off its row becomes a space.
fn flat(line: &str) -> String {
    line.replace(['\n', '\r', '\t'], " ")
}
