//! A sandbox changes at random; after each change it is what a fresh sandbox of the same spec is, and each port that stayed
//! kept its address. `SPEC_CHANGES_STEPS` asks for more steps, `SPEC_CHANGES_SEED` for other ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::{self, World, eventually};
use super::{page, served};

/// A generator that gives the same numbers on every machine (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

#[derive(Clone, Default)]
struct Service {
    published: bool,
    value: usize,
    kept: bool,
    back: bool,
    replicas: usize,
    python: bool,
}

#[derive(Clone, Default)]
struct Model(BTreeMap<&'static str, Service>);

const NAMES: [&str; 4] = ["api", "mid", "web", "zoo"];

impl Model {
    fn change(&mut self, dice: &mut Dice) -> String {
        let name = NAMES[dice.roll(NAMES.len())];
        let several = self.0.len() > 1;
        let Some(service) = self.0.get_mut(name) else {
            self.0.insert(name, Service { published: true, replicas: 1, ..Service::default() });
            return format!("add {name}");
        };
        let what = match dice.roll(7) {
            0 if several => {
                self.0.remove(name);
                return format!("remove {name}");
            }
            0 | 1 => {
                service.published ^= true;
                "port"
            }
            2 => {
                service.value += 1;
                "environment"
            }
            3 => {
                service.kept ^= true;
                "volume"
            }
            4 => {
                service.back ^= true;
                "network"
            }
            5 => {
                service.replicas = 3 - service.replicas;
                "replicas"
            }
            _ => {
                service.python ^= true;
                "image"
            }
        };
        format!("change the {what} of {name}")
    }

    fn spec(&self) -> String {
        let mut text = "services:\n".to_owned();
        for (name, service) in &self.0 {
            let mut more = format!("    environment: {{ VALUE: \"{}\" }}\n", service.value);
            let mut say = |line: String| writeln!(more, "    {line}").unwrap();
            say(format!("scale: {}", service.replicas));
            if service.published {
                say("ports: [\"80\"]".to_owned());
            }
            if service.kept {
                say(format!("volumes: [\"{name}-kept:/kept\"]"));
            }
            say(format!("networks: [{}]", if service.back { "default, back" } else { "default" }));
            let page = page(name, &more);
            text += &if service.python {
                page.replace("image: sbx-test/busybox", "image: sbx-test/python")
                    .replace("httpd -f -p 80 -h /www", "python3 -m http.server -d /www 80")
            } else {
                page
            };
        }
        text += "networks: { default: {}";
        if self.0.values().any(|service| service.back) {
            text += ", back: {}";
        }
        text += " }\nvolumes:\n  none-kept: {}\n";
        for (name, _) in self.0.iter().filter(|(_, service)| service.kept) {
            writeln!(text, "  {name}-kept: {{}}").unwrap();
        }
        text
    }
}

/// What the engine and `ps` show of a sandbox, without what is its own: names, identifiers, addresses.
fn portrait(world: &World, name: &str) -> Value {
    let engine = world.engine();
    let prefix = format!("sbx-{name}");
    let own = |object: &&String| **object == prefix || object.starts_with(&format!("{prefix}."));
    let neutral = |value: &Value| value.to_string().replace(name, "NAME").replace(world.name(), "NAME");
    let mut containers = BTreeMap::new();
    for container in engine.containers().iter().filter(own) {
        let seen = engine.inspect(container);
        let pick = |path: &[&str]| path.iter().fold(&seen, |value, key| &value[*key]).clone();
        let mut mounts: Vec<Value> = pick(&["Mounts"]).as_array().into_iter().flatten().cloned().collect();
        mounts.iter_mut().for_each(|mount| mount["Source"] = Value::Null);
        mounts.sort_by_key(|mount| mount["Destination"].to_string());
        let networks = pick(&["NetworkSettings", "Networks"]);
        let networks: BTreeMap<&String, Vec<&Value>> = networks
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, on)| {
                let short = &seen["Id"].as_str().unwrap()[..12];
                let aliases = on["Aliases"].as_array().into_iter().flatten().filter(|it| *it != short);
                (key, aliases.collect())
            })
            .collect();
        let is_gateway = *container == prefix;
        let shown = json!({
            "state": pick(&["State", "Status"]), "mounts": mounts, "networks": networks,
            "command": pick(&["Config", "Cmd"]), "image": if is_gateway { Value::Null } else { pick(&["Config", "Image"]) },
            "environment": if is_gateway { Value::Null } else { pick(&["Config", "Env"]) },
            "capabilities": [pick(&["HostConfig", "CapAdd"]), pick(&["HostConfig", "CapDrop"])],
            "security": pick(&["HostConfig", "SecurityOpt"]), "tmpfs": pick(&["HostConfig", "Tmpfs"]),
            "memory": pick(&["HostConfig", "Memory"]), "pids": pick(&["HostConfig", "PidsLimit"]),
            "published": pick(&["HostConfig", "PortBindings"]).as_object().map_or(0, serde_json::Map::len),
        });
        containers.insert(container.replace(name, "NAME"), neutral(&shown));
    }
    let networks: BTreeMap<String, String> = engine
        .networks()
        .iter()
        .filter(own)
        .map(|network| {
            let seen = engine.inspect(network);
            let shown = json!([seen["Internal"], seen["Options"], seen["EnableIPv6"], shape(&seen)]);
            (network.replace(name, "NAME"), neutral(&shown))
        })
        .collect();
    let published = published(world, name);
    let mut services = world.sandbox(["ps", "--json", "--name", name]).success().json();
    anonymous(&mut services);
    let services = neutral(&services);
    json!({ "containers": containers, "networks": networks, "ps": services, "published": published })
}

