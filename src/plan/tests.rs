//! Compares plans for a few specs and observed states. The plan's text is what `up --dry-run` prints.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::engine::identity::{self, SandboxId, Scope};
use crate::engine::recording::Recording;
use crate::engine::{CreateContainer, EngineKind, ImageConfig, Port};
use crate::spec::{self, LoadRequest, SandboxName, Spec};

const SHOP: &str = r#"
services:
  db:
    image: postgres:16
    environment: { POSTGRES_PASSWORD_FILE: /run/secrets/password }
    volumes: ["data:/var/lib/postgresql/data"]
    secrets: [password]
    expose: [5432]
    seed: [{ exec: [psql, -c, "create table orders ()"] }]
  web:
    image: web:1
    depends_on: { db: { condition: service_healthy } }
    ports: ["8080:80"]
    ready: { http: /healthz }
volumes: { data: {} }
secrets: { password: { generate: 12 } }
"#;

fn spec(yaml: &str) -> Spec {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sandbox.yaml"), yaml).unwrap();
    let request = LoadRequest {
        folder: folder.path().to_owned(),
        name: Some("shop".to_owned()),
        ..LoadRequest::default()
    };
    let mut spec = spec::load(&request).unwrap_or_else(|problems| panic!("{problems}")).spec;
    // The folder is only in labels, which the plan does not print.
    spec.folder = "/shop".into();
    spec
}

fn wish(spec: &Spec) -> DesiredState<'_> {
    DesiredState {
        spec,
        name: SandboxName::new("shop").unwrap(),
        id: "0123456789ab".parse::<SandboxId>().unwrap(),
        scope: Scope::default(),
        kind: EngineKind::Docker,
        expires: None,
        agent_image: "sandbox-agent:1".to_owned(),
        sources: BTreeMap::new(),
        seeding: Seeding::Run,
        age: Age::New,
        throwaway_seccomp: None,
        group: None,
        subnets: SubnetPool::default(),
        only_made: BTreeSet::new(),
        remove_orphans: true,
        recreate: BTreeSet::new(),
        anonymous_volumes: AnonymousVolumes::Kept,
        unfinished: Unfinished::default(),
    }
}

/// An engine that has only these images.
fn with_images(references: &[&str]) -> Observed {
    let engine = Recording::new();
    let image = |reference: &&str| {
        let image = engine.add_image(reference, ImageConfig::default());
        ((*reference).to_owned(), image)
    };
    Observed { images: references.iter().map(image).collect(), ..Observed::default() }
}

fn standing(spec: &Spec) -> DesiredState<'_> {
    DesiredState { age: Age::Standing, ..wish(spec) }
}

/// The observed state after a plan has run, with all services running.
fn after(plan: &Plan, before: &Observed) -> Observed {
    let mut observed = before.clone();
    for step in plan.steps() {
        match &step.op {
            Op::CreateEdge(network) => observed.edge = Some(subnet(network)),
            Op::CreateNetwork(network) => {
                let key = crate::spec::NetworkName::new(network.labels[identity::KEY].as_str()).unwrap();
                let (internal, ipv6) = (network.internal, network.ipv6);
                let config_hash = network.labels[identity::CONFIG_HASH].clone();
                let existing = ExistingNetwork { config_hash, subnet: subnet(network), internal, ipv6 };
                observed.networks.insert(key, existing);
            }
            Op::Claim(container) => {
                let config_hash = container.labels[identity::CONFIG_HASH].clone();
                observed.gateway = Some(ExistingGateway { config_hash, running: true });
            }
            Op::CreateVolume { volume, .. } => drop(observed.volumes.insert(volume.name.clone())),
            Op::CreateContainer(container) => {
                observed.containers.insert(container.name.clone(), existing(container));
            }
            Op::RemoveContainer { container } => drop(observed.containers.remove(container)),
            _ => {}
        }
    }
    observed
}

fn subnet(network: &crate::engine::CreateNetwork) -> Subnet {
    Subnet::of(network.subnets[0].ipv4().unwrap())
}

