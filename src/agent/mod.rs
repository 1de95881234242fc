//! What runs inside the engine: the keeper (leases, deadlines, storage) and the gateway (ports, names, egress), and
//! how a client makes and reaches them.
//!
//! A keeper may be a process of a user's machine; then the storage has a container of its own, the storehouse.
//!
//! All are this very program, started as `sandbox agent …` in a container of an image that holds nothing else.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

pub mod built;
mod carry;
pub mod client;
mod connect;
mod digest_cache;
mod elf;
pub mod fault;
pub mod gateway;
pub mod group;
pub mod image;
pub mod ingress;
mod journal;
pub mod keeper;
mod memory;
mod netlink;
mod nftables;
pub mod protocol;
mod rtnetlink;

/// The hidden `sandbox agent …`: what our own containers start. `args` are those after `agent`.
pub fn run(args: &[String]) -> ExitCode {
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("keeper") => {
            journal::open();
            keeper::run(rest)
        }
        Some("storehouse") => {
            journal::open();
            keeper::storehouse::run(rest)
        }
        Some("connect") => connect::run(rest.first().map_or(Path::new(client::SOCKET), Path::new)),
        Some("gateway") => {
            journal::open();
            gateway::run()
        }
        Some("fault") => fault::run(rest),
        Some("ingress") => ingress::run(),
        Some("export") => carry::export(rest),
        Some("import") => carry::import(rest),
        Some("control") => gateway::control(),
        other => {
            let _ = writeln!(io::stderr(), "`agent {}` is not a part of sandbox", other.unwrap_or_default());
            ExitCode::from(2)
        }
    }
}
