//! The messages between a client and the keeper: one JSON object per line, in both directions.
//!
//! A client sends [`Request`]s, each with its own number. The keeper answers each with a [`Reply`] of the same number,
//! in any order. It also sends [`Notice`]s about a sandbox to the client that holds its lease and to those that watch
//! it. Both sides ignore unknown fields, so that an older client can talk to a newer keeper.

mod declared;
mod lifetime;
pub(crate) mod millis;
mod record;
mod reply;
mod request;
mod status;

use std::time::Duration;

pub use self::declared::Declared;
pub use self::lifetime::{Attachment, End, Extension, Lifetime, UNUSED};
pub use self::record::{Actor, Reason, Record, RecordKind};
pub use self::reply::{
    DiffRequest, ExitAction, Line, Notice, Outcome, Refusal, RefusalKind, Reply, TransferLine,
};
pub use self::request::{Build, LeaseRequest, Request, RequestKind};
pub use status::{Destroyed, DiskSpace, Greeting, LeaseStatus, LeftObject, Leftovers, Standing};

/// The protocol version. A keeper of another version is replaced, not used.
pub const VERSION: u32 = 2;

/// The longest line that the keeper accepts, in bytes.
pub const LONGEST_LINE: usize = 8 * 1024 * 1024;
/// The longest line that a client accepts, in bytes: lists of a day's events, or of all stored data, are long.
pub const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// How often a client that holds a lease sends a heartbeat.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// The exit code of a keeper in a container that cannot reach its engine by the socket that was mounted.
pub const WRONG_SOCKET: u8 = 69;
