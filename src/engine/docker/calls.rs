//! Implements the `Engine` trait by delegating each call to the file of its object.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models as api;
use jiff::Timestamp;

use super::Docker;
use super::failure::call;
use crate::engine::{
    Attached, Attachment, BuildImage, ByteStream, CgroupVersion, Container, ContainerSummary,
    CreateContainer, CreateNetwork, CreateVolume, Engine, EngineInfo, EngineKind, EventStream, Exec,
    ExecSession, Filter, Image, ImportImage, LogOptions, LogStream, Network, ObjectKind, OnBuild, OnPull,
    OnPush, PathStat, PullImage, Result, SecurityOptions, StatsStream, Volume, architecture,
};

impl Docker {
    fn describe(&self, info: api::SystemInfo) -> EngineInfo {
        let options = info.security_options.unwrap_or_default();
        let has = |name: &str| {
            let named = format!("name={name}");
            options.iter().any(|option| option == name || option.split(',').any(|part| part == named))
        };
        let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
        runtimes.sort();
        let os = info.os_type.unwrap_or_default();
        EngineInfo {
            kind: self.kind,
            version: info.server_version.unwrap_or_default(),
            api: self.version,
            location: self.location.clone(),
            name: info.name.unwrap_or_default(),
            buildkit: self.kind == EngineKind::Docker && os == "linux",
            os,
            distribution: info.operating_system.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            arch: architecture(&info.architecture.unwrap_or_default()).to_owned(),
            cpus: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            memory: info.mem_total.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
            storage_driver: info.driver.unwrap_or_default(),
            root_dir: PathBuf::from(info.docker_root_dir.unwrap_or_default()),
            security: SecurityOptions {
                seccomp: has("seccomp"),
                apparmor: has("apparmor"),
                selinux: has("selinux"),
                rootless: has("rootless"),
                userns: has("userns"),
            },
            cgroup: match info.cgroup_version {
                Some(api::SystemInfoCgroupVersionEnum::_2) => CgroupVersion::V2,
                _ => CgroupVersion::V1,
            },
            cgroup_driver: info.cgroup_driver.map(|it| it.to_string()).unwrap_or_default(),
            log_driver: info.logging_driver.unwrap_or_default(),
            nftables: info
                .firewall_backend
                .and_then(|backend| backend.driver)
                .is_some_and(|driver| driver.contains("nftables")),
            live_restore: info.live_restore_enabled.unwrap_or_default(),
            runtimes,
            warnings: info.warnings.unwrap_or_default(),
        }
    }
}

