//! Opens a session: connects to the keeper, decides which instance to build or change, and takes the lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::orphans;
use super::run::Session;
use super::user_limits;
use crate::agent::client::{Keeper, KeeperError, Options};
use crate::agent::image;
use crate::agent::protocol::{Extension, LeaseRequest, LeaseStatus, Lifetime, Reason, Standing};
use crate::engine::Engine;
use crate::engine::identity::{self, SandboxId, Scope};
use crate::plan::{Age, AnonymousVolumes, Plan, Seeding};
use crate::session::build::converge;
use crate::session::build::engine_support;
use crate::session::build::host_firewall;
use crate::session::build::limits;
use crate::session::context::{Context, PlanEnvironment, throwaway_seccomp};
use crate::session::data::from_snapshot;
use crate::session::data::secret_files::{Generated, Values};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::session::inspect::{self, ObservedSandbox};
use crate::session::request::BuildRequest;
use crate::session::request::{InstanceChoice, OnFailure, UpOptions};
use crate::session::settings;
use crate::spec::{Durability, EgressPolicy, Loaded, Requirements, SandboxName, Service, ServiceName, Spec};

/// Warns that syncs are slow because the engine does not accept the profile that avoids them.
fn tell_of_syncs(events: &Events, profile: Option<&str>, spec: &Spec) {
    let throwaway = |service: &Service| service.durable.unwrap_or(spec.durable) == Durability::Throwaway;
    if profile.is_none() && spec.services.values().any(throwaway) {
        let text = "this engine takes no seccomp profile from us: what services sync is written to the disk at once, \
                    as with `durable: true`";
        events.emit(Event::Notice { text: text.to_owned() });
    }
}

/// Opens a session on the sandbox that a spec describes.
///
/// # Errors
/// Fails with [`SessionError::Held`] if another session holds the sandbox, or if the engine or the keeper fails.
pub async fn open(
    engine: &Arc<dyn Engine>,
    scope: &Scope,
    loaded: &Loaded,
    opening: &UpOptions,
    events: Events,
) -> Result<Session, SessionError> {
    meet_requirements(&**engine, &loaded.spec).await?;
    let name = opening.name.as_ref().unwrap_or(&loaded.sandbox);
    let options = Options::from_env()?;
    if let InstanceChoice::Numbered { verb } = opening.instance {
        let keeper = Keeper::ensure(engine, options).await?;
        let context = Context::open(engine, scope, keeper, events).await?;
        return open_another(context, name, verb, loaded, opening).await;
    }
    // Connecting to the keeper takes a while, so the engine is observed at the same time.
    let (keeper, observed) = tokio::try_join!(
        async { Keeper::ensure(engine, options).await.map_err(SessionError::from) },
        async { inspect::sandbox(&**engine, scope, name).await.map_err(SessionError::from) },
    )?;
    let context = Context::open(engine, scope, keeper, events).await?;
    open_at(context, observed, loaded, opening).await
}

/// Fails with everything that the spec requires and that is not there.
async fn meet_requirements(engine: &dyn Engine, spec: &Spec) -> Result<(), SessionError> {
    if spec.requires == Requirements::default() {
        return Ok(());
    }
    let checked = inspect::requirements::check(&spec.requires, &engine.info().await?);
    let unmet = checked.into_iter().filter_map(|it| Some((it.found, it.unmet?)));
    let (unmet, ways_out): (Vec<String>, Vec<String>) = unmet.unzip();
    if unmet.is_empty() { Ok(()) } else { Err(SessionError::Requirements { unmet, ways_out }) }
}

/// Maximum number of sandboxes with the same numbered name.
const MOST: u32 = 1000;

/// Opens a session on a new sandbox, named with the first free number.
async fn open_another(
    context: Context,
    base: &SandboxName,
    verb: &str,
    loaded: &Loaded,
    opening: &UpOptions,
) -> Result<Session, SessionError> {
    let known = context.keeper.sandboxes().await?;
    for number in 1..=MOST {
        let name = SandboxName::derive(base.as_str(), Some(&format!("{verb}-{number}")));
        let gateway = identity::gateway(name.as_str());
        let taken = known.iter().any(|standing| standing.name == name)
            || context.engine.container(&gateway).await?.is_some()
            || inspect::sandbox(&*context.engine, &context.scope, &name).await?.is_some();
        if taken {
            continue;
        }
        let opening = UpOptions { name: Some(name), ..opening.clone() };
        match open_at(context.clone(), None, loaded, &opening).await {
            // Another client took this name first.
            Err(SessionError::Held { .. }) => {}
            opened => return opened,
        }
    }
    Err(SessionError::Held { name: base.clone() })
}

