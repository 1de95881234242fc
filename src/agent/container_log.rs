//! The log of keeper and gateway: plain lines on standard error, which `docker logs` shows.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Writes the log of this process to standard error: our own messages from `info` up, those of libraries from `warn`
/// up. Lower levels contain the values of variables.
pub fn open() {
    let ours = env!("CARGO_CRATE_NAME");
    let wanted = Targets::new().with_default(LevelFilter::WARN).with_target(ours, LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // In a test another subscriber may be installed already; that is fine.
    let _ = tracing_subscriber::registry().with(lines).with(wanted).try_init();
}
