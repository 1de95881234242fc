//! What runs inside the engine: the keeper (leases, deadlines, storage), the gateway (ports, names, egress), the host
//! firewall and the fault injector; and the client that starts and reaches them.
//!
//! All of them are this program, started as `sandbox agent …` in a container of an image that holds nothing else. The
//! keeper can also run as a process on a user's machine; then the storage has its own container, the storage server.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

pub(crate) mod built_images;
pub(crate) mod cgroup;
pub mod client;
mod connect;
mod container_log;
mod diff;
mod digest_cache;
pub(crate) mod fault_injector;
pub mod gateway;
pub(crate) mod host_firewall;
pub mod image;
pub(crate) mod keeper;
pub(crate) mod linux;
pub mod protocol;
mod snapshot_transfer;

/// Runs the hidden subcommand `sandbox agent …`, which our own containers start. `args` are those after `agent`.
pub fn run(args: &[String]) -> ExitCode {
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("keeper") => {
            container_log::open();
            keeper::run(rest)
        }
        Some("storage-server") => {
            container_log::open();
            keeper::storage_server::run(rest)
        }
        Some("connect") => connect::run(rest.first().map_or(Path::new(client::SOCKET), Path::new)),
        Some("gateway") => {
            container_log::open();
            gateway::run()
        }
        Some("fault") => fault_injector::run(rest),
        Some("host-firewall") => host_firewall::run(),
        Some("export") => snapshot_transfer::export(rest),
        Some("diff") => diff::run(rest),
        Some("import") => snapshot_transfer::import(rest),
        Some("pack") => snapshot_transfer::pack(rest),
        Some("unpack") => snapshot_transfer::unpack(rest),
        Some("control") => gateway::control(),
        Some("dial") => gateway::dial(rest),
        other => {
            let _ = writeln!(io::stderr(), "`agent {}` is not a part of sandbox", other.unwrap_or_default());
            ExitCode::from(2)
        }
    }
}
