//! Allocates the subnets of a sandbox's networks.
//!
//! The engine's default address pools run out after some thirty networks, so each network gets an explicit small
//! subnet from configurable ranges. A subnet is split in two: the lower half holds the fixed addresses (bridge,
//! gateway), and the engine assigns services addresses from the upper half, so that the two never conflict.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Ranges that no engine uses by default and few private networks use.
const DEFAULT_RANGES: [&str; 4] = ["10.213.0.0/16", "10.89.128.0/17", "172.22.0.0/16", "192.168.208.0/20"];

/// The smallest subnet: 32 addresses, 15 of them for services.
const SMALLEST_PREFIX: u8 = 27;

/// The ranges that subnets are allocated from, in order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetPool {
    ranges: Vec<Ipv4Net>,
}

/// An invalid range of the pool, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{written}` is not an IPv4 network of at least {SMALLEST_PREFIX} bits, such as 10.213.0.0/16")]
pub struct InvalidRange {
    written: String,
}

impl Default for SubnetPool {
    fn default() -> Self {
        let ranges = DEFAULT_RANGES.iter().filter_map(|range| range.parse().ok()).collect();
        Self { ranges }
    }
}

impl SubnetPool {
    /// Parses a comma-separated list of IPv4 networks.
    ///
    /// # Errors
    /// Returns the first entry that is not a network or is too small for a subnet.
    pub fn parse(list: &str) -> Result<Self, InvalidRange> {
        let ranges = list
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                let invalid = || InvalidRange { written: entry.to_owned() };
                let range: Ipv4Net = entry.parse().map_err(|_| invalid())?;
                if range.prefix_len() > SMALLEST_PREFIX { Err(invalid()) } else { Ok(range.trunc()) }
            })
            .collect::<Result<Vec<_>, _>>()?;
        if ranges.is_empty() {
            return Err(InvalidRange { written: list.to_owned() });
        }
        Ok(Self { ranges })
    }

    /// The ranges in order of preference.
    pub fn ranges(&self) -> &[Ipv4Net] {
        &self.ranges
    }

    /// The first subnet for `services` containers that overlaps none of `taken`. The search starts at an offset
    /// derived from `seed`, so that sandboxes that start together rarely pick the same one. `None` if all are taken.
    pub fn pick(&self, services: usize, taken: &[Ipv4Net], seed: u64) -> Option<Subnet> {
        let prefix = prefix_for(services);
        self.ranges.iter().find_map(|range| {
            let prefix = prefix.max(range.prefix_len());
            let count = 1_u64 << (prefix - range.prefix_len());
            let first = seed % count;
            (0..count).find_map(|step| {
                let index = (first + step) % count;
                let candidate = nth_subnet(*range, prefix, index)?;
                let free = !taken.iter().any(|other| overlap(candidate, *other));
                free.then_some(Subnet { net: candidate })
            })
        })
    }
}

/// One network's address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Subnet {
    net: Ipv4Net,
}

impl Subnet {
    /// Wraps the range of an existing network, to derive its fixed addresses.
    pub fn of(net: Ipv4Net) -> Self {
        Self { net: net.trunc() }
    }

    /// The whole subnet.
    pub fn net(self) -> Ipv4Net {
        self.net
    }

    /// The address that the engine reserves for the bridge (the first one).
    pub fn bridge(self) -> Ipv4Addr {
        self.offset(1)
    }

    /// The address of the sandbox's gateway (the second one).
    pub fn gateway(self) -> Ipv4Addr {
        self.offset(2)
    }

    /// The upper half, from which the engine assigns addresses to services.
    pub fn services(self) -> Ipv4Net {
        let prefix = (self.net.prefix_len() + 1).min(32);
        Ipv4Net::new(self.offset(1 << (32 - prefix)), prefix).unwrap_or(self.net)
    }

    /// How many containers have a place on it, besides the bridge and the gateway.
    pub fn places(self) -> usize {
        self.net.hosts().count().saturating_sub(2)
    }

    fn offset(self, by: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.net.network()).wrapping_add(by))
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.net.fmt(f)
    }
}

/// The longest prefix whose upper half has two addresses per service (for a replacement during an update), at most
/// [`SMALLEST_PREFIX`].
fn prefix_for(services: usize) -> u8 {
    (8..=SMALLEST_PREFIX).rev().find(|prefix| (1_usize << (31 - prefix)) > 2 * services).unwrap_or(8)
}

fn nth_subnet(range: Ipv4Net, prefix: u8, index: u64) -> Option<Ipv4Net> {
    let size = 1_u64 << (32 - prefix);
    let offset = u32::try_from(index * size).ok()?;
    let address = u32::from(range.network()).checked_add(offset)?;
    Ipv4Net::new(Ipv4Addr::from(address), prefix).ok()
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_small_sandbox_takes_thirty_two_addresses() {
        let subnet = SubnetPool::default().pick(3, &[], 0).unwrap();
        assert_eq!(subnet.net(), net("10.213.0.0/27"));
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 213, 0, 2));
        assert_eq!(subnet.services(), net("10.213.0.16/28"));
    }

    #[test]
    fn a_large_sandbox_takes_a_larger_subnet() {
        let subnet = SubnetPool::default().pick(100, &[], 0).unwrap();
        assert_eq!(subnet.net().prefix_len(), 23);
    }

    #[test]
    fn what_is_taken_is_passed_over() {
        let pool = SubnetPool::parse("10.1.0.0/26").unwrap();
        let first = pool.pick(1, &[], 0).unwrap();
        let second = pool.pick(1, &[first.net()], 0).unwrap();
        assert_eq!(second.net(), net("10.1.0.32/27"));
        assert_eq!(pool.pick(1, &[first.net(), second.net()], 0), None);
    }

    #[test]
    fn a_route_that_covers_a_whole_range_sends_us_to_the_next() {
        let subnet = SubnetPool::default().pick(1, &[net("10.0.0.0/8")], 7).unwrap();
        assert!(net("172.22.0.0/16").contains(&subnet.net()));
    }

    #[test]
    fn a_thousand_sandboxes_of_one_spec_never_meet() {
        let pool = SubnetPool::default();
        let mut taken = Vec::new();
        for seed in 0..1000 {
            taken.push(pool.pick(3, &taken, seed * 7919).unwrap().net());
        }
        assert_eq!(taken.len(), 1000);
    }

    #[test]
    fn a_range_that_is_no_network_is_named() {
        assert_eq!(SubnetPool::parse("10.1.0.0/16, nonsense").unwrap_err().written, "nonsense");
    }
}