/// Opens a session in an existing context, on an observed sandbox.
pub(crate) async fn open_at(
    context: Context,
    observed: Option<ObservedSandbox>,
    loaded: &Loaded,
    opening: &UpOptions,
) -> Result<Session, SessionError> {
    let name = opening.name.clone().unwrap_or_else(|| loaded.sandbox.clone());
    let there = match observed {
        Some(observed) => standing(&context, &name, observed).await?,
        None => None,
    };
    let existed = there.is_some();
    let (there, ends) = there.map(|(there, standing)| (there, standing.ends)).unzip();
    let id = there.as_ref().and_then(|there| there.id.parse().ok()).unwrap_or_else(SandboxId::random);
    let mut order = order(loaded, opening, name, id)?;
    let promised = match ends.flatten().filter(|_| opening.ttl.is_none()) {
        Some(end) => context
            .keeper
            .declared(&order.id)
            .await?
            .and_then(|before| (before.spec.lifetime == order.spec.lifetime).then_some(end)),
        None => None,
    };
    if let Some(there) = there.as_ref().filter(|_| !opening.services.is_empty()) {
        orphans::keep(&context, &mut order, there).await?;
    }
    narrow(&mut order, &opening.services, there.as_ref());
    if let Some(from) = &opening.from {
        from_snapshot::from_set(&context, &mut order, from, opening.drift).await?;
    }
    if existed {
        order.age = Age::Standing;
    }
    let session = begin(context, order, existed).await?;
    if let (true, Some(until)) = (existed, opening.ttl.and_then(from_now)) {
        session.context.keeper.extend(&session.order.name, Extension::To(until)).await?;
    }
    let (on_failure, artifacts) = (opening.on_failure, opening.artifacts.clone());
    Ok(Session { promised, on_failure, artifacts, ..session })
}

/// The build request of a running sandbox whose spec has changed.
///
/// # Errors
/// Fails if a secret or config has no value, or if an option is invalid.
pub async fn again(
    context: &Context,
    loaded: &Loaded,
    opening: &UpOptions,
    before: &BuildRequest,
) -> Result<BuildRequest, SessionError> {
    host_firewall::admit(&context.info, &loaded.spec)?;
    let mut order = order(loaded, opening, before.name.clone(), before.id.clone())?;
    let there = inspect::sandbox(&*context.engine, &context.scope, &order.name).await?;
    if let Some(there) = there.as_ref().filter(|_| !opening.services.is_empty()) {
        orphans::keep(context, &mut order, there).await?;
    }
    narrow(&mut order, &opening.services, there.as_ref());
    if let Some(from) = &opening.from {
        from_snapshot::from_set(context, &mut order, from, opening.drift).await?;
    }
    let held = before.values.generated(&before.spec);
    Ok(BuildRequest {
        values: Arc::new(order.values.keeping(&held)),
        expires: before.expires,
        age: Age::Standing,
        rebuild: BTreeSet::new(),
        recreate: BTreeSet::new(),
        anonymous_volumes: AnonymousVolumes::Kept,
        ..order
    })
}

