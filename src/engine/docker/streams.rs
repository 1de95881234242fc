//! Calls of the API that stream: logs, commands, archives, events, statistics.

use bollard::models as api;
use bollard::query_parameters as query;
use futures_util::StreamExt;
use hyper::Method;
use jiff::Timestamp;

use super::demux::{self, Framing};
use super::failure::{call, found};
use super::wire::{body_bytes, escape};
use super::{Docker, nonsense, read};
use crate::engine::{
    ApiVersion, Attached, ByteStream, EngineEvent, ErrorKind, EventStream, Exec, ExecSession, Filter,
    LogOptions, LogStream, ObjectKind, PathStat, Result, Stats, StatsStream, Tail,
};

/// The directory bit in a Go file mode.
const GO_DIR: u32 = 1 << 31;

impl Docker {
    /// Whether a container's output is raw or framed.
    async fn framing(&self, name: &str) -> Result<Framing> {
        match self.inspect(name).await? {
            Some(container) if container.tty => Ok(Framing::Raw),
            Some(_) => Ok(Framing::Frames),
            None => Err(call("read the output of", ObjectKind::Container, name)
                .refused(Some(404), "no such container")),
        }
    }

    pub(super) async fn read_logs(&self, name: &str, options: &LogOptions) -> Result<LogStream> {
        let call = call("read the logs of", ObjectKind::Container, name);
        let framing = self.framing(name).await?;
        let mut path =
            format!("/containers/{name}/logs?stdout=1&stderr=1&follow={}", u8::from(options.follow));
        if let Some(since) = options.since {
            path = format!("{path}&since={}", seconds_and_nanos(since));
        }
        if let Some(until) = options.until {
            path = format!("{path}&until={}", seconds_and_nanos(until));
        }
        if let Tail::Lines(lines) = options.tail {
            path = format!("{path}&tail={lines}");
        }
        if options.timestamps {
            path.push_str("&timestamps=1");
        }
        let response = self.wire.get(&path).await.map_err(|error| call.broke(error))?;
        Ok(demux::output(body_bytes(response), framing, call))
    }

    pub(super) async fn attach_container(&self, name: &str) -> Result<Attached> {
        let call = call("attach to", ObjectKind::Container, name);
        let framing = self.framing(name).await?;
        let path = format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        let duplex = self.wire.hijack(&path, String::new()).await.map_err(|error| call.broke(error))?;
        let (input, output) = demux::session(duplex, framing, call);
        Ok(Attached { input, output })
    }

