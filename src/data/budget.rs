//! Which baselines and snapshots go when there are too many: the least recently used first, never one in use. Pure.

use std::collections::BTreeSet;

use crate::storage::{Namespace, SetPath, SetSize};

/// A stored set, as far as the choice depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSet {
    /// Which.
    pub path: SetPath,
    /// When it was last used, in seconds since the epoch.
    pub last_used: i64,
    /// What it takes.
    pub size: SetSize,
}

/// What is to be removed, and what it frees at least.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The sets, in the order in which they go.
    pub remove: Vec<SetPath>,
    /// Bytes that they alone hold.
    pub frees: u64,
    /// Bytes that remain over the budget because all else is in use or was made by hand.
    pub over: u64,
}

/// Whether snapshots go too. A baseline can be made again by itself; a snapshot cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvictionScope {
    /// Only what makes itself again: what the automatic bound removes.
    Baselines,
    /// Snapshots as well, after all baselines: what a user asks for.
    Everything,
}

/// What is aimed at with a budget: what is stored in a pool never takes more than that, and needs some room to work in.
pub fn aim(budget: u64) -> u64 {
    budget / 10 * 9
}

/// Chooses what goes so that `used` fits `budget`.
///
/// What a set shares with others is freed only with the last of them, so sizes count what a set alone holds, and a set
/// that shares everything is no relief by itself: its turn comes by age like any other's.
pub fn choose(
    kept: &[StoredSet],
    in_use: &BTreeSet<SetPath>,
    used: u64,
    budget: u64,
    reach: EvictionScope,
) -> Choice {
    let mut candidates: Vec<&StoredSet> = kept
        .iter()
        .filter(|set| match set.path.shelf {
            Namespace::Baseline => true,
            Namespace::Snapshot => reach == EvictionScope::Everything,
            Namespace::Live | Namespace::Making => false,
        })
        .filter(|set| !in_use.contains(&set.path))
        .collect();
    candidates.sort_by_key(|set| (set.path.shelf, set.last_used, set.path.clone()));
    let mut choice = Choice::default();
    let mut excess = used.saturating_sub(budget);
    for set in candidates {
        if excess == 0 {
            break;
        }
        choice.remove.push(set.path.clone());
        choice.frees += set.size.own;
        excess = excess.saturating_sub(set.size.own);
    }
    choice.over = excess;
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(path: &str, last_used: i64, own: u64) -> StoredSet {
        StoredSet { path: path.parse().unwrap(), last_used, size: SetSize { own, shared: 0 } }
    }

    fn names(choice: &Choice) -> Vec<String> {
        choice.remove.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first_and_no_more_than_needed() {
        let kept = [kept("baseline/b", 20, 10), kept("baseline/a", 30, 10), kept("baseline/c", 10, 10)];
        let choice = choose(&kept, &BTreeSet::new(), 30, 15, EvictionScope::Baselines);
        assert_eq!(names(&choice), ["baseline/c", "baseline/b"]);
        assert_eq!((choice.frees, choice.over), (20, 0));
        assert_eq!(choose(&kept, &BTreeSet::new(), 30, 30, EvictionScope::Everything), Choice::default());
    }

    #[test]
    fn what_is_in_use_stays_whatever_the_budget() {
        let kept = [kept("baseline/a", 1, 10)];
        let choice = choose(&kept, &BTreeSet::from([kept[0].path.clone()]), 10, 0, EvictionScope::Everything);
        assert_eq!((names(&choice), choice.over), (Vec::new(), 10));
    }

    #[test]
    fn snapshots_go_only_when_asked_and_after_the_baselines() {
        let kept = [kept("snapshot/s", 1, 10), kept("baseline/a", 9, 10), kept("live/x", 0, 50)];
        assert_eq!(names(&choose(&kept, &BTreeSet::new(), 99, 0, EvictionScope::Baselines)), ["baseline/a"]);
        assert_eq!(
            names(&choose(&kept, &BTreeSet::new(), 99, 0, EvictionScope::Everything)),
            ["baseline/a", "snapshot/s"]
        );
    }
}
