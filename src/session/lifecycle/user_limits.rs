//! Limits in the user's settings for all sandboxes together.

use crate::session::context::Context;
use crate::session::error::SessionError;
use crate::session::inspect::{self, ObservedSandbox};
use crate::session::settings;
use crate::spec::{SandboxName, Settings, Spec};

/// Rejects a new sandbox if it would exceed the limits in the user's settings.
///
/// # Errors
/// [`SessionError::Limit`] with the limit, its current use, and the settings file.
pub(crate) async fn admit(context: &Context, name: &SandboxName, spec: &Spec) -> Result<(), SessionError> {
    let settings = settings::load()?;
    if settings.max_sandboxes.is_none() && settings.max_memory.is_none() {
        return Ok(());
    }
    let mut others = inspect::sandboxes(&*context.engine, &context.scope).await?;
    others.retain(|other| other.name != name.as_str());
    let mut used = 0;
    if settings.max_memory.is_some() {
        for id in others.iter().filter_map(|other| other.id.parse().ok()) {
            used += context.keeper.declared(&id).await?.and_then(|it| it.spec.memory_limit()).unwrap_or(0);
        }
    }
    judge(&settings, &others, used, spec).map_err(|reason| SessionError::Limit {
        reason: format!("{reason} (`{}`)", settings::path().display()),
    })
}

/// `used`: the maximum memory of the other sandboxes.
fn judge(settings: &Settings, others: &[ObservedSandbox], used: u64, spec: &Spec) -> Result<(), String> {
    if let Some(most) = settings.max_sandboxes
        && others.len() >= most
    {
        let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
        return Err(format!("max_sandboxes is {most}, and there are {}: {}", names.len(), names.join(", ")));
    }
    let Some(most) = settings.max_memory else { return Ok(()) };
    let Some(wanted) = spec.memory_limit() else {
        return Err(format!(
            "max_memory is {}, and the spec does not say how much it uses at most: write `limits: {{ memory: … }}`",
            mebibytes(most)
        ));
    };
    if used + wanted > most {
        return Err(format!(
            "max_memory is {}: {} are taken, and this sandbox may use {}",
            mebibytes(most),
            mebibytes(used),
            mebibytes(wanted)
        ));
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Service, ServiceName};

    fn spec(memory: Option<u64>) -> Spec {
        let mut spec = Spec::new("shop".parse().unwrap(), std::path::Path::new("/shop"));
        spec.limits.memory = memory;
        let name = ServiceName::new("web").unwrap();
        spec.services.insert(name.clone(), Service::new(name, "web"));
        spec
    }

    #[test]
    fn one_sandbox_more_than_set_is_refused_with_the_names_of_the_others() {
        let settings = Settings { max_sandboxes: Some(1), ..Settings::default() };
        assert_eq!(judge(&settings, &[], 0, &spec(None)), Ok(()));
        let other = ObservedSandbox { name: "other".to_owned(), ..ObservedSandbox::default() };
        let reason = judge(&settings, &[other], 0, &spec(None)).unwrap_err();
        assert!(reason.contains("max_sandboxes is 1") && reason.contains("other"), "{reason}");
    }

    #[test]
    fn memory_beyond_what_is_set_is_refused_and_so_is_memory_without_a_limit() {
        let settings = Settings { max_memory: Some(1 << 30), ..Settings::default() };
        assert_eq!(judge(&settings, &[], 0, &spec(Some(1 << 30))), Ok(()));
        let reason = judge(&settings, &[], 0, &spec(Some(2 << 30))).unwrap_err();
        assert!(reason.contains("1024 MiB") && reason.contains("2048 MiB"), "{reason}");
        assert!(judge(&settings, &[], 0, &spec(None)).unwrap_err().contains("limits:"));
    }
}
