//! Implements the `Engine` trait on the in-memory model.

use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::Recording;
use super::exec::PIPE;
use crate::engine::{
    ApiVersion, Attached, Attachment, BuildImage, BuildProgress, ByteStream, CgroupVersion, Container,
    ContainerState, ContainerSummary, CreateContainer, CreateNetwork, CreateVolume, Engine, EngineError,
    EngineInfo, EngineKind, ErrorKind, EventStream, Exec, ExecSession, Filter, Image, ImageConfig,
    ImportImage, Location, LogChunk, LogOptions, LogStream, Network, ObjectKind, OnBuild, OnPull, OnPush,
    PathStat, PullImage, PushProgress, Result, SecurityOptions, Stats, StatsStream, Tail, Volume,
};

fn not_found(operation: &'static str, object: ObjectKind, name: &str) -> EngineError {
    EngineError::new(operation, object, name, ErrorKind::NotFound, format!("no such {object}: {name}"))
}

async fn collect(archive: ByteStream) -> Vec<u8> {
    let pieces: Vec<Bytes> = archive.try_collect().await.unwrap_or_default();
    pieces.concat()
}

fn one(bytes: Vec<u8>) -> ByteStream {
    Box::pin(stream::iter([Ok(Bytes::from(bytes))]))
}

#[async_trait]
impl Engine for Recording {
    async fn info(&self) -> Result<EngineInfo> {
        self.call("ask", ObjectKind::Engine, "info", |_| {
            Ok(EngineInfo {
                kind: EngineKind::Docker,
                version: "26.1.5".into(),
                api: ApiVersion { major: 1, minor: 45 },
                location: Location::Unix("/var/run/docker.sock".into()),
                name: "recording".into(),
                os: "linux".into(),
                distribution: "Debian GNU/Linux 12 (bookworm)".into(),
                kernel: "6.1.0".into(),
                arch: "amd64".into(),
                cpus: 2,
                memory: 8 << 30,
                storage_driver: "overlay2".into(),
                root_dir: "/var/lib/docker".into(),
                security: SecurityOptions { seccomp: true, ..SecurityOptions::default() },
                cgroup: CgroupVersion::V2,
                cgroup_driver: "cgroupfs".into(),
                buildkit: true,
                log_driver: "json-file".into(),
                nftables: false,
                live_restore: false,
                runtimes: vec!["runc".into()],
                warnings: Vec::new(),
            })
        })
        .await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let name = reference.to_owned();
        self.call("inspect", ObjectKind::Image, reference, move |model| Ok(model.image(&name).cloned())).await
    }

    async fn images(&self, filter: &Filter) -> Result<Vec<Image>> {
        let filter = filter.clone();
        self.call("list images", ObjectKind::Engine, "", move |model| {
            let named = |image: &&Image| {
                filter.names.is_empty() || image.tags.iter().any(|tag| filter.names.contains(tag))
            };
            let ours = model.images.iter().filter(|image| filter.matches_labels(&image.config.labels));
            Ok(ours.filter(named).cloned().collect())
        })
        .await
    }

    /// No image can be pulled: the model has no registry.
    async fn pull_image(&self, pull: &PullImage, _progress: OnPull<'_>) -> Result<()> {
        let reference = pull.reference.clone();
        self.call("pull", ObjectKind::Image, &pull.reference, move |_| {
            Err(not_found("pull", ObjectKind::Image, &reference))
        })
        .await
    }

    async fn push_image(&self, reference: &str, progress: OnPush<'_>) -> Result<()> {
        let name = reference.to_owned();
        self.call("push", ObjectKind::Image, reference, move |model| match model.image(&name) {
            Some(_) => Ok(()),
            None => Err(not_found("push", ObjectKind::Image, &name)),
        })
        .await?;
        progress(PushProgress { current: 1 << 20, total: 1 << 20 });
        Ok(())
    }

    async fn build_image(&self, build: &BuildImage, progress: OnBuild<'_>) -> Result<String> {
        let build = build.clone();
        let name = build.tags.first().cloned().unwrap_or_default();
        let id = self
            .call("build", ObjectKind::Image, &name, move |model| {
                let config = ImageConfig { labels: build.labels, ..ImageConfig::default() };
                let tag = build.tags.first().map_or("built:latest", String::as_str);
                Ok(model.add_image(tag, config).id)
            })
            .await?;
        progress(BuildProgress::Step("FROM scratch".into()));
        Ok(id)
    }

    async fn import_image(&self, import: &ImportImage, rootfs: ByteStream) -> Result<String> {
        drop(collect(rootfs).await);
        let import = import.clone();
        let tag = import.tag.clone();
        self.call("import", ObjectKind::Image, &tag, move |model| {
            let config = ImageConfig { labels: import.labels, ..ImageConfig::default() };
            Ok(model.add_image(&import.tag, config).id)
        })
        .await
    }