fn existing(container: &CreateContainer) -> ExistingContainer {
    let addresses = container.networks.iter().filter_map(|on| match on.ipv4 {
        Some(std::net::IpAddr::V4(address)) => Some((on.network.clone(), address)),
        _ => None,
    });
    ExistingContainer {
        service: container.labels[identity::SERVICE].parse().unwrap(),
        config_hash: container.labels[identity::CONFIG_HASH].clone(),
        running: true,
        addresses: addresses.collect(),
        exit_code: None,
    }
}

#[test]
fn a_first_up_claims_the_name_then_makes_all_of_it_and_each_create_knows_its_undo() {
    let spec = spec(SHOP);
    let observed = with_images(&["postgres:16", "web:1"]);
    insta::assert_snapshot!(plan(&wish(&spec), &observed).unwrap());
}

#[test]
fn a_second_up_of_what_has_not_changed_plans_nothing() {
    let spec = spec(SHOP);
    let observed = with_images(&["postgres:16", "web:1"]);
    let there = after(&plan(&wish(&spec), &observed).unwrap(), &observed);
    // The deadline differs every time.
    let expires = Some("2026-01-01T00:00:00Z".parse().unwrap());
    let again = plan(&DesiredState { expires, ..standing(&spec) }, &there).unwrap();
    assert!(again.is_empty(), "{again}");
}

#[test]
fn a_second_up_starts_what_serves_and_was_stopped_and_leaves_what_has_done_its_work() {
    const TWO: &str = "services:\n  web: { image: \"web:1\", expose: [\"80\"] }\n  once: { image: \"web:1\", command: [\"true\"] }\n";
    let spec = spec(TWO);
    let observed = with_images(&["web:1"]);
    let mut there = after(&plan(&wish(&spec), &observed).unwrap(), &observed);
    for container in there.containers.values_mut() {
        (container.running, container.exit_code) = (false, Some(0));
    }
    let again = plan(&standing(&spec), &there).unwrap().to_string();
    assert!(again.contains("start `sbx-shop.web`"), "{again}");
    assert!(!again.contains("once"), "{again}");
}

#[test]
fn a_second_up_recreates_only_the_changed_service() {
    let before = spec(SHOP);
    let observed = with_images(&["postgres:16", "web:1"]);
    let there = after(&plan(&wish(&before), &observed).unwrap(), &observed);
    let changed = spec(&SHOP.replace("image: web:1", "image: web:1\n    environment: { GREETING: hello }"));
    insta::assert_snapshot!(plan(&standing(&changed), &there).unwrap());
}

#[test]
fn a_service_that_is_added_leaves_the_others_their_addresses_and_containers() {
    let before = spec(SHOP);
    let observed = with_images(&["postgres:16", "web:1", "cache:1"]);
    let there = after(&plan(&wish(&before), &observed).unwrap(), &observed);
    let added = spec(&SHOP.replace("services:\n", "services:\n  cache: { image: \"cache:1\" }\n"));
    insta::assert_snapshot!(plan(&standing(&added), &there).unwrap());
}

#[test]
fn a_service_that_the_spec_lost_is_removed() {
    let before = spec(SHOP);
    let observed = with_images(&["postgres:16", "web:1"]);
    let there = after(&plan(&wish(&before), &observed).unwrap(), &observed);
    let mut lost = before.clone();
    lost.services.retain(|name, _| name.as_str() == "db");
    insta::assert_snapshot!(plan(&standing(&lost), &there).unwrap());
}

#[test]
fn data_that_was_seeded_before_is_cloned_and_no_seed_runs() {
    let spec = spec(SHOP);
    let observed = with_images(&["postgres:16", "web:1"]);
    let baseline = crate::storage::SetPath::baseline(&"ab".repeat(32)).unwrap();
    let from = VolumeSource::Clone(baseline.volume("data".parse().unwrap()));
    let wish = DesiredState {
        sources: BTreeMap::from([("data".to_owned(), from)]),
        seeding: Seeding::Done,
        ..wish(&spec)
    };
    insta::assert_snapshot!(plan(&wish, &observed).unwrap());
}

