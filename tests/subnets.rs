//! Which subnets sandboxes get: none that somebody else has, on the engine or among the host's routes.
//!
//! Needs root, to add a route to the host.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use std::thread;

use support::World;

const ONE: &str = "
services:
  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
";

/// Ranges with room for the edge network and for two sandboxes, apart from those of other tests.
struct Ranges {
    second: u8,
    third: u8,
}

impl Ranges {
    fn new(second: u8) -> Self {
        Self { second, third: rand::random::<u8>() & 0xc0 }
    }

    /// The edge's 1024 addresses, and two subnets of 32.
    fn list(&self) -> String {
        format!("10.{}.{}.0/22,{}", self.second, self.third, self.net(0, 26))
    }

    fn net(&self, host: u8, prefix: u8) -> String {
        format!("10.{}.{}.{host}/{prefix}", self.second, self.third + 32)
    }
}

fn subnet_of(world: &World, name: &str) -> String {
    let network = world.engine().inspect(&format!("sbx-{name}.default"));
    network["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().to_owned()
}

#[test]
fn clients_that_want_the_same_subnet_each_get_one_and_one_too_many_is_told() {
    let mut world = World::with_spec(ONE);
    let ranges = Ranges::new(194);
    world.env("SANDBOX_SUBNETS", &ranges.list());
    let names = ["one", "two"].map(|name| format!("{}-{name}", world.name()));

    thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| world.sandbox(["up", "-d", "--name", name]).success());
        }
    });

    let mut subnets = names.each_ref().map(|name| subnet_of(&world, name));
    subnets.sort();
    assert_eq!(subnets, [ranges.net(0, 27), ranges.net(32, 27)]);
    let third = world.sandbox(["up", "-d", "--name", &format!("{}-three", world.name())]).exits(1);
    assert!(third.stderr.contains("no subnet is free") && third.stderr.contains("sandbox ls"), "{third}");
}

/// A route of the host's, as a VPN adds it.
struct Route(String);

impl Route {
    fn add(net: String) -> Self {
        assert!(Command::new("ip").args(["route", "add", &net, "dev", "lo"]).status().unwrap().success());
        Self(net)
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["route", "del", &self.0, "dev", "lo"]).status();
    }
}

#[test]
fn a_subnet_that_the_host_routes_elsewhere_is_left_alone() {
    let mut world = World::with_spec(ONE);
    let ranges = Ranges::new(195);
    world.env("SANDBOX_SUBNETS", &ranges.list());
    let _vpn = Route::add(ranges.net(0, 27));

    world.up();

    assert_eq!(subnet_of(&world, world.name()), ranges.net(32, 27));
}

#[test]
fn a_subnet_has_room_for_all_services_and_their_replicas() {
    let world = World::with_spec(
        "
services:
  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, scale: 20 }
",
    );

    world.up();

    // Half of it is for services, each twice: one may be there while another takes its place.
    assert!(subnet_of(&world, world.name()).ends_with("/25"), "{}", subnet_of(&world, world.name()));
    assert_eq!(world.engine().running_services().len(), 20);
}

#[test]
fn no_network_has_ipv6() {
    let world = World::with_spec(ONE);

    world.up();

    for network in world.engine().networks() {
        assert_eq!(world.engine().inspect(&network)["EnableIPv6"], false, "{network}");
    }
    let addresses = world.in_container("app", &["cat", "/proc/net/if_inet6"]).stdout;
    assert_eq!(addresses.trim(), "");
}
