use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::engine::identity::{self, Role, SandboxId, Scope};
use crate::engine::recording::{Fault, Recording};
use crate::engine::{
    Attachment, CreateContainer, CreateNetwork, CreateVolume, ErrorKind, ImageConfig, Mount, Network,
};

fn labels(name: &str, id: &SandboxId, role: Role) -> BTreeMap<String, String> {
    BTreeMap::from([
        (identity::NAME.to_owned(), name.to_owned()),
        (identity::ID.to_owned(), id.to_string()),
        (identity::ROLE.to_owned(), role.to_string()),
    ])
}

/// Creates a sandbox with a gateway on two networks that holds a secret, two services, a volume and an anonymous one.
async fn build(engine: &Recording, name: &str) -> SandboxId {
    let id = SandboxId::random();
    for key in ["front", "back"] {
        let mut network = CreateNetwork::bridge(identity::network(name, key));
        network.labels = labels(name, &id, Role::Network);
        engine.create_network(&network).await.unwrap();
    }
    let data = identity::volume(name, "data");
    let secret = identity::secrets_volume(name, "db");
    for (volume, role) in [(&data, Role::Volume), (&secret, Role::Secret)] {
        let labels = labels(name, &id, role);
        engine
            .create_volume(&CreateVolume { name: volume.clone(), labels, ..CreateVolume::default() })
            .await
            .unwrap();
    }
    let mut gateway = CreateContainer::new(identity::gateway(name), "app:1");
    gateway.labels = labels(name, &id, Role::Gateway);
    gateway.networks = vec![
        Attachment::new(identity::network(name, "front")),
        Attachment::new(identity::network(name, "back")),
    ];
    gateway.mounts = vec![Mount::volume(&secret, "/s")];
    let mut db = CreateContainer::new(identity::service(name, "db", 1), "app:1");
    db.labels = labels(name, &id, Role::Service);
    db.networks = vec![Attachment::new(identity::network(name, "back"))];
    db.mounts = vec![Mount::volume(&data, "/data"), Mount::volume(&secret, "/run/secrets")];
    let mut web = CreateContainer::new(identity::service(name, "web", 1), "app:1");
    web.labels = labels(name, &id, Role::Service);
    web.networks = vec![Attachment::new(identity::network(name, "front"))];
    for container in [&gateway, &db, &web] {
        engine.create_container(container).await.unwrap();
        engine.start_container(&container.name).await.unwrap();
    }
    id
}

fn engine() -> Arc<Recording> {
    let engine = Recording::new();
    engine.add_image("app:1", ImageConfig { volumes: vec!["/cache".into()], ..ImageConfig::default() });
    engine
}

async fn sweep(engine: &Recording, target: &Target, manner: StopMode) -> Swept {
    destroy(engine, target, manner, &Patience::default(), &NoHooks).await
}

fn all() -> Target {
    Target::sandboxes(&Scope::default())
}

