//! The events of two sessions, used by the tests of all renderers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jiff::Timestamp;

use crate::report::Clock;
use crate::session::event::*;

pub(crate) fn clock() -> Clock {
    Clock {
        elapsed: Box::new(|| Duration::from_millis(1_500)),
        now: Box::new(|| Timestamp::from_second(1_793_000_000).unwrap()),
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) fn started() -> Event {
    Event::Started {
        name: "shop-main".into(),
        id: "0a1b2c3d4e5f".into(),
        services: vec!["db".into(), "cache".into(), "web".into()],
    }
}

pub(crate) fn pull(done: u64) -> Event {
    Event::Pull {
        image: "postgres:16-alpine".into(),
        layers: Progress { done: done / 20_000_000, total: 5 },
        bytes: Progress { done, total: 100_000_000 },
        rate: 12_300_000,
        done: done == 100_000_000,
    }
}

pub(crate) fn waiting(service: &str, what: &str, last: Option<&str>, since: u64) -> Event {
    Event::Waiting {
        service: service.into(),
        what: what.into(),
        last: last.map(Into::into),
        since: millis(since),
    }
}

pub(crate) fn step(id: &str, phase: Phase, what: &str, service: Option<&str>) -> [Event; 2] {
    let (what, service) = (what.to_owned(), service.map(ToOwned::to_owned));
    let id = StepId::new(phase.word(), id);
    [
        Event::StepStarted { id: id.clone(), phase, what: what.clone(), service: service.clone() },
        Event::StepDone { id, phase, what, service, elapsed: millis(40) },
    ]
}

pub(crate) fn log(service: &str, line: &str) -> Event {
    Event::Log { service: service.into(), replica: 1, stream: Stream::Stdout, time: None, line: line.into() }
}

pub(crate) fn status(
    service: &str,
    state: ServiceState,
    ports: &[(u16, u16, Option<&str>)],
) -> ServiceStatus {
    ServiceStatus {
        service: service.into(),
        replica: 1,
        container: format!("sbx-shop-main.{service}"),
        image: format!("{service}:1"),
        state,
        endpoints: ports
            .iter()
            .map(|(port, target, url)| Endpoint {
                host: IpAddr::V4(Ipv4Addr::LOCALHOST),
                port: *port,
                target: *target,
                protocol: Protocol::Tcp,
                url: url.map(Into::into),
            })
            .collect(),
    }
}

pub(crate) fn up() -> Event {
    Event::Up {
        name: "shop-main".into(),
        services: vec![
            status(
                "db",
                ServiceState::Healthy,
                &[(32768, 5432, Some("postgres://postgres@127.0.0.1:32768/shop"))],
            ),
            status("cache", ServiceState::Running, &[]),
            status(
                "web",
                ServiceState::Running,
                &[(8080, 8080, Some("http://127.0.0.1:8080")), (9090, 9090, None)],
            ),
        ],
        deadline: Some(Timestamp::from_second(1_793_028_740).unwrap()),
        elapsed: millis(1_234),
        if_unused: false,
        attached: true,
        stays: false,
    }
}

pub(crate) fn of_an_up() -> Vec<Event> {
    let mut events = vec![
        started(),
        Event::Plan {
            steps: vec![PlannedStep {
                id: StepId::new("network", "default"),
                phase: Phase::Network,
                what: "create network `default`".into(),
                cause: Some("the services share it".into()),
                service: None,
            }],
        },
    ];
    events.extend(step("default", Phase::Network, "created network `default`", None));
    events.extend([pull(0), pull(42_000_000), pull(100_000_000)]);
    events.push(Event::Bake {
        key: "9f8e7d6c5b4a39281706".into(),
        volumes: vec!["pgdata".into()],
        state: BakeState::Started,
    });
    events.push(Event::Seed {
        target: "db".into(),
        what: "fixtures/shop/orders.sql".into(),
        progress: Some(Progress { done: 120, total: 400 }),
        done: false,
    });
    events.push(Event::Seed {
        target: "db".into(),
        what: "fixtures/shop/orders.sql".into(),
        progress: Some(Progress { done: 400, total: 400 }),
        done: true,
    });
    events.extend(step("db", Phase::Start, "started", Some("db")));
    events.push(waiting("db", "tcp 5432", None, 0));
    events.push(waiting("db", "tcp 5432", Some("connection refused"), 300));
    events.push(waiting("db", "tcp 5432", Some("connection refused"), 6_000));
    events.push(Event::Ready { service: "db".into(), after: millis(6_200) });
    events.push(Event::PortMoved { service: "web".into(), target: 8080, wanted: 8080, given: 49152 });
    events.push(up());
    events.push(log("db", "database system is ready to accept connections"));
    events.push(log("web", "GET / 200"));
    events.push(Event::DeadlineNear { left: Duration::from_mins(5) });
    events.push(Event::TearingDown {
        name: "shop-main".into(),
        reason: "interrupted".into(),
        interrupted: true,
    });
    events.push(Event::Torn {
        name: "shop-main".into(),
        removed: Removed { containers: 4, networks: 1, volumes: 2 },
        elapsed: millis(820),
    });
    events
}

pub(crate) fn of_a_failure() -> Vec<Event> {
    vec![
        started(),
        Event::ServiceExited {
            service: "db".into(),
            code: 137,
            log: vec!["LOG:  starting".into(), "FATAL:  could not map anonymous shared memory".into()],
            waited_for_by: vec!["web".into()],
            then: AfterExit::Ends,
        },
        Event::Warning {
            text: "variable `TOKEN` is not set".into(),
            hint: Some("write `${TOKEN:-}`".into()),
        },
        Event::Left {
            name: "shop-main".into(),
            objects: vec![LeftObject {
                kind: "volume".into(),
                name: "sbx-shop-main.pgdata".into(),
                cause: "volume is in use".into(),
            }],
        },
        Event::Failed {
            error: vec![
                "service `db` exited with 137 before it was ready".into(),
                "it ran out of memory".into(),
            ],
            hint: Some("raise `mem_limit`".into()),
        },
    ]
}
