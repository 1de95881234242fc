//! Kernel and system interfaces: netlink, nftables, D-Bus and ELF.

pub(crate) mod dbus;
pub(crate) mod elf;
pub(crate) mod netlink;
pub(crate) mod nftables;
pub(crate) mod rtnetlink;
