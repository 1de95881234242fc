//! Blocks packets that services send directly to the engine's machine, past their gateway.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::agent::client::KeeperError;
use crate::engine::identity::SandboxId;
use crate::engine::{EngineInfo, EngineKind};
use crate::session::context::Context;
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::spec::{GatewayMode, Spec};

static TOLD: AtomicBool = AtomicBool::new(false);

/// Has the keeper apply the host firewall to the sandbox's current networks, and warns where that is impossible.
///
/// # Errors
/// Fails if the keeper does not answer, or if services use IPv6, which has no other protection.
pub(crate) async fn filter(context: &Context, sandbox: &SandboxId) -> Result<(), KeeperError> {
    match context.keeper.filter_host_firewall(sandbox).await {
        Err(error) if error.is_of_host_firewall() => {
            // One warning per process is enough.
            if !TOLD.swap(true, Ordering::Relaxed) {
                let text = format!("services can reach the engine's machine: {error}");
                context.events.emit(Event::Warning { text, hint: error.hint() });
            }
            Ok(())
        }
        filtered => filtered,
    }
}

/// Rejects a spec that the engine cannot isolate, before anything is created or removed.
///
/// # Errors
/// Fails with Podman, which gives its machine an address on each network, for IPv6 and for egress that the gateway
/// routes: services use that address as their default route and bypass the gateway.
pub(crate) fn admit(info: &EngineInfo, spec: &Spec) -> Result<(), SessionError> {
    if info.kind == EngineKind::Podman && spec.egress.mode() == GatewayMode::Router {
        return Err(SessionError::EngineLacks {
            what: "with Podman `egress: allow` and rules with addresses cannot be kept: what services send would pass their \
                   gateway by, and everything would be open"
                .to_owned(),
            hint: "list names (`egress: [api.example.com]`), or use Docker's engine",
        });
    }
    if spec.has_ipv6() && info.kind == EngineKind::Podman {
        return Err(SessionError::EngineLacks {
            what: "with Podman services could leave by IPv6, by way of the engine's machine".to_owned(),
            hint: "take `enable_ipv6` out of the spec",
        });
    }
    Ok(())
}

/// Warns that the engine turns on IPv6 forwarding on its machine for the first IPv6 network, and does not undo it.
pub(crate) fn tell_of_ipv6(events: &Events, info: &EngineInfo, spec: &Spec) {
    let read = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").ok();
    let here = info.shares_kernel() && !info.security.rootless;
    let asked = spec.has_ipv6() && info.kind == EngineKind::Docker && here;
    if !asked || read().is_none_or(|setting| setting.trim() != "0") {
        return;
    }
    if info.nftables {
        let text = "this machine does not forward IPv6, which `enable_ipv6` needs; an engine with nftables leaves that setting alone";
        let hint = "`sysctl -w net.ipv6.conf.all.forwarding=1` turns it on: a machine that gets its own IPv6 route by router \
                    advertisement may lose it";
        events.emit(Event::Warning { text: text.to_owned(), hint: Some(hint.to_owned()) });
    } else {
        let text = "for `enable_ipv6` the engine turns this machine's forwarding of IPv6 on, and leaves it so: a machine \
                    that gets its own IPv6 route by router advertisement may lose it";
        let hint = "`sysctl net.ipv6.conf.all.forwarding=0` undoes that once no network has IPv6 any more";
        events.emit(Event::Warning { text: text.to_owned(), hint: Some(hint.to_owned()) });
    }
}
