//! `lend`: every borrower has a database of its own with the seeded data, and nothing is left of any of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod borrower;
mod guide;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use borrower::{Borrower, Taken, Visitor};
use serde_json::json;
use support::{World, eventually};

/// The seeds of a shop, with a setting and a right of the database itself.
const SHOP: &str = "CREATE TABLE orders (id int PRIMARY KEY);
INSERT INTO orders VALUES (1), (2);
CREATE ROLE app LOGIN PASSWORD 'app';
ALTER DATABASE shop SET search_path TO public, extra;
GRANT TEMPORARY ON DATABASE shop TO app;
";

fn postgres() -> World {
    let world = World::with_spec(
        r#"
services:
  cache: { image: sbx-test/redis }
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_DB: shop, POSTGRES_PASSWORD: "p@ss word" }
    volumes: ["data:/var/lib/postgresql/data"]
    seed: [{ sql: shop.sql }]
volumes: { data: {} }
lifetime: { grace: 1s }
"#,
    );
    world.file("shop.sql", SHOP);
    world
}

/// The databases on a server, of all borrowers and of none.
fn databases(taken: &Taken) -> BTreeSet<String> {
    taken.sql("SELECT datname FROM pg_database").lines().map(str::to_owned).collect()
}

mod postgres {
    use super::*;

    #[test]
    fn each_database_is_seeded_and_alone() {
        let world = super::postgres();
        let mut borrower = Borrower::start(&world, &[]);
        assert_eq!((&borrower.ready["service"], &borrower.ready["kind"]), (&json!("db"), &json!("template")));
        assert_eq!(world.engine().running_services(), [format!("sbx-{}-lend-1.db", world.name())]);
        let (one, two) = (borrower.take(), borrower.take());

        one.sql("INSERT INTO orders VALUES (3); CREATE TABLE mine (x int)");

        assert_eq!(one.sql("SELECT count(*) FROM orders"), "3");
        assert_eq!(two.sql("SELECT count(*) FROM orders"), "2");
        assert!(two.try_sql("SELECT * FROM mine").is_err());
        assert_eq!(one.sql("SHOW search_path"), "public, extra");
        let right = "SELECT has_database_privilege('app', current_database(), 'TEMPORARY')";
        assert_eq!(one.sql(&format!("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC", name_of(&one))), "");
        assert_eq!(one.sql(right), "t");
        assert_eq!(one.env["DATABASE_URL"], one.url.as_str());
        assert_eq!(one.env["PGDATABASE"], name_of(&one).as_str());
        assert_eq!(one.env["PGPASSWORD"], "p@ss word");
    }

    #[test]
    fn what_is_given_back_is_dropped_even_if_it_is_still_in_use() {
        let world = super::postgres();
        let mut borrower = Borrower::start(&world, &[]);
        let (one, watch) = (borrower.take(), borrower.take());
        one.sql("INSERT INTO orders VALUES (3)");
        let sleeper = one.clone();
        let sleeping = std::thread::spawn(move || sleeper.try_sql("SELECT pg_sleep(600)"));
        eventually("it is in use", || {
            watch.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)'") != "0"
        });

        borrower.give(&one);