#[test]
fn networks_are_apart_and_let_out_only_what_the_spec_says() {
    let spec = spec(
        r#"
egress: [10.1.2.3:5432]
services:
  a: { image: "app:1", networks: { front: { aliases: [one] } }, scale: 2 }
  b: { image: "app:1", networks: [front, back], network_mode: }
networks: { front: {}, back: { internal: true, ipam: { config: [{ subnet: 10.5.0.0/16 }] } } }
"#,
    );
    insta::assert_snapshot!(plan(&wish(&spec), &with_images(&["app:1"])).unwrap());
}

#[test]
fn images_are_pulled_or_built_each_once_unless_they_are_there() {
    let spec = spec(
        r#"
services:
  there: { image: "there:1" }
  pulled: { image: "pulled:1" }
  twice: { image: "pulled:1" }
  always: { image: "always:1", pull_policy: always }
  built: { build: { dockerfile_inline: "FROM scratch" } }
"#,
    );
    let observed = with_images(&["there:1", "always:1"]);
    let text = plan_images(&spec, &Scope::default(), &observed, &BTreeSet::new()).to_string();
    // The tag also hashes the folder.
    let tag = regex::Regex::new("shop-built:[0-9a-f]{12}").unwrap();
    insta::assert_snapshot!(tag.replace_all(&text, "shop-built:TAG"));
}

#[test]
fn a_network_that_has_become_too_small_is_made_again_with_a_larger_subnet() {
    let text = |scale: u32| format!("services: {{ web: {{ image: 'web:1', scale: {scale} }} }}");
    let (small, large) = (spec(&text(2)), spec(&text(40)));
    let observed = with_images(&["web:1"]);
    let there = after(&plan(&wish(&small), &observed).unwrap(), &observed);

    let grown = plan(&wish(&large), &there).unwrap();

    let made = grown.steps().iter().find_map(|step| match &step.op {
        Op::CreateNetwork(network) => Some(subnet(network).places()),
        _ => None,
    });
    assert!(made.unwrap() >= 40, "{grown}");
    assert!(grown.to_string().contains("remove network"), "{grown}");
    let unchanged = plan(&wish(&large), &after(&grown, &there)).unwrap();
    assert!(!unchanged.to_string().contains("network `sbx"), "{unchanged}");
}

#[test]
fn a_recreated_container_gets_new_anonymous_volumes_when_asked() {
    let spec = spec(
        "services:\n  web: { image: 'web:1', volumes: ['/cache', 'kept:/kept'] }\nvolumes: { kept: {} }\n",
    );
    let observed = with_images(&["web:1"]);
    let made = plan(&wish(&spec), &observed).unwrap();
    let there = after(&made, &observed);
    let again = |anonymous_volumes| {
        let recreate = spec.services.keys().cloned().collect();
        plan(&DesiredState { recreate, anonymous_volumes, ..wish(&spec) }, &there).unwrap().to_string()
    };

    assert!(!again(AnonymousVolumes::Kept).contains("volume `"), "{}", again(AnonymousVolumes::Kept));
    let renewed = again(AnonymousVolumes::Renewed);
    let place = |text: &str| renewed.find(text).unwrap_or_else(|| panic!("no {text:?} in {renewed}"));
    assert!(place("remove container") < place("remove volume `sbx-"), "{renewed}");
    assert!(place("remove volume `sbx-") < place("create volume"), "{renewed}");
    assert!(place("create volume") < place("create container"), "{renewed}");
    assert!(!renewed.contains(".kept`"), "{renewed}");
}

