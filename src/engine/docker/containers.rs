//! Calls of the API for containers.

use std::time::Duration;

use bollard::query_parameters as query;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::BodyExt;
use hyper::header::CONTENT_TYPE;

use super::failure::{Call, call, found};
use super::wire::{WireError, escape};
use super::{Docker, SOON, create, lenient, nonsense, read};
use crate::engine::{
    Attachment, Container, ContainerSummary, CreateContainer, EngineError, EngineKind, ErrorKind, Filter,
    ObjectKind, Result,
};

/// How long Podman may take to clean up a killed container.
const PODMANS_CLEANUP: Duration = Duration::from_secs(5);
/// The pause between two looks at it.
const PODMANS_PAUSE: Duration = Duration::from_millis(20);

impl Docker {
    pub(super) async fn create(&self, container: &CreateContainer) -> Result<(String, Vec<String>)> {
        if self.kind == EngineKind::Podman {
            self.make_new_volumes(container).await?;
        }
        let call = call("create", ObjectKind::Container, &container.name);
        let body = create::body(container, self.version)
            .map_err(|error| call.of(crate::engine::ErrorKind::Invalid, error.to_string()))?;
        let mut path = format!("/containers/create?name={}", escape(&container.name));
        if let Some(platform) = &container.platform {
            path = format!("{path}&platform={}", escape(platform));
        }
        let answer = self.wire.post_json(&path, &body).await.map_err(|error| {
            let error = call.broke(error);
            if error.is_not_found() && error.cause.0.to_lowercase().contains("no such image") {
                return super::failure::call("use", ObjectKind::Image, &container.image)
                    .refused(Some(404), error.cause.0);
            }
            error
        })?;
        let id = answer["Id"].as_str().ok_or_else(|| nonsense(&call, "an id"))?.to_owned();
        if !create::takes_several_networks(self.version) {
            self.connect_rest(&id, container).await?;
        }
        let warnings = answer["Warnings"].as_array().into_iter().flatten();
        Ok((id, warnings.filter_map(|it| it.as_str()).map(str::to_owned).collect()))
    }

    /// Connects the remaining networks: older engines accept only one on create.
    async fn connect_rest(&self, id: &str, container: &CreateContainer) -> Result<()> {
        for attachment in container.networks.iter().skip(1) {
            if let Err(error) = self.attach_to_network(id, attachment).await {
                // Do not leave a partial container. If removal fails too, its labels still identify it.
                let _ = self.remove(id, true, true).await;
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) async fn attach_to_network(&self, container: &str, attachment: &Attachment) -> Result<()> {
        let request = bollard::models::NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: Some(create::endpoint(attachment)),
        };
        let call = call("connect a container to", ObjectKind::Network, &attachment.network);
        self.api.connect_network(&attachment.network, request).await.map_err(call.on_failed())
    }

    pub(super) async fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        let options = query::RemoveContainerOptions { v: volumes, force, link: false };
        let call = call("remove", ObjectKind::Container, name);
        self.patient.remove_container(name, Some(options)).await.map_err(call.on_failed())
    }

    pub(super) async fn stop(
        &self,
        name: &str,
        signal: Option<&str>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let call = call("stop", ObjectKind::Container, name);
        let t = timeout.map(|timeout| i32::try_from(create::seconds(timeout)).unwrap_or(i32::MAX));
        let Some(signal) = signal else {
            let options = query::StopContainerOptions { signal: None, t };
            return self.patient.stop_container(name, Some(options)).await.map_err(call.on_failed());
        };
        if self.version >= (crate::engine::ApiVersion { major: 1, minor: 42 }) {
            let options = query::StopContainerOptions { signal: Some(signal.to_owned()), t };
            return self.patient.stop_container(name, Some(options)).await.map_err(call.on_failed());
        }
        // An older engine accepts no signal for stop, only the container's own.
        let grace = timeout.unwrap_or(Duration::from_secs(10));
        match self.kill(name, signal).await {
            Ok(()) => {}
            Err(error) if error.cause.0.contains("is not running") => return Ok(()),
            Err(error) => return Err(error),
        }
        if let Ok(outcome) = tokio::time::timeout(grace, self.wait(name)).await {
            return outcome.map(drop);
        }
        let options = query::StopContainerOptions { signal: None, t: Some(0) };
        self.patient.stop_container(name, Some(options)).await.map_err(call.on_failed())
    }

