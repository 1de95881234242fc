//! `fault ls`: lists the faults of a sandbox.

use serde_json::json;

use super::{Context, Exit, Failure, figures, imposed};
use crate::agent::fault_injector::container::Imposed;
use crate::report::Output;
use crate::report::table::Table;
use crate::session::existing::fault;

/// Runs `fault ls`.
pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let faults = imposed(context).await?;
    let mut out = Output::stdout();
    if context.globals.json {
        let rows: Vec<_> = faults
            .iter()
            .map(|one| json!({ "service": fault::service_of(one), "fault": figures(&one.fault), "state": state(one) }))
            .collect();
        out.json(&rows);
    } else if faults.is_empty() {
        Output::stderr().line("no service has a fault");
    } else {
        let mut table = Table::new(["service", "fault", ""]);
        for one in &faults {
            table.row([fault::service_of(one), one.fault.to_string(), state(one).to_owned()]);
        }
        out.table(&table);
    }
    Ok(Exit::Done)
}

/// The state of a fault, which is pending while its service does not run.
fn state(imposed: &Imposed) -> &'static str {
    if imposed.container.state.is_alive() { "in force" } else { "when it starts" }
}
