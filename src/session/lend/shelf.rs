//! The databases that are ready, lent and waited for, and what is to be done about them. Pure, so that tests need no
//! engine.

use std::collections::{BTreeMap, VecDeque};

use super::protocol::{LoanId, Reply};

/// A connection of a client.
pub type ClientId = u64;

/// Who has a database, or waits for one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// The connection.
    pub client: ClientId,
    /// The client's name for it.
    pub id: LoanId,
}

/// How many databases there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many are kept ready.
    pub ready: usize,
    /// How many are made at the same time.
    pub at_once: usize,
    /// How many may exist, whatever becomes of them.
    pub most: Option<usize>,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Action<T> {
    /// Make a database.
    Make,
    /// Remove a database that was given back.
    Clear(T),
    /// Hand a database to its borrower.
    Deliver(Holder, T),
    /// Tell a client.
    Tell(ClientId, Reply),
}

/// The state of all databases.
#[derive(Debug)]
pub struct Shelf<T> {
    bounds: Bounds,
    ready: VecDeque<T>,
    making: usize,
    clearing: usize,
    lent: BTreeMap<Holder, T>,
    waiting: VecDeque<Holder>,
    numbers: u64,
    seconds_each: f64,
}

impl<T: Clone> Shelf<T> {
    /// An empty shelf, and what fills it.
    pub fn new(bounds: Bounds) -> (Self, Vec<Action<T>>) {
        let mut shelf = Self {
            bounds,
            ready: VecDeque::new(),
            making: 0,
            clearing: 0,
            lent: BTreeMap::new(),
            waiting: VecDeque::new(),
            numbers: 0,
            seconds_each: 0.0,
        };
        let actions = shelf.refill();
        (shelf, actions)
    }

    /// A client wants a database.
    pub fn take(&mut self, client: ClientId, id: Option<LoanId>) -> Vec<Action<T>> {
        let id = id.unwrap_or_else(|| self.unused_number(client));
        let holder = Holder { client, id };
        if self.is_in_use(&holder) {
            let message = format!("`{}` is lent already, or waited for", holder.id);
            let hint = Some("`give` it back first, or take another `id`".to_owned());
            return vec![Action::Tell(client, Reply::Error { id: Some(holder.id), message, hint })];
        }
        let first = match self.ready.pop_front() {
            Some(item) => self.deliver(holder, item),
            None => self.wait(holder),
        };
        std::iter::once(first).chain(self.refill()).collect()
    }

    /// A client gives a database back, or no longer waits for it.
    pub fn give(&mut self, client: ClientId, id: LoanId) -> Vec<Action<T>> {
        let holder = Holder { client, id: id.clone() };
        if let Some(item) = self.lent.remove(&holder) {
            self.clearing += 1;
            return vec![Action::Tell(client, Reply::Given { id }), Action::Clear(item)];
        }
        let before = self.waiting.len();
        self.waiting.retain(|it| *it != holder);
        if self.waiting.len() < before {
            return vec![Action::Tell(client, Reply::Given { id })];
        }
        let message = format!("`{id}` is not lent to this connection");
        let hint = Some("`give` takes the `id` of a `taken`".to_owned());
        vec![Action::Tell(client, Reply::Error { id: Some(id), message, hint })]
    }

    /// A client has closed its connection: what it has is given back.
    pub fn leave(&mut self, client: ClientId) -> Vec<Action<T>> {
        self.waiting.retain(|it| it.client != client);
        let left: Vec<T> =
            self.lent.extract_if(.., |holder, _| holder.client == client).map(|it| it.1).collect();
        self.clearing += left.len();
        left.into_iter().map(Action::Clear).collect()
    }

    /// A database was made.
    pub fn made(&mut self, item: T, seconds: f64) -> Vec<Action<T>> {
        self.making -= 1;
        self.seconds_each = seconds;
        let mut actions = Vec::new();
        match self.waiting.pop_front() {
            Some(holder) => actions.push(self.deliver(holder, item)),
            None => self.ready.push_back(item),
        }
        actions.extend(self.refill());
        actions
    }

