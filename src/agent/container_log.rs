//! What keeper and gateway tell whoever reads `docker logs`: plain lines on standard error.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Has what this process tells written to standard error: of our own from `info` on, of libraries from `warn` on.
/// What they tell below that holds the values of variables.
pub fn open() {
    let ours = env!("CARGO_CRATE_NAME");
    let wanted = Targets::new().with_default(LevelFilter::WARN).with_target(ours, LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // Somebody else's, in a test, is as good.
    let _ = tracing_subscriber::registry().with(lines).with(wanted).try_init();
}