#[test]
fn an_image_is_pulled_again_when_its_last_pull_is_older_than_its_policy_allows() {
    let spec = spec(
        r#"
services:
  daily: { image: "daily:1", pull_policy: daily }
  weekly: { image: "weekly:1", pull_policy: weekly }
  hourly: { image: "hourly:1", pull_policy: every_1h }
  refreshed: { image: "refreshed:1", pull_policy: refresh, pull_refresh_after: 3d }
  missing: { image: "missing:1", pull_policy: missing }
  unknown: { image: "unknown:1", pull_policy: weekly }
"#,
    );
    let names = ["daily:1", "weekly:1", "hourly:1", "refreshed:1", "missing:1", "unknown:1"];
    let pulled_after = |hours: i64| {
        let mut observed = with_images(&names);
        let tagged = "2026-11-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
        observed.now = tagged + jiff::SignedDuration::from_hours(hours);
        let known = observed.images.iter_mut().filter(|(name, _)| *name != "unknown:1");
        known.for_each(|(_, image)| image.tagged = Some(tagged));
        observed.images.get_mut("unknown:1").unwrap().tagged = None;
        let plan = plan_images(&spec, &Scope::default(), &observed, &BTreeSet::new());
        plan.steps().iter().map(|step| step.service.clone().unwrap().to_string()).collect::<BTreeSet<_>>()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();

    assert_eq!(pulled_after(0), set(&["unknown"]));
    assert_eq!(pulled_after(2), set(&["hourly", "unknown"]));
    assert_eq!(pulled_after(25), set(&["daily", "hourly", "unknown"]));
    assert_eq!(pulled_after(24 * 8), set(&["daily", "hourly", "refreshed", "unknown", "weekly"]));
}

#[test]
fn a_pool_of_subnets_that_is_exhausted_names_the_network_and_the_way_out() {
    let spec = spec(SHOP);
    let observed = with_images(&["postgres:16", "web:1"]);
    let wish = DesiredState { subnets: SubnetPool::parse("10.1.0.0/22").unwrap(), ..wish(&spec) };
    let error = plan(&wish, &observed).unwrap_err();
    insta::assert_snapshot!(format!("{error}\n{}", error.hint()));
}

/// All steps that a step waits for, directly or transitively.
fn needs<'a>(plan: &'a Plan, id: &StepId) -> BTreeSet<&'a StepId> {
    let mut all = BTreeSet::new();
    let mut open: Vec<&StepId> =
        plan.steps().iter().filter(|step| step.id == *id).flat_map(|step| &step.needs).collect();
    while let Some(next) = open.pop() {
        if all.insert(next) {
            open.extend(plan.steps().iter().filter(|step| step.id == *next).flat_map(|step| &step.needs));
        }
    }
    all
}

#[test]
fn services_start_side_by_side_with_their_gateway() {
    let spec = spec("services: { db: { image: db:1 }, web: { image: web:1 } }");
    let plan = plan(&wish(&spec), &Observed::default()).unwrap();

    let gateway = StepId::new("start", "sbx-shop");
    assert!(plan.steps().iter().any(|step| step.id == gateway));
    for service in ["sbx-shop.db", "sbx-shop.web"] {
        let start = StepId::new("start", service);
        assert!(plan.steps().iter().any(|step| step.id == start));
        assert!(!needs(&plan, &start).contains(&gateway), "{service} waits for the gateway");
        assert!(!needs(&plan, &gateway).contains(&start), "the gateway waits for {service}");
    }
}

#[test]
fn the_gateway_gives_way_to_services_that_keep_the_machine_busy() {
    let spec = spec(
        "services: { a: { image: a:1 }, b: { image: b:1 }, c: { image: c:1, depends_on: { a: { condition: service_healthy } } },
           d: { image: d:1, secrets: [key] }, e: { image: e:1, ready: { tcp: 80 } } }\nsecrets: { key: { generate: 16 } }",
    );
    let waits_for = |processors: u32| {
        let plan = plan(&wish(&spec), &Observed { processors, ..Observed::default() }).unwrap();
        let gateway = StepId::new("start", "sbx-shop");
        let start = plan.steps().iter().find(|step| step.id == gateway).unwrap();
        start.gives_way_to.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(waits_for(0), [""; 0]);
    assert_eq!(waits_for(3), [""; 0]);
    // Not for one that waits for another, one whose secrets the gateway holds, or one that it probes.
    assert_eq!(waits_for(2), ["start sbx-shop.a", "start sbx-shop.b"]);
}