    async fn save_images(&self, references: &[String]) -> Result<ByteStream> {
        let wanted = references.to_vec();
        let text = self
            .call("save", ObjectKind::Image, &references.join(" "), move |model| {
                match wanted.iter().find(|reference| model.image(reference).is_none()) {
                    Some(missing) => Err(not_found("save", ObjectKind::Image, missing)),
                    None => Ok(wanted.join("\n")),
                }
            })
            .await?;
        Ok(one(text.into_bytes()))
    }

    async fn load_images(&self, archive: ByteStream) -> Result<Vec<String>> {
        let text = String::from_utf8_lossy(&collect(archive).await).into_owned();
        self.call("load", ObjectKind::Image, "", move |model| {
            let names: Vec<String> = text.lines().map(str::to_owned).collect();
            for name in &names {
                model.add_image(name, ImageConfig::default());
            }
            Ok(names)
        })
        .await
    }

    async fn tag_image(&self, reference: &str, tag: &str) -> Result<()> {
        let (reference, tag) = (reference.to_owned(), tag.to_owned());
        let line = format!("{reference} {tag}");
        self.call("tag", ObjectKind::Image, &line, move |model| {
            let id = model.image(&reference).map(|image| image.id.clone());
            let id = id.ok_or_else(|| not_found("tag", ObjectKind::Image, &reference))?;
            for image in &mut model.images {
                image.tags.retain(|other| *other != tag);
                if image.id == id {
                    image.tags.push(tag.clone());
                }
            }
            Ok(())
        })
        .await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let name = reference.to_owned();
        self.call("remove", ObjectKind::Image, reference, move |model| model.remove_image(&name)).await
    }

    async fn create_network(&self, network: &CreateNetwork) -> Result<String> {
        let create = network.clone();
        self.call("create", ObjectKind::Network, &network.name, move |model| model.create_network(&create))
            .await
    }

    async fn networks(&self, filter: &Filter) -> Result<Vec<Network>> {
        let filter = filter.clone();
        self.call("list networks", ObjectKind::Engine, "", move |model| {
            let ours = model.networks.iter().filter(|network| filter.matches(&network.name, &network.labels));
            Ok(ours.cloned().collect())
        })
        .await
    }

    async fn network(&self, name: &str) -> Result<Option<Network>> {
        let wanted = name.to_owned();
        self.call("inspect", ObjectKind::Network, name, move |model| Ok(model.network(&wanted))).await
    }

    async fn connect(&self, container: &str, attachment: &Attachment) -> Result<()> {
        let (container, attachment) = (container.to_owned(), attachment.clone());
        let line = format!("{} {container}", attachment.network);
        self.call("connect", ObjectKind::Network, &line, move |model| model.connect(&container, &attachment))
            .await
    }

