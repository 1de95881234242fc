//! The lifecycle of a session: takes the lease, handles signals and deadlines in one loop, and destroys the sandbox.

pub mod control;
mod copy_out;
pub(crate) mod exits;
pub(crate) mod log_follower;
pub mod open;
pub(crate) mod orphans;
pub(crate) mod refusals;
pub mod run;
pub(crate) mod signals;
pub mod teardown;
mod user_limits;
