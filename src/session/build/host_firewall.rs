//! What a sandbox's services send to the engine's machine itself, past their gateway, is not taken in.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::agent::client::{Keeper, KeeperError};
use crate::engine::identity::SandboxId;
use crate::engine::{EngineInfo, EngineKind};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::spec::{GatewayMode, Spec};

static TOLD: AtomicBool = AtomicBool::new(false);

/// Has the keeper see to it for the networks that a sandbox has now, and tells where that cannot be had.
///
/// # Errors
/// When there is no keeper; and where services speak IPv6, against which nothing else stands.
pub(crate) async fn filter(keeper: &Keeper, sandbox: &SandboxId, events: &Events) -> Result<(), KeeperError> {
    match keeper.filter_host_firewall(sandbox).await {
        Err(error) if error.is_of_host_firewall() => {
            // Once is enough, however many sandboxes and tries it takes.
            if !TOLD.swap(true, Ordering::Relaxed) {
                let text = format!("services can reach the engine's machine: {error}");
                events.emit(Event::Warning { text, hint: error.hint() });
            }
            Ok(())
        }
        filtered => filtered,
    }
}

/// Refuses what cannot be closed, before anything is made or removed for it.
///
/// # Errors
/// With Podman, which gives its machine an address on each network: for IPv6, and for egress that a gateway has to route,
/// since services have that address as their way out and pass the gateway by.
pub(crate) fn admit(info: &EngineInfo, spec: &Spec) -> Result<(), SessionError> {
    if info.kind == EngineKind::Podman && spec.egress.mode() == GatewayMode::Router {
        return Err(SessionError::Data {
            what: "with Podman `egress: allow` and rules with addresses cannot be kept: what services send would pass their \
                   gateway by, and everything would be open"
                .to_owned(),
            hint: Some("list names (`egress: [api.example.com]`), or use Docker's engine".to_owned()),
        });
    }
    if spec.has_ipv6() && info.kind == EngineKind::Podman {
        return Err(SessionError::Data {
            what: "with Podman services could leave by IPv6, by way of the engine's machine".to_owned(),
            hint: Some("take `enable_ipv6` out of the spec".to_owned()),
        });
    }
    Ok(())
}

/// Tells what an engine does to its machine for a first network with IPv6, and does not undo.
pub(crate) fn tell_of_ipv6(events: &Events, info: &EngineInfo, spec: &Spec) {
    let read = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").ok();
    let here = info.location.is_local() && !info.security.rootless && !info.distribution.contains("Desktop");
    let asked = spec.has_ipv6() && info.kind == EngineKind::Docker && here;
    if asked && read().is_some_and(|setting| setting.trim() == "0") {
        let text = "for `enable_ipv6` the engine turns this machine's forwarding of IPv6 on, and leaves it so: a machine \
                    that gets its own IPv6 route by router advertisement may lose it";
        let hint = "`sysctl net.ipv6.conf.all.forwarding=0` undoes that once no network has IPv6 any more";
        events.emit(Event::Warning { text: text.to_owned(), hint: Some(hint.to_owned()) });
    }
}