#[async_trait]
impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo> {
        let call = call("ask about", ObjectKind::Engine, self.location.to_string());
        self.api.info().await.map(|info| self.describe(info)).map_err(call.on_failed())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.inspect_image(reference).await
    }

    async fn images(&self, filter: &Filter) -> Result<Vec<Image>> {
        self.list_images(filter).await
    }

    async fn pull_image(&self, pull: &PullImage, progress: OnPull<'_>) -> Result<()> {
        self.pull(pull, progress).await
    }

    async fn push_image(&self, reference: &str, progress: OnPush<'_>) -> Result<()> {
        self.push(reference, progress).await
    }

    async fn build_image(&self, build: &BuildImage, progress: OnBuild<'_>) -> Result<String> {
        self.build(build, progress).await
    }

    async fn import_image(&self, import: &ImportImage, rootfs: ByteStream) -> Result<String> {
        self.import(import, rootfs).await
    }

    async fn save_images(&self, references: &[String]) -> Result<ByteStream> {
        self.save(references).await
    }

    async fn load_images(&self, archive: ByteStream) -> Result<Vec<String>> {
        self.load(archive).await
    }

    async fn tag_image(&self, reference: &str, tag: &str) -> Result<()> {
        self.tag(reference, tag).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.drop_image(reference).await
    }

    async fn create_network(&self, network: &CreateNetwork) -> Result<String> {
        self.make_network(network).await
    }

    async fn networks(&self, filter: &Filter) -> Result<Vec<Network>> {
        self.list_networks(filter).await
    }

    async fn network(&self, name: &str) -> Result<Option<Network>> {
        self.inspect_network(name).await
    }

    async fn connect(&self, container: &str, attachment: &Attachment) -> Result<()> {
        self.attach_to_network(container, attachment).await
    }

    async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        self.detach_from_network(network, container).await
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        self.drop_network(name).await
    }

    async fn create_volume(&self, volume: &CreateVolume) -> Result<Volume> {
        self.make_volume(volume).await
    }

    async fn volumes(&self, filter: &Filter) -> Result<Vec<Volume>> {
        self.list_volumes(filter).await
    }

    async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        self.inspect_volume(name).await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.drop_volume(name).await
    }

    async fn create_container_with_warnings(
        &self,
        container: &CreateContainer,
    ) -> Result<(String, Vec<String>)> {
        self.create(container).await
    }

    async fn start_container(&self, name: &str) -> Result<()> {
        let call = call("start", ObjectKind::Container, name);
        self.patient.start_container(name, None).await.map_err(call.on_failed())
    }

    async fn stop_container(
        &self,
        name: &str,
        signal: Option<&str>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.stop(name, signal, timeout).await
    }

    async fn kill_container(&self, name: &str, signal: &str) -> Result<()> {
        self.kill(name, signal).await
    }

    async fn pause_container(&self, name: &str) -> Result<()> {
        let call = call("pause", ObjectKind::Container, name);
        self.api.pause_container(name).await.map_err(call.on_failed())
    }

    async fn unpause_container(&self, name: &str) -> Result<()> {
        let call = call("unpause", ObjectKind::Container, name);
        self.api.unpause_container(name).await.map_err(call.on_failed())
    }

    async fn restart_container(&self, name: &str, timeout: Option<Duration>) -> Result<()> {
        self.restart(name, timeout).await
    }

    async fn rename_container(&self, name: &str, to: &str) -> Result<()> {
        let call = call("rename", ObjectKind::Container, name);
        let options = bollard::query_parameters::RenameContainerOptions { name: to.to_owned() };
        self.api.rename_container(name, options).await.map_err(call.on_failed())
    }

    async fn remove_container(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        self.remove(name, force, volumes).await
    }

    async fn containers(&self, filter: &Filter) -> Result<Vec<ContainerSummary>> {
        self.list_containers(filter).await
    }

    async fn container(&self, name: &str) -> Result<Option<Container>> {
        self.inspect(name).await
    }

    async fn wait_container(&self, name: &str) -> Result<i64> {
        self.wait(name).await
    }

    async fn logs(&self, name: &str, options: &LogOptions) -> Result<LogStream> {
        self.read_logs(name, options).await
    }

    async fn attach(&self, name: &str) -> Result<Attached> {
        self.attach_container(name).await
    }

    async fn resize_container(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        self.resize(name, rows, columns).await
    }

    async fn stats(&self, name: &str) -> Result<StatsStream> {
        Ok(self.watch_stats(name))
    }

    async fn processes(&self, name: &str) -> Result<Vec<String>> {
        self.command_lines(name).await
    }

    async fn exec(&self, name: &str, exec: &Exec) -> Result<ExecSession> {
        self.start_exec(name, exec).await
    }

    async fn exec_exit_code(&self, id: &str) -> Result<Option<i64>> {
        self.inspect_exec(id).await
    }

    async fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        self.resize_exec(id, rows, columns).await
    }

    async fn upload(&self, container: &str, path: &str, archive: ByteStream) -> Result<()> {
        self.put_archive(container, path, archive).await
    }

    async fn download(&self, container: &str, path: &str) -> Result<ByteStream> {
        self.get_archive(container, path).await
    }

    async fn stat_path(&self, container: &str, path: &str) -> Result<Option<PathStat>> {
        self.stat(container, path).await
    }

    async fn events(&self, filter: &Filter, since: Option<Timestamp>) -> Result<EventStream> {
        self.watch_events(filter, since).await
    }
}
