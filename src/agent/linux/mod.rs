//! Kernel and system interfaces: netlink, nftables, D-Bus, ELF, resident memory.

pub(crate) mod dbus;
pub(crate) mod elf;
pub(crate) mod memory;
pub(crate) mod netlink;
pub(crate) mod nftables;
pub(crate) mod rtnetlink;
