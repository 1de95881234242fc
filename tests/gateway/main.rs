//! What the gateway promises, against a real engine: published ports lead in, and nothing leads out but what the
//! policy lets out. The networks are made by hand, as the module documentation of `agent::gateway` asks for them.
//!
//! Needs Docker, root (for network namespaces that play "the outside") and the image `sbx-test/busybox`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod names;
mod rig;

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use sandbox::agent::gateway::control::{ControlAnswer, ControlReply};
use sandbox::agent::gateway::stats::{LogSummary, RefusalKind};
use serde_json::json;

use rig::{Rig, docker, edge_address, host_addresses, must, no_forwards, resolver_saying};

#[test]
fn under_deny_nothing_leaves() {
    let mut rig = Rig::new(json!("deny"), no_forwards());
    let outside = rig.outside(&[&["busybox", "nc", "-ll", "-p", "80", "-e", "echo", "leaked"]]);
    let host = TcpListener::bind((rig.address(1), 0)).unwrap();
    let host_port = host.local_addr().unwrap().port();
    let other = rig.address(101);
    let gateway_edge = rig.address(2);
    let mut line = String::new();
    for (target, port) in [
        (outside.to_string(), 80),
        (rig.address(1).to_string(), host_port),
        (rig.address(65).to_string(), host_port),
        ("169.254.169.254".to_owned(), 80),
        (other.to_string(), 1),
        (gateway_edge.to_string(), 53),
        ("::1%eth0".to_owned(), 80),
        ("fe80::1%eth0".to_owned(), 80),
        ("2001:db8::1".to_owned(), 80),
    ] {
        write!(line, "echo x | timeout 2 nc {target} {port} && echo REACHED {target}; ").unwrap();
        write!(line, "ping -c 1 -W 1 {target} >/dev/null 2>&1 && echo PINGED {target}; ").unwrap();
    }
    let said = rig.within("web", &line);
    assert!(!said.contains("REACHED") && !said.contains("PINGED") && !said.contains("leaked"), "{said}");
    let host_socket = UdpSocket::bind((rig.address(1), 0)).unwrap();
    host_socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let udp_port = host_socket.local_addr().unwrap().port();
    let datagram = format!(
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('{}', {udp_port}))",
        rig.address(1)
    );
    rig.in_network_of("web", &["python3", "-c", &datagram]);
    assert!(host_socket.recv_from(&mut [0; 8]).is_err(), "a datagram reached the host");
    assert!(rig.within("web", "cat /proc/net/if_inet6").trim().is_empty(), "the service has an IPv6 address");
}

#[test]
fn a_published_port_leads_in_and_its_use_is_counted() {
    let rig = Rig::new(
        json!("deny"),
        json!([
            {"edge_port": 20000, "protocol": "tcp", "service": "web", "container_port": 7000},
            {"edge_port": 20001, "protocol": "udp", "service": "web", "container_port": 7001},
            {"edge_port": 20002, "protocol": "tcp", "service": "db", "container_port": 7002},
        ]),
    );
    docker(&["exec", "-d", &rig.called("web"), "nc", "-ll", "-p", "7000", "-e", "cat"]);
    let echo = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('0.0.0.0',7001))\n\
        while 1:\n  b,a=s.recvfrom(65535);s.sendto(b,a)\n";
    let mut server = rig.python_in("web", echo);
    rig.eventually("the service answers", || {
        let mut stream = TcpStream::connect(rig.published("20000/tcp")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut said = String::new();
        stream.write_all(b"hello").is_ok()
            && stream.shutdown(std::net::Shutdown::Write).is_ok()
            && stream.read_to_string(&mut said).is_ok()
            && said == "hello"
    });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut said = [0; 64];
    rig.eventually("the datagram comes back", || {
        let _ = socket.send_to(b"datagram", rig.published("20001/udp"));
        socket.recv(&mut said).is_ok_and(|length| &said[..length] == b"datagram")
    });
    let _ = (server.kill(), server.wait());
    let refused =
        TcpStream::connect(rig.published("20002/tcp")).and_then(|mut stream| stream.read(&mut [0; 1]));
    assert!(refused.is_err() || refused.is_ok_and(|length| length == 0), "nobody listens on `db`");
    rig.eventually("the connections are counted", || LogSummary::read(&rig.log()).connections.total >= 1);
}