/// The number of addresses of each subnet of a network, and of the part that services get theirs from.
fn shape(network: &Value) -> Vec<Value> {
    let subnets = network["IPAM"]["Config"].as_array().into_iter().flatten();
    let length = |net: &Value| net.as_str().and_then(|net| net.split('/').nth(1).map(str::to_owned));
    subnets.map(|subnet| json!([length(&subnet["Subnet"]), length(&subnet["IPRange"])])).collect()
}

/// Which ports of which services and replicas are published, from the gateway's table.
fn published(world: &World, name: &str) -> Vec<String> {
    let gateway = world.engine().inspect(&format!("sbx-{name}"));
    let table = gateway["Config"]["Labels"]["dev.sandbox.ports"].as_str().unwrap_or("[]").to_owned();
    let table: Vec<Value> = serde_json::from_str(&table).unwrap();
    let place = |port: &Value| format!("{} {} {}", port["service"], port["replica"], port["target"]);
    let mut places: Vec<String> = table.iter().map(place).collect();
    places.sort();
    places
}

/// Takes away the host's ports.
fn anonymous(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(anonymous),
        Value::Object(fields) => {
            let keys =
                ["port", "url", "uptime", "started", "created", "since", "ends", "deadline", "id", "folder"];
            fields.retain(|key, _| !keys.contains(&key.as_str()));
            fields.values_mut().for_each(anonymous);
        }
        _ => {}
    }
}

fn addresses(world: &World, model: &Model) -> BTreeMap<(&'static str, usize), SocketAddr> {
    let mut all = BTreeMap::new();
    for (name, service) in model.0.iter().filter(|(_, service)| service.published) {
        for replica in 1..=service.replicas {
            let index = replica.to_string();
            let shown = world.sandbox(["port", name, "80", "--index", &index]).success();
            all.insert((*name, replica), shown.stdout.trim().parse().unwrap());
        }
    }
    all
}

/// Applies the spec: detached, detached after one that was killed on its way, or attached and followed.
fn apply(world: &World, dice: &mut Dice, spec: &str) -> String {
    let how = dice.roll(3);
    if how == 2 {
        let mut session = world.spawn(["up", "--watch"]);
        session.says("watching the spec");
        world.spec(spec);
        eventually("the change is followed", || {
            world.sandbox(["up", "--dry-run"]).stdout.contains("nothing to do")
        });
        session.interrupt();
        session.wait(support::PATIENCE);
        return "watched".to_owned();
    }
    world.spec(spec);
    if how == 1 {
        let mut session = world.spawn(["up", "-d"]);
        std::thread::sleep(Duration::from_millis(100 + 100 * dice.roll(8) as u64));
        session.kill();
    }
    world.up();
    ["detached", "killed"][how].to_owned()
}

/// One verb that works on the sandbox as it stands.
fn use_it(world: &World, dice: &mut Dice) -> String {
    let verb: &[&str] = match dice.roll(5) {
        0 => &["restart"],
        1 => &["reset"],
        2 => {
            world.sandbox(["snapshot", "create", "--crash", "kept"]).success();
            &["snapshot", "rm", "kept"]
        }
        3 => {
            let copy = format!("{}-copy", world.name());
            world.sandbox(["fork", &copy]).success();
            world.sandbox(["down", &copy]).success();
            return "fork".to_owned();
        }
        _ => return "none".to_owned(),
    };
    world.sandbox(verb).success();
    verb.join(" ")
}

#[test]
fn a_sandbox_that_changes_at_random_is_what_a_fresh_one_is() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (steps, seed) = (number("SPEC_CHANGES_STEPS", 5), number("SPEC_CHANGES_SEED", 7));
    let mut dice = Dice(seed);
    let mut model = Model::default();
    model.0.insert("web", Service { published: true, replicas: 1, ..Service::default() });
    let world = World::with_spec(&model.spec());
    world.up();
    let mut before = addresses(&world, &model);
    for step in 1..=steps {
        let mut what: Vec<String> = (0..=dice.roll(2)).map(|_| model.change(&mut dice)).collect();
        what.push(apply(&world, &mut dice, &model.spec()));
        what.push(use_it(&world, &mut dice));
        world.note(&format!("step {step} of seed {seed}: {}", what.join(", ")));

        let now = addresses(&world, &model);
        for (place, address) in &now {
            assert!(
                before.get(place).is_none_or(|it| it == address),
                "step {step}: {what:?}: {place:?} has moved"
            );
            eventually(&format!("{place:?} answers after step {step}: {what:?}"), || {
                served(*address) == place.0
            });
        }
        before = now;

        let fresh = format!("{}-fresh", world.name());
        if dice.roll(2) == 0 {
            world.sandbox(["fork", &fresh]).success();
        } else {
            world.sandbox(["up", "-d", "--name", &fresh]).success();
        }
        let [theirs, ours] = [&fresh, world.name()].map(|name| portrait(&world, name));
        for part in ["containers", "networks", "ps", "published"] {
            assert_eq!(ours[part], theirs[part], "step {step} of seed {seed}: {what:?}");
        }
        world.sandbox(["down", &fresh]).success();
    }
}
