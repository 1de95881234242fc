//! The cache of outside names' addresses.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::lookup::Resolved;

/// The longest time, in seconds, that an answer is cached, whatever its TTL.
const MOST_TTL: u32 = 60;
/// The most names in the cache.
const MOST_NAMES: usize = 256;

/// The cache of DNS answers.
#[derive(Debug, Default)]
pub struct DnsCache(HashMap<String, (Instant, Vec<Ipv4Addr>)>);

impl DnsCache {
    pub fn get(&self, name: &str, now: Instant) -> Option<Vec<Ipv4Addr>> {
        self.0.get(name).filter(|(until, _)| *until > now).map(|(_, addresses)| addresses.clone())
    }

    pub fn put(&mut self, name: &str, answers: &[Resolved], now: Instant) {
        if self.0.len() >= MOST_NAMES {
            self.0.clear();
        }
        let ttl = answers.iter().map(|answer| answer.ttl).min().unwrap_or(0).min(MOST_TTL);
        let addresses = answers.iter().map(|answer| answer.address).collect();
        self.0.insert(name.to_owned(), (now + Duration::from_secs(ttl.into()), addresses));
    }
}