#[test]
fn a_thousand_connections_at_once_all_get_their_answer() {
    let rig = Rig::new(
        json!("deny"),
        json!([{"edge_port": 20000, "protocol": "tcp", "service": "web", "container_port": 7000}]),
    );
    let script = "import socket,threading\ns=socket.create_server(('0.0.0.0',7000),backlog=4096)\n\
        def serve(c):\n  c.sendall(c.recv(8));c.close()\n\
        while 1:\n  c,_=s.accept();threading.Thread(target=serve,args=(c,),daemon=True).start()\n";
    let mut server = rig.python_in("web", script);
    let at = SocketAddr::from((edge_address(&rig), 20000));
    rig.eventually("the server listens", || {
        TcpStream::connect(at).is_ok_and(|mut stream| {
            stream.write_all(b"ping").is_ok() && stream.read(&mut [0; 4]).is_ok_and(|length| length == 4)
        })
    });
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| TcpStream::connect(at).unwrap()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(format!("{number:04}").as_bytes()).unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, format!("{number:04}"));
    }
    let _ = server.kill();
    let _ = server.wait();
}

#[test]
fn a_peer_that_resets_is_a_reset_to_the_other_one() {
    let rig = Rig::new(
        json!("deny"),
        json!([{"edge_port": 20000, "protocol": "tcp", "service": "web", "container_port": 7000}]),
    );
    // It resets who says `r`, notes how a connection ends over which `e` was said, and tells who says `?` of these ends.
    let script = "import socket,struct,threading\ns=socket.create_server(('0.0.0.0',7000))\nends=['ends']\n\
        def serve(c):\n  said=c.recv(1)\n  if said==b'r':\n    \
        c.setsockopt(socket.SOL_SOCKET,socket.SO_LINGER,struct.pack('ii',1,0));c.close();return\n  \
        c.sendall(' '.join(ends).encode())\n  if said==b'?': c.close();return\n  \
        try: ends.append('end' if c.recv(1)==b'' else 'more')\n  \
        except ConnectionResetError: ends.append('reset')\n\
        while 1:\n  c,_=s.accept();threading.Thread(target=serve,args=(c,),daemon=True).start()\n";
    let mut server = rig.python_in("web", script);
    let at = SocketAddr::from((edge_address(&rig), 20000));
    let ask = |word: &[u8]| -> std::io::Result<(TcpStream, String)> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(word)?;
        let mut said = [0; 64];
        let length = stream.read(&mut said)?;
        Ok((stream, String::from_utf8_lossy(&said[..length]).into_owned()))
    };
    rig.eventually("the server listens", || ask(b"?").is_ok_and(|(_, said)| !said.is_empty()));
    for _ in 0..50 {
        assert_eq!(ask(b"r").unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
    let (stream, _) = ask(b"e").unwrap();
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    rig.eventually("the service hears of the reset", || ask(b"?").unwrap().1 == "ends reset");
    let (stream, _) = ask(b"e").unwrap();
    drop(stream);
    rig.eventually("an end stays an end", || ask(b"?").unwrap().1 == "ends reset end");
    let _ = (server.kill(), server.wait());
}

#[test]
fn a_running_gateway_holds_no_capability_and_little_memory() {
    for egress in [json!("deny"), json!("allow")] {
        let rig = Rig::new(egress, no_forwards());
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &rig.called("gw")]);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for held in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(status.contains(&format!("{held}:\t0000000000000000")), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let kilobytes: u64 = anonymous.split_whitespace().next().unwrap().parse().unwrap();
        assert!(kilobytes < 4096, "{kilobytes} kB");
    }
}