#[test]
fn the_edge_network_makes_do_with_what_is_left() {
    let spec = spec("services: { web: { image: web:1 } }");
    let mut wish = wish(&spec);
    wish.subnets = SubnetPool::parse("10.1.0.0/22").unwrap();
    let taken = vec!["10.1.0.0/24".parse().unwrap(), "10.1.2.128/27".parse().unwrap()];

    let plan = plan(&wish, &Observed { taken, ..Observed::default() }).unwrap();

    let edge = plan.steps().iter().find_map(|step| match &step.op {
        Op::CreateEdge(network) => network.subnets.first().map(|subnet| subnet.subnet.to_string()),
        _ => None,
    });
    assert_eq!(edge.as_deref(), Some("10.1.1.0/24"));
}

#[test]
fn a_shared_group_precedes_its_services_and_changes_without_recreating_them() {
    fn grouped(spec: &Spec) -> DesiredState<'_> {
        DesiredState { group: Some("/docker/sandbox_0123456789ab".to_owned()), ..wish(spec) }
    }
    let limited = |memory: &str| spec(&format!("limits: {{ memory: {memory}, cpus: 1.5 }}\n{SHOP}"));
    let first = limited("256m");
    let observed = with_images(&["postgres:16", "web:1"]);
    let again =
        |spec: &Spec, there| plan(&DesiredState { age: Age::Standing, ..grouped(spec) }, there).unwrap();
    let made = plan(&grouped(&first), &observed).unwrap();
    let limit = made.steps().iter().find(|step| matches!(step.op, Op::Limit { .. })).unwrap();
    assert_eq!(limit.op.to_string(), "set the limit of all services together: 256 MiB of memory, 1.5 cpus");
    for step in made.steps() {
        if let Op::CreateContainer(container) = &step.op {
            assert!(step.needs.contains(&limit.id), "{step}");
            assert_eq!(container.settings.cgroup_parent.as_deref(), Some("/docker/sandbox_0123456789ab"));
            assert_eq!(container.resources.memory, None);
        }
    }

    let there = Observed { limits: Some(first.limits.clone()), ..after(&made, &observed) };
    assert!(again(&first, &there).is_empty());
    for (spec, words) in [(limited("1g"), "together: 1024 MiB of memory"), (spec(SHOP), "together: none")] {
        let change = again(&spec, &there);
        assert!(change.steps().len() == 1 && change.to_string().contains(words), "{change}");
    }
    let divided = plan(&wish(&first), &observed).unwrap();
    assert!(!divided.to_string().contains("of all services together"), "{divided}");
}

#[test]
fn a_range_gives_its_first_free_port_and_spares_fixed_ones() {
    let spec = spec(
        "services:\n  a: { image: \"app:1\", ports: [\"8000-8003:80\"] }\n  b: { image: \"app:1\", ports: [\"8000:80\", \"8001:53/udp\"] }\n",
    );
    let asked = |busy: &[Port]| {
        let observed = Observed { busy_ports: busy.iter().copied().collect(), ..Observed::default() };
        published(&spec, &observed).iter().map(|port| port.asked).collect::<Vec<_>>()
    };
    assert_eq!(asked(&[]), [Some(8001), Some(8000), Some(8001)]);
    assert_eq!(asked(&[Port::tcp(8001)]), [Some(8002), Some(8000), Some(8001)]);
    assert_eq!(asked(&[Port::udp(8001)]), [Some(8001), Some(8000), None]);
    assert_eq!(asked(&[8000, 8001, 8002, 8003].map(Port::tcp)), [None, None, Some(8001)]);
}

