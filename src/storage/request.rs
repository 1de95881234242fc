//! Storage by messages: each call of [`Storage`] as a value that can be sent.
//!
//! The keeper executes requests with [`perform`]; a client wraps a [`Transport`] in [`RemoteStorage`].

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    Detail, Namespace, Pressure, Progress, Published, Result, SetInfo, SetPath, Storage, StorageError,
    StorageKind, Usage, VolumeOptions, VolumePath,
};

/// One call of [`Storage`].
#[expect(missing_docs, reason = "each variant and field is the method and argument of the same name")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "storage", rename_all = "snake_case")]
pub enum Request {
    Create { volume: VolumePath },
    Clone { from: VolumePath, to: VolumePath },
    Replace { from: VolumePath, to: VolumePath },
    Empty { volume: VolumePath },
    Begin,
    Publish { making: SetPath, to: SetPath, manifest: serde_json::Value },
    Note { live: SetPath, manifest: serde_json::Value },
    DeleteSet { set: SetPath },
    DeleteVolume { volume: VolumePath },
    Inspect { set: SetPath },
    List { shelf: Namespace },
    Touch { set: SetPath },
    Usage { detail: Detail },
    Sync,
    Check,
    Recover,
    Mount { volume: VolumePath },
    Progress { to: VolumePath },
}

impl Request {
    /// Whether the request modifies the storage.
    pub fn changes(&self) -> bool {
        match self {
            Self::Create { .. }
            | Self::Clone { .. }
            | Self::Replace { .. }
            | Self::Empty { .. }
            | Self::Begin
            | Self::Publish { .. }
            | Self::DeleteSet { .. }
            | Self::DeleteVolume { .. }
            | Self::Note { .. } => true,
            Self::Inspect { .. }
            | Self::List { .. }
            | Self::Touch { .. }
            | Self::Usage { .. }
            | Self::Sync
            | Self::Check
            | Self::Recover
            | Self::Mount { .. }
            | Self::Progress { .. } => false,
        }
    }
}

/// The reply to a [`Request`].
#[expect(missing_docs, reason = "each variant is the result of the method of the same name")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Set(SetPath),
    Published(Published),
    Info(Option<SetInfo>),
    List(Vec<SetInfo>),
    Usage(Usage),
    Pressure(Pressure),
    Mount(VolumeOptions),
    Progress(Option<Progress>),
}

/// Executes a request on a storage.
pub async fn perform(storage: &dyn Storage, request: Request) -> Result<Reply> {
    Ok(match request {
        Request::Create { volume } => done(storage.create(&volume).await?),
        Request::Clone { from, to } => done(storage.clone_volume(&from, &to).await?),
        Request::Replace { from, to } => done(storage.replace(&from, &to).await?),
        Request::Empty { volume } => done(storage.empty(&volume).await?),
        Request::Begin => Reply::Set(storage.begin().await?),
        Request::Publish { making, to, manifest } => {
            Reply::Published(storage.publish(&making, &to, &manifest).await?)
        }
        Request::Note { live, manifest } => done(storage.note(&live, &manifest).await?),
        Request::DeleteSet { set } => done(storage.delete_set(&set).await?),
        Request::DeleteVolume { volume } => done(storage.delete_volume(&volume).await?),
        Request::Inspect { set } => Reply::Info(storage.inspect(&set).await?),
        Request::List { shelf } => Reply::List(storage.list(shelf).await?),
        Request::Touch { set } => done(storage.touch(&set).await?),
        Request::Usage { detail } => Reply::Usage(storage.usage(detail).await?),
        Request::Sync => done(storage.sync().await?),
        Request::Check => Reply::Pressure(storage.check().await?),
        Request::Recover => done(storage.recover().await?),
        Request::Mount { volume } => Reply::Mount(storage.mount(&volume).await?),
        Request::Progress { to } => Reply::Progress(storage.progress(&to).await?),
    })
}

fn done((): ()) -> Reply {
    Reply::Done
}

/// Sends requests to the keeper.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends a request and waits for the reply.
    async fn carry(&self, request: Request) -> Result<Reply>;
}

/// Storage that is reached through a [`Transport`].
#[derive(Debug, Clone)]
pub struct RemoteStorage<C> {
    kind: StorageKind,
    carrier: C,
}

impl<C: Transport> RemoteStorage<C> {
    /// Storage of a kind (which the keeper reports on connecting) behind a transport.
    pub fn new(kind: StorageKind, carrier: C) -> Self {
        Self { kind, carrier }
    }

    async fn done(&self, request: Request) -> Result<()> {
        match self.carrier.carry(request).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(reply: &Reply) -> StorageError {
    StorageError::Link { cause: format!("an answer of another kind came: {reply:?}") }
}

macro_rules! expect {
    ($self:ident, $request:expr, $variant:ident) => {
        match $self.carrier.carry($request).await? {
            Reply::$variant(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    };
}

#[async_trait]
impl<C: Transport> Storage for RemoteStorage<C> {
    fn kind(&self) -> StorageKind {
        self.kind
    }

    async fn create(&self, volume: &VolumePath) -> Result<()> {
        self.done(Request::Create { volume: volume.clone() }).await
    }

    async fn clone_volume(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        self.done(Request::Clone { from: from.clone(), to: to.clone() }).await
    }

    async fn replace(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        self.done(Request::Replace { from: from.clone(), to: to.clone() }).await
    }

    async fn empty(&self, volume: &VolumePath) -> Result<()> {
        self.done(Request::Empty { volume: volume.clone() }).await
    }

    async fn begin(&self) -> Result<SetPath> {
        expect!(self, Request::Begin, Set)
    }

    async fn publish(
        &self,
        making: &SetPath,
        to: &SetPath,
        manifest: &serde_json::Value,
    ) -> Result<Published> {
        let request = Request::Publish { making: making.clone(), to: to.clone(), manifest: manifest.clone() };
        expect!(self, request, Published)
    }

    async fn note(&self, live: &SetPath, manifest: &serde_json::Value) -> Result<()> {
        self.done(Request::Note { live: live.clone(), manifest: manifest.clone() }).await
    }

    async fn delete_set(&self, set: &SetPath) -> Result<()> {
        self.done(Request::DeleteSet { set: set.clone() }).await
    }

    async fn delete_volume(&self, volume: &VolumePath) -> Result<()> {
        self.done(Request::DeleteVolume { volume: volume.clone() }).await
    }

    async fn inspect(&self, set: &SetPath) -> Result<Option<SetInfo>> {
        expect!(self, Request::Inspect { set: set.clone() }, Info)
    }

    async fn list(&self, shelf: Namespace) -> Result<Vec<SetInfo>> {
        expect!(self, Request::List { shelf }, List)
    }

    async fn touch(&self, set: &SetPath) -> Result<()> {
        self.done(Request::Touch { set: set.clone() }).await
    }

    async fn usage(&self, detail: Detail) -> Result<Usage> {
        expect!(self, Request::Usage { detail }, Usage)
    }

    async fn sync(&self) -> Result<()> {
        self.done(Request::Sync).await
    }

    async fn check(&self) -> Result<Pressure> {
        expect!(self, Request::Check, Pressure)
    }

    async fn recover(&self) -> Result<()> {
        self.done(Request::Recover).await
    }

    async fn mount(&self, volume: &VolumePath) -> Result<VolumeOptions> {
        expect!(self, Request::Mount { volume: volume.clone() }, Mount)
    }

    async fn progress(&self, to: &VolumePath) -> Result<Option<Progress>> {
        expect!(self, Request::Progress { to: to.clone() }, Progress)
    }
}
