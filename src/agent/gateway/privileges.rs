//! Drops the gateway's privileges: after the set-up it needs no capability.

use std::io;

use rustix::{
    process::Resource,
    thread::{CapabilitySet, CapabilitySets},
};

/// Raises the soft limit on open files to the hard one: a connection takes two descriptors.
pub fn use_all_descriptors() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

/// Gives up every capability permanently. Call it while the process has only one thread: capabilities belong to
/// threads.
pub fn give_up() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    // Some kernels have no ambient capabilities, so an error does not matter.
    let _ = rustix::thread::clear_ambient_capability_set();
    for capability in CapabilitySet::all().iter() {
        // This needs SETPCAP. An engine that drops all capabilities does not grant it, but then none can be regained
        // anyway.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?;
    Ok(())
}