#[test]
fn ipv6_is_off_by_default_and_its_subnet_is_unique() {
    let observed = with_images(&["postgres:16", "web:1"]);
    let asking = spec(&format!("{SHOP}\nnetworks: {{ default: {{ enable_ipv6: true }} }}\n"));
    let subnets = |spec: &Spec, wish: DesiredState<'_>| {
        let made = plan(&wish, &observed).unwrap();
        let networks = made.steps().iter().filter_map(|step| match &step.op {
            Op::CreateNetwork(network) => Some((network.ipv6, network.subnets.last()?.subnet)),
            _ => None,
        });
        let [(ipv6, subnet)] = networks.collect::<Vec<_>>()[..] else { panic!("{spec:?}") };
        (ipv6, subnet.to_string())
    };
    let (ipv6, subnet) = subnets(&asking, wish(&asking));
    assert!(ipv6 && subnet.starts_with("fd") && subnet.ends_with("::/64"), "{subnet}");
    assert_eq!(subnets(&asking, wish(&asking)).1, subnet);
    let other = DesiredState { id: "ba9876543210".parse().unwrap(), ..wish(&asking) };
    assert_ne!(subnets(&asking, other).1, subnet);
    assert!(!subnets(&spec(SHOP), wish(&spec(SHOP))).0);

    let there = after(&plan(&wish(&asking), &observed).unwrap(), &observed);
    let without = plan(&standing(&spec(SHOP)), &there).unwrap().to_string();
    assert!(without.contains("remove network `sbx-shop.default`"), "{without}");
    assert!(without.contains("remove container `sbx-shop`"), "the gateway uses it: {without}");
}

#[test]
fn what_stopped_half_way_through_a_remade_network_is_taken_up_whole_and_seeds_nothing_again() {
    let open = spec(&format!("egress: allow\n{SHOP}"));
    let observed = with_images(&["postgres:16", "web:1"]);
    let there = after(&plan(&wish(&open), &observed).unwrap(), &observed);
    // The gateway exists with the desired configuration; the network and the services do not exist yet.
    let mut half = Observed { networks: BTreeMap::new(), containers: BTreeMap::new(), ..there };
    half.gateway.as_mut().unwrap().running = false;
    let text = plan(&standing(&open), &half).unwrap().to_string();
    assert!(text.contains("create gateway container") && text.contains("connect `sbx-shop`"), "{text}");
    assert!(text.contains("create container `sbx-shop.db`"), "{text}");
    assert!(!text.contains("seed `sbx-shop"), "{text}");
}

#[test]
fn a_service_that_has_done_its_work_is_not_run_again_because_its_network_is_remade() {
    let services = "services:\n  once: { image: once }\n  app: { image: app, depends_on: [once] }\n";
    let closed = spec(services);
    let observed = with_images(&["once", "app"]);
    let mut there = after(&plan(&wish(&closed), &observed).unwrap(), &observed);
    let once = there.containers.get_mut("sbx-shop.once").unwrap();
    (once.running, once.exit_code) = (false, Some(0));
    let open = spec(&format!("egress: allow\n{services}"));
    let made = plan(&standing(&open), &there).unwrap();
    let text = made.to_string();
    assert!(text.contains("create container `sbx-shop.app`") && !text.contains("sbx-shop.once"), "{text}");

    // A service stops after its dependents, and the gateway stops last.
    there.containers.get_mut("sbx-shop.once").unwrap().running = true;
    let made = plan(&standing(&open), &there).unwrap();
    let stops = |name: &str| made.steps().iter().find(|step| step.id == StepId::new("stop", name)).unwrap();
    assert!(stops("sbx-shop.once").needs.contains(&StepId::new("stop", "sbx-shop.app")));
    for service in ["sbx-shop.once", "sbx-shop.app"] {
        assert!(stops("sbx-shop").needs.contains(&StepId::new("stop", service)), "{service}");
    }
}