        eventually("it is dropped", || !databases(&watch).contains(&name_of(&one)));
        assert!(sleeping.join().unwrap().is_err(), "its connection is closed");
        let another = borrower.take();
        assert_ne!(another.url, one.url);
        assert_eq!(another.sql("SELECT count(*) FROM orders"), "2");
    }

    #[test]
    fn tests_may_create_databases_of_their_own() {
        let world = super::postgres();
        let mut borrower = Borrower::start(&world, &[]);

        borrower.take().sql("CREATE DATABASE own");

        let again = borrower.take();
        assert!(databases(&again).contains("own"));
    }

    #[test]
    fn takes_are_answered_at_once_and_leak_nothing() {
        take_and_give(100);
    }

    #[test]
    #[ignore = "takes minutes: `fixtures/test --slow` runs it"]
    fn a_thousand_takes_leak_nothing() {
        take_and_give(1000);
    }

    #[expect(clippy::print_stdout, reason = "the figure is what this test is for")]
    fn take_and_give(times: usize) {
        let world = super::postgres();
        let mut borrower = Borrower::start(&world, &["--ready", "4"]);
        let watch = borrower.take();
        let all = ["postgres", "shop", "template0", "template1", "sandbox_lend_template"].len() + 1 + 4;
        let (mut answers, mut given) = (Vec::new(), String::new());
        let is_full = |given: &String| {
            let databases = databases(&watch);
            databases.len() == all && !databases.contains(given)
        };
        for _ in 0..times {
            eventually("the shelf is full", || is_full(&given));
            let began = Instant::now();
            borrower.say(&json!({ "take": {} }));
            let taken = Taken::from(borrower.hear());
            answers.push(began.elapsed());
            borrower.give(&taken);
            given = name_of(&taken);
        }
        answers.sort();
        let median = answers[times / 2];
        println!("take: median {median:?} of {times}, at most {:?}", answers[times - 1]);

        assert!(median < Duration::from_millis(50), "{median:?}");
        eventually("all that was given back is dropped", || is_full(&given));
        borrower.close();
        world.engine().is_clean();
    }

    #[test]
    #[ignore = "takes minutes: `fixtures/test --slow` runs it"]
    fn four_processes_take_one_a_second_each_of_twenty_megabytes() {
        let world = super::postgres();
        let rows =
            "CREATE TABLE big AS SELECT i, repeat('x', 1000) AS text FROM generate_series(1, 11000) i;";
        world.file("shop.sql", format!("{SHOP}{rows}"));
        let socket = world.home().join("lend.sock");
        let mut lend = world.spawn(["lend", "--socket", socket.to_str().unwrap()]);
        lend.says("\"ready\"");

        let takers: Vec<_> = (0..4)
            .map(|_| {
                let socket = socket.clone();
                std::thread::spawn(move || {
                    let mut visitor = Visitor::connect(&socket);
                    (0..30).map(|_| take_once_a_second(&mut visitor)).collect::<Vec<Duration>>()
                })
            })
            .collect();

        let mut answers: Vec<Duration> = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect();
        answers.sort();
        assert!(answers[answers.len() / 2] < Duration::from_millis(50), "{answers:?}");
        assert!(answers[answers.len() * 95 / 100] < Duration::from_secs(1), "it falls behind: {answers:?}");
    }

    fn take_once_a_second(visitor: &mut Visitor) -> Duration {
        let began = Instant::now();
        let taken = visitor.take("x");
        let took = began.elapsed();
        assert!(
            taken.sql("SELECT pg_database_size(current_database())").parse::<u64>().unwrap() > 18_000_000
        );
        visitor.ask(&json!({ "give": { "id": "x" } }));
        std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
        took
    }

    fn name_of(taken: &Taken) -> String {
        taken.url.rsplit('/').next().unwrap().to_owned()
    }
}

mod ends {
    use super::*;

    #[test]
    fn a_killed_lend_leaves_nothing() {
        let world = postgres();
        let mut borrower = Borrower::start(&world, &[]);
        borrower.take();

        borrower.kill();

        world.engine().becomes_clean();
    }

    #[test]
    fn the_end_of_its_input_ends_it() {
        let world = postgres();
        let mut borrower = Borrower::start(&world, &[]);
        borrower.take();

        borrower.close();

        world.engine().is_clean();
    }

    #[test]
    fn a_client_that_goes_while_it_is_built_ends_it() {
        let world = postgres();
        let mut session = world.spawn(["lend"]);
        eventually("it is being built", || !world.engine().remains().is_empty());

        session.close_stdin();

        session.wait(Duration::from_mins(1)).success();
        world.engine().is_clean();
    }

