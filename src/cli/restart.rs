//! `restart`: stops and starts services of an existing sandbox.

use super::change::{Change, change};
use super::{Context, Exit, Failure};

pub use super::change::StopArgs as Args;

/// Runs `restart`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let within = args.within();
    change(args.args, Change::Restart(within), context).await
}
