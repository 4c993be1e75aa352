//! Who may use the mesh next: the decisions, without anything that acts on them.
//!
//! Leases of whole meshes exclude all others; leases of slots run side by side unless they want the same lock. Requests
//! are granted in the order in which they came, except that those of the profile in force go first and that one which
//! must wait is passed by others, a bounded number of times. Start at [`Board::next`].

use std::collections::{BTreeMap, VecDeque};

use super::protocol::Wanted;

/// Names a client's connection.
pub(super) type Id = u64;

/// How often others may pass a request that must wait.
const PASSED: u32 = 16;

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// This client has its lease now, on a free slot.
    Grant(Id),
    /// Another slot is needed.
    AddSlot,
    /// This profile is to be put in force; nobody holds a lease.
    Switch(String),
}

#[derive(Debug)]
struct Waiting {
    id: Id,
    ask: Wanted,
    passed: u32,
}

/// Something that goes on in the mesh itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    None,
    AddingSlot,
    Switching,
}

/// The leases, the requests, and the slots.
#[derive(Debug)]
pub(super) struct Board {
    profile: String,
    slots: usize,
    most_slots: usize,
    may_grow: bool,
    work: Work,
    active: BTreeMap<Id, Wanted>,
    waiting: VecDeque<Waiting>,
}

