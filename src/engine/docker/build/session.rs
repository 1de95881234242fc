//! Serves BuildKit's requests during a build: registry credentials, secrets, and the user's SSH agent.
//!
//! `POST /session` reverses the roles on a connection: the engine becomes the gRPC client of the services in this
//! file. bollard has such services as well, but offers secrets and SSH keys only with a build call that has no output
//! and holds the whole context in memory.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::pin::Pin;

use bollard::auth::DockerCredentials;
use bollard::health::health_check_response::ServingStatus;
use bollard::health::health_server::{Health, HealthServer};
use bollard::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use bollard::moby::sshforward::v1::ssh_server::{Ssh, SshServer};
use bollard::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::{Request, Response, Status, Streaming};

use crate::engine::docker::wire::{Wire, WireError};

/// Maximum size of a secret in bytes (BuildKit's limit).
pub(super) const LARGEST_SECRET: usize = 500 * 1024;
/// Bytes per read from the agent's socket.
const PIECE: usize = 16 * 1024;
/// Buffer size in bytes between the engine's connection and the services.
const BUFFER: usize = 64 * 1024;
/// The agent id that `RUN --mount=type=ssh` uses without an id.
const DEFAULT_AGENT: &str = "default";

/// Secrets and agents that a build may request.
#[derive(Default)]
pub(super) struct Provided {
    pub credentials: HashMap<String, DockerCredentials>,
    /// Secret values by their id in the Dockerfile.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Agent sockets by their id in the Dockerfile.
    pub agents: BTreeMap<String, PathBuf>,
}

/// A session of a build; the services stop when it is dropped.
pub(super) struct Session {
    pub id: String,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Session {
    /// Opens a session on the engine and starts serving it.
    pub(super) async fn open(wire: &Wire, provided: Provided) -> Result<Self, WireError> {
        let id = format!("sandbox-{}", hex::encode(rand::random::<[u8; 12]>()));
        let mut headers = vec![("X-Docker-Expose-Session-Uuid", id.clone())];
        let methods = [
            "/grpc.health.v1.Health/Check",
            "/moby.filesync.v1.Auth/Credentials",
            "/moby.buildkit.secrets.v1.Secrets/GetSecret",
        ];
        let ssh = ["/moby.sshforward.v1.SSH/CheckAgent", "/moby.sshforward.v1.SSH/ForwardAgent"];
        let ssh = ssh.into_iter().filter(|_| !provided.agents.is_empty());
        let methods = methods.into_iter().chain(ssh);
        headers.extend(methods.map(|method| ("X-Docker-Expose-Session-Grpc-Method", method.to_owned())));
        let mut engine = wire.upgrade("/session", "h2c", &headers).await?;
        // The server accepts only a few connection types.
        let (ours, mut theirs) = tokio::io::duplex(BUFFER);
        let router = tonic::transport::Server::builder()
            .add_service(HealthServer::new(Alive))
            .add_service(AuthServer::new(Credentials(provided.credentials)))
            .add_service(SecretsServer::new(Values(provided.secrets)))
            .add_service(SshServer::new(Agents(provided.agents)));
        let server = tokio::spawn(async move {
            let connection = futures_util::stream::iter([Ok::<_, std::io::Error>(ours)]);
            let served = router.serve_with_incoming(connection);
            let (served, carried) =
                tokio::join!(served, tokio::io::copy_bidirectional(&mut engine, &mut theirs));
            tracing::debug!(?served, ?carried, "a build's session ended");
        });
        Ok(Self { id, server })
    }
}

struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("one service only"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask with Check"))
    }
}

struct Credentials(HashMap<String, DockerCredentials>);

/// The status for a service that is not offered; the engine then fetches tokens itself.
fn not_offered() -> Status {
    Status::unimplemented("only credentials are offered")
}

#[tonic::async_trait]
impl Auth for Credentials {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        // Docker Hub has two host names.
        let host = if host == "registry-1.docker.io" { "https://index.docker.io/v1/" } else { &host };
        let known = self.0.get(host).cloned().unwrap_or_default();
        let answer = match known.identitytoken {
            Some(token) => CredentialsResponse { username: String::new(), secret: token },
            None => CredentialsResponse {
                username: known.username.unwrap_or_default(),
                secret: known.password.unwrap_or_default(),
            },
        };
        Ok(Response::new(answer))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(not_offered())
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(not_offered())
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(not_offered())
    }
}

struct Values(BTreeMap<String, Vec<u8>>);

#[tonic::async_trait]
impl Secrets for Values {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        match self.0.get(&id) {
            Some(data) => Ok(Response::new(GetSecretResponse { data: data.clone() })),
            None => Err(Status::not_found(format!("the build has no secret `{id}`"))),
        }
    }
}

struct Agents(BTreeMap<String, PathBuf>);

impl Agents {
    fn socket(&self, id: &str) -> Result<&PathBuf, Status> {
        let id = if id.is_empty() { DEFAULT_AGENT } else { id };
        self.0.get(id).ok_or_else(|| Status::not_found(format!("the build has no SSH agent `{id}`")))
    }
}

#[tonic::async_trait]
impl Ssh for Agents {
    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.socket(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id =
            request.metadata().get("buildkit.ssh.id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let agent = UnixStream::connect(self.socket(id)?).await;
        let (read, mut write) =
            agent.map_err(|error| Status::unavailable(format!("the SSH agent: {error}")))?.into_split();
        let mut asked = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(message)) = asked.next().await {
                if write.write_all(&message.data).await.is_err() {
                    break;
                }
            }
        });
        let answers = futures_util::stream::unfold(read, |mut read| async {
            let mut data = vec![0; PIECE];
            match read.read(&mut data).await {
                Ok(0) => None,
                Ok(length) => {
                    data.truncate(length);
                    Some((Ok(BytesMessage { data }), read))
                }
                Err(error) => Some((Err(Status::unavailable(error.to_string())), read)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