    #[test]
    fn a_server_that_makes_no_database_fails_with_the_way_out() {
        let world = World::with_spec(
            r#"
services:
  db: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, ports: ["5432"], ready: none }
lifetime: { grace: 1s }
"#,
        );

        // The end of standard input would end it before.
        let socket = world.home().join("lend.sock");
        let outcome = world.sandbox(["lend", "--socket", socket.to_str().unwrap()]);

        outcome.exits(1).says("the image has no psql").says("--whole");
        world.engine().is_clean();
    }
}

mod protocol {
    use super::*;

    #[test]
    fn whatever_is_wrong_is_said_and_the_connection_goes_on() {
        let world = postgres();
        let mut borrower = Borrower::start(&world, &[]);
        let problems = [
            (json!({ "borrow": {} }), "`take` or `give`"),
            (json!("take"), "invalid"),
            (json!({ "give": { "id": "x" } }), "not lent"),
        ];
        for (line, words) in problems {
            borrower.say(&line);
            let reply = borrower.hear();
            assert!(reply["error"]["message"].as_str().unwrap().contains(words), "{line}: {reply}");
            assert!(reply["error"]["hint"].is_string(), "{line}: {reply}");
        }
        borrower.say(&json!({ "take": { "id": "mine" } }));
        assert_eq!(borrower.hear()["taken"]["id"], "mine");
        borrower.say(&json!({ "take": { "id": "mine" } }));
        assert!(borrower.hear()["error"]["message"].as_str().unwrap().contains("already"));
    }

    #[test]
    fn who_finds_the_shelf_empty_is_told_and_served() {
        let world = postgres();
        let mut borrower = Borrower::start(&world, &["--ready", "1"]);
        for number in 0..4 {
            borrower.say(&json!({ "take": { "id": number } }));
        }
        let replies: Vec<_> = (0..7).map(|_| borrower.hear()).collect();

        let waiting = replies.iter().filter_map(|reply| reply["waiting"]["reason"].as_str());
        let waiting: Vec<&str> = waiting.collect();
        assert_eq!(waiting.len(), 3, "{replies:?}");
        assert!(waiting.iter().all(|reason| reason.contains("making one takes about")), "{waiting:?}");
        let taken: Vec<_> = replies.iter().filter_map(|reply| reply["taken"]["id"].as_u64()).collect();
        assert_eq!(taken, [0, 1, 2, 3]);
    }

    #[test]
    fn a_connection_that_closes_gives_all_back() {
        let world = postgres();
        let socket = world.home().join("lend.sock");
        let mut lend = world.spawn(["lend", "--socket", socket.to_str().unwrap()]);
        lend.says("\"ready\"");
        let (mut one, mut two) = (Visitor::connect(&socket), Visitor::connect(&socket));
        let (first, second, third) = (one.take("a"), two.take("a"), one.take("b"));
        assert_ne!(first.url, second.url);

        drop(one);

        let gone = [&first, &third].map(|taken| taken.url.rsplit('/').next().unwrap().to_owned());
        eventually("its databases are dropped", || {
            gone.iter().all(|name| !databases(&second).contains(name))
        });
        assert_eq!(second.sql("SELECT count(*) FROM orders"), "2");
        world.sandbox(["lend", "--socket", socket.to_str().unwrap()]).exits(2).says("another process");
        lend.signal(libc::SIGTERM);
        lend.wait(Duration::from_mins(1)).exits(143);
        assert!(!socket.exists());
        world.engine().is_clean();
    }
}

