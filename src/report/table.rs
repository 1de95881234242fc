//! Tables: aligned columns if the terminal is wide enough, else one block per row, so that an address is never split
//! and can be copied.

use console::{Alignment, measure_text_width, pad_str};

use super::style::{OutputStyle, Tint};

const GAP: &str = "   ";

/// Rows below a heading. Cells may contain colours.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<String>,
    align: Vec<Alignment>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows yet.
    pub fn new<H: Into<String>>(head: impl IntoIterator<Item = H>) -> Self {
        let head: Vec<String> = head.into_iter().map(Into::into).collect();
        let align = vec![Alignment::Left; head.len()];
        Self { head, align, rows: Vec::new() }
    }

    /// Aligns column `index` to the right, for numbers.
    #[must_use]
    pub fn right(mut self, index: usize) -> Self {
        if let Some(align) = self.align.get_mut(index) {
            *align = Alignment::Right;
        }
        self
    }

    /// Adds a row. Missing cells are empty; cells without a heading are dropped.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let mut cells: Vec<String> = cells.into_iter().map(|cell| one_line(cell.into())).collect();
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    /// Whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines no wider than `width`, unless a single cell is.
    pub fn lines(&self, look: OutputStyle, width: usize) -> Vec<String> {
        let widths: Vec<usize> = (0..self.head.len()).map(|column| self.width_of(column)).collect();
        let total = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        if total <= width || width == 0 { self.columns(look, &widths) } else { self.blocks(look) }
    }

    fn width_of(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| measure_text_width(&row[column]));
        cells.chain([measure_text_width(&self.head[column])]).max().unwrap_or(0)
    }

    fn columns(&self, look: OutputStyle, widths: &[usize]) -> Vec<String> {
        let line = |cells: &[String]| -> String {
            let padded: Vec<_> = cells
                .iter()
                .zip(widths.iter().zip(&self.align))
                .map(|(cell, (width, align))| pad_str(cell, *width, *align, None))
                .collect();
            padded.join(GAP).trim_end().to_owned()
        };
        let head: Vec<String> = self.head.iter().map(|head| head.to_uppercase()).collect();
        let mut lines = vec![look.paint(Tint::Faint, &line(&head))];
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines
    }

    /// A row as a block: the first cell on its own line, the others below it, each with its heading.
    fn blocks(&self, look: OutputStyle) -> Vec<String> {
        let widest = self.head.iter().skip(1).map(|head| measure_text_width(head)).max().unwrap_or(0);
        let mut lines = Vec::new();
        for row in &self.rows {
            if !row[0].is_empty() {
                lines.push(row[0].clone());
            }
            for (head, cell) in self.head.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty()) {
                let head = pad_str(head, widest, Alignment::Left, None);
                lines.push(format!("  {} {cell}", look.paint(Tint::Faint, &head)));
            }
        }
        lines
    }
}

fn one_line(cell: String) -> String {
    if cell.contains(['\n', '\r']) { cell.split_whitespace().collect::<Vec<_>>().join(" ") } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["service", "bytes", "address"]).right(1);
        table.row(["db", "12", "postgres://postgres@127.0.0.1:32768/shop"]);
        table.row(["frontend", "1024", "-"]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        insta::assert_snapshot!(sample().lines(OutputStyle::BARE, 80).join("\n"), @r"
        SERVICE    BYTES   ADDRESS
        db            12   postgres://postgres@127.0.0.1:32768/shop
        frontend    1024   -
        ");
    }

    #[test]
    fn a_narrow_terminal_gets_blocks_and_no_cut_address() {
        insta::assert_snapshot!(sample().lines(OutputStyle::BARE, 40).join("\n"), @r"
        db
          bytes   12
          address postgres://postgres@127.0.0.1:32768/shop
        frontend
          bytes   1024
          address -
        ");
    }
}
