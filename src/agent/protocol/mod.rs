//! The messages between a client and the keeper: one JSON object a line, in both directions.
//!
//! A client sends [`Request`]s, each with a number of its own; the keeper answers every one with a [`Reply`] of
//! the same number, in any order, and sends [`Notice`]s unasked to whoever holds the lease they are about, or watches that sandbox.
//! Unknown fields are ignored on both sides, so that an older client can speak to a newer keeper.

mod declared;
mod lifetime;
mod record;
mod reply;
mod request;
mod status;

use std::time::Duration;

pub use self::declared::Declared;
pub use self::lifetime::{Attachment, End, Extension, Lifetime, UNUSED};
pub use self::record::{Actor, Reason, Record, RecordKind};
pub use self::reply::{ExitAction, Line, Notice, Outcome, Refusal, RefusalKind, Reply, TransferLine};
pub use self::request::{Build, LeaseRequest, Request, RequestKind};
pub use status::{Destroyed, Greeting, LeaseStatus, LeftObject, Leftovers, Standing};

/// The version of these messages. A keeper of another version is replaced, never spoken to.
pub const VERSION: u32 = 2;

/// The longest line that the keeper accepts, in bytes.
pub const LONGEST_LINE: usize = 8 * 1024 * 1024;
/// The longest line that a client accepts, in bytes: lists of a day's events, or of all that is stored.
pub const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// How often a client that holds a lease says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