/// Takes the lease on a sandbox that is about to be built.
///
/// # Errors
/// Fails with [`SessionError::Held`] if another session holds it, or if the keeper fails.
pub async fn begin(context: Context, order: BuildRequest, existed: bool) -> Result<Session, SessionError> {
    if !existed {
        user_limits::admit(&context, &order.name, &order.spec).await?;
    }
    limits::tell(&context.events, &context.info, &order.spec, &context.limiter);
    engine_support::check(&context.events, &context.info, &order.spec)?;
    host_firewall::admit(&context.info, &order.spec)?;
    host_firewall::tell_of_ipv6(&context.events, &context.info, &order.spec);
    tell_of_syncs(&context.events, context.throwaway_seccomp.as_deref(), &order.spec);
    let deadline = order.expires;
    let terms = LeaseRequest {
        name: order.name.clone(),
        sandbox: order.id.clone(),
        again: existed,
        changing: existed,
        client: 0,
        grace: order.spec.lifetime.grace(),
        lifetime: Lifetime { until: deadline, idle: order.spec.lifetime.idle, ..Lifetime::default() },
    };
    let lease = context.keeper.lease(terms).await.map_err(|error| {
        if error.is_held() { SessionError::Held { name: order.name.clone() } } else { error.into() }
    })?;
    context.events.emit(Event::Started {
        name: order.name.to_string(),
        id: order.id.to_string(),
        services: order.spec.services.keys().map(ToString::to_string).collect(),
    });
    let deadline = deadline.filter(|_| !existed);
    Ok(Session {
        context,
        order,
        lease,
        deadline,
        existed,
        promised: None,
        on_failure: OnFailure::default(),
        artifacts: None,
    })
}

/// A build request that is only baked for, not built.
///
/// # Errors
/// Fails if a secret or config has no value, or if an option is invalid.
pub fn order_of(loaded: &Loaded, opening: &UpOptions) -> Result<BuildRequest, SessionError> {
    order(loaded, opening, loaded.sandbox.clone(), SandboxId::random())
}

/// The plan that [`open`] and the session would execute. Creates nothing, not even a keeper.
///
/// # Errors
/// Fails if the engine does not answer or no plan can be made.
pub async fn dry_run(
    engine: &Arc<dyn Engine>,
    scope: &Scope,
    loaded: &Loaded,
    opening: &UpOptions,
) -> Result<Plan, SessionError> {
    let name = opening.name.clone().unwrap_or_else(|| loaded.sandbox.clone());
    meet_requirements(&**engine, &loaded.spec).await?;
    let observed = inspect::sandbox(&**engine, scope, &name).await?;
    let id = observed.as_ref().and_then(|one| one.id.parse().ok()).unwrap_or_else(SandboxId::random);
    let info = engine.info().await?;
    let payload = image::payload(&**engine, &info.arch, None).await.map_err(KeeperError::from)?;
    let mut order = order(loaded, opening, name, id)?;
    narrow(&mut order, &opening.services, observed.as_ref());
    if observed.is_some() {
        order.age = Age::Standing;
    }
    let seccomp = throwaway_seccomp(&info);
    let subnets = settings::subnets()?;
    let (group, limited) = limits::foresee(engine, &info, scope, &order.id).await?;
    let means = PlanEnvironment {
        info: &info,
        scope,
        subnets: &subnets,
        agent_image: &payload.reference(),
        throwaway_seccomp: seccomp.as_ref(),
        group,
    };
    converge::dry_run(&**engine, &means, limited, &order).await
}

/// The detached instance of this name that `up` would change; `None` if it creates a new one. First destroys the
/// remains of an instance without a lease.
async fn standing(
    context: &Context,
    name: &SandboxName,
    observed: ObservedSandbox,
) -> Result<Option<(ObservedSandbox, Standing)>, SessionError> {
    let standing = context.keeper.sandboxes().await?.into_iter().find(|standing| standing.name == *name);
    match standing.map(|standing| (standing.hold, standing)) {
        Some((LeaseStatus::Held | LeaseStatus::Suspended, _)) => {
            Err(SessionError::Held { name: name.clone() })
        }
        Some((LeaseStatus::Detached, standing)) if observed.id == standing.sandbox.as_str() => {
            Ok(Some((observed, standing)))
        }
        _ => match context.keeper.destroy(name, Reason::Replaced).await {
            Ok(destroyed) if destroyed.left.is_empty() => Ok(None),
            Ok(destroyed) => Err(SessionError::LeftBehind {
                name: name.clone(),
                left: destroyed.left.iter().map(ToString::to_string).collect(),
            }),
            // It was removed since it was observed.
            Err(error) if error.is_no_such_sandbox() => Ok(None),
            Err(error) => Err(error.into()),
        },
    }
}