#[test]
fn redis_lends_numbered_databases_with_the_data_of_the_first() {
    let world = World::with_spec(
        r"
services:
  cache:
    image: sbx-test/redis
    command: [redis-server, --databases, '4']
    volumes: ['data:/data']
    seed: [{ exec: [redis-cli, set, greeting, hello] }]
volumes: { data: {} }
lifetime: { grace: 1s }
",
    );
    let mut borrower = Borrower::start(&world, &[]);
    assert_eq!((&borrower.ready["kind"], &borrower.ready["most"]), (&json!("numbered"), &json!(3)));
    let container = format!("sbx-{}-lend-1.cache", world.name());
    let redis = |taken: &Taken, command: &[&str]| {
        let number = taken.url.rsplit('/').next().unwrap().to_owned();
        let arguments = [&["exec", &container, "redis-cli", "-n", &number], command].concat();
        world.engine().docker(&arguments).success().text().to_owned()
    };
    let (one, two, three) = (borrower.take(), borrower.take(), borrower.take());
    assert_eq!(one.env["REDIS_URL"], one.url.as_str());
    redis(&one, &["set", "greeting", "changed"]);
    assert_eq!(redis(&two, &["get", "greeting"]), "hello");

    borrower.say(&json!({ "take": { "id": "fourth" } }));
    let reason = borrower.hear()["waiting"]["reason"].clone();
    assert_eq!(reason, "all 3 databases are lent; the next `give` frees one");
    borrower.give(&one);
    let fourth = Taken::from(borrower.hear());

    assert_eq!(fourth.url, one.url, "its number is used again");
    assert_eq!(redis(&fourth, &["get", "greeting"]), "hello");
    assert_eq!(redis(&three, &["dbsize"]), "1");
}

mod whole {
    use super::*;

    #[test]
    fn mariadb_lends_servers_on_clones_of_the_data() {
        let world = World::with_spec(
            r#"
services:
  db:
    image: sbx-test/mariadb
    environment: { MARIADB_DATABASE: shop, MARIADB_ROOT_PASSWORD: example }
    volumes: ["data:/var/lib/mysql"]
    seed: [{ sql: shop.sql }]
    healthcheck: { test: [CMD, healthcheck.sh, --connect], interval: 1s, retries: 60 }
volumes: { data: {} }
lifetime: { grace: 1s }
"#,
        );
        world.file("shop.sql", "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2);");
        let mut borrower = Borrower::start(&world, &["--ready", "1"]);
        assert_eq!(borrower.ready["kind"], "whole");
        let (one, two) = (borrower.take(), borrower.take());
        assert_ne!(one.port(), two.port());

        sql(&world, &one, "INSERT INTO orders VALUES (3)");

        assert_eq!(sql(&world, &one, "SELECT count(*) FROM orders"), "3");
        assert_eq!(sql(&world, &two, "SELECT count(*) FROM orders"), "2");
        let sandbox = one.env["SANDBOX_NAME"].as_str().unwrap().to_owned();
        borrower.give(&one);
        let name = format!("{sandbox}.");
        eventually("its server is gone", || {
            !world.engine().containers().iter().any(|container| container.contains(&name))
        });
        borrower.close();
        world.engine().is_clean();
    }

    #[test]
    fn postgres_lends_servers_when_it_is_told_to_and_a_kill_leaves_none() {
        let world = postgres();
        let mut borrower = Borrower::start(&world, &["--whole", "--ready", "1"]);
        assert_eq!(borrower.ready["kind"], "whole");
        let (one, two) = (borrower.take(), borrower.take());

        one.sql("ALTER ROLE app PASSWORD 'other'; INSERT INTO orders VALUES (3)");

        assert_ne!(one.port(), two.port());
        assert_eq!(two.sql("SELECT count(*) FROM orders"), "2");
        borrower.kill();
        world.engine().becomes_clean();
    }

    fn sql(world: &World, taken: &Taken, statement: &str) -> String {
        let container = format!("sbx-{}.db", taken.env["SANDBOX_NAME"].as_str().unwrap());
        let client = ["exec", &container, "mariadb", "-uroot", "-pexample", "-BN", "shop", "-e", statement];
        world.engine().docker(&client).success().text().to_owned()
    }
}