    pub(super) async fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let options = query::KillContainerOptions { signal: signal.to_owned() };
        let call = call("kill", ObjectKind::Container, name);
        self.api.kill_container(name, Some(options)).await.map_err(call.on_failed())?;
        if self.kind == EngineKind::Podman && signal == "SIGKILL" {
            self.await_podmans_cleanup(name).await;
        }
        Ok(())
    }

    /// Waits until Podman has taken a killed container off its networks. If a network is removed before that, its bridge
    /// and its port rules stay on the machine, and the rules take ports from later containers.
    async fn await_podmans_cleanup(&self, name: &str) {
        // Only Podman's own API tells a container that has stopped from one that is cleaned up as well.
        let path = format!("/v4.0.0/libpod/containers/{}/json", escape(name));
        let call = call("inspect", ObjectKind::Container, name);
        let cleaned = async {
            while let Ok(bytes) = self.get_soon(&path, &call).await {
                let state = serde_json::from_slice::<serde_json::Value>(&bytes).unwrap_or_default();
                if !matches!(state["State"]["Status"].as_str(), Some("running" | "stopping" | "stopped")) {
                    break;
                }
                tokio::time::sleep(PODMANS_PAUSE).await;
            }
        };
        // If it takes longer, `doctor` names what is left.
        let _ = tokio::time::timeout(PODMANS_CLEANUP, cleaned).await;
    }

    pub(super) async fn restart(&self, name: &str, timeout: Option<Duration>) -> Result<()> {
        let t = timeout.map(|timeout| i32::try_from(create::seconds(timeout)).unwrap_or(i32::MAX));
        let options = query::RestartContainerOptions { signal: None, t };
        let call = call("restart", ObjectKind::Container, name);
        self.patient.restart_container(name, Some(options)).await.map_err(call.on_failed())
    }

    pub(super) async fn command_lines(&self, name: &str) -> Result<Vec<String>> {
        let call = call("list the processes of", ObjectKind::Container, name);
        // Podman expects column names, Docker the arguments of `ps`, which must include the process ids.
        let columns = if self.kind == EngineKind::Podman { "pid,args" } else { "-eo pid,args" };
        let options = query::TopOptions { ps_args: columns.to_owned() };
        let table = self.api.top_processes(name, Some(options)).await.map_err(call.on_failed())?;
        let lines = table.processes.unwrap_or_default().into_iter();
        Ok(lines.filter_map(|mut columns| columns.pop()).collect())
    }

    pub(super) async fn list_containers(&self, filter: &Filter) -> Result<Vec<ContainerSummary>> {
        let mut filters = read::labels_filter(&filter.labels);
        if !filter.names.is_empty() {
            let exact = |name: &String| format!("^/?{}$", name.replace('.', "\\."));
            filters.insert("name".into(), filter.names.iter().map(exact).collect());
        }
        let call = call("list the containers of", ObjectKind::Engine, "");
        let filters = serde_json::to_string(&filters).unwrap_or_default();
        let path = format!("/containers/json?all={}&filters={}", !filter.only_running, escape(&filters));
        let list = self.get_soon(&path, &call).await?;
        let list = lenient::summaries(&list).map_err(|error| unreadable(&call, &error))?;
        let ours = list
            .into_iter()
            .map(read::summary)
            .filter(|container| filter.matches(&container.name, &container.labels));
        Ok(ours.collect())
    }

    pub(super) async fn inspect(&self, name: &str) -> Result<Option<Container>> {
        let call = call("inspect", ObjectKind::Container, name);
        let Some(bytes) = found(self.get_soon(&format!("/containers/{}/json", escape(name)), &call).await)?
        else {
            return Ok(None);
        };
        lenient::inspection(&bytes)
            .map(|inspected| Some(read::container(inspected)))
            .map_err(|error| unreadable(&call, &error))
    }

    /// Reads a whole reply of a call that even a busy engine answers soon.
    async fn get_soon(&self, path: &str, call: &Call) -> Result<Bytes> {
        let answer = async {
            let response = self.wire.get(path).await?;
            Ok::<_, WireError>(response.into_body().collect().await?.to_bytes())
        };
        tokio::time::timeout(SOON, answer)
            .await
            .map_err(|_| call.of(ErrorKind::Timeout, "the engine did not answer in time"))?
            .map_err(|error| call.broke(error))
    }

    pub(super) async fn wait(&self, name: &str) -> Result<i64> {
        let call = call("wait for", ObjectKind::Container, name);
        let options = query::WaitContainerOptions { condition: "not-running".into() };
        let mut answers = Box::pin(self.patient.wait_container(name, Some(options)));
        match answers.try_next().await {
            Ok(Some(answer)) => Ok(answer.status_code),
            // bollard returns this error for every non-zero exit code.
            Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => Ok(code),
            Ok(None) => Err(nonsense(&call, "an exit code")),
            Err(error) => Err(call.failed(error)),
        }
    }
}

fn unreadable(call: &Call, error: &serde_json::Error) -> EngineError {
    call.of(ErrorKind::Other, format!("the engine's answer cannot be read: {error}"))
}

impl super::Wire {
    pub(super) async fn post_json(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> std::result::Result<serde_json::Value, super::WireError> {
        let say = |error: &dyn std::fmt::Display| super::WireError::Request(error.to_string());
        let request = hyper::Request::builder()
            .method(hyper::Method::POST)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .body(bollard::body_full(body.to_string().into()))
            .map_err(|error| say(&error))?;
        let response = tokio::time::timeout(super::SOON, self.call(request)).await;
        let response = response.map_err(|_| say(&"the engine did not answer in time"))??;
        let bytes = response.into_body().collect().await?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| say(&error))
    }
}