    /// A database could not be made. Everybody who waits is told; the next `take` tries again.
    pub fn not_made(&mut self, message: &str, hint: Option<&str>) -> Vec<Action<T>> {
        self.making -= 1;
        let told = |it: Holder| {
            let (message, hint) = (message.to_owned(), hint.map(str::to_owned));
            Action::Tell(it.client, Reply::Error { id: Some(it.id), message, hint })
        };
        self.waiting.drain(..).map(told).collect()
    }

    /// A database that was given back is removed.
    pub fn cleared(&mut self) -> Vec<Action<T>> {
        self.clearing -= 1;
        self.refill()
    }

    /// All databases that exist.
    pub fn into_all(self) -> Vec<T> {
        self.ready.into_iter().chain(self.lent.into_values()).collect()
    }

    fn is_in_use(&self, holder: &Holder) -> bool {
        self.lent.contains_key(holder) || self.waiting.contains(holder)
    }

    fn unused_number(&mut self, client: ClientId) -> LoanId {
        loop {
            self.numbers += 1;
            let id = LoanId::Number(self.numbers);
            if !self.is_in_use(&Holder { client, id: id.clone() }) {
                return id;
            }
        }
    }

    fn deliver(&mut self, holder: Holder, item: T) -> Action<T> {
        self.lent.insert(holder.clone(), item.clone());
        Action::Deliver(holder, item)
    }

    fn wait(&mut self, holder: Holder) -> Action<T> {
        let reason = match self.bounds.most {
            Some(most) if self.making + self.clearing == 0 && self.lent.len() >= most => {
                format!("all {most} databases are lent; the next `give` frees one")
            }
            _ => format!("no database is ready; making one takes about {:.2} s", self.seconds_each),
        };
        let told = Action::Tell(holder.client, Reply::Waiting { id: holder.id.clone(), reason });
        self.waiting.push_back(holder);
        told
    }

    /// Makes what is missing, within the bounds.
    fn refill(&mut self) -> Vec<Action<T>> {
        let wanted = self.bounds.ready + self.waiting.len();
        let mut actions = Vec::new();
        while self.making < self.bounds.at_once && self.ready.len() + self.making < wanted && self.has_room()
        {
            self.making += 1;
            actions.push(Action::Make);
        }
        actions
    }