#[test]
fn a_network_whose_egress_widens_is_recreated_with_its_containers() {
    let closed = spec(SHOP);
    let observed = with_images(&["postgres:16", "web:1"]);
    let there = after(&plan(&wish(&closed), &observed).unwrap(), &observed);
    let open = spec(&format!("egress: allow\n{SHOP}"));
    let made = plan(&standing(&open), &there).unwrap();
    insta::assert_snapshot!(made.to_string());
    let unmade = made.steps().iter().find(|step| matches!(step.op, Op::RemoveNetwork { .. })).unwrap();
    for container in ["sbx-shop", "sbx-shop.db", "sbx-shop.web"] {
        assert!(unmade.needs.contains(&StepId::new("remove", container)), "{container}");
    }
    let again = plan(&standing(&open), &after(&made, &there)).unwrap();
    assert!(again.is_empty(), "{again}");

    let listed = spec(&format!("egress: [api.example.org]\n{SHOP}"));
    let text = plan(&standing(&listed), &there).unwrap().to_string();
    assert!(text.contains("its ports, networks or egress have changed"), "{text}");
    assert!(!text.contains("remove network"), "{text}");
}

#[test]
fn a_service_in_the_network_of_another_is_found_at_its_addresses() {
    let spec = spec(
        "services:\n  app: { image: \"app:1\" }\n  aside: { image: \"app:1\", network_mode: \"service:between\" }\n  between: { image: \"app:1\", network_mode: \"service:app\", ready: { tcp: 80 } }\n",
    );
    let claimed = plan(&wish(&spec), &with_images(&["app:1"])).unwrap();
    let told = claimed.steps().iter().find_map(|step| match &step.op {
        Op::Claim(gateway) => {
            gateway_config::GatewayConfig::from_environment(|name| gateway.env.get(name)?.clone()).ok()
        }
        _ => None,
    });
    let services = told.unwrap().services;
    let names: Vec<&str> = services.iter().map(|service| service.service.as_str()).collect();
    assert_eq!(names, ["app", "aside", "between"], "whose address it is comes first");
    assert!(!services[0].addresses.is_empty());
    assert!(services.iter().all(|service| service.addresses == services[0].addresses), "{services:?}");
}

#[test]
fn every_rule_that_a_spec_may_have_is_one_that_the_gateway_is_told() {
    let rules = "[api.example.org, \"*.example.org:8443\", \"*.test\", 10.1.2.3, \"10.1.0.0/16:5432\", \"a_b.example.:25\"]";
    let spec = spec(&format!("egress: {rules}\n{SHOP}"));
    assert_eq!(spec.egress.rules().len(), 6);
}

#[test]
fn only_a_gateway_that_routes_passes_packets_on() {
    let forwards = |egress: &str| {
        let spec = spec(&format!("egress: {egress}\n{SHOP}"));
        let plan = plan(&wish(&spec), &with_images(&["postgres:16", "web:1"])).unwrap();
        plan.steps().iter().find_map(|step| match &step.op {
            Op::Claim(gateway) => gateway.settings.sysctls.get("net.ipv4.ip_forward").cloned(),
            _ => None,
        })
    };
    assert_eq!(forwards("deny").as_deref(), Some("0"));
    assert_eq!(forwards("[api.example.org]").as_deref(), Some("0"));
    assert_eq!(forwards("allow").as_deref(), Some("1"));
}

