//! The pages that a spec names in `open`. A service's name stands for the address that it is published at.

use std::sync::Arc;

use crate::cli::{Failure, consent, keeper};
use crate::engine::Engine;
use crate::session::event::{Endpoint, Protocol, ServiceStatus};
use crate::session::inspect::{self, ObservedSandbox};
use crate::spec::{Page, Spec, SpecOrigin};

/// The addresses to open.
pub(super) struct Pages {
    pub urls: Vec<String>,
    /// Pages elsewhere that a stranger's spec names, as questions to the user.
    pub foreign: Vec<String>,
}

/// The pages of the spec that a sandbox was built from; `None` if it names none.
pub(super) async fn of(
    engine: &Arc<dyn Engine>,
    observed: &ObservedSandbox,
    statuses: &[ServiceStatus],
) -> Result<Option<Pages>, Failure> {
    let Some(keeper) = keeper::running(engine).await? else { return Ok(None) };
    let declared = inspect::declared(&keeper, observed).await?;
    let Some(spec) = declared.filter(|spec| !spec.open.is_empty()) else { return Ok(None) };
    let urls: Result<Vec<String>, Failure> =
        spec.open.iter().map(|page| address(&spec, page, statuses)).collect();
    let elsewhere = spec.open.iter().filter(|page| !is_service(&spec, page, statuses));
    let ask = |page: &Page| format!("the spec {} and opens `{page}` in your browser", spec.origin.came());
    let foreign = match spec.origin {
        SpecOrigin::Local => Vec::new(),
        SpecOrigin::SnapshotFile | SpecOrigin::Repository => elsewhere.map(ask).collect(),
    };
    Ok(Some(Pages { urls: urls?, foreign }))
}

/// Fails unless the user allows a stranger's pages.
pub(super) async fn may_open(foreign: &[String]) -> Result<(), Failure> {
    if foreign.is_empty() || consent::ask(foreign.to_vec()).await? {
        return Ok(());
    }
    let hint = "open the addresses above yourself, if you trust them".to_owned();
    Err(Failure::failed(foreign.join("\n"), Some(hint)))
}

/// Whether a page is one of the sandbox's own services.
fn is_service(spec: &Spec, page: &Page, statuses: &[ServiceStatus]) -> bool {
    spec.services.contains_key(page.host.as_str())
        || statuses.iter().any(|status| status.service == page.host)
}

fn address(spec: &Spec, page: &Page, statuses: &[ServiceStatus]) -> Result<String, Failure> {
    if !is_service(spec, page, statuses) {
        return Ok(page.to_string());
    }
    let of_service = statuses.iter().filter(|status| status.service == page.host && status.replica == 1);
    let endpoints: Vec<&Endpoint> = of_service
        .flat_map(|status| &status.endpoints)
        .filter(|endpoint| endpoint.protocol == Protocol::Tcp)
        .filter(|endpoint| page.port.is_none_or(|port| port == endpoint.target))
        .collect();
    let web = |endpoint: &&&Endpoint| endpoint.url.as_ref().is_some_and(|url| url.starts_with("http"));
    let Some(endpoint) = endpoints.iter().find(web).or(endpoints.first()) else {
        let port = page.port.map(|port| format!(" at port {port}")).unwrap_or_default();
        return Err(Failure::failed(
            format!("service `{}` publishes nothing{port}, so `{page}` cannot be opened", page.host),
            Some("publish its port in the spec (`ports:`), or `sandbox start` it".to_owned()),
        ));
    };
    let base = match &endpoint.url {
        Some(url) if url.starts_with("http") => url.trim_end_matches('/').to_owned(),
        _ => format!("{}://{}", page.scheme, std::net::SocketAddr::new(endpoint.host, endpoint.port)),
    };
    Ok(format!("{base}{}", page.rest))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;

    use super::*;
    use crate::session::event::ServiceState;
    use crate::spec::ProjectName;

    #[test]
    fn a_service_s_name_is_its_address_and_another_host_stays() {
        let endpoint = |port, target, url: Option<&str>| Endpoint {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
            target,
            protocol: Protocol::Tcp,
            url: url.map(Into::into),
        };
        let web = ServiceStatus {
            service: "web".into(),
            replica: 1,
            container: String::new(),
            image: String::new(),
            state: ServiceState::Running,
            endpoints: vec![endpoint(1, 9000, None), endpoint(2, 80, Some("http://127.0.0.1:2"))],
        };
        let spec = Spec::new(ProjectName::new("shop").unwrap(), Path::new("/src"));
        let opened = |url: &str| address(&spec, &url.parse().unwrap(), std::slice::from_ref(&web));
        assert_eq!(opened("https://web/#/x").unwrap(), "http://127.0.0.1:2/#/x");
        assert_eq!(opened("https://web:9000").unwrap(), "https://127.0.0.1:1");
        assert_eq!(opened("https://docs.example.com/a").unwrap(), "https://docs.example.com/a");
        assert!(opened("https://web:1234/").is_err());
    }
}
