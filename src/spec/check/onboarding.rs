//! Checks that the pages in `open` and the placeholders in `env` name what the spec has.

use super::Checker;
use crate::spec::model::{At, HostValue, Page, ServiceName, Spec};
use crate::spec::nearest;
use crate::spec::problem::ProblemKind;

impl Checker<'_> {
    pub(super) fn onboarding(&self, spec: &Spec) {
        for page in &spec.open {
            self.page(spec, page);
        }
        for (name, value) in &spec.env {
            for part in &value.parts {
                self.host_value(spec, name, part, &value.at);
            }
        }
    }

    fn page(&self, spec: &Spec, page: &Page) {
        let host = page.host.as_str();
        // A name without a dot is no host of the internet.
        let is_host = host.contains(['.', ':']) || host == "localhost";
        if !is_host && !self.knows(spec, host) {
            let hint = nearest::hint(host, spec.services.keys().map(AsRef::as_ref));
            let message = format!("`open` names `{host}`, which is not a service");
            self.problem(ProblemKind::Reference, &page.at, message, hint);
        }
    }

    fn host_value(&self, spec: &Spec, variable: &str, part: &HostValue, at: &At) {
        match part {
            HostValue::Text(_) => {}
            HostValue::Secret(name) => self.secret_in_use(spec, variable, name.as_str(), at),
            HostValue::Host(service) => {
                self.service_of(spec, variable, service, at);
            }
            HostValue::Port(service, port) => {
                if self.service_of(spec, variable, service, at)
                    && let Some(known) = spec.services.get(service)
                    && !known.ports.iter().any(|published| published.container == *port)
                {
                    let message = format!(
                        "`{variable}` in `env` names port {port} of service `{service}`, which is not published"
                    );
                    let hint = format!("add `ports: [\"{port}\"]` to the service");
                    self.problem(ProblemKind::Reference, at, message, hint);
                }
            }
        }
    }

    /// A secret has a value only where a service gets it.
    fn secret_in_use(&self, spec: &Spec, variable: &str, name: &str, at: &At) {
        let mut grants = spec.services.values().flat_map(|service| &service.secrets);
        if grants.any(|grant| grant.source == name) || (!self.inactive.is_empty() && self.declares(name)) {
            return;
        }
        let (message, hint) = if self.declares(name) {
            let message = format!("`{variable}` in `env` names the secret `{name}`, which no service has");
            (message, format!("add `secrets: [{name}]` to a service"))
        } else {
            let known: Vec<&str> = spec.secrets.keys().map(AsRef::as_ref).collect();
            let message =
                format!("`{variable}` in `env` names the secret `{name}`, which is not in the spec");
            (message, super::references::declare(name, &known, "secrets"))
        };
        self.problem(ProblemKind::Reference, at, message, hint);
    }

    fn declares(&self, secret: &str) -> bool {
        self.root.key_span(&["secrets", secret]).is_some()
    }

    fn service_of(&self, spec: &Spec, variable: &str, service: &ServiceName, at: &At) -> bool {
        let known = self.knows(spec, service.as_str());
        if !known {
            let hint = nearest::hint(service.as_str(), spec.services.keys().map(AsRef::as_ref));
            let message = format!("`{variable}` in `env` names `{service}`, which is not a service");
            self.problem(ProblemKind::Reference, at, message, hint);
        }
        known
    }

    fn knows(&self, spec: &Spec, service: &str) -> bool {
        spec.services.contains_key(service) || self.inactive.contains(service)
    }
}
