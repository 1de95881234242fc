//! Waits until services are ready.

pub(crate) mod attempt;
pub(crate) mod backoff;
pub mod gateway_probe;
pub(crate) mod log_tail;
pub(crate) mod takeover;
pub(crate) mod wait;
