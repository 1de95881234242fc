//! What `snapshot export` and `snapshot import` share: the transfer of a file, and the report of it.

use super::{Context, Exit, Failure, keeper};
use crate::agent::client::{Keeper, Options};
use crate::report::{Output, amount};
use crate::session::data::snapshot_transfer::{Images, RemoteEnd, TransferSummary};
use crate::session::error::SessionError;

pub(super) fn images(taken: bool) -> Images {
    if taken { Images::Taken } else { Images::Left }
}

/// Transfers a snapshot to or from the keeper's container, and shows the progress.
pub(super) async fn carry<T>(
    context: &Context,
    work: impl AsyncFnOnce(&RemoteEnd) -> Result<T, SessionError>,
) -> Result<T, Failure> {
    let engine = context.engine().await?;
    // A keeper of this build must be running before its container is used.
    let at_hand = Keeper::container_at_hand(&engine, Options::from_env()?).await?;
    let container = if let Some(container) = at_hand {
        container
    } else {
        let keeper = keeper(context).await?;
        keeper.storage()?;
        keeper.storage_container()
    };
    let reporting = context.reporter();
    let far = RemoteEnd { engine, container, events: reporting.events.clone() };
    let outcome = work(&far).await;
    drop(far);
    reporting.finish().await;
    Ok(outcome?)
}

/// Reports a transfer.
pub(super) fn carried(context: &Context, what: &str, moved: TransferSummary) -> Result<Exit, Failure> {
    if context.globals.json {
        let TransferSummary { entries, bytes, left_out, packed, elapsed } = moved;
        Output::stdout().json(&serde_json::json!({
            "entries": entries, "bytes": bytes, "left_out": left_out, "file_bytes": packed,
            "elapsed_ms": elapsed.as_millis(),
        }));
        return Ok(Exit::Done);
    }
    let left_out = match moved.left_out {
        0 => String::new(),
        some => format!("; {some} sockets and devices left out"),
    };
    Output::stderr().line(&format!(
        "{what}: {} in {}; {} of data in {} files and folders{left_out}",
        amount::bytes(moved.packed),
        amount::duration(moved.elapsed),
        amount::bytes(moved.bytes),
        moved.entries,
    ));
    Ok(Exit::Done)
}
