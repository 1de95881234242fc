//! `start`: starts services of an existing sandbox.

use super::change::{Change, change};
use super::{Context, Exit, Failure};

pub use super::change::ChangeArgs as Args;

/// Runs `start`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    change(args, Change::Start, context).await
}
