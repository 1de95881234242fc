//! Selects the baselines and snapshots to remove when there are too many: least recently used first, never one in use.
//! Pure.

use std::collections::BTreeSet;

use crate::storage::{Namespace, SetPath, SetSize};

/// A stored set with the properties that the selection depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSet {
    /// Namespace and name of the set.
    pub path: SetPath,
    /// Last use, in seconds since the epoch.
    pub last_used: i64,
    /// Bytes that it uses.
    pub size: SetSize,
}

/// The sets to remove and the space that this frees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The sets, in the order of removal.
    pub remove: Vec<SetPath>,
    /// Bytes that only these sets hold.
    pub frees: u64,
    /// Bytes over the budget that remain, because all other sets are in use or are snapshots.
    pub over: u64,
}

/// Whether snapshots may be removed. A baseline can be recreated automatically; a snapshot cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvictionScope {
    /// Only baselines: the limit that applies automatically.
    Baselines,
    /// Baselines first, then snapshots: used when the user requests it.
    Everything,
}

/// The target for a budget. It is below the budget, because a pool can never exceed it and needs some free space to
/// work.
pub fn aim(budget: u64) -> u64 {
    budget / 10 * 9
}

/// Selects the sets to remove so that `used` fits `budget`.
///
/// Data that sets share is freed only with the last of them, so a set counts with the bytes that only it holds. A set
/// that shares everything frees nothing on its own, and is selected by age like any other.
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
