//! The service directory: finds services by address and addresses by service.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::atomic::{AtomicUsize, Ordering},
};

use parking::Guarded;

use super::{config::ServiceAddress, lookup};

mod parking {
    //! A mutex whose holders never panic, so that a poisoned one is still consistent.

    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// A value shared between tasks.
    #[derive(Debug, Default)]
    pub struct Guarded<T>(Mutex<T>);

    impl<T> Guarded<T> {
        /// Shares `value`.
        pub fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        /// Locks it. Never hold the guard across an await.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

pub use parking::Guarded as Shared;

/// The containers of all services.
#[derive(Debug)]
pub struct ServiceDirectory {
    containers: Guarded<Vec<ServiceAddress>>,
    engine_resolver: SocketAddr,
    turn: AtomicUsize,
}

impl ServiceDirectory {
    /// Creates the directory. Containers without an address are looked up at `engine_resolver`.
    pub fn new(containers: Vec<ServiceAddress>, engine_resolver: SocketAddr) -> Self {
        Self { containers: Guarded::new(containers), engine_resolver, turn: AtomicUsize::new(0) }
    }

    /// Adds a container, or replaces the one of the same name.
    pub fn put(&self, container: ServiceAddress) {
        let mut containers = self.containers.lock();
        match containers.iter_mut().find(|known| known.container == container.container) {
            Some(known) => *known = container,
            None => containers.push(container),
        }
    }

    /// Returns the service at an address, or the address itself.
    pub fn service_at(&self, address: Ipv4Addr) -> String {
        let containers = self.containers.lock();
        let found =
            containers.iter().find(|container| container.addresses.values().any(|known| *known == address));
        found.map_or_else(|| address.to_string(), |container| container.service.clone())
    }

    /// Returns the current address of a service (or of one container, by its name); replicas take turns.
    pub async fn locate(&self, service: &str, network: Option<&str>) -> io::Result<Ipv4Addr> {
        let (found, unknown) = self.candidates(service, network);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if !found.is_empty() {
            return Ok(found[turn % found.len()]);
        }
        let Some(container) = unknown.get(turn % unknown.len().max(1)) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no service is called `{service}`")));
        };
        let found = lookup::addresses(self.engine_resolver, container).await?;
        found
            .first()
            .map(|answer| answer.address)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("`{container}` is not running")))
    }

    /// As [`ServiceDirectory::locate`], with a port.
    pub async fn locate_port(
        &self,
        service: &str,
        network: Option<&str>,
        port: u16,
    ) -> io::Result<SocketAddr> {
        Ok(SocketAddrV4::new(self.locate(service, network).await?, port).into())
    }

    fn candidates(&self, service: &str, network: Option<&str>) -> (Vec<Ipv4Addr>, Vec<String>) {
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        let meant = |one: &&ServiceAddress| one.service == service || one.container == service;
        for container in self.containers.lock().iter().filter(meant) {
            let address = match network {
                Some(network) => container.addresses.get(network),
                None => container.addresses.values().next(),
            };
            match address {
                Some(address) => found.push(*address),
                None => unknown.push(container.container.clone()),
            }
        }
        (found, unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(service: &str, name: &str, address: [u8; 4]) -> ServiceAddress {
        ServiceAddress {
            service: service.into(),
            container: name.into(),
            aliases: vec![],
            addresses: [("default".to_owned(), Ipv4Addr::from(address))].into(),
        }
    }

    #[tokio::test]
    async fn replicas_take_turns_and_keep_their_services_name() {
        let resolver = "127.0.0.1:1".parse().unwrap();
        let roster = ServiceDirectory::new(vec![container("web", "t.web", [10, 0, 0, 3])], resolver);
        roster.put(container("web", "t.web.2", [10, 0, 0, 4]));
        let mut seen = Vec::new();
        for _ in 0..2 {
            seen.push(roster.locate("web", Some("default")).await.unwrap());
        }
        seen.sort();
        assert_eq!(seen, [Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(10, 0, 0, 4)]);
        assert_eq!(roster.service_at(Ipv4Addr::new(10, 0, 0, 4)), "web");
        assert_eq!(roster.service_at(Ipv4Addr::new(10, 0, 0, 9)), "10.0.0.9");
        assert!(roster.locate("db", None).await.is_err());
    }

    #[tokio::test]
    async fn a_container_that_moved_is_found_at_its_new_address() {
        let roster = ServiceDirectory::new(
            vec![container("web", "t.web", [10, 0, 0, 3])],
            "127.0.0.1:1".parse().unwrap(),
        );
        roster.put(container("web", "t.web", [10, 0, 0, 7]));
        assert_eq!(roster.locate("web", None).await.unwrap(), Ipv4Addr::new(10, 0, 0, 7));
    }
}