    fn has_room(&self) -> bool {
        let all = self.ready.len() + self.making + self.lent.len() + self.clearing;
        self.bounds.most.is_none_or(|most| all < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { ready: 2, at_once: 1, most: None };

    fn text(id: &str) -> LoanId {
        LoanId::Text(id.to_owned())
    }

    fn holder(client: ClientId, id: &str) -> Holder {
        Holder { client, id: text(id) }
    }

    /// A shelf with its first databases.
    fn filled(bounds: Bounds) -> Shelf<u32> {
        let (mut shelf, mut actions) = Shelf::new(bounds);
        let mut number = 0;
        while let Some(action) = actions.pop() {
            assert_eq!(action, Action::Make);
            actions.extend(shelf.made(number, 0.1));
            number += 1;
        }
        shelf
    }

    fn is_waiting(actions: &[Action<u32>], words: &str) -> bool {
        actions
            .iter()
            .any(|it| matches!(it, Action::Tell(_, Reply::Waiting { reason, .. }) if reason.contains(words)))
    }

    #[test]
    fn a_taken_database_is_replaced_on_the_shelf() {
        let mut shelf = filled(BOUNDS);
        let actions = shelf.take(1, Some(text("a")));
        assert_eq!(actions, [Action::Deliver(holder(1, "a"), 0), Action::Make]);
        assert_eq!(shelf.made(2, 0.1), []);
    }

    #[test]
    fn who_finds_the_shelf_empty_is_told_and_served_in_order() {
        let mut shelf = filled(BOUNDS);
        for id in ["a", "b"] {
            assert!(matches!(shelf.take(1, Some(text(id)))[0], Action::Deliver(..)));
        }
        assert!(is_waiting(&shelf.take(1, Some(text("c"))), "0.10 s"));
        assert!(is_waiting(&shelf.take(2, Some(text("d"))), "0.10 s"));
        assert_eq!(shelf.made(2, 0.1), [Action::Deliver(holder(1, "c"), 2), Action::Make]);
        assert_eq!(shelf.made(3, 0.1), [Action::Deliver(holder(2, "d"), 3), Action::Make]);
    }

    #[test]
    fn what_is_given_back_is_removed_and_never_lent_again() {
        let mut shelf = filled(BOUNDS);
        let _ = shelf.take(1, Some(text("a")));
        let given = Action::Tell(1, Reply::Given { id: text("a") });
        assert_eq!(shelf.give(1, text("a")), [given, Action::Clear(0)]);
        assert_eq!(shelf.cleared(), []);
        assert!(matches!(shelf.give(1, text("a"))[..], [Action::Tell(1, Reply::Error { .. })]));
    }

    #[test]
    fn a_client_that_leaves_gives_all_back_and_no_longer_waits() {
        let mut shelf = filled(BOUNDS);
        for client in [1, 2, 1] {
            let _ = shelf.take(client, None);
        }
        assert_eq!(shelf.leave(1), [Action::Clear(0)]);
        assert_eq!(shelf.made(2, 0.1), [Action::Make], "it goes to the shelf");
        assert_eq!(shelf.leave(2), [Action::Clear(1)]);
    }

    #[test]
    fn an_id_is_the_client_s_own_and_in_use_once() {
        let mut shelf = filled(BOUNDS);
        let _ = shelf.take(1, Some(LoanId::Number(1)));
        assert!(matches!(shelf.take(1, Some(LoanId::Number(1)))[..], [Action::Tell(1, Reply::Error { .. })]));
        let other = shelf.take(2, Some(LoanId::Number(1)));
        assert!(matches!(other[0], Action::Deliver(..)), "{other:?}");
        let numbered = shelf.take(1, None);
        assert!(matches!(&numbered[0], Action::Tell(1, Reply::Waiting { id: LoanId::Number(2), .. })));
    }

    #[test]
    fn a_wait_ends_with_a_give() {
        let mut shelf = filled(Bounds { ready: 1, ..BOUNDS });
        let _ = shelf.take(1, Some(text("a")));
        let _ = shelf.take(1, Some(text("b")));
        assert_eq!(shelf.give(1, text("b")), [Action::Tell(1, Reply::Given { id: text("b") })]);
        assert_eq!(shelf.made(1, 0.1), []);
    }

    #[test]
    fn a_bounded_number_is_never_exceeded() {
        let mut shelf = filled(Bounds { ready: 2, at_once: 1, most: Some(2) });
        for id in ["a", "b"] {
            assert_eq!(shelf.take(1, Some(text(id))).len(), 1, "nothing more is made");
        }
        assert!(is_waiting(&shelf.take(1, Some(text("c"))), "all 2 databases are lent"));
        assert_eq!(shelf.give(1, text("a")).len(), 2, "it is not free before it is cleared");
        assert_eq!(shelf.cleared(), [Action::Make]);
        assert_eq!(shelf.made(0, 0.1), [Action::Deliver(holder(1, "c"), 0)]);
    }

    #[test]
    fn a_failure_is_told_to_all_who_wait_and_tried_again_by_the_next() {
        let (mut shelf, _) = Shelf::<u32>::new(BOUNDS);
        let _ = shelf.take(1, Some(text("a")));
        let told = shelf.not_made("disk full", None);
        assert!(
            matches!(&told[..], [Action::Tell(1, Reply::Error { message, .. })] if message == "disk full")
        );
        assert_eq!(shelf.take(1, Some(text("a"))).pop(), Some(Action::Make));
    }
}