    async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        let line = format!("{network} {container}");
        let (network, container) = (network.to_owned(), container.to_owned());
        self.call("disconnect", ObjectKind::Network, &line, move |model| {
            model.disconnect(&network, &container)
        })
        .await
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        let wanted = name.to_owned();
        self.call("remove", ObjectKind::Network, name, move |model| model.remove_network(&wanted)).await
    }

    async fn create_volume(&self, volume: &CreateVolume) -> Result<Volume> {
        let create = volume.clone();
        self.call("create", ObjectKind::Volume, &volume.name, move |model| Ok(model.create_volume(&create)))
            .await
    }

    async fn volumes(&self, filter: &Filter) -> Result<Vec<Volume>> {
        let filter = filter.clone();
        self.call("list volumes", ObjectKind::Engine, "", move |model| {
            let ours = model.volumes.iter().filter(|volume| filter.matches(&volume.name, &volume.labels));
            Ok(ours.cloned().collect())
        })
        .await
    }

    async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        let wanted = name.to_owned();
        self.call("inspect", ObjectKind::Volume, name, move |model| {
            Ok(model.volumes.iter().find(|volume| volume.name == wanted).cloned())
        })
        .await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        let wanted = name.to_owned();
        self.call("remove", ObjectKind::Volume, name, move |model| model.remove_volume(&wanted)).await
    }

    async fn create_container_with_warnings(
        &self,
        container: &CreateContainer,
    ) -> Result<(String, Vec<String>)> {
        let create = container.clone();
        let made = self.call("create", ObjectKind::Container, &container.name, move |model| {
            model.create_container(&create)
        });
        Ok((made.await?, Vec::new()))
    }

    async fn start_container(&self, name: &str) -> Result<()> {
        let wanted = name.to_owned();
        self.call("start", ObjectKind::Container, name, move |model| model.start(&wanted)).await
    }

    async fn stop_container(
        &self,
        name: &str,
        _signal: Option<&str>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let wanted = name.to_owned();
        self.own().stops.insert(name.to_owned(), timeout);
        self.call("stop", ObjectKind::Container, name, move |model| model.stop(&wanted)).await
    }

    async fn kill_container(&self, name: &str, signal: &str) -> Result<()> {
        let (wanted, signal) = (name.to_owned(), signal.to_owned());
        self.call("kill", ObjectKind::Container, name, move |model| model.kill(&wanted, &signal)).await
    }

    async fn pause_container(&self, name: &str) -> Result<()> {
        let wanted = name.to_owned();
        let pause = move |model: &mut super::Model| model.set_state(&wanted, "pause", ContainerState::Paused);
        self.call("pause", ObjectKind::Container, name, pause).await
    }

    async fn unpause_container(&self, name: &str) -> Result<()> {
        let wanted = name.to_owned();
        let resume =
            move |model: &mut super::Model| model.set_state(&wanted, "unpause", ContainerState::Running);
        self.call("unpause", ObjectKind::Container, name, resume).await
    }

    async fn restart_container(&self, name: &str, _timeout: Option<Duration>) -> Result<()> {
        let wanted = name.to_owned();
        let restart = move |model: &mut super::Model| model.stop(&wanted).and_then(|()| model.start(&wanted));
        self.call("restart", ObjectKind::Container, name, restart).await
    }

    async fn rename_container(&self, name: &str, to: &str) -> Result<()> {
        let (wanted, to) = (name.to_owned(), to.to_owned());
        let line = format!("{name} {to}");
        self.call("rename", ObjectKind::Container, &line, move |model| model.rename(&wanted, &to)).await
    }

    async fn remove_container(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        let wanted = name.to_owned();
        let remove = move |model: &mut super::Model| model.remove_container(&wanted, force, volumes);
        self.call("remove", ObjectKind::Container, name, remove).await
    }

    async fn containers(&self, filter: &Filter) -> Result<Vec<ContainerSummary>> {
        let filter = filter.clone();
        self.call("list containers", ObjectKind::Engine, "", move |model| Ok(model.list_containers(&filter)))
            .await
    }

    async fn container(&self, name: &str) -> Result<Option<Container>> {
        let wanted = name.to_owned();
        let look = move |model: &mut super::Model| {
            Ok(model.kept(&wanted, "inspect").ok().map(|kept| kept.seen.clone()))
        };
        self.call("inspect", ObjectKind::Container, name, look).await
    }

    async fn wait_container(&self, name: &str) -> Result<i64> {
        let wanted = name.to_owned();
        let there =
            move |model: &mut super::Model| model.kept(&wanted, "wait for").map(|kept| kept.seen.id.clone());
        let id = self.call("wait for", ObjectKind::Container, name, there).await?;
        self.until(|model| match model.kept(&id, "wait for") {
            Ok(kept) if kept.seen.state.is_alive() => None,
            Ok(kept) => Some(Ok(kept.seen.exit_code.unwrap_or(0))),
            // The container was removed during the wait: the engine returns the exit code of a kill.
            Err(_) => Some(Ok(137)),
        })
        .await
    }

    async fn logs(&self, name: &str, options: &LogOptions) -> Result<LogStream> {
        let (wanted, options_kept) = (name.to_owned(), options.clone());
        let chunks = self
            .call("read logs of", ObjectKind::Container, name, move |model| {
                let logs = &model.kept(&wanted, "read the logs of")?.logs;
                let recent =
                    logs.iter().filter(|(time, _)| options_kept.since.is_none_or(|since| *time >= since));
                let mut chunks: Vec<LogChunk> = recent.map(|(_, chunk)| chunk.clone()).collect();
                if let Tail::Lines(lines) = options_kept.tail {
                    let keep = usize::try_from(lines).unwrap_or(usize::MAX);
                    chunks.drain(..chunks.len().saturating_sub(keep));
                }
                Ok(chunks)
            })
            .await?;
        // The model does not follow: its containers write all output in advance.
        Ok(Box::pin(stream::iter(chunks.into_iter().map(Ok))))
    }

    async fn attach(&self, name: &str) -> Result<Attached> {
        let wanted = name.to_owned();
        self.call("attach to", ObjectKind::Container, name, move |model| {
            model.kept(&wanted, "attach to").map(drop)
        })
        .await?;
        let (input, _) = tokio::io::duplex(PIPE);
        Ok(Attached { input: Box::new(input), output: Box::pin(stream::pending()) })
    }

    async fn resize_container(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        let line = format!("{name} {rows}x{columns}");
        self.call("resize", ObjectKind::Container, &line, |_| Ok(())).await
    }

    async fn stats(&self, name: &str) -> Result<StatsStream> {
        let wanted = name.to_owned();
        self.call("measure", ObjectKind::Container, name, move |model| {
            model.kept(&wanted, "measure").map(drop)
        })
        .await?;
        // One sample per second, like a real engine.
        let second = tokio::time::interval(Duration::from_secs(1));
        let samples = stream::unfold(second, |mut second| async {
            second.tick().await;
            Some((Ok(Stats::default()), second))
        });
        Ok(Box::pin(samples))
    }

    async fn processes(&self, name: &str) -> Result<Vec<String>> {
        let wanted = name.to_owned();
        self.call("list the processes of", ObjectKind::Container, name, move |model| {
            model.kept(&wanted, "list the processes of").map(|_| Vec::new())
        })
        .await
    }

    async fn exec(&self, name: &str, exec: &Exec) -> Result<ExecSession> {
        let wanted = name.to_owned();
        let line = format!("{name}: {}", exec.cmd.join(" "));
        let id = self
            .call("exec in", ObjectKind::Container, &line, move |model| {
                let state = model.kept(&wanted, "run a command in")?.seen.state;
                if state != ContainerState::Running {
                    let words = format!("Container {wanted} is not running");
                    let (object, kind) = (ObjectKind::Container, ErrorKind::Conflict);
                    return Err(EngineError::new("run a command in", object, &wanted, kind, words));
                }
                let id = model.new_id();
                model.execs_shared().lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), None);
                Ok(id)
            })
            .await?;
        let script = self.on_exec.lock().unwrap_or_else(PoisonError::into_inner)(name, exec);
        let (input, stdin) = tokio::io::duplex(PIPE);
        let output = self.perform(id.clone(), script, exec.stdin, stdin);
        Ok(ExecSession { id, input: Box::new(input), output })
    }

    async fn exec_exit_code(&self, id: &str) -> Result<Option<i64>> {
        let wanted = id.to_owned();
        self.call("look at", ObjectKind::Exec, id, move |model| {
            let codes = model.execs_shared();
            let codes = codes.lock().unwrap_or_else(PoisonError::into_inner);
            codes.get(&wanted).copied().ok_or_else(|| not_found("look at", ObjectKind::Exec, &wanted))
        })
        .await
    }

    async fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let line = format!("{id} {rows}x{columns}");
        self.call("resize", ObjectKind::Exec, &line, |_| Ok(())).await
    }

    async fn upload(&self, container: &str, path: &str, archive: ByteStream) -> Result<()> {
        let bytes = collect(archive).await;
        let (name, path) = (container.to_owned(), path.to_owned());
        let line = format!("{container}:{path}");
        self.call("upload to", ObjectKind::Container, &line, move |model| {
            model.kept(&name, "upload to")?;
            model.uploads.push((name, path, bytes));
            Ok(())
        })
        .await
    }

    async fn download(&self, container: &str, path: &str) -> Result<ByteStream> {
        let key = (container.to_owned(), path.to_owned());
        let line = format!("{container}:{path}");
        self.call("download from", ObjectKind::Container, &line, move |model| {
            model.kept(&key.0, "download from")?;
            let bytes = model.downloads.get(&key).cloned();
            bytes.map(one).ok_or_else(|| not_found("download", ObjectKind::Path, &key.1))
        })
        .await
    }

    async fn stat_path(&self, container: &str, path: &str) -> Result<Option<PathStat>> {
        let key = (container.to_owned(), path.to_owned());
        let line = format!("{container}:{path}");
        self.call("look into", ObjectKind::Container, &line, move |model| {
            model.kept(&key.0, "look into")?;
            Ok(model.downloads.get(&key).map(|bytes| PathStat {
                name: key.1.rsplit('/').next().unwrap_or_default().to_owned(),
                size: bytes.len() as u64,
                mode: 0o644,
                is_dir: false,
                link_target: None,
            }))
        })
        .await
    }

    async fn events(&self, filter: &Filter, _since: Option<Timestamp>) -> Result<EventStream> {
        let receiver = self.events.subscribe();
        self.call("watch events", ObjectKind::Engine, "", |_| Ok(())).await?;
        let filter = filter.clone();
        let all = stream::unfold(receiver, |mut receiver| async {
            loop {
                match receiver.recv().await {
                    Ok(event) => return Some((event, receiver)),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let ours =
            all.filter(move |event| std::future::ready(filter.matches(&event.name, &event.attributes)));
        Ok(Box::pin(ours.map(Ok)))
    }
}