#[test]
fn a_probe_tells_what_it_meets_until_the_service_is_ready() {
    let rig = Rig::new(json!("deny"), no_forwards());
    let mut control = Command::new("docker")
        .args(["exec", "-i", &rig.called("gw"), "/sandbox", "agent", "control"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut asking = control.stdin.take().unwrap();
    let probe = json!({
        "id": 7, "do": "probe", "target": "web", "port": 8000, "http": {"path": "/index.html"}, "timeout_ms": 15000,
    });
    writeln!(asking, "{probe}").unwrap();
    let mut answers = BufReader::new(control.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<ControlReply>(&answers.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        next(),
        ControlReply { id: 7, answer: ControlAnswer::Waiting { last: "connection refused".into() } }
    );
    rig.within("web", "mkdir -p /tmp/www && httpd -p 8000 -h /tmp/www");
    assert_eq!(next(), ControlReply { id: 7, answer: ControlAnswer::Waiting { last: "404".into() } });
    rig.within("web", "echo hi > /tmp/www/index.html");
    let ready = next();
    assert!(matches!(ready, ControlReply { id: 7, answer: ControlAnswer::Ready { .. } }), "{ready:?}");
    drop(asking);
    assert!(control.wait().unwrap().success());
}

#[test]
fn a_listed_name_is_reached_by_http_and_by_tls_and_a_forged_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("index.html"), "from outside").unwrap();
    must(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=api.example.com",
            "-days",
            "1",
            "-keyout",
            &path("key"),
            "-out",
            &path("cert"),
        ],
    );
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let mut rig = Rig::with(json!(["api.example.com", "*.wild.example"]), no_forwards(), |config| {
        let bridge = config["edge"]["bridge"].as_str().unwrap().to_owned();
        config["resolver"] = json!(format!("{bridge}:{port}"));
    });
    let outside = rig.outside(&[
        &["busybox", "httpd", "-f", "-p", "80", "-h", folder.path().to_str().unwrap()],
        &["openssl", "s_server", "-accept", "443", "-www", "-key", &path("key"), "-cert", &path("cert")],
    ]);
    resolver_saying((rig.address(1), port).into(), outside);
    rig.eventually("a listed name is reached", || rig.web_get("api.example.com").contains("from outside"));
    assert!(rig.web_get("a.b.wild.example").contains("from outside"));
    let unlisted = rig.web_get("evil.example");
    assert!(!unlisted.contains("from outside"), "{unlisted}");

    let gateway = rig.address(66).to_string();
    let forged = rig.within(
        "web",
        &format!("timeout 5 wget -O- --header 'Host: evil.example' http://{gateway}/index.html"),
    );
    assert!(!forged.contains("from outside"), "{forged}");
    let second = "printf 'GET /none HTTP/1.1\\r\\nHost: api.example.com\\r\\n\\r\\nGET /index.html HTTP/1.1\\r\\nHost: evil.example\\r\\nConnection: close\\r\\n\\r\\n'";
    let smuggled = rig.within("web", &format!("({second}; sleep 2) | nc {gateway} 80"));
    assert!(
        smuggled.contains("404") && smuggled.contains("403") && !smuggled.contains("from outside"),
        "{smuggled}"
    );

    let tls = |name: &str| {
        let to = format!("{name}:443:{gateway}");
        rig.in_network_of(
            "web",
            &["curl", "-sk", "-m", "8", "--resolve", &to, "-v", &format!("https://{name}/")],
        )
    };
    rig.eventually("a listed name is reached by TLS", || {
        tls("api.example.com").contains("CN=api.example.com")
    });
    let forged = tls("evil.example");
    assert!(forged.contains("unrecognized name") && !forged.contains("CN=api"), "{forged}");
    rig.eventually("the forged names are counted", || {
        rig.refused("web", RefusalKind::Http, "evil.example")
            && rig.refused("web", RefusalKind::Tls, "evil.example")
    });
    let direct = rig.within("web", &format!("timeout 3 wget -O- http://{outside}/index.html"));
    assert!(!direct.contains("from outside"), "{direct}");
}

