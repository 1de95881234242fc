//! The gateway's counters and its log: one JSON line per event on standard output, so that one request for the
//! container's log returns everything. Counts are totals since the start, so the next line makes up for a lost one.

use std::{
    collections::HashMap,
    io::Write,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::config::Protocol;

/// The most distinct refusals that are recorded; further ones are counted together.
const MOST_REFUSALS: usize = 256;
/// How often an entry that keeps changing is logged again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// All entries are logged again after this many bytes, so that a rotated log is still complete.
const ANEW_AFTER: usize = 256 * 1024;

/// One line of the gateway's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum GatewayEvent {
    /// The gateway is set up and serves.
    Started {
        /// The sandbox's name.
        sandbox: String,
        /// When it started.
        at: Timestamp,
    },
    /// Published ports were used.
    Connections(Connections),
    /// The policy refused something.
    Refused(Refusal),
    /// The gateway itself failed at something.
    Trouble {
        /// What failed.
        message: String,
        /// When it failed.
        at: Timestamp,
    },
}

/// Use of the published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Connections {
    /// Currently open (for UDP: active within the last minute).
    pub open: u64,
    /// Since the start.
    pub total: u64,
    /// When one was last opened, closed or seen open.
    pub last: Option<Timestamp>,
}

/// A refused target, and how often it was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What the refusal is counted by.
    #[serde(flatten)]
    pub key: RefusalKey,
    /// How often since the start.
    pub count: u64,
    /// When it was refused last.
    pub last: Timestamp,
}

/// The key by which refusals are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RefusalKey {
    /// The service, or its address if the service is unknown.
    pub service: String,
    /// The name or address asked for.
    pub target: String,
    /// The port, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The kind of request that was refused.
    pub kind: RefusalKind,
    /// Why no rule can allow it, such as the address to which a listed name resolves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The kinds of requests that can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefusalKind {
    /// A DNS query.
    Name,
    /// A TLS connection, by its server name.
    Tls,
    /// An HTTP request, by its host.
    Http,
    /// A TCP connection.
    Tcp,
    /// A datagram.
    Udp,
    /// An ICMP message.
    Icmp,
    /// A packet of another protocol.
    Other,
}

impl RefusalKey {
    /// Returns the line for the spec's `egress` list that would allow this; `None` if no rule can.
    pub fn rule(&self) -> Option<String> {
        if self.reason.is_some() {
            return None;
        }
        let is_target = self.target.parse::<super::config::EgressRule>().is_ok();
        let port = self.port.filter(|port| match self.kind {
            RefusalKind::Tls => *port != 443,
            RefusalKind::Http => *port != 80,
            _ => true,
        });
        is_target.then(|| port.map_or_else(|| self.target.clone(), |port| format!("{}:{port}", self.target)))
    }
}

impl From<Protocol> for RefusalKind {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

/// A summary of a gateway's log: the latest entry for each key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// Use of the published ports.
    pub connections: Connections,
    /// Refusals, by key.
    pub refusals: Vec<Refusal>,
    /// Failures of the gateway itself.
    pub troubles: Vec<String>,
}

impl LogSummary {
    /// Parses a log; skips lines that are not events. A restart of the gateway resets the counts.
    pub fn read(log: &str) -> Self {
        let mut summary = Self::default();
        for event in log.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            match event {
                GatewayEvent::Started { .. } => {
                    summary = Self { troubles: summary.troubles, ..Self::default() }
                }
                GatewayEvent::Connections(connections) => summary.connections = connections,
                GatewayEvent::Refused(refusal) => {
                    match summary.refusals.iter_mut().find(|known| known.key == refusal.key) {
                        Some(known) => *known = refusal,
                        None => summary.refusals.push(refusal),
                    }
                }
                GatewayEvent::Trouble { message, .. } => summary.troubles.push(message),
            }
        }
        summary
    }
}

/// The counters, and which of them are already logged.
#[derive(Debug, Default)]
pub struct GatewayStats {
    connections: Connections,
    connections_written: Option<(Connections, Instant)>,
    refusals: HashMap<RefusalKey, Entry>,
    written_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    count: u64,
    last: Timestamp,
    written: Option<(u64, Instant)>,
}

impl GatewayStats {
    /// Counts a new connection through a published port.
    pub fn opened(&mut self) {
        self.connections.open += 1;
        self.connections.total += 1;
        self.connections.last = Some(Timestamp::now());
    }

    /// Counts the end of a connection through a published port.
    pub fn closed(&mut self) {
        self.connections.open = self.connections.open.saturating_sub(1);
        self.connections.last = Some(Timestamp::now());
    }

    /// Returns the use of the published ports until now; an open connection counts as use.
    pub fn connections(&self) -> Connections {
        let mut now = self.connections;
        if now.open > 0 {
            now.last = Some(Timestamp::now());
        }
        now
    }

    /// Counts a refusal; returns whether its key is new.
    pub fn refused(&mut self, mut key: RefusalKey) -> bool {
        if self.refusals.len() >= MOST_REFUSALS && !self.refusals.contains_key(&key) {
            key = RefusalKey { target: "(others)".into(), port: None, reason: None, ..key };
        }
        let entry = self.refusals.entry(key).or_insert(Entry {
            count: 0,
            last: Timestamp::UNIX_EPOCH,
            written: None,
        });
        entry.count += 1;
        entry.last = Timestamp::now();
        entry.count == 1
    }

