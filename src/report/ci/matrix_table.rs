//! The table at the end of a matrix.

use super::record::RunRecord;
use crate::report::amount;
use crate::report::style::{OutputStyle, Tint};
use crate::report::table::Table;

/// One row for each run: its variables, its sandbox, its result, its time, and what failed.
pub fn table(look: OutputStyle, records: &[RunRecord]) -> Table {
    let mut table = Table::new(["entry", "sandbox", "result", "time", "failed"]).right(3);
    for record in records {
        let tint = if record.passed() { Tint::Good } else { Tint::Bad };
        let failed: Vec<String> = record.problems().iter().map(|(case, _)| case.title()).collect();
        table.row([
            look.paint(Tint::Strong, &record.label()),
            record.sandbox.clone().unwrap_or_default(),
            look.paint(tint, &record.result()),
            amount::duration(record.elapsed),
            failed.join(", "),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::test_records;
    use super::*;

    #[test]
    fn each_entry_is_a_row_with_its_result() {
        let records = [test_records::passed(), test_records::failed(), test_records::killed()];
        let lines = table(OutputStyle::BARE, &records).lines(OutputStyle::BARE, 200);
        insta::assert_snapshot!(lines.join("\n"));
    }
}
