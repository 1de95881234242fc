//! Pushes built images to their registries.

use std::time::Instant;

use crate::engine::{Engine, PushProgress};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events, Progress};
use crate::spec::{Service, Spec};

/// The references under which a spec's built images are pushed, each with its service. As in Compose, an image without a
/// name of its own (`image`) is not pushed.
pub fn references(spec: &Spec) -> Vec<(&Service, String)> {
    let built = spec.services.values().filter_map(|service| Some((service, service.build()?)));
    let named = built.filter_map(|(service, build)| {
        let tag = build.tag.as_ref()?;
        let tags = std::iter::once(tag).chain(build.tags.iter().filter(move |other| *other != tag));
        Some(tags.map(move |tag| (service, tag.clone())))
    });
    named.flatten().collect()
}

/// Pushes an image and reports its progress.
///
/// # Errors
/// Fails if the engine does not have the image, or if it cannot push it.
pub async fn push(
    engine: &dyn Engine,
    events: &Events,
    service: &Service,
    reference: &str,
) -> Result<(), SessionError> {
    if engine.image(reference).await?.is_none() {
        let (reference, service) = (reference.to_owned(), service.name.clone());
        return Err(SessionError::NotBuilt { reference, service });
    }
    let began = Instant::now();
    let report = |progress: PushProgress, done| {
        let seconds = began.elapsed().as_millis().max(1);
        let rate = u128::from(progress.current) * 1000 / seconds;
        events.emit(Event::Transfer {
            what: format!("pushing `{reference}`"),
            bytes: Progress { done: progress.current, total: progress.total },
            rate: u64::try_from(rate).unwrap_or(u64::MAX),
            done,
        });
    };
    let mut last = PushProgress::default();
    report(last, false);
    let mut seen = |progress| {
        last = progress;
        report(progress, false);
    };
    engine.push_image(reference, &mut seen).await?;
    report(last, true);
    events.emit(Event::Notice { text: format!("pushed `{reference}`") });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ImageConfig;
    use crate::engine::recording::Recording;
    use crate::spec::{Build, ImageSource, ServiceName};

    fn spec() -> Spec {
        let mut spec = Spec::new("shop".parse().unwrap(), std::path::Path::new("/shop"));
        let built = |tag: Option<&str>, tags: &[&str]| {
            let tags = tags.iter().map(ToString::to_string).collect();
            ImageSource::Build(Box::new(Build { tag: tag.map(str::to_owned), tags, ..Build::default() }))
        };
        for (name, source) in [
            ("a", built(Some("r/a:1"), &["r/a:1", "r/a:2"])),
            ("b", built(None, &["r/b:1"])),
            ("c", ImageSource::Image("r/c:1".to_owned())),
        ] {
            let name = ServiceName::new(name).unwrap();
            spec.services.insert(name.clone(), Service { source, ..Service::new(name, "x") });
        }
        spec
    }

    #[test]
    fn only_built_images_with_a_name_are_pushed_under_all_their_tags() {
        let spec = spec();

        let found: Vec<String> = references(&spec).into_iter().map(|(_, reference)| reference).collect();

        assert_eq!(found, ["r/a:1", "r/a:2"]);
    }

    #[tokio::test]
    async fn an_image_that_is_not_built_is_named_with_the_way_to_build_it() {
        let spec = spec();
        let engine = Recording::new();
        let (service, reference) = references(&spec).remove(0);

        let error = push(&*engine, &Events::nowhere(), service, &reference).await.unwrap_err();
        assert!(error.hint().unwrap_or_default().contains("sandbox build a"), "{error}");

        engine.add_image("r/a:1", ImageConfig::default());
        push(&*engine, &Events::nowhere(), service, &reference).await.unwrap();
    }
}
