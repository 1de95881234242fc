//! `snapshot ls`: lists snapshots.

use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Exit, Failure, storage};
use crate::data::manifest::Manifest;
use crate::report::table::Table;
use crate::report::{Output, amount};
use crate::storage::{Detail, Namespace, SetInfo, SetPath, SetSize};

#[derive(Serialize)]
struct Row {
    name: String,
    sandbox: Option<String>,
    created: Option<Timestamp>,
    consistency: Option<String>,
    note: Option<String>,
    volumes: Vec<String>,
    own_bytes: u64,
    shared_bytes: u64,
}

fn row(info: &SetInfo, size: SetSize) -> Row {
    let manifest = Manifest::of(info);
    let of = manifest.as_ref();
    Row {
        name: info.path.name.to_string(),
        sandbox: of.and_then(|manifest| manifest.sandbox.clone()),
        created: of.map(|manifest| manifest.created),
        consistency: of.map(|manifest| manifest.consistency.to_string()),
        note: of.and_then(|manifest| manifest.note.clone()),
        volumes: info.volumes.iter().map(ToString::to_string).collect(),
        own_bytes: size.own,
        shared_bytes: size.shared,
    }
}

/// Runs `snapshot ls`.
pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let storage = storage(context).await?;
    let sizes = storage.usage(Detail::Sets).await?.sets;
    let size =
        |path: &SetPath| sizes.iter().find(|(set, _)| set == path).map(|(_, size)| *size).unwrap_or_default();
    let sets = storage.list(Namespace::Snapshot).await?;
    let rows: Vec<Row> = sets.iter().map(|info| row(info, size(&info.path))).collect();
    let mut out = Output::stdout();
    if context.globals.json {
        out.json(&rows);
    } else if rows.is_empty() {
        Output::stderr().line("there is no snapshot; `sandbox snapshot create NAME` takes one");
    } else {
        out.table(&table(&rows, Timestamp::now()));
    }
    Ok(Exit::Done)
}

fn table(rows: &[Row], now: Timestamp) -> Table {
    let mut table = Table::new(["name", "from", "age", "state", "own", "shared", "note"]).right(4).right(5);
    for row in rows {
        let age =
            row.created.map(|created| amount::duration(amount::since(created, now))).unwrap_or_default();
        table.row([
            row.name.clone(),
            row.sandbox.clone().unwrap_or_default(),
            age,
            row.consistency.clone().unwrap_or_default(),
            amount::bytes(row.own_bytes),
            amount::bytes(row.shared_bytes),
            row.note.clone().unwrap_or_default(),
        ]);
    }
    table
}
