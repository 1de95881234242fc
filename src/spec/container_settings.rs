//! The Compose keys of a service that a container gets as they are written. One line of the table is the model, the
//! reader, the renderer, the JSON Schema and the rule for merging of such a key; `engine::docker::create` sends it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::Json;
use super::read::Fields;
use super::render::Object;
use super::schema::shape;
use super::units::duration_text;

/// The form of a key's value, which determines how it is merged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Scalar,
    /// A set in the order of writing.
    List,
    /// A mapping, or a list of `NAME=value`; a key without a value counts as a value.
    Map,
}

/// A type of values: it determines how a key is read, rendered and described.
trait Setting: Sized {
    const FORM: Form = Form::Scalar;
    fn read(fields: &Fields<'_>, key: &'static str) -> Self;
    fn render(&self, object: &mut Object, key: &str);
    fn schema(description: &str) -> Json;
}

macro_rules! container_settings {
    ($($key:ident: $type:ty = $description:literal,)+) => {
        /// Keys of a service that its container gets as they are written. `None` and empty mean "not set".
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct ContainerSettings {
            $(#[doc = concat!("`", stringify!($key), "`: ", $description)] pub $key: $type,)+
        }

        impl ContainerSettings {
            pub(super) fn read(fields: &Fields<'_>) -> Self {
                Self { $($key: Setting::read(fields, stringify!($key)),)+ }
            }

            pub(super) fn render(&self, object: &mut Object) {
                $(self.$key.render(object, stringify!($key));)+
            }

            pub(super) fn schema() -> Vec<(&'static str, Json)> {
                vec![$((stringify!($key), <$type as Setting>::schema($description)),)+]
            }
        }

        const FORMS: &[(&str, Form)] = &[$((stringify!($key), <$type as Setting>::FORM),)+];
    };
}

container_settings! {
    working_dir: Option<String> = "The folder it runs in.",
    user: Option<String> = "The user.",
    group_add: Vec<String> = "More groups.",
    hostname: Option<String> = "The host's name.",
    domainname: Option<String> = "The domain's name.",
    annotations: BTreeMap<String, String> = "Annotations.",
    stdin_open: bool = "Keep stdin open.",
    tty: bool = "With a terminal.",
    init: Option<bool> = "With an init process.",
    read_only: bool = "Without writing to its root.",
    privileged: bool = "Host access.",
    cap_add: Vec<String> = "More capabilities.",
    cap_drop: Vec<String> = "Fewer capabilities.",
    security_opt: Vec<String> = "Security options.",
    device_cgroup_rules: Vec<String> = "Host access.",
    cgroup_parent: Option<String> = "Host access.",
    uts: Option<String> = "`host` (host access).",
    userns_mode: Option<String> = "`host` (host access).",
    runtime: Option<String> = "The runtime.",
    isolation: Option<String> = "Windows only.",
    sysctls: BTreeMap<String, String> = "Parameters of the kernel.",
    stop_signal: Option<String> = "The signal that stops it.",
    stop_grace_period: Option<Duration> = "The time it has to stop.",
    cpu_count: Option<i64> = "Windows only.",
    cpu_shares: Option<i64> = "Its weight.",
    cpuset: Option<String> = "Which processors.",
    oom_kill_disable: bool = "Never killed for memory.",
    oom_score_adj: Option<i64> = "From -1000 to 1000.",
    shm_size: Option<u64> = "Its /dev/shm.",
}

/// Whether a key is a list that is merged as a set.
pub(super) fn is_list(key: &str) -> bool {
    FORMS.contains(&(key, Form::List))
}

/// Whether a key is a mapping of texts.
pub(super) fn is_map(key: &str) -> bool {
    FORMS.contains(&(key, Form::Map))
}

/// The keys that are mappings of texts.
pub(super) fn maps() -> impl Iterator<Item = &'static str> {
    FORMS.iter().filter(|(_, form)| *form == Form::Map).map(|(key, _)| *key)
}

impl Setting for Option<String> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Self {
        fields.filled(key)
    }
    fn render(&self, object: &mut Object, key: &str) {
        object.some(key, self.clone());
    }
    fn schema(description: &str) -> Json {
        shape::text(description)
    }
}

impl Setting for bool {
    fn read(fields: &Fields<'_>, key: &'static str) -> Self {
        fields.flag(key).unwrap_or(false)
    }
    fn render(&self, object: &mut Object, key: &str) {
        object.flag(key, *self);
    }
    fn schema(description: &str) -> Json {
        shape::flag(description)
    }
}

impl Setting for Option<bool> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Self {
        fields.flag(key)
    }
    fn render(&self, object: &mut Object, key: &str) {
        object.some(key, *self);
    }
    fn schema(description: &str) -> Json {
        shape::flag(description)
    }
}

impl Setting for Option<i64> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Self {
        fields.int(key)
    }
    fn render(&self, object: &mut Object, key: &str) {
        object.some(key, *self);
    }
    fn schema(description: &str) -> Json {
        shape::int(description)
    }
}

/// A size in bytes.
impl Setting for Option<u64> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Self {
        fields.size(key)
    }
    fn render(&self, object: &mut Object, key: &str) {
        // Compose's JSON treats zero as "not set".
        object.some(key, self.filter(|size| *size > 0).map(|size| size.to_string()));
    }
    fn schema(description: &str) -> Json {
        shape::size(description)
    }
}

impl Setting for Option<Duration> {
    fn read(fields: &Fields<'_>, key: &'static str) -> Self {
        fields.duration(key)
    }
    fn render(&self, object: &mut Object, key: &str) {
        object.some(key, self.map(duration_text));
    }
    fn schema(description: &str) -> Json {
        shape::duration(description)
    }
}

impl Setting for Vec<String> {
    const FORM: Form = Form::List;
    fn read(fields: &Fields<'_>, key: &'static str) -> Self {
        fields.texts(key).unwrap_or_default()
    }
    fn render(&self, object: &mut Object, key: &str) {
        object.texts(key, self);
    }
    fn schema(description: &str) -> Json {
        shape::texts(description)
    }
}

impl Setting for BTreeMap<String, String> {
    const FORM: Form = Form::Map;
    fn read(fields: &Fields<'_>, key: &'static str) -> Self {
        fields.texts_by_name(key)
    }
    fn render(&self, object: &mut Object, key: &str) {
        object.pairs(key, self);
    }
    fn schema(description: &str) -> Json {
        shape::pairs(description)
    }
}