    pub(super) async fn start_exec(&self, name: &str, exec: &Exec) -> Result<ExecSession> {
        let call = call("run a command in", ObjectKind::Container, name);
        let initial = exec.size.filter(|_| exec.tty && self.version >= ApiVersion { major: 1, minor: 42 });
        let config = api::ExecConfig {
            attach_stdin: Some(exec.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            console_size: initial.map(|(rows, columns)| vec![rows.into(), columns.into()]),
            tty: Some(exec.tty),
            env: (!exec.env.is_empty()).then(|| exec.env.iter().map(|(k, v)| format!("{k}={v}")).collect()),
            cmd: Some(exec.cmd.clone()),
            privileged: Some(exec.privileged),
            user: exec.user.clone(),
            working_dir: exec.workdir.clone(),
            ..Default::default()
        };
        let id = self.api.create_exec(name, config).await.map_err(call.clone().on_failed())?.id;
        let mut start = serde_json::json!({ "Detach": false, "Tty": exec.tty });
        if let Some((rows, columns)) = initial {
            start["ConsoleSize"] = serde_json::json!([rows, columns]);
        }
        let duplex = self.wire.hijack(&format!("/exec/{id}/start"), start.to_string()).await;
        let duplex = duplex.map_err(|error| call.broke(error))?;
        if let (Some((rows, columns)), None) = (exec.size, initial) {
            // An older engine ignores the initial size; a command that has already exited does not need one.
            let _ = self.resize_exec(&id, rows, columns).await;
        }
        let framing = if exec.tty { Framing::Raw } else { Framing::Frames };
        let (input, output) = demux::session(duplex, framing, call);
        Ok(ExecSession { id, input, output })
    }

    pub(super) async fn inspect_exec(&self, id: &str) -> Result<Option<i64>> {
        let call = call("look at", ObjectKind::Exec, id);
        let state = self.api.inspect_exec(id).await.map_err(call.on_failed())?;
        Ok(if state.running == Some(true) { None } else { state.exit_code })
    }

    pub(super) async fn resize_exec(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let options = query::ResizeExecOptions { h: rows.into(), w: columns.into() };
        let call = call("resize the terminal of", ObjectKind::Exec, id);
        self.api.resize_exec(id, options).await.map_err(call.on_failed())
    }

    pub(super) async fn resize(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        let options = query::ResizeContainerTTYOptions { h: rows.into(), w: columns.into() };
        let call = call("resize the terminal of", ObjectKind::Container, name);
        self.api.resize_container_tty(name, options).await.map_err(call.on_failed())
    }

    pub(super) async fn put_archive(&self, container: &str, path: &str, archive: ByteStream) -> Result<()> {
        let call = call("upload to", ObjectKind::Container, container);
        let path = format!("/containers/{container}/archive?path={}", escape(path));
        let response = self.wire.send_archive(Method::PUT, &path, archive).await;
        response.map(drop).map_err(|error| call.broke(error))
    }

    pub(super) async fn get_archive(&self, container: &str, path: &str) -> Result<ByteStream> {
        let call = call("download from", ObjectKind::Container, container);
        let path = format!("/containers/{container}/archive?path={}", escape(path));
        Ok(body_bytes(self.wire.get(&path).await.map_err(|error| call.broke(error))?))
    }

    pub(super) async fn stat(&self, container: &str, path: &str) -> Result<Option<PathStat>> {
        let call = call("look into", ObjectKind::Container, container);
        let options = query::ContainerArchiveInfoOptions { path: path.to_owned() };
        let stat = self.api.get_container_archive_info(container, Some(options)).await;
        let stat = found(stat.map_err(call.on_failed()))?;
        Ok(stat.map(|stat| PathStat {
            name: stat.name,
            size: u64::try_from(stat.size).unwrap_or_default(),
            mode: stat.file_mode & 0o777,
            is_dir: stat.file_mode & GO_DIR != 0,
            link_target: Some(stat.link_target).filter(|target| !target.is_empty()),
        }))
    }

    pub(super) fn watch_stats(&self, name: &str) -> StatsStream {
        let call = call("measure", ObjectKind::Container, name);
        let options = query::StatsOptions { stream: true, one_shot: false };
        let samples = self.patient.stats(name, Some(options));
        Box::pin(samples.map(move |sample| sample.map(|s| stats(&s)).map_err(|error| call.failed(error))))
    }

    pub(super) async fn watch_events(
        &self,
        filter: &Filter,
        since: Option<Timestamp>,
    ) -> Result<EventStream> {
        let call = call("watch the events of", ObjectKind::Engine, "");
        let filters = serde_json::to_string(&read::labels_filter(&filter.labels))
            .map_err(|_| nonsense(&call, "sense"))?;
        let mut path = format!("/events?filters={}", escape(&filters));
        if let Some(since) = since {
            path = format!("{path}&since={}", seconds_and_nanos(since));
        }
        let response = self.wire.get(&path).await.map_err(|error| call.broke(error))?;
        let lines = tokio_util::codec::FramedRead::new(
            tokio_util::io::StreamReader::new(body_bytes(response)),
            tokio_util::codec::LinesCodec::new(),
        );
        let names = filter.names.clone();
        let events = lines.filter_map(move |line| {
            let event = match line {
                Ok(line) => serde_json::from_str(&line).ok().and_then(event).map(Ok),
                Err(error) => Some(Err(call.of(ErrorKind::Unreachable, error.to_string()))),
            };
            let wanted = |event: &EngineEvent| names.is_empty() || names.contains(&event.name);
            std::future::ready(event.filter(|event| event.as_ref().map_or(true, wanted)))
        });
        Ok(Box::pin(events))
    }
}

fn seconds_and_nanos(time: Timestamp) -> String {
    format!("{}.{:09}", time.as_second(), time.subsec_nanosecond().max(0))
}

fn event(message: api::EventMessage) -> Option<EngineEvent> {
    use api::EventMessageTypeEnum as T;
    let object = match message.typ? {
        T::CONTAINER => ObjectKind::Container,
        T::NETWORK => ObjectKind::Network,
        T::VOLUME => ObjectKind::Volume,
        T::IMAGE => ObjectKind::Image,
        T::DAEMON => ObjectKind::Engine,
        _ => return None,
    };
    let actor = message.actor?;
    let attributes = read::labels(actor.attributes);
    let id = actor.id.unwrap_or_default();
    let name = attributes.get("name").cloned().unwrap_or_else(|| id.clone());
    let time =
        message.time_nano.map(i128::from).or_else(|| message.time.map(|s| i128::from(s) * 1_000_000_000));
    Some(EngineEvent { time: read::moment(time?)?, object, action: message.action?, id, name, attributes })
}

fn stats(sample: &api::ContainerStatsResponse) -> Stats {
    let total = |stats: Option<&api::ContainerCpuStats>| stats?.cpu_usage.as_ref()?.total_usage;
    let system = |stats: Option<&api::ContainerCpuStats>| stats?.system_cpu_usage;
    let (now, before) = (sample.cpu_stats.as_ref(), sample.precpu_stats.as_ref());
    let used = total(now).unwrap_or_default().saturating_sub(total(before).unwrap_or_default());
    let passed = system(now).unwrap_or_default().saturating_sub(system(before).unwrap_or_default());
    let processors = now.and_then(|stats| stats.online_cpus).unwrap_or(1);
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people to read")]
    let cpus = match system(before) {
        Some(_) if passed > 0 => used as f64 / passed as f64 * f64::from(processors),
        _ => 0.0,
    };
    let memory = sample.memory_stats.clone().unwrap_or_default();
    let cache = memory
        .stats
        .as_ref()
        .and_then(|stats| stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")));
    let networks = sample.networks.clone().unwrap_or_default();
    let sum = |pick: fn(&api::ContainerNetworkStats) -> Option<u64>| networks.values().filter_map(pick).sum();
    let blocks =
        sample.blkio_stats.clone().unwrap_or_default().io_service_bytes_recursive.unwrap_or_default();
    let moved = |way: &str| {
        let entries =
            blocks.iter().filter(|entry| entry.op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(way)));
        entries.filter_map(|entry| entry.value).sum()
    };
    Stats {
        cpus,
        memory: memory.usage.unwrap_or_default().saturating_sub(cache.copied().unwrap_or_default()),
        memory_limit: memory.limit.unwrap_or_default(),
        received: sum(|n| n.rx_bytes),
        sent: sum(|n| n.tx_bytes),
        read: moved("read"),
        written: moved("write"),
        pids: sample.pids_stats.as_ref().and_then(|pids| pids.current).unwrap_or_default(),
    }
}
