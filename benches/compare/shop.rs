//! The project that is measured: a database with seeds, a cache, and a web service that needs both.

use crate::engine_api::Floor;
use crate::support::{self, World};

const SPEC: &str = r#"
lifetime: { ttl: 1h }
services:
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_DB: shop, POSTGRES_PASSWORD: secret }
    volumes: ["data:/var/lib/postgresql/data"]
    ready: { exec: [pg_isready, -q, -h, 127.0.0.1, -U, postgres] }
    seed:
      - sql: seeds/*.sql
  cache: { image: sbx-test/redis, ready: { tcp: 6379 } }
  web:
    image: sbx-test/web
    environment: { DB_PASSWORD: secret }
    depends_on: { db: { condition: service_healthy }, cache: { condition: service_healthy } }
    ports: ["8080"]
    ready: { http: /healthz }
volumes: { data: {} }
"#;

/// A project of its own, with the seeds.
pub fn shop() -> World {
    let world = World::with_spec(SPEC);
    let shop = support::repository().join("fixtures/shop");
    for file in ["10-schema.sql", "20-catalogue.sql"] {
        world.file(&format!("seeds/{file}"), std::fs::read(shop.join(file)).unwrap());
    }
    let orders = zstd::decode_all(std::fs::File::open(shop.join("orders.sql.zst")).unwrap()).unwrap();
    world.file("seeds/30-orders.sql", orders);
    world
}

/// The seeded data of the shop in a volume, from which each floor gets a copy.
pub struct SeededData<'a> {
    world: &'a World,
    volume: String,
}

impl<'a> SeededData<'a> {
    /// Takes it from the world's sandbox, whose database it stops first.
    pub fn of(world: &'a World) -> Self {
        let data = Self { world, volume: format!("bench-{}-seeded", world.name()) };
        world.sandbox(["stop", "db"]).success();
        let from = world.container("db");
        data.copy(&["--volumes-from", &from], "/var/lib/postgresql/data", &data.volume);
        data
    }

    pub fn give_to(&self, floor: &Floor) {
        self.copy(&["-v", &format!("{}:/from", self.volume)], "/from", &floor.volume());
    }

    fn copy(&self, volumes: &[&str], folder: &str, to: &str) {
        let (target, command) = (format!("{to}:/to"), format!("cp -a {folder}/. /to"));
        let mut all = vec!["run", "--rm", "--entrypoint", "sh", "-u", "0", "-v", &target];
        all.extend(volumes);
        all.extend(["sbx-test/postgres", "-c", &command]);
        self.world.host("docker", &all).run().success();
    }
}

impl Drop for SeededData<'_> {
    fn drop(&mut self) {
        let _ = self.world.host("docker", &["volume", "rm", "-f", &self.volume]).run();
    }
}
