//! Bounds how many calls to the engine run at a time.

use futures_util::{StreamExt, stream};

/// Maximum number of concurrent calls. An engine does not work faster with more, and blocks its other clients.
pub(crate) const CALLS: usize = 16;

/// Runs all futures, at most [`CALLS`] at a time, and returns their results in order. If one fails, the others still
/// run, so that none is abandoned.
///
/// The futures are collected before the first await: an iterator that is held across it would keep the returned future
/// from being `Send`.
pub(crate) fn join_bounded<F: Future>(
    work: impl IntoIterator<Item = F>,
) -> impl Future<Output = Vec<F::Output>> {
    let work: Vec<F> = work.into_iter().collect();
    stream::iter(work).buffered(CALLS).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn no_more_than_the_bound_run_at_a_time_and_results_keep_their_order() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (running, most) = (&running, &most);
        let work = (0..100).map(|number| async move {
            most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::Relaxed);
            number
        });

        assert_eq!(join_bounded(work).await, (0..100).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::Relaxed), CALLS);
    }
}
