//! The examples of `man/fresh-databases.md` that can run here.

use std::path::Path;

use super::support::{World, python};

const GUIDE: &str = include_str!("../../man/fresh-databases.md");

/// The block of the guide whose fence begins with this.
fn block(kind: &str) -> &'static str {
    let fence = format!("```{kind}\n");
    let (_, rest) = GUIDE.split_once(&fence).unwrap_or_else(|| panic!("no block {kind}"));
    rest.split("```").next().unwrap()
}

#[test]
fn the_pytest_fixture_gives_each_test_a_database() {
    let Some(interpreter) = python("fixtures/lend/requirements.txt") else { return };
    let world = World::with_spec(&block("yaml").replace("postgres:16-alpine", "sbx-test/postgres"));
    world.file("seeds/shop.sql", "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2);");
    world.file("conftest.py", block("python conftest")).file("test_shop.py", block("python test"));
    let program = Path::new(env!("CARGO_BIN_EXE_sandbox")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());

    let outcome = world
        .host(interpreter.to_str().unwrap(), &["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .env("PATH", &path)
        .env("HOME", world.home().to_str().unwrap())
        .env("SANDBOX_SCOPE", world.name())
        .env("SANDBOX_NAME", world.name())
        .run();

    outcome.success().prints("2 passed");
    world.engine().is_clean();
}
