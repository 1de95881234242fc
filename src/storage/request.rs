//! Storage by messages: each call of [`Storage`] as a value that can be sent.
//!
//! The keeper executes requests with [`perform`]; a client wraps a [`Transport`] in [`RemoteStorage`]. A call is one
//! line of the table below.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    Detail, Namespace, Pressure, Progress, Published, Result, SetInfo, SetPath, Storage, StorageError,
    StorageKind, Usage, VolumeOptions, VolumePath,
};

/// What a call does to the storage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Changes,
}

/// Declares the calls: `EFFECT Variant = method(arguments by reference; argument by value) -> result`.
macro_rules! storage_calls {
    ($(
        $effect:ident $call:ident = $method:ident(
            $($by_ref:ident: &$ref_type:ty),* $(; $by_value:ident: $value_type:ty)?
        ) -> $result:ty,
    )+) => {
        /// One call of [`Storage`].
        #[expect(missing_docs, reason = "each variant and field is the method and argument of the same name")]
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "storage", rename_all = "snake_case")]
        pub enum Request {
            $($call { $($by_ref: $ref_type,)* $($by_value: $value_type,)? },)+
        }

        /// The reply to a [`Request`].
        #[expect(missing_docs, reason = "each variant is the result of the method of the same name")]
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reply {
            $($call($result),)+
        }

        impl Request {
            /// Whether the request modifies the storage.
            pub fn changes(&self) -> bool {
                let effect = match self { $(Self::$call { .. } => Effect::$effect,)+ };
                effect == Effect::Changes
            }
        }

        /// Executes a request on a storage.
        pub async fn perform(storage: &dyn Storage, request: Request) -> Result<Reply> {
            Ok(match request {
                $(Request::$call { $($by_ref,)* $($by_value,)? } => {
                    Reply::$call(storage.$method($(&$by_ref,)* $($by_value,)?).await?)
                })+
            })
        }

        #[async_trait]
        impl<C: Transport> Storage for RemoteStorage<C> {
            fn kind(&self) -> StorageKind {
                self.kind
            }

            $(async fn $method(
                &self,
                $($by_ref: &$ref_type,)*
                $($by_value: $value_type,)?
            ) -> Result<$result> {
                let request = Request::$call { $($by_ref: $by_ref.clone(),)* $($by_value,)? };
                match self.carrier.carry(request).await? {
                    Reply::$call(result) => Ok(result),
                    other => Err(unexpected(&other)),
                }
            })+
        }
    };
}

storage_calls! {
    Changes Create = create(volume: &VolumePath) -> (),
    Changes Clone = clone_volume(from: &VolumePath, to: &VolumePath) -> (),
    Changes Replace = replace(from: &VolumePath, to: &VolumePath) -> (),
    Changes Empty = empty(volume: &VolumePath) -> (),
    Changes Begin = begin() -> SetPath,
    Changes Publish = publish(making: &SetPath, to: &SetPath, manifest: &serde_json::Value) -> Published,
    Changes Note = note(live: &SetPath, manifest: &serde_json::Value) -> (),
    Changes DeleteSet = delete_set(set: &SetPath) -> (),
    Changes DeleteVolume = delete_volume(volume: &VolumePath) -> (),
    Reads Inspect = inspect(set: &SetPath) -> Option<SetInfo>,
    Reads List = list(; shelf: Namespace) -> Vec<SetInfo>,
    Reads Touch = touch(set: &SetPath) -> (),
    Reads Usage = usage(; detail: Detail) -> Usage,
    Reads Sync = sync() -> (),
    Reads Check = check() -> Pressure,
    Reads Recover = recover() -> (),
    Reads Mount = mount(volume: &VolumePath) -> VolumeOptions,
    Reads Progress = progress(to: &VolumePath) -> Option<Progress>,
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
}

fn unexpected(reply: &Reply) -> StorageError {
    StorageError::Link { cause: format!("an answer of another kind came: {reply:?}") }
}