#[test]
fn a_listed_name_that_resolves_to_the_host_is_not_followed() {
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let rig = Rig::with(json!(["api.example.com"]), no_forwards(), |config| {
        let bridge = config["edge"]["bridge"].as_str().unwrap().to_owned();
        config["resolver"] = json!(format!("{bridge}:{port}"));
    });
    let bridge = rig.address(1);
    let _host = TcpListener::bind((bridge, 80)).unwrap();
    resolver_saying((bridge, port).into(), bridge);
    let said = rig.web_get("api.example.com");
    assert!(said.contains("403"), "{said}");
    rig.eventually("it is counted", || rig.refused("web", RefusalKind::Http, "api.example.com"));
}

#[test]
fn a_listed_address_is_reached_on_its_port_and_the_rest_is_refused_and_counted() {
    let block_rule = |port: u16| format!("198.18.0.0/16:{port}");
    let mut rig = Rig::new(json!([block_rule(80)]), no_forwards());
    let outside = rig.outside(&[
        &["busybox", "nc", "-ll", "-p", "80", "-e", "echo", "welcome"],
        &["busybox", "nc", "-ll", "-p", "81", "-e", "echo", "leaked"],
    ]);
    rig.eventually("the listed port answers", || {
        rig.within("web", &format!("timeout 3 nc {outside} 80 </dev/null")).contains("welcome")
    });
    let said = rig.within(
        "web",
        &format!("timeout 3 nc {outside} 81 </dev/null; ping -c 1 -W 1 {outside}; nslookup x.example.com"),
    );
    assert!(!said.contains("leaked") && !said.contains("1 packets received"), "{said}");
    rig.eventually("the refusals are counted", || {
        rig.refused("web", RefusalKind::Tcp, &outside.to_string())
            && rig.refused("web", RefusalKind::Name, "x.example.com")
    });
    let refused = LogSummary::read(&rig.log()).refusals;
    let rule = refused
        .iter()
        .find(|refusal| refusal.key.kind == RefusalKind::Tcp)
        .and_then(|refusal| refusal.key.rule());
    assert_eq!(rule, Some(format!("{outside}:81")));
}

#[test]
fn allow_opens_all_but_the_host_and_other_networks() {
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let mut rig = Rig::with(json!("allow"), no_forwards(), |config| {
        let bridge = config["edge"]["bridge"].as_str().unwrap().to_owned();
        config["resolver"] = json!(format!("{bridge}:{port}"));
    });
    let outside = rig.outside(&[&["busybox", "nc", "-ll", "-p", "4000", "-e", "echo", "welcome"]]);
    resolver_saying((rig.address(1), port).into(), outside);
    rig.eventually("the outside answers by name", || {
        rig.within("web", &format!("nslookup any.example.com; timeout 3 nc {outside} 4000 </dev/null"))
            .contains("welcome")
    });
    let host = TcpListener::bind("0.0.0.0:0").unwrap();
    let host_port = host.local_addr().unwrap().port();
    docker(&["exec", "-d", &rig.called("db"), "nc", "-ll", "-p", "5000", "-e", "echo", "leaked"]);
    let mut line = String::new();
    let mut targets: Vec<(String, u16)> =
        host_addresses().iter().map(|net| (net.trim_end_matches("/32").to_owned(), host_port)).collect();
    targets.retain(|(address, _)| address != "127.0.0.1");
    targets.push((rig.address(1).to_string(), host_port));
    targets.push((edge_address(&rig).to_string(), 53));
    targets.push((rig.address(98).to_string(), 53));
    targets.push((rig.address(101).to_string(), 5000));
    for (address, port) in &targets {
        write!(line, "timeout 2 nc {address} {port} </dev/null && echo REACHED {address}; ").unwrap();
    }
    let said = rig.within("web", &line);
    assert!(!said.contains("REACHED") && !said.contains("leaked"), "{said}");
    host.set_nonblocking(true).unwrap();
    let accepted = host.accept();
    assert!(accepted.is_err(), "a connection reached the host: {accepted:?}");
    rig.eventually("the refusals are counted", || {
        rig.refused("web", RefusalKind::Tcp, &rig.address(1).to_string())
    });
    for refusal in LogSummary::read(&rig.log()).refusals {
        assert!(refusal.key.rule().is_none() && refusal.key.reason.is_some(), "{refusal:?}");
    }
}
