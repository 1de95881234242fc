//! `sandbox agent diff`: compares volumes in the keeper's container, which has their files.

use std::io::{self, Write};
use std::process::ExitCode;

use super::client::{in_full, storage_inside};
use super::protocol::{DiffRequest, TransferLine};
use crate::data::diff::{VolumeDiff, compare};

/// `diff REQUESTS`: prints the changes of each pair of volumes as JSON.
pub fn run(args: &[String]) -> ExitCode {
    match compared(args) {
        Ok(diffs) => {
            let text = serde_json::to_vec(&diffs).unwrap_or_default();
            match io::stdout().write_all(&text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(message) => {
            let line = TransferLine::Failed { message, hint: None };
            // If the client no longer reads, there is nowhere to report to.
            let _ = io::stderr().write_all(&serde_json::to_vec(&line).unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

fn compared(args: &[String]) -> Result<Vec<VolumeDiff>, String> {
    let text = args.first().map(String::as_str).unwrap_or_default();
    let requests: Vec<DiffRequest> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let (_, folder) = runtime.block_on(storage_inside()).map_err(|error| in_full(&error))?;
    let pair = |DiffRequest { before, now }: DiffRequest| {
        let (before, volume, now) =
            (folder.join(before.relative()), now.volume.clone(), folder.join(now.relative()));
        compare(volume, &before, &now).map_err(|error| in_full(&error))
    };
    requests.into_iter().map(pair).collect()
}
