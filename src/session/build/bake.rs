//! Bakes: runs the seeds once in a hidden sandbox and publishes the volumes as a baseline, which later sandboxes clone.
//!
//! The hidden sandbox is named after the baseline's key, so its name is also the lock: if two clients bake the same
//! key, one bakes and the other waits. It holds a lease as any sandbox does, so a crash publishes nothing and leaves
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::clean_stop::{none_runs, stop_for_good};
use super::converge;
use super::initdb;
use super::observe::{self, Images};
use crate::agent::protocol::{LeaseRequest, Lifetime, Reason};
use crate::data::baseline::{self, BakeSet};
use crate::data::manifest::{ImageIdentity, Manifest};
use crate::data::seed::{self, Inputs};
use crate::data::snapshot;
use crate::engine::identity::{self, Role, SandboxId};
use crate::engine::{Filter, Image};
use crate::plan::{Age, Seeding, VolumeSource, image_reference};
use crate::session::context::Context;
use crate::session::data::from_snapshot;
use crate::session::error::SessionError;
use crate::session::event::{BakeState, Event};
use crate::session::inspect::service_of;
use crate::session::readiness::log_tail::tail;
use crate::session::request::BuildRequest;
use crate::spec::{RestartPolicy, SandboxName, Service, ServiceName, Spec};
use crate::storage::{SetPath, VolumeName};

/// How often to check for a bake that another client runs.
const LOOK: Duration = Duration::from_millis(250);

/// What to do if the baseline is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Bake it.
    Bake,
    /// Run the seeds in the sandbox itself.
    Leave,
}

/// Sets the volumes' data sources from the baseline of the seeds, and bakes it if it is missing. Returns the key, if
/// the spec has a baseline.
///
/// # Errors
/// Fails if a seed or the engine fails; then nothing is published.
pub async fn provide(
    context: &Context,
    order: &mut BuildRequest,
    images: &Images,
    missing: Missing,
    token: &CancellationToken,
) -> Result<Option<SetPath>, SessionError> {
    if order.seeding == Seeding::Done {
        return Ok(None);
    }
    let seeds = from_snapshot::seeds(&order.spec)?;
    // A snapshot file is hashed by its content, so it is not imported yet.
    for seed in seeds.iter().filter(|seed| !seed.is_a_file()) {
        seed.apply(context, order).await?;
    }
    let images = by_service(&order.spec, images);
    let Some(set) = baseline::bake_set(&order.spec, &images) else { return Ok(None) };
    let inputs = digested(&order.spec, &set).await?;
    let counted = Counted { spec: Arc::clone(&order.spec), set, images, inputs };
    let key = counted.key(context, order).await?;
    let set = &counted.set;
    if order.age == Age::Standing {
        tell_other_seeds(context, order, &key).await?;
    }
    let mut found = context.storage.inspect(&key).await?;
    let state = if found.is_some() { BakeState::Found } else { BakeState::Started };
    if found.is_none() {
        for seed in seeds.iter().filter(|seed| seed.is_a_file()) {
            seed.apply(context, order).await?;
        }
        if missing == Missing::Leave {
            return Ok(None);
        }
    }
    if found.is_some() {
        tell(context, &key, set, state);
    } else {
        bake(context, order, &key, &counted, token).await?;
        found = context.storage.inspect(&key).await?;
    }
    let Some(info) = found else {
        return Err(SessionError::UnfitData {
            what: format!("baseline `{key}` was removed meanwhile"),
            hint: None,
        });
    };
    context.storage.touch(&key).await?;
    if let Some(manifest) = Manifest::of(&info) {
        order.values = Arc::new(order.values.keeping(&manifest.secret_values()));
    }
    for volume in info.volumes {
        order.sources.insert(volume.to_string(), VolumeSource::Clone(key.volume(volume)));
    }
    order.seeding = Seeding::Done;
    Ok(Some(key))
}

/// Reports volumes of an existing sandbox whose data came from seeds that have changed since: data is not replaced.
async fn tell_other_seeds(
    context: &Context,
    order: &BuildRequest,
    key: &SetPath,
) -> Result<(), SessionError> {
    let (baseline, ours) = (key.to_string(), Filter::all().label(identity::ID, order.id.as_str()));
    let volumes = context.engine.volumes(&ours).await?;
    let names = volumes.iter().filter_map(|volume| {
        let from = volume.labels.get(identity::FROM).filter(|from| from.starts_with("baseline/"))?;
        volume
            .labels
            .get(identity::KEY)
            .filter(|key| *from != baseline && order.spec.volumes.contains_key(key.as_str()))
    });
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if !names.is_empty() {
        let text = format!("the seeds of {} have changed since its data was made", names.join(", "));
        let hint =
            "`sandbox down` and `sandbox up` use the new ones; the data stays as it is until then".to_owned();
        context.events.emit(Event::Warning { text, hint: Some(hint) });
    }
    Ok(())
}