impl Board {
    /// A mesh under `profile` with one slot.
    pub(super) fn new(profile: String) -> Self {
        Self {
            profile,
            slots: 1,
            most_slots: 1,
            may_grow: true,
            work: Work::None,
            active: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// The mesh may have up to this many slots.
    pub(super) fn allow_slots(&mut self, most: usize) {
        if self.may_grow {
            self.most_slots = self.most_slots.max(most);
        }
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Who has waited longest.
    pub(super) fn first_waiting(&self) -> Option<Id> {
        self.waiting.front().map(|w| w.id)
    }

    /// What this client has been granted.
    pub(super) fn granted(&self, id: Id) -> Option<&Wanted> {
        self.active.get(&id)
    }

    /// A client asks. It has neither a lease nor an open request.
    pub(super) fn ask(&mut self, id: Id, ask: Wanted) {
        self.waiting.push_back(Waiting { id, ask, passed: 0 });
    }

    /// A client no longer asks.
    pub(super) fn withdraw(&mut self, id: Id) {
        self.waiting.retain(|w| w.id != id);
    }

    /// A lease has ended, and nothing of it is left.
    pub(super) fn release(&mut self, id: Id) {
        self.active.remove(&id);
    }

    /// The slot that [`Next::AddSlot`] asked for is there, or did not come.
    pub(super) fn slot_added(&mut self, came: bool) {
        self.work = Work::None;
        if came {
            self.slots += 1;
        } else {
            // What failed once is not tried again and again: those that are there serve all.
            self.may_grow = false;
            self.most_slots = self.slots;
        }
    }

    /// The profile that [`Next::Switch`] asked for is in force.
    pub(super) fn switched(&mut self, profile: String) {
        self.work = Work::None;
        self.profile = profile;
    }

    /// Whether nobody holds or wants anything, and nothing goes on.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.active.is_empty() && self.waiting.is_empty() && self.work == Work::None
    }

    /// The next thing to do, which counts as begun; `None` when everything must wait for something that ends first.
    pub(super) fn next(&mut self) -> Option<Next> {
        if self.work == Work::Switching {
            return None;
        }
        let grantable = self.waiting.iter().take_while_inclusive(|w| w.passed < PASSED);
        let found = grantable.enumerate().find(|(_, w)| self.fits(&w.ask)).map(|(at, _)| at);
        if let Some(at) = found {
            self.waiting.iter_mut().take(at).for_each(|w| w.passed += 1);
            let granted = self.waiting.remove(at)?;
            self.active.insert(granted.id, granted.ask);
            return Some(Next::Grant(granted.id));
        }
        if self.work != Work::None {
            return None;
        }
        let first = self.waiting.front()?;
        if self.active.is_empty() && first.ask.profile != self.profile {
            let profile = first.ask.profile.clone();
            self.work = Work::Switching;
            return Some(Next::Switch(profile));
        }
        let lacks_only_a_slot =
            |w: &Waiting| !w.ask.whole && self.active.len() == self.slots && self.compatible(&w.ask);
        if self.slots < self.most_slots
            && self.waiting.iter().take_while_inclusive(|w| w.passed < PASSED).any(lacks_only_a_slot)
        {
            self.work = Work::AddingSlot;
            return Some(Next::AddSlot);
        }
        None
    }

    fn fits(&self, ask: &Wanted) -> bool {
        if ask.whole {
            return ask.profile == self.profile && self.active.is_empty() && self.work == Work::None;
        }
        self.active.len() < self.slots && self.compatible(ask)
    }

    /// Whether a lease of a slot could run beside those that there are.
    fn compatible(&self, ask: &Wanted) -> bool {
        ask.profile == self.profile
            && self.active.values().all(|other| !other.whole && !other.locks.conflict(&ask.locks))
    }
}

/// `take_while` that also gives the first item that does not satisfy.
trait TakeWhileInclusive: Iterator + Sized {
    fn take_while_inclusive(self, keep: impl Fn(&Self::Item) -> bool) -> impl Iterator<Item = Self::Item> {
        let mut over = false;
        self.take_while(move |item| {
            let take = !over;
            over = over || !keep(item);
            take
        })
    }
}

impl<I: Iterator> TakeWhileInclusive for I {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use egress_core::scenario::Lock;

    use super::*;

    fn ask(profile: &str, whole: bool, locks: &[&str]) -> Wanted {
        Wanted {
            profile: profile.into(),
            whole,
            unlabelled: false,
            locks: locks.iter().map(|l| Lock::new(*l)).collect(),
            namespaces: BTreeSet::new(),
            servers: BTreeSet::new(),
            most_slots: 1,
        }
    }

    fn board(most_slots: usize) -> Board {
        let mut board = Board::new("a".into());
        board.allow_slots(most_slots);
        board
    }

    fn slot() -> Wanted {
        ask("a", false, &[])
    }

    #[test]
    fn slots_are_shared_and_made_when_they_are_missed() {
        let mut board = board(2);
        (1..=3).for_each(|id| board.ask(id, slot()));
        assert_eq!(board.next(), Some(Next::Grant(1)));
        assert_eq!(board.next(), Some(Next::AddSlot));
        assert_eq!(board.next(), None);
        board.slot_added(true);
        assert_eq!(board.next(), Some(Next::Grant(2)));
        assert_eq!(board.next(), None, "there may be two slots and no more");
        board.release(1);
        assert_eq!(board.next(), Some(Next::Grant(3)));
    }

    #[test]
    fn a_slot_that_did_not_come_is_not_asked_for_again() {
        let mut board = board(4);
        (1..=2).for_each(|id| board.ask(id, slot()));
        assert_eq!((board.next(), board.next()), (Some(Next::Grant(1)), Some(Next::AddSlot)));
        board.slot_added(false);
        assert_eq!(board.next(), None);
        board.release(1);
        assert_eq!(board.next(), Some(Next::Grant(2)));
    }

    #[test]
    fn the_whole_mesh_is_had_alone() {
        let mut board = board(2);
        board.ask(1, slot());
        board.ask(2, ask("a", true, &[]));
        assert_eq!((board.next(), board.next()), (Some(Next::Grant(1)), None));
        board.release(1);
        board.ask(3, slot());
        assert_eq!((board.next(), board.next()), (Some(Next::Grant(2)), None));
        board.release(2);
        assert_eq!(board.next(), Some(Next::Grant(3)));
    }

    #[test]
    fn the_same_lock_is_not_held_twice() {
        let mut board = board(4);
        board.slot_added(true);
        board.slot_added(true);
        board.ask(1, ask("a", false, &["x"]));
        board.ask(2, ask("a", false, &["x", "y"]));
        board.ask(3, ask("a", false, &["z"]));
        assert_eq!((board.next(), board.next()), (Some(Next::Grant(1)), Some(Next::Grant(3))));
        assert_eq!(board.next(), None);
        board.release(1);
        assert_eq!(board.next(), Some(Next::Grant(2)));
    }

    #[test]
    fn the_profile_in_force_goes_first_and_the_other_is_not_forgotten() {
        let mut board = board(1);
        board.ask(1, ask("b", false, &[]));
        board.ask(2, slot());
        assert_eq!(board.next(), Some(Next::Grant(2)));
        let mut granted = 1;
        for id in 3..100 {
            board.ask(id, slot());
            board.release(id - 1);
            match board.next() {
                Some(Next::Grant(got)) => assert_eq!(got, id),
                other => {
                    assert_eq!(other, Some(Next::Switch("b".into())));
                    break;
                }
            }
            granted += 1;
        }
        assert_eq!(granted, PASSED, "it was passed as often as it may be");
        assert_eq!(board.next(), None);
        board.switched("b".into());
        assert_eq!(board.next(), Some(Next::Grant(1)));
    }

    #[test]
    fn who_no_longer_asks_gets_nothing() {
        let mut board = board(1);
        board.ask(1, ask("b", true, &[]));
        board.withdraw(1);
        assert_eq!(board.next(), None);
        assert!(board.is_idle());
    }

    /// Many clients with all kinds of requests, served in turn: no two leases that exclude each other are ever held
    /// together, and everybody is served.
    #[test]
    fn everybody_is_served_and_nobody_collides() {
        for seed in 0_u64..200 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = |n: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % n
            };
            let mut board = board(3);
            for id in 0..30 {
                let locks: Vec<&str> = ["x", "y", "z"].into_iter().filter(|_| random(3) == 0).collect();
                board.ask(id, ask(["a", "b"][random(2) as usize], random(4) == 0, &locks));
            }
            let mut served = 0;
            for _ in 0..1_000 {
                match board.next() {
                    Some(Next::Grant(_)) => served += 1,
                    Some(Next::AddSlot) => board.slot_added(random(2) == 0),
                    Some(Next::Switch(profile)) => {
                        assert!(board.active.is_empty());
                        board.switched(profile);
                    }
                    None => {
                        let held: Vec<Id> = board.active.keys().copied().collect();
                        let Some(id) = held.get(random(held.len().max(1) as u64) as usize) else { break };
                        board.release(*id);
                    }
                }
                let active: Vec<&Wanted> = board.active.values().collect();
                assert!(active.len() <= board.slots && board.slots <= 3);
                assert!(active.len() < 2 || active.iter().all(|a| !a.whole));
                assert!(active.iter().all(|a| a.profile == board.profile));
                let apart = |a: &Wanted, b: &Wanted| !a.locks.conflict(&b.locks);
                assert!(active.iter().enumerate().all(|(n, a)| active[..n].iter().all(|b| apart(a, b))));
            }
            assert_eq!(served, 30, "seed {seed}");
            assert!(board.is_idle());
        }
    }
}