fn order(
    loaded: &Loaded,
    opening: &UpOptions,
    name: SandboxName,
    id: SandboxId,
) -> Result<BuildRequest, SessionError> {
    let mut spec = loaded.spec.clone();
    if let Some(policy) = &opening.egress {
        spec.egress = egress(policy)?;
    }
    let ttl = opening.ttl.or(spec.lifetime.ttl);
    let services: BTreeSet<_> = spec.services.keys().cloned().collect();
    let built = spec.services.values().filter(|service| service.build().is_some());
    let rebuild = built.map(|service| service.name.clone()).filter(|_| opening.rebuild).collect();
    Ok(BuildRequest {
        values: Arc::new(Values::resolve(loaded, &Generated::new())?),
        spec: Arc::new(spec),
        name,
        id,
        expires: ttl.and_then(from_now),
        sources: BTreeMap::new(),
        made_with: BTreeMap::new(),
        seeding: Seeding::Run,
        age: Age::New,
        rebuild,
        recreate: if opening.recreate { services.clone() } else { BTreeSet::new() },
        anonymous_volumes: opening.anonymous_volumes,
        only_made: if opening.only_create { services } else { BTreeSet::new() },
        remove_orphans: opening.services.is_empty(),
        patience: opening.patience,
        ports: opening.ports,
    })
}

/// Reduces the build request to the requested services, their dependencies and the existing services, and to the
/// networks of these.
fn narrow(order: &mut BuildRequest, asked: &[String], there: Option<&ObservedSandbox>) {
    if asked.is_empty() {
        return;
    }
    let mut spec = (*order.spec).clone();
    let there = there.into_iter().flat_map(|observed| &observed.services);
    let there = there.filter_map(|container| container.labels.get(identity::SERVICE));
    let mut named: Vec<String> = asked.iter().chain(there).cloned().collect();
    let mut wanted = BTreeSet::new();
    while let Some(name) = named.pop() {
        if let Some(service) = spec.services.get(name.as_str())
            && wanted.insert(service.name.clone())
        {
            named.extend(service.depends_on.keys().map(ToString::to_string));
        }
    }
    let mut needed: Vec<ServiceName> = wanted.iter().cloned().collect();
    while let Some(name) = needed.pop() {
        let Some(build) = spec.services.get(&name).and_then(Service::build) else { continue };
        let contexts = build.service_contexts().filter(|name| !wanted.contains(*name));
        let contexts = contexts.filter_map(|name| spec.services.get(name).cloned()).collect::<Vec<_>>();
        for service in contexts {
            if !spec.build_only.contains_key(&service.name) {
                needed.push(service.name.clone());
                spec.build_only.insert(service.name.clone(), service);
            }
        }
    }
    spec.services.retain(|name, _| wanted.contains(name));
    let services = &spec.services;
    spec.networks.retain(|name, _| services.values().any(|service| service.networks.contains_key(name)));
    order.spec = Arc::new(spec);
}

/// The time after this duration.
pub fn from_now(length: Duration) -> Option<Timestamp> {
    Timestamp::now().checked_add(SignedDuration::try_from(length).ok()?).ok()
}

fn egress(written: &str) -> Result<EgressPolicy, SessionError> {
    written.parse().map_err(|problem| SessionError::Invalid {
        what: format!("--egress: {problem}"),
        hint: Some(
            "deny, allow, or names and addresses: api.example.com,*.npmjs.org,10.1.2.3:5432".to_owned(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, LoadRequest};

    #[test]
    fn that_syncs_have_their_price_is_told_where_the_spec_does_not_ask_for_it() {
        let told = |durable: bool, profile: Option<&str>| {
            let folder = tempfile::tempdir().unwrap();
            let text = format!("services: {{ db: {{ image: db, durable: {durable} }} }}");
            std::fs::write(folder.path().join("sandbox.yaml"), text).unwrap();
            let request = LoadRequest { folder: folder.path().to_owned(), ..LoadRequest::default() };
            let (events, mut heard) = Events::channel();
            tell_of_syncs(&events, profile, &spec::load(&request).unwrap().spec);
            heard.try_recv()
        };
        assert!(matches!(told(false, None), Some(Event::Notice { .. })));
        assert_eq!(told(true, None), None);
        assert_eq!(told(false, Some("{}")), None);
    }
}