/// The identities of a spec's images, for a manifest.
pub fn identities(spec: &Spec, images: &BTreeMap<ServiceName, Image>) -> BTreeMap<String, ImageIdentity> {
    spec.services
        .values()
        .filter_map(|service| {
            let image = images.get(&service.name)?;
            let identity = ImageIdentity::of(image_reference(spec, service), image);
            Some((service.name.to_string(), identity))
        })
        .collect()
}

/// The image of each service, as far as the engine has it.
pub async fn images(context: &Context, spec: &Spec) -> Result<BTreeMap<ServiceName, Image>, SessionError> {
    Ok(by_service(spec, &observe::images(&*context.engine, spec).await?))
}

fn by_service(spec: &Spec, images: &Images) -> BTreeMap<ServiceName, Image> {
    let of = |service: &Service| {
        Some((service.name.clone(), images.get(&image_reference(spec, service))?.clone()))
    };
    spec.services.values().filter_map(of).collect()
}

/// The inputs that a baseline's key hashes.
struct Counted {
    spec: Arc<Spec>,
    set: BakeSet,
    images: BTreeMap<ServiceName, Image>,
    /// The digests of the files, computed before the bake.
    inputs: Inputs,
}

impl Counted {
    async fn key(&self, context: &Context, order: &BuildRequest) -> Result<SetPath, SessionError> {
        let mut inputs = self.inputs.clone();
        inputs.extend(order.values.given(&self.spec, &self.set.services));
        for source in order.sources.values() {
            if let VolumeSource::Clone(volume) = source {
                let made = snapshot::identity(&*context.storage, &volume.set).await?;
                inputs.insert(volume.set.to_string(), made);
            }
        }
        Ok(baseline::key(&self.spec, &self.set, &self.images, &inputs, &context.info.arch))
    }

    /// Checks that the files did not change while the data was made, so that the key matches the data.
    async fn is_what_was_read(&self) -> Result<(), SessionError> {
        if !seed::differ(&self.inputs, &digested(&self.spec, &self.set).await?) {
            return Ok(());
        }
        Err(SessionError::InputsChanged)
    }
}

/// Computes the digests of all files that the data depends on.
async fn digested(spec: &Arc<Spec>, set: &BakeSet) -> Result<Inputs, SessionError> {
    let (spec, set) = (Arc::clone(spec), set.clone());
    let digested = tokio::task::spawn_blocking(move || {
        let services = set.services.iter().filter_map(|name| spec.services.get(name));
        let kept = |name: &str| set.volumes.iter().any(|volume| volume.as_str() == name);
        seed::digest_inputs(&spec, services, kept)
    });
    Ok(digested.await??)
}

fn tell(context: &Context, key: &SetPath, set: &BakeSet, state: BakeState) {
    let volumes = set.volumes.iter().map(ToString::to_string).collect();
    context.events.emit(Event::Bake { key: key.name.to_string(), volumes, state });
}

