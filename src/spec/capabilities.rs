//! Capabilities that a container may have without host access.

/// Capabilities that do not reach beyond a container: the engine's defaults without `NET_RAW`, and a few that
/// databases and debuggers need.
const HARMLESS: [&str; 18] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "IPC_LOCK",
    "IPC_OWNER",
    "LEASE",
    "SYS_NICE",
    "SYS_PTRACE",
];

/// Whether a capability, with or without `CAP_`, does not reach beyond a container.
pub(super) fn is_harmless(capability: &str) -> bool {
    let name = capability.to_ascii_uppercase();
    HARMLESS.contains(&name.strip_prefix("CAP_").unwrap_or(&name))
}
