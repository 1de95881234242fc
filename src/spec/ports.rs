//! Expands the short forms of ports: `"8080"`, `"127.0.0.1:8080-8090:80/udp"`, ranges.

use super::diagnostics::Log;
use super::model::PortRange;
use super::node::{Entry, Map, Node, Span, Value};
use super::placeholders;
use super::problem::ProblemKind;

/// Maximum number of ports of a service: all ports of two protocols.
const MOST: usize = 2 << 16;

/// A parsed short form.
struct Short {
    ip: Option<String>,
    published: Option<String>,
    target: u16,
    protocol: String,
}

/// Converts a service's `ports` to the long form and expands ranges.
pub(super) fn expand(log: &Log, service: &mut Map) {
    let Some(Value::Seq(items)) = service.get_mut("ports").map(|node| &mut node.value) else { return };
    let mut result = Vec::new();
    for item in items.drain(..) {
        let Some(text) = short_text(&item) else {
            result.push(item);
            continue;
        };
        match parse(&text) {
            Ok(ports) if result.len() + ports.len() > MOST => {
                let message = format!("with `{text}` a service publishes more than {MOST} ports");
                log.hinted(ProblemKind::Value, item.span, message, "publish those that are used");
                break;
            }
            Ok(ports) => {
                result.extend(ports.into_iter().map(|port| Node { tag: item.tag, ..long(port, item.span) }));
            }
            // Its variables are not resolved.
            Err(_) if placeholders::is_in(&text) => result.push(item),
            Err(reason) => {
                let hint = "a port is written `CONTAINER`, `HOST:CONTAINER` or `IP:HOST:CONTAINER`, with `/udp` if need be";
                log.hinted(ProblemKind::Value, item.span, format!("`{text}` is not a port: {reason}"), hint);
            }
        }
    }
    *items = result;
}

fn short_text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Int(_) | Value::Str(_) | Value::Float(_) => node.scalar(),
        _ => None,
    }
}

fn long(port: Short, span: Span) -> Node {
    let entry = |key: &str, value: Value| Entry { key: key.to_owned(), span, value: Node::new(value, span) };
    let mut entries = vec![
        entry("mode", Value::Str("ingress".to_owned())),
        entry("target", Value::Int(i128::from(port.target))),
        entry("protocol", Value::Str(port.protocol)),
    ];
    if let Some(ip) = port.ip {
        entries.push(entry("host_ip", Value::Str(ip)));
    }
    if let Some(published) = port.published {
        entries.push(entry("published", Value::Str(published)));
    }
    Node::map(entries, span)
}

fn parse(text: &str) -> Result<Vec<Short>, String> {
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, protocol)) => (rest, protocol.to_lowercase()),
        None => (text, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("the protocol `{protocol}` is none of tcp, udp and sctp"));
    }
    let (ip, rest) = if let Some(inner) = rest.strip_prefix('[') {
        let (ip, rest) = inner.split_once("]:").ok_or("the bracket is not closed")?;
        (Some(ip.to_owned()), rest)
    } else {
        match rest.rsplitn(3, ':').collect::<Vec<_>>().as_slice() {
            [_, _, ip] => (Some((*ip).to_owned()), &rest[ip.len() + 1..]),
            _ => (None, rest),
        }
    };
    if let Some(ip) = &ip
        && !ip.is_empty()
        && ip.parse::<std::net::IpAddr>().is_err()
    {
        return Err(format!("`{ip}` is not an address"));
    }
    let ip = ip.filter(|ip| !ip.is_empty());
    let (published, target) = match rest.split_once(':') {
        Some((published, target)) => (Some(published).filter(|p| !p.is_empty()), target),
        None => (None, rest),
    };
    if target.is_empty() {
        return Err("the container's port is missing".to_owned());
    }
    let targets = range(target)?;
    let published = published.map(range).transpose()?;
    let count = targets.end - targets.start;
    (targets.start..=targets.end)
        .map(|target| {
            let published = match published {
                None => None,
                Some(published) if published.end - published.start == count => {
                    Some((published.start + (target - targets.start)).to_string())
                }
                // A single container port uses any host port of the range.
                Some(published) if count == 0 => Some(format!("{}-{}", published.start, published.end)),
                Some(_) => return Err("the two ranges differ in length".to_owned()),
            };
            Ok(Short { ip: ip.clone(), published, target, protocol: protocol.clone() })
        })
        .collect()
}

/// Parses a port or a range of ports.
pub(super) fn range(text: &str) -> Result<PortRange, String> {
    let one = |text: &str| -> Result<u16, String> {
        let number: u32 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
        u16::try_from(number).map_err(|_| format!("{number} is above 65535"))
    };
    let (start, end) = match text.split_once('-') {
        Some((start, end)) => (one(start)?, one(end)?),
        None => (one(text)?, one(text)?),
    };
    if end < start {
        return Err(format!("the range `{text}` runs backwards"));
    }
    Ok(PortRange { start, end })
}
