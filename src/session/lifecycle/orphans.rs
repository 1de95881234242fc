//! Keeps services that a spec no longer has while only some of its services are brought up.
//!
//! `up SERVICE` changes the services that it names and leaves all others as they are. A container whose service has gone
//! from the spec stays as well, so the sandbox's current spec, from which the gateway and every verb work, keeps it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::session::context::Context;
use crate::session::data::secret_files::Values;
use crate::session::error::SessionError;
use crate::session::event::Event;
use crate::session::inspect::{self, ObservedSandbox};
use crate::session::request::BuildRequest;
use crate::spec::{ServiceName, Spec};

/// Adds the services of existing containers that the spec no longer has to a build request for some services.
///
/// # Errors
/// Fails if the keeper or the engine does not answer.
pub(crate) async fn keep(
    context: &Context,
    order: &mut BuildRequest,
    there: &ObservedSandbox,
) -> Result<(), SessionError> {
    let names = there.services.iter().filter_map(|it| ServiceName::new(inspect::service_of(it)).ok());
    let orphans: BTreeSet<ServiceName> =
        names.filter(|name| !order.spec.services.contains_key(name)).collect();
    if orphans.is_empty() {
        return Ok(());
    }
    let Some(before) = inspect::declared(&context.keeper, there).await? else { return Ok(()) };
    let mut spec = (*order.spec).clone();
    let kept = add(&mut spec, &before, &orphans);
    for name in kept {
        context.events.emit(Event::Warning {
            text: format!("service `{name}` is not in the spec any more, and stays"),
            hint: Some("`sandbox up` without services removes it".to_owned()),
        });
    }
    let held = Values::held(&*context.engine, &spec, &order.name).await?;
    order.values = Arc::new((*order.values).clone().or(held));
    order.spec = Arc::new(spec);
    Ok(())
}

/// Adds services of an earlier spec with what they use, and returns their names. What the spec itself defines stays.
fn add(spec: &mut Spec, before: &Spec, orphans: &BTreeSet<ServiceName>) -> Vec<ServiceName> {
    let mut added = Vec::new();
    for service in orphans.iter().filter_map(|name| before.services.get(name)) {
        let mut service = service.clone();
        service.depends_on.retain(|name, _| spec.services.contains_key(name) || orphans.contains(name));
        added.push(service.name.clone());
        for name in service.networks.keys() {
            if let Some(network) = before.networks.get(name) {
                spec.networks.entry(name.clone()).or_insert_with(|| network.clone());
            }
        }
        spec.services.insert(service.name.clone(), service);
    }
    for (name, volume) in &before.volumes {
        spec.volumes.entry(name.clone()).or_insert_with(|| volume.clone());
    }
    for (name, secret) in &before.secrets {
        spec.secrets.entry(name.clone()).or_insert_with(|| secret.clone());
    }
    for (name, config) in &before.configs {
        spec.configs.entry(name.clone()).or_insert_with(|| config.clone());
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Attachment, Dependency, Network, NetworkName, Service};

    fn spec(names: &[&str]) -> Spec {
        let mut spec = Spec::new("shop".parse().unwrap(), std::path::Path::new("/shop"));
        for name in names {
            let name = ServiceName::new(*name).unwrap();
            spec.services.insert(name.clone(), Service::new(name, "x"));
        }
        spec
    }

    #[test]
    fn an_orphan_keeps_what_it_uses_and_waits_for_nothing_that_has_gone() {
        let mut before = spec(&["gone", "old", "web"]);
        let [gone, old, web] = ["gone", "old", "web"].map(|name| ServiceName::new(name).unwrap());
        let back = NetworkName::new("back").unwrap();
        before.networks.insert(back.clone(), Network::default());
        let service = before.services.get_mut(&old).unwrap();
        service.networks.insert(back.clone(), Attachment::default());
        for name in [&gone, &web] {
            service.depends_on.insert(name.clone(), Dependency::default());
        }
        let mut now = spec(&["web"]);

        assert_eq!(add(&mut now, &before, &BTreeSet::from([old.clone()])), std::slice::from_ref(&old));

        let kept: Vec<_> = now.services.get(&old).unwrap().depends_on.keys().cloned().collect();
        assert_eq!(kept, [web]);
        assert!(now.networks.contains_key(&back));
        assert!(!now.services.contains_key(&gone));
    }
}