/// Makes a baseline, or waits for another client that makes it.
async fn bake(
    context: &Context,
    order: &BuildRequest,
    key: &SetPath,
    counted: &Counted,
    token: &CancellationToken,
) -> Result<(), SessionError> {
    let set = &counted.set;
    let began = Instant::now();
    let mut awaited = false;
    loop {
        if token.is_cancelled() {
            return Err(SessionError::Cancelled);
        }
        if awaited && context.storage.inspect(key).await?.is_some() {
            break;
        }
        let hidden = hidden(order, key, set)?;
        let terms = LeaseRequest {
            name: hidden.name.clone(),
            sandbox: hidden.id.clone(),
            again: false,
            changing: false,
            client: 0,
            grace: Duration::from_secs(2),
            lifetime: Lifetime::default(),
        };
        let lease = match context.keeper.lease(terms).await {
            Ok(lease) => lease,
            Err(error) if error.is_held() => {
                wait(context, key, set, &mut awaited).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        tell(context, key, set, BakeState::Started);
        let outcome = fill(context, &hidden, key, counted, token).await;
        if matches!(outcome, Ok(()) | Err(SessionError::Held { .. } | SessionError::Cancelled)) {
            lease.release(Reason::SessionEnded).await?;
        } else {
            // The keeper saves the services' logs first.
            let log = format!(
                "`sandbox artifacts {}` has the logs of the services that made the data",
                hidden.name
            );
            context.keeper.destroy(&hidden.name, Reason::Failed).await?;
            context.events.emit(Event::Notice { text: log });
        }
        match outcome {
            Err(SessionError::Held { .. }) => wait(context, key, set, &mut awaited).await,
            outcome => {
                outcome?;
                break;
            }
        }
    }
    tell(context, key, set, BakeState::Done { elapsed: began.elapsed() });
    Ok(())
}

async fn wait(context: &Context, key: &SetPath, set: &BakeSet, awaited: &mut bool) {
    if !*awaited {
        tell(context, key, set, BakeState::Awaited);
    }
    *awaited = true;
    tokio::time::sleep(LOOK).await;
}

/// The hidden sandbox's build request: the services of the bake, without published ports. Services that only own a
/// seeded volume are created but not started, so that their image's files get into it.
fn hidden(order: &BuildRequest, key: &SetPath, set: &BakeSet) -> Result<BuildRequest, SessionError> {
    let mut spec = (*order.spec).clone();
    spec.services.retain(|name, _| set.services.contains(name) || set.made.contains(name));
    for service in spec.services.values_mut() {
        service.ports.clear();
        // A service that ends before its data is complete fails the bake.
        service.restart = Some(RestartPolicy::No);
        service.depends_on.retain(|other, _| set.services.contains(other) || set.made.contains(other));
    }
    let used = |network: &crate::spec::NetworkName| {
        spec.services.values().any(|service| service.networks.contains_key(network))
    };
    let networks = spec.networks.iter().filter(|(name, _)| used(name));
    spec.networks = networks.map(|(name, network)| (name.clone(), network.clone())).collect();
    let name = format!("bake-{}", &key.name.as_str()[..12]);
    let name = SandboxName::new(name)
        .map_err(|error| SessionError::Invalid { what: error.to_string(), hint: None })?;
    Ok(BuildRequest {
        spec: Arc::new(spec),
        name,
        id: SandboxId::random(),
        expires: None,
        only_made: set.made.clone(),
        age: Age::New,
        rebuild: BTreeSet::new(),
        recreate: BTreeSet::new(),
        remove_orphans: false,
        ..order.clone()
    })
}

/// Checks that every service still runs or has completed. A service that failed after it was ready may have left
/// incomplete data, and so may a server that ended while its image initialized the data.
async fn none_has_failed(context: &Context, hidden: &BuildRequest) -> Result<(), SessionError> {
    let BuildRequest { id, spec, .. } = hidden;
    let filter = Filter::all().label(identity::ID, id.as_str()).label(identity::ROLE, Role::Service.as_str());
    for summary in context.engine.containers(&filter).await? {
        let Some(container) = context.engine.container(&summary.name).await? else { continue };
        if container.state.is_alive() || container.started_at.is_none() {
            continue;
        }
        let service = spec.services.get(service_of(&summary));
        let serves = service.is_some_and(|service| service.initdb_mounts().next().is_some());
        if let Some(code) = container.exit_code.filter(|code| *code != 0 || serves) {
            return Err(SessionError::Exited {
                service: service_of(&summary).to_owned(),
                code,
                log: tail(&*context.engine, &summary.name).await,
                waited_for_by: Vec::new(),
                refused: Box::default(),
            });
        }
    }
    Ok(())
}

/// Starts and seeds the hidden sandbox, stops it cleanly and publishes its volumes.
async fn fill(
    context: &Context,
    hidden: &BuildRequest,
    key: &SetPath,
    counted: &Counted,
    token: &CancellationToken,
) -> Result<(), SessionError> {
    let Counted { set, images, .. } = counted;
    converge::raise(context, hidden, token)
        .await
        .map_err(|error| initdb::with_statement(&hidden.spec, error))?;
    none_has_failed(context, hidden).await?;
    let consistency = stop_for_good(context, &hidden.spec, &hidden.name).await?;
    if token.is_cancelled() {
        return Err(SessionError::Cancelled);
    }
    let live = SetPath::live(hidden.id.as_str())?;
    let arch = images.values().next().map_or_else(String::new, |image| image.arch.clone());
    let secrets = hidden.values.generated(&hidden.spec);
    let mut manifest = Manifest::new(arch, consistency).with_secrets(secrets);
    manifest.images = identities(&hidden.spec, images);
    let volumes: Vec<VolumeName> = set.volumes.iter().cloned().collect();
    none_runs(context, &hidden.id).await?;
    counted.is_what_was_read().await?;
    snapshot::take(&*context.storage, &live, &volumes, key, manifest, none_runs(context, &hidden.id)).await?;
    Ok(())
}
