//! A session from its first call to its last: the lease, signals and time in one loop, teardown.

pub mod control;
pub(crate) mod exits;
pub(crate) mod log_follower;
pub mod open;
pub(crate) mod refusals;
pub mod run;
pub(crate) mod signals;
pub mod teardown;
