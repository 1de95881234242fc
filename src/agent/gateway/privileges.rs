//! What the gateway may do: after set-up, nothing that needs a capability.

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

/// Gives up every capability for good. To be called while the process has one thread only: capabilities are a
/// thread's.
pub fn give_up() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    // Not every engine's kernel has ambient capabilities to clear.
    let _ = rustix::thread::clear_ambient_capability_set();
    for capability in CapabilitySet::all().iter() {
        // Needs SETPCAP, which an engine that drops all does not give: nothing can then be regained anyway.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?;
    Ok(())
}