#[test]
fn a_service_is_awaited_as_the_spec_and_its_image_say() {
    const SERVICES: &str = r#"
services:
  own: { image: "web:1" }
  worker: { image: "web:1", command: [work] }
  published: { image: "plain:1", ports: ["8080:80"] }
  datagrams: { image: "plain:1", ports: ["53/udp"] }
  silent: { image: "web:1", ports: ["80"], ready: none }
  needed: { image: "web:1", command: [serve] }
  user: { image: "plain:1", depends_on: { needed: { condition: service_healthy } } }
  seeded: { image: "web:1", command: [serve], seed: [{ exec: [fill] }] }
"#;
    let spec = spec(SERVICES);
    let engine = Recording::new();
    let web = ImageConfig { exposed: vec!["80/tcp".parse().unwrap()], ..ImageConfig::default() };
    let images = [("web:1", web), ("plain:1", ImageConfig::default())];
    let images = images.into_iter().map(|(name, config)| (name.to_owned(), engine.add_image(name, config)));
    let observed = Observed { images: images.collect(), ..Observed::default() };
    let plan = plan(&wish(&spec), &observed).unwrap().to_string();
    for (service, until) in [
        ("own", "runs (and port 80 accepts, briefly)"),
        ("worker", "runs  #"),
        ("published", "runs (and port 80 accepts, briefly)"),
        ("datagrams", "runs  #"),
        ("silent", "runs  #"),
        ("needed", "is ready (port 80 accepts)"),
        ("seeded", "is ready (port 80 accepts)"),
    ] {
        let line = format!("wait until `sbx-shop.{service}` {until}");
        assert!(plan.contains(&line), "{line}\n{plan}");
    }
}

#[test]
fn containers_are_created_on_a_new_volume_in_the_order_of_their_dependencies() {
    const TWO: &str = "services:\n  a: { image: a, volumes: [\"c:/c\"], depends_on: [b] }\n  b: { image: b, volumes: [\"c:/c\"] }\nvolumes: { c: {} }\n";
    let spec = spec(TWO);
    let plan = plan(&wish(&spec), &with_images(&["a", "b"])).unwrap();
    let create = plan.steps().iter().find(|step| step.id.to_string() == "create sbx-shop.a").unwrap();
    assert!(create.needs.iter().any(|need| need.to_string() == "create sbx-shop.b"), "{plan}");
}

#[test]
fn a_container_that_mounts_a_new_volume_twice_does_not_wait_for_itself() {
    const TWICE: &str =
        "services:\n  a: { image: a, volumes: [\"c:/c\", \"c:/ro:ro\"] }\nvolumes: { c: {} }\n";
    let spec = spec(TWICE);
    let plan = plan(&wish(&spec), &with_images(&["a"])).unwrap();
    for step in plan.steps() {
        assert!(!step.needs.contains(&step.id), "{plan}");
    }
}

mod compose_keys;

#[test]
fn what_an_earlier_plan_did_not_finish_is_made_again() {
    let spec = spec(SHOP);
    let observed = with_images(&["postgres:16", "web:1"]);
    let first = plan(&wish(&spec), &observed).unwrap();
    let there = after(&first, &observed);
    assert!(plan(&standing(&spec), &there).unwrap().is_empty());

    let mut progress = Progress::of(&first, &Unfinished::default());
    let unfinished = progress.unfinished();
    assert_eq!(unfinished.volumes, BTreeSet::from(["data".to_owned()]));
    assert!(unfinished.services.contains("db") && !unfinished.services.contains("web"));
    let again = plan(&DesiredState { unfinished, ..standing(&spec) }, &there).unwrap();
    let ids: Vec<String> = again.steps().iter().map(|step| step.id.to_string()).collect();
    for id in ["remove sbx-shop.db", "remove volume data", "volume data", "create sbx-shop.db", "seed db.0"] {
        assert!(ids.iter().any(|it| it == id), "{id}: {ids:?}");
    }
    assert!(!ids.iter().any(|id| id.contains("sbx-shop.web") && !id.starts_with("await")), "{ids:?}");

    assert!(!progress.done(&StepId::new("start", "sbx-shop.db")));
    assert!(progress.done(&StepId::new("seed", "db.0")));
    assert_eq!(progress.unfinished(), Unfinished::default());
}

#[test]
fn what_a_plan_does_not_make_again_stays_unfinished() {
    let before = Unfinished {
        services: BTreeSet::from(["gone".parse().unwrap()]),
        volumes: BTreeSet::from(["old".to_owned()]),
    };
    assert_eq!(Progress::of(&Plan::default(), &before).unfinished(), before);
}