#[tokio::test(start_paused = true)]
async fn everything_of_a_sandbox_goes_and_nothing_of_another() {
    let engine = engine();
    let id = build(&engine, "shop").await;
    build(&engine, "blog").await;
    let before = engine.objects().len();
    let swept = sweep(&engine, &Target::id(&Scope::default(), &id), StopMode::Kill).await;
    assert!(swept.is_clean(), "{:?}", swept.left);
    assert_eq!(swept.removed.len(), 7);
    assert_eq!(engine.objects().len(), before / 2);
    assert!(engine.objects().iter().all(|object| !object.contains("shop")));
    assert!(sweep(&engine, &Target::name(&Scope::default(), "blog"), StopMode::Stop).await.is_clean());
    assert_eq!(engine.objects(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn another_scope_and_what_is_not_ours_stay() {
    let engine = engine();
    let scope: Scope = "other".parse().unwrap();
    let mut theirs = CreateContainer::new("sbx-theirs", "app:1");
    theirs.labels = labels("theirs", &SandboxId::random(), Role::Gateway);
    theirs.labels.insert(identity::SCOPE.into(), scope.to_string());
    engine.create_container(&theirs).await.unwrap();
    engine.create_container(&CreateContainer::new("sbx-stranger", "app:1")).await.unwrap();
    let mut keeper = CreateContainer::new("sandbox-keeper", "app:1");
    keeper.labels = BTreeMap::from([(identity::ROLE.to_owned(), Role::Keeper.to_string())]);
    engine.create_container(&keeper).await.unwrap();
    assert!(sweep(&engine, &all(), StopMode::Kill).await.removed.is_empty());
    assert!(sweep(&engine, &Target::everything(&Scope::default()), StopMode::Kill).await.is_clean());
    assert!(engine.objects().contains(&"container sbx-theirs".to_owned()));
    assert!(engine.objects().contains(&"container sbx-stranger".to_owned()));
    assert!(!engine.objects().contains(&"container sandbox-keeper".to_owned()));
    assert_eq!(sandboxes(&*engine, &scope).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whichever_call_fails_or_stalls_once_nothing_is_left() {
    let faults = [
        Fault::Refuse(ErrorKind::Other),
        Fault::Refuse(ErrorKind::InUse),
        Fault::Refuse(ErrorKind::Unreachable),
        Fault::LoseAnswer,
        Fault::Stall,
        Fault::StallDone,
        Fault::Late { calls: 3 },
    ];
    for manner in [StopMode::Kill, StopMode::Stop] {
        for fault in faults {
            for n in 1.. {
                let engine = engine();
                build(&engine, "shop").await;
                engine.forget_calls();
                engine.fail_at(n, fault);
                let storage = Storage::default();
                let swept = destroy(&*engine, &all(), manner, &Patience::default(), &storage).await;
                assert!(swept.is_clean(), "{fault:?} at {n}: {:?}", swept.left);
                assert_eq!(
                    storage.calls.lock().unwrap().len(),
                    3,
                    "{fault:?} at {n}: volumes and the sandbox, each once"
                );
                assert_eq!(engine.objects(), Vec::<String>::new(), "{fault:?} at {n}");
                if engine.calls().len() < n {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_always_fails_is_named_and_all_else_goes() {
    for object in
        ["container sbx-shop.db", "network sbx-shop.back", "volume sbx-shop.data", "container sbx-shop"]
    {
        let engine = engine();
        build(&engine, "shop").await;
        let line = if object == "container sbx-shop" {
            let gateway = engine.container("sbx-shop").await.unwrap().unwrap();
            format!("remove container {}", gateway.id)
        } else if object.starts_with("container") {
            let db = engine.container("sbx-shop.db").await.unwrap().unwrap();
            format!("remove container {}", db.id)
        } else if object.starts_with("network") {
            format!("remove network {}", engine.network("sbx-shop.back").await.unwrap().unwrap().id)
        } else {
            format!("remove {object}")
        };
        engine.fail_when(&line, usize::MAX, Fault::Refuse(ErrorKind::Other));
        let swept = sweep(&engine, &all(), StopMode::Kill).await;
        let named: Vec<String> =
            swept.left.iter().map(|left| format!("{} {}", left.kind, left.name)).collect();
        assert!(named.contains(&object.to_owned()), "{object}: {named:?}");
        assert!(swept.left.iter().any(|left| left.cause.contains("refused as planned")), "{:?}", swept.left);
        // Objects that depend on the failing one may stay; all others must be removed.
        assert!(engine.objects().len() <= 5, "{:?}", engine.objects());
        engine.heal();
        assert!(sweep(&engine, &all(), StopMode::Kill).await.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_answer_is_said() {
    let engine = engine();
    build(&engine, "shop").await;
    engine.forget_calls();
    engine.fail_from(1, Fault::Refuse(ErrorKind::Unreachable));
    let swept = sweep(&engine, &all(), StopMode::Kill).await;
    assert_eq!(swept.left.len(), 1);
    assert_eq!(swept.left[0].kind, ObjectKind::Engine);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_on_a_network_is_taken_off_it() {
    let engine = engine();
    build(&engine, "shop").await;
    let mut stranger = CreateContainer::new("stranger", "app:1");
    stranger.networks = vec![Attachment::new("sbx-shop.front")];
    engine.create_container(&stranger).await.unwrap();
    engine.start_container("stranger").await.unwrap();
    assert!(sweep(&engine, &all(), StopMode::Kill).await.is_clean());
    assert!(engine.container("stranger").await.unwrap().unwrap().state.is_alive());
}

#[tokio::test(start_paused = true)]
async fn the_gateway_goes_after_all_but_what_it_holds() {
    let engine = engine();
    build(&engine, "shop").await;
    let removed = sweep(&engine, &all(), StopMode::Kill).await.removed;
    let place = |name: &str| removed.iter().position(|(_, removed)| removed == name).unwrap();
    for earlier in ["sbx-shop.db", "sbx-shop.web", "sbx-shop.front", "sbx-shop.back", "sbx-shop.data"] {
        assert!(place(earlier) < place("sbx-shop"), "{removed:?}");
    }
}

#[derive(Default)]
struct Storage {
    calls: Mutex<Vec<String>>,
    fails: bool,
}

#[async_trait]
impl Aftermath for Storage {
    async fn volume_gone(&self, volume: &Volume) -> Result<(), String> {
        self.calls.lock().unwrap().push(volume.name.clone());
        if self.fails { Err("the pool is read-only".into()) } else { Ok(()) }
    }

    async fn sandbox_gone(&self, id: &str) -> Result<(), String> {
        self.calls.lock().unwrap().push(id.to_owned());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn storage_is_told_of_a_volume_only_once_the_engine_has_none() {
    let engine = engine();
    let id = build(&engine, "shop").await;
    engine.fail_when("remove volume sbx-shop.data", 3, Fault::Refuse(ErrorKind::InUse));
    let storage = Storage::default();
    let swept = destroy(&*engine, &all(), StopMode::Kill, &Patience::default(), &storage).await;
    assert!(swept.is_clean());
    assert_eq!(*storage.calls.lock().unwrap(), ["sbx-shop..db.secrets", "sbx-shop.data", id.as_str()]);
    build(&engine, "shop").await;
    let storage = Storage { fails: true, ..Storage::default() };
    let swept = destroy(&*engine, &all(), StopMode::Kill, &Patience::default(), &storage).await;
    assert_eq!(swept.left.len(), 2);
    assert!(swept.left[0].to_string().ends_with("the pool is read-only"));
}

#[tokio::test(start_paused = true)]
async fn a_create_in_flight_is_found_by_the_next_look() {
    let engine = engine();
    let id = build(&engine, "shop").await;
    let mut late = CreateContainer::new("sbx-shop.late", "app:1");
    late.labels = labels("shop", &id, Role::Service);
    engine.forget_calls();
    engine.fail_at(1, Fault::Late { calls: 5 });
    assert!(engine.create_container(&late).await.is_err());
    assert!(sweep(&engine, &all(), StopMode::Kill).await.is_clean());
    assert_eq!(engine.objects(), Vec::<String>::new());
}

/// Listings do not include the containers of a network.
#[test]
fn a_found_network_is_named_by_its_name() {
    let found = ObservedObjects {
        networks: vec![Network {
            id: "1".into(),
            name: "n".into(),
            driver: "bridge".into(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            internal: true,
            ipv6: false,
            subnets: Vec::new(),
            containers: Vec::new(),
            created: None,
        }],
        ..ObservedObjects::default()
    };
    assert_eq!(found.objects().collect::<Vec<_>>(), [(ObjectKind::Network, "n")]);
}
