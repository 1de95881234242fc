//! What the gateway costs an `up`: the very plan of a sandbox, run whole and without the steps that are the gateway's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::agent::client::{Keeper, Options};
use sandbox::agent::image::Payload;
use sandbox::agent::protocol::{LeaseRequest, Lifetime, Reason};
use sandbox::engine::docker::Docker;
use sandbox::engine::{Engine, identity};
use sandbox::plan::{Op, Plan, Step};
use sandbox::session::build::converge;
use sandbox::session::build::executor::PlanExecutor;
use sandbox::session::build::scheduler;
use sandbox::session::context::{Context, PlanEnvironment};
use sandbox::session::event::Events;
use sandbox::session::lifecycle::open::order_of;
use sandbox::session::readiness::gateway_probe::GatewayProber;
use sandbox::session::request::{BuildRequest, UpOptions};
use sandbox::spec::{self, LoadRequest};
use tokio_util::sync::CancellationToken;

use super::support::{BUSYBOX, World};
use super::{held, median};

/// Whether the gateway's steps are taken.
#[derive(Clone, Copy, PartialEq)]
enum Gateway {
    Made,
    LeftOut,
}

/// A database, a cache and who waits for both, which say in their logs that they are ready.
const REAL: &str = r#"
  db:
    image: sbx-test/postgres
    environment: { POSTGRES_HOST_AUTH_METHOD: trust }
    ready: { log: ready to accept connections }
    volumes: ["data:/var/lib/postgresql/data"]
  cache:
    image: sbx-test/redis
    ready: { log: eady to accept connections }
  web:
    image: sbx-test/busybox
    command: [sh, -c, "echo web is up; exec sleep infinity"]
    stop_signal: SIGKILL
    ready: { log: web is up }
    depends_on: { db: { condition: service_healthy }, cache: { condition: service_healthy } }
volumes: { data: {} }
"#;

/// Prints how long a plan with a gateway takes beside the same without one: services as they are, and the hardest cases,
/// where nothing takes any time but the engine.
pub fn measure(rounds: usize) {
    let app = |name: &str, more: &str| {
        format!("  {name}: {{ image: {BUSYBOX}, command: [sleep, infinity], stop_signal: SIGKILL{more} }}\n")
    };
    let flat = app("a", "") + &app("b", "") + &app("c", "");
    // Where there is no gateway only a command can tell, and no port can be waited for.
    let ready = ", ready: { exec: ['true'] }";
    let waiting = ", depends_on: { db: { condition: service_healthy } }";
    let chain = app("db", ready) + &app("api", waiting) + &app("web", waiting);
    for (what, services) in
        [("real services", REAL.to_owned()), ("ready at once", flat), ("one waits for another", chain)]
    {
        let world = World::with_spec(&format!("services:\n{services}"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (with, without) = runtime.block_on(by_turns(&world, rounds));
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        let [with, without] = [with, without].map(|time| time.as_millis());
        println!("up, {what}: {with} ms with a gateway, {without} ms without = {ratio:.2}");
        println!("  at most 1.10 (noise): {}", held(ratio <= 1.1));
    }
}

async fn by_turns(world: &World, rounds: usize) -> (Duration, Duration) {
    let engine = Docker::connect_from_env().await.unwrap();
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_sandbox"));
    let scope = world.name().parse().unwrap();
    let options = Options { scope, binary: Some(binary.clone()), ..Options::default() };
    let keeper = Keeper::ensure(&engine, options.clone()).await.unwrap();
    let payload = Payload::find(&engine.info().await.unwrap().arch, Some(&binary)).unwrap();
    let bench = Bench { engine, keeper, options, image: payload.reference() };
    let (mut with, mut without) = (vec![], vec![]);
    // The first one makes the edge network, too.
    bench.round(world, Gateway::Made).await;
    for _ in 0..rounds {
        with.push(bench.round(world, Gateway::Made).await);
        without.push(bench.round(world, Gateway::LeftOut).await);
    }
    (median(with), median(without))
}

struct Bench {
    engine: Arc<dyn Engine>,
    keeper: Keeper,
    options: Options,
    image: String,
}

impl Bench {
    /// How long the plan took. The sandbox is gone afterwards.
    async fn round(&self, world: &World, gateway: Gateway) -> Duration {
        let order = order(world);
        let terms = LeaseRequest {
            name: order.name.clone(),
            sandbox: order.id.clone(),
            again: false,
            changing: false,
            client: 0,
            grace: order.spec.lifetime.grace(),
            lifetime: Lifetime::default(),
        };
        let lease = self.keeper.lease(terms).await.unwrap();
        let subnets = sandbox::session::settings::subnets().unwrap();
        let info = self.engine.info().await.unwrap();
        let means = PlanEnvironment {
            info: &info,
            scope: &self.options.scope,
            subnets: &subnets,
            agent_image: &self.image,
            throwaway_seccomp: None,
            group: None,
        };
        let plan = converge::dry_run(&*self.engine, &means, None, &order).await.unwrap();
        let took = self.run(plan, &order, gateway).await;
        lease.release(Reason::Down).await.unwrap();
        took
    }

    async fn run(&self, plan: Plan, order: &BuildRequest, gateway: Gateway) -> Duration {
        let name = identity::gateway(order.name.as_str());
        let (scope, keeper) = (&self.options.scope, self.keeper.clone());
        let context = Context::open(&self.engine, scope, keeper, Events::nowhere()).await.unwrap();
        let workshop = Arc::new(PlanExecutor {
            pending: sandbox::session::build::executor::Pending::default(),
            recorder: None,
            context,
            spec: Arc::clone(&order.spec),
            values: Arc::clone(&order.values),
            prober: Arc::new(GatewayProber::new(Arc::clone(&self.engine), name.clone())),
            patience: order.patience,
        });
        let begun = Instant::now();
        let perform = |step: Arc<Step>, token| {
            let left_out = gateway == Gateway::LeftOut && is_of(&step.op, &name);
            let workshop = Arc::clone(&workshop);
            async move { if left_out { Ok(()) } else { workshop.perform(step, token).await } }
        };
        scheduler::run(plan, &CancellationToken::new(), perform).await.unwrap();
        begun.elapsed()
    }
}

/// Whether it is a step of the gateway in this container.
fn is_of(op: &Op, gateway: &str) -> bool {
    match op {
        Op::Claim(_) => true,
        Op::Connect { container, .. } | Op::Start { container } => container == gateway,
        _ => false,
    }
}

fn order(world: &World) -> BuildRequest {
    let request = LoadRequest { folder: world.project(), ..LoadRequest::default() };
    let loaded = spec::load(&request).unwrap();
    let order = order_of(&loaded, &UpOptions::default()).unwrap();
    BuildRequest { name: world.name().parse().unwrap(), ..order }
}
