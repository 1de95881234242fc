//! Credentials for registries.

use std::fmt;

/// The credentials for a registry. They are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryCredentials {
    /// The user's name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// A token that the registry's token service accepts instead.
    pub identity_token: Option<String>,
    /// A token that the registry itself accepts.
    pub registry_token: Option<String>,
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryCredentials(…)")
    }
}