    /// Returns all refusals, in a stable order.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut all: Vec<Refusal> = self
            .refusals
            .iter()
            .map(|(key, entry)| Refusal { key: key.clone(), count: entry.count, last: entry.last })
            .collect();
        all.sort_by(|one, other| one.key.cmp(&other.key));
        all
    }

    /// Returns the events to log at `now`: new ones at once, continuing ones every ten seconds, and all of them from
    /// time to time.
    pub fn due(&mut self, now: Instant) -> Vec<GatewayEvent> {
        let anew = self.written_bytes > ANEW_AFTER;
        if anew {
            self.written_bytes = 0;
        }
        let mut events = Vec::new();
        let connections = self.connections();
        let due = match self.connections_written {
            Some((written, at)) => anew || (written != connections && now.duration_since(at) >= AGAIN_AFTER),
            None => connections.total > 0,
        };
        if due {
            self.connections_written = Some((connections, now));
            events.push(GatewayEvent::Connections(connections));
        }
        for (key, entry) in &mut self.refusals {
            let due = match entry.written {
                Some((count, at)) => anew || (count != entry.count && now.duration_since(at) >= AGAIN_AFTER),
                None => true,
            };
            if due {
                entry.written = Some((entry.count, now));
                let refusal = Refusal { key: key.clone(), count: entry.count, last: entry.last };
                events.push(GatewayEvent::Refused(refusal));
            }
        }
        events
    }

    /// Writes the events that are due to standard output.
    pub fn write_due(&mut self, now: Instant) {
        for event in self.due(now) {
            self.written_bytes += write_event(&event);
        }
    }
}

/// Writes one event to standard output, the gateway's log, and returns its length. If the pipe is full, the event is
/// lost.
pub fn write_event(event: &GatewayEvent) -> usize {
    let Ok(mut line) = serde_json::to_vec(event) else { return 0 };
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    let _lost = stdout.write_all(&line).and_then(|()| stdout.flush());
    line.len()
}

/// Logs a failure of the gateway itself.
pub fn trouble(message: String) {
    write_event(&GatewayEvent::Trouble { message, at: Timestamp::now() });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(target: &str) -> RefusalKey {
        RefusalKey {
            service: "web".into(),
            target: target.into(),
            port: None,
            kind: RefusalKind::Name,
            reason: None,
        }
    }

    #[test]
    fn a_refusal_is_told_at_once_and_then_every_ten_seconds() {
        let (mut ledger, start) = (GatewayStats::default(), Instant::now());
        assert!(ledger.refused(key("a.example")));
        assert_eq!(ledger.due(start).len(), 1);
        assert!(!ledger.refused(key("a.example")));
        assert_eq!(ledger.due(start + Duration::from_secs(1)), []);
        let due = ledger.due(start + Duration::from_secs(10));
        assert!(matches!(due.as_slice(), [GatewayEvent::Refused(Refusal { count: 2, .. })]));
        assert_eq!(ledger.due(start + Duration::from_secs(60)), []);
    }

    #[test]
    fn a_flood_of_names_takes_a_bounded_place() {
        let mut ledger = GatewayStats::default();
        for number in 0..10_000 {
            ledger.refused(key(&format!("x{number}.tunnel.example")));
        }
        let refusals = ledger.refusals();
        assert_eq!(refusals.len(), MOST_REFUSALS + 1);
        assert_eq!(refusals.iter().map(|refusal| refusal.count).sum::<u64>(), 10_000);
    }

    #[test]
    fn a_log_is_read_back_as_its_newest_word() {
        let mut ledger = GatewayStats::default();
        ledger.opened();
        ledger.refused(key("a.example"));
        let mut log = String::from("not ours\n");
        for _ in 0..2 {
            ledger.refused(key("a.example"));
            ledger.connections_written = None;
            for entry in ledger.refusals.values_mut() {
                entry.written = None;
            }
            for event in ledger.due(Instant::now()) {
                log += &serde_json::to_string(&event).unwrap();
                log.push('\n');
            }
        }
        let summary = LogSummary::read(&log);
        assert_eq!(summary.connections.total, 1);
        assert_eq!(summary.refusals, ledger.refusals());
        assert_eq!(summary.refusals[0].count, 3);
    }

    #[test]
    fn a_refusal_names_the_line_that_would_let_it_through() {
        assert_eq!(key("a.example").rule().as_deref(), Some("a.example"));
        let packet = RefusalKey { port: Some(5432), kind: RefusalKind::Tcp, ..key("10.1.2.3") };
        assert_eq!(packet.rule().as_deref(), Some("10.1.2.3:5432"));
        let web = RefusalKey { port: Some(443), kind: RefusalKind::Tls, ..key("a.example") };
        assert_eq!(web.rule().as_deref(), Some("a.example"));
        let inward = RefusalKey { reason: Some("private".into()), ..web };
        assert_eq!(inward.rule(), None);
        let named = RefusalKey { reason: Some("resolves to 127.0.0.1".into()), ..key("a.example") };
        assert_eq!(named.rule(), None);
        assert_eq!(key("(others)").rule(), None);
    }
}
