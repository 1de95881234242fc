//! Reports the progress of volume clones where the storage has to copy the data.

use std::time::{Duration, Instant};

use crate::session::event::{Event, Events, Progress};
use crate::storage::{Storage, VolumePath};

/// How often to poll the progress.
const LOOK: Duration = Duration::from_millis(500);

/// Runs work that clones volumes to these paths, and reports its progress.
pub(crate) async fn told<T>(
    storage: &dyn Storage,
    events: &Events,
    places: &[VolumePath],
    work: impl Future<Output = T>,
) -> T {
    let names: Vec<String> = places.iter().map(|place| format!("`{}`", place.volume)).collect();
    let what = format!("copying {}", names.join(", "));
    let began = Instant::now();
    let mut last = None;
    tokio::pin!(work);
    loop {
        let outcome = tokio::select! {
            outcome = &mut work => Some(outcome),
            () = tokio::time::sleep(LOOK) => None,
        };
        if outcome.is_none() {
            last = so_far(storage, places).await.or(last);
        }
        if let Some(bytes) = last {
            let rate = u128::from(bytes.done) * 1000 / began.elapsed().as_millis().max(1);
            let rate = u64::try_from(rate).unwrap_or(u64::MAX);
            events.emit(Event::Transfer { what: what.clone(), bytes, rate, done: outcome.is_some() });
        }
        if let Some(outcome) = outcome {
            return outcome;
        }
    }
}

/// The total progress of all running clones; `None` if none runs or none reports progress.
async fn so_far(storage: &dyn Storage, places: &[VolumePath]) -> Option<Progress> {
    let mut all: Option<Progress> = None;
    for place in places {
        // Progress is only for display: errors are ignored.
        let Ok(Some(one)) = storage.progress(place).await else { continue };
        if one.total > 0 {
            let sum = all.unwrap_or(Progress { done: 0, total: 0 });
            all = Some(Progress { done: sum.done + one.done, total: sum.total + one.total });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::storage::{self, RemoteStorage, Reply, Request, SetPath, StorageKind, Transport, VolumeName};

    /// Reports the copy of one volume, and nothing for the others.
    struct Halfway;

    #[async_trait]
    impl Transport for Halfway {
        async fn carry(&self, request: Request) -> storage::Result<Reply> {
            let Request::Progress { to } = request else { panic!("nothing else is asked") };
            let known = to.volume.as_str() == "data";
            Ok(Reply::Progress(known.then_some(storage::Progress { done: 5, total: 10 })))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_takes_its_time_is_told_of_and_a_clone_is_not() {
        let storage = RemoteStorage::new(StorageKind::Copy, Halfway);
        let live = SetPath::live("aaaa00000001").unwrap();
        let places = ["data", "logs"].map(|name| live.volume(VolumeName::new(name).unwrap()));
        let (events, mut heard) = Events::channel();
        assert_eq!(told(&storage, &events, &places, async { 7 }).await, 7);
        assert!(heard.try_recv().is_none());
        told(&storage, &events, &places, tokio::time::sleep(LOOK * 5 / 2)).await;
        drop(events);
        let mut seen = Vec::new();
        while let Some(event) = heard.recv().await {
            let Event::Transfer { what, bytes, done, .. } = event else { panic!("{event:?}") };
            assert_eq!((what.as_str(), bytes), ("copying `data`, `logs`", Progress { done: 5, total: 10 }));
            seen.push(done);
        }
        assert_eq!(seen, [false, false, true]);
    }
}
