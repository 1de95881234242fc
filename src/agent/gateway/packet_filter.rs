//! The router's packet filter: the rules for packets that services send out.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::agent::host_firewall::edge::{DNS, LET_OUT, NOT_THE_GATEWAYS};
use crate::agent::linux::netlink::Message;
use crate::agent::linux::nftables::{self, Hook, RuleAction, TCP, Table, UDP};
use crate::agent::linux::rtnetlink::Interface;

/// The log group for refused packets.
pub const LOG_GROUP: u16 = 5;

const TABLE: Table<'static> = Table::ipv4("sandbox");
const REFUSE: &str = "refuse";

/// What to do with a packet that no rule of a chain matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Forward it.
    Accept,
    /// Log it and reject it.
    Refuse,
}

const REFUSED: RuleAction<'static> = RuleAction::GoTo(REFUSE);

impl Verdict {
    fn fate(self) -> RuleAction<'static> {
        match self {
            Self::Accept => RuleAction::Accept,
            Self::Refuse => REFUSED,
        }
    }
}

/// The inputs of the router's packet filter.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The interface on the edge network.
    pub edge: Interface,
    /// Each inner interface, with the gateway's addresses that services may reach on it.
    pub inner: Vec<(Interface, Vec<Ipv4Addr>)>,
    /// Networks that packets are never forwarded to.
    pub never: Vec<Ipv4Net>,
    /// Networks that packets are forwarded to, with the port unless any port is allowed.
    pub listed: Vec<(Ipv4Net, Option<u16>)>,
    /// What to do with all other packets.
    pub rest: Verdict,
}

impl Filter {
    /// Returns the netlink messages that install this filter atomically.
    pub fn messages(&self) -> Vec<Message> {
        let mut rules = vec![
            TABLE.create(),
            TABLE.chain(REFUSE),
            TABLE.base_chain("input", Hook::Input, "filter", 0, RuleAction::Accept),
            TABLE.base_chain("mark", Hook::Forward, "filter", -150, RuleAction::Accept),
            TABLE.base_chain("forward", Hook::Forward, "filter", 0, RuleAction::Drop),
            TABLE.base_chain("postrouting", Hook::PostRouting, "nat", 100, RuleAction::Accept),
        ];
        rules.extend(refuse_rules());
        rules.extend(self.input_rules());
        rules.extend(self.mark_rules());
        rules.extend(self.forward_rules());
        rules.push(TABLE.rule("postrouting").leaves_by(self.edge).masquerades());
        nftables::batch(rules)
    }

    /// On each network, services reach only the gateway's address on that network, not those on other networks or the
    /// edge.
    fn input_rules(&self) -> Vec<Message> {
        let mut rules = Vec::new();
        for (interface, addresses) in &self.inner {
            for address in addresses {
                let net = Ipv4Net::from(*address);
                rules.push(TABLE.rule("input").enters_by(*interface).goes_to(net).does(RuleAction::Accept));
            }
            rules.push(TABLE.rule("input").enters_by(*interface).does(REFUSED));
        }
        rules
    }

    /// Marks the packets that the engine's machine may accept for itself: those to an address that a rule names
    /// exactly. Marks that services set themselves are removed.
    fn mark_rules(&self) -> Vec<Message> {
        let leaving = || TABLE.rule("mark").leaves_by(self.edge);
        let mut rules = vec![leaving().has_service_class(LET_OUT).set_service_class(0)];
        // The machine answers DNS queries only from the gateway itself, which do not carry this mark.
        rules.extend([TCP, UDP].map(|it| leaving().to_port(it, DNS).set_service_class(NOT_THE_GATEWAYS)));
        for (net, port) in self.listed.iter().filter(|(net, _)| net.prefix_len() == 32) {
            match port {
                None => rules.push(leaving().goes_to(*net).set_service_class(LET_OUT)),
                Some(port) => rules.extend(
                    [TCP, UDP]
                        .map(|it| leaving().goes_to(*net).to_port(it, *port).set_service_class(LET_OUT)),
                ),
            }
        }
        rules
    }

    /// Drops answers from addresses that the host gained after the gateway was configured. A packet from the host
    /// itself still has one of the usual initial TTLs; a packet that it merely forwards has a lower one. The host's
    /// ICMP errors have to pass.
    fn host_answer_rules(&self) -> Vec<Message> {
        // 64, 128 and 255, minus one for the hop through the gateway before this hook.
        const BEGINNINGS: [u8; 3] = [63, 127, 254];
        let fresh = |ttl: u8| TABLE.rule("forward").enters_by(self.edge).lives_for(ttl);
        BEGINNINGS
            .into_iter()
            .flat_map(|ttl| {
                [fresh(ttl).of_protocol(TCP), fresh(ttl).of_protocol(UDP), fresh(ttl).is_echo_reply()]
                    .map(|rule| rule.does(RuleAction::Drop))
            })
            .collect()
    }

    /// Answers from an address that a rule names exactly may come from the host.
    fn named_answer_rules(&self) -> impl Iterator<Item = Message> {
        let named = self.listed.iter().filter(|(net, _)| net.prefix_len() == 32);
        let answer = |net| TABLE.rule("forward").enters_by(self.edge).comes_from(net).answers();
        named.map(move |(net, _)| answer(*net).does(RuleAction::Accept))
    }

    fn forward_rules(&self) -> Vec<Message> {
        let rule = || TABLE.rule("forward");
        let mut rules: Vec<Message> = self.named_answer_rules().collect();
        rules.extend(self.host_answer_rules());
        rules.extend([
            rule().answers().does(RuleAction::Accept),
            rule().enters_by(self.edge).does(RuleAction::Drop),
            rule().leaves_not_by(self.edge).does(REFUSED),
        ]);
        rules.extend(self.never.iter().map(|net| rule().goes_to(*net).does(REFUSED)));
        for (net, port) in &self.listed {
            match port {
                None => rules.push(rule().goes_to(*net).does(RuleAction::Accept)),
                Some(port) => {
                    rules.extend([TCP, UDP].map(|protocol| {
                        rule().goes_to(*net).to_port(protocol, *port).does(RuleAction::Accept)
                    }));
                }
            }
        }
        rules.push(rule().does(self.rest.fate()));
        rules
    }
}

/// Logs refused packets at a limited rate, then rejects them with a reset or "administratively prohibited".
fn refuse_rules() -> Vec<Message> {
    let told = TABLE.rule(REFUSE).at_most_a_second(200).told(LOG_GROUP);
    let reset = TABLE.rule(REFUSE).of_protocol(TCP).rejects(1, 0);
    let prohibited = TABLE.rule(REFUSE).rejects(0, 13);
    vec![told, reset, prohibited]
}
