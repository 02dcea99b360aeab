//! What routes have counted outlives a reload that makes them anew: a route counts on where one of the same name and match stood
//! before, in the list of the same VirtualServices for the same port, or of the same service. Lists are known by names here, and not
//! by objects, since what changes is another object of the same name.

use std::{
    cell::RefCell,
    hash::{BuildHasher as _, Hash},
    sync::{Arc, Weak},
};

use foldhash::fast::RandomState;

use crate::{
    explain::when,
    hashed::HashMap,
    rule::Tally,
    table::{Route, RouteList},
};

/// The lists of the last compilation and of this one. They belong to the snapshots; of one that is gone there is nothing to take over.
#[derive(Default)]
pub(super) struct Tallies {
    /// How names become keys: the same in each compilation.
    seed: RandomState,
    before: RefCell<HashMap<u64, Weak<RouteList>>>,
    now: RefCell<HashMap<u64, Weak<RouteList>>>,
}

impl Tallies {
    /// Begins a compilation with what the last one left.
    pub(super) fn begin(self) -> Self {
        Self { before: RefCell::new(self.now.take()), ..self }
    }

    /// Ends it.
    pub(super) fn end(self) -> Self {
        self.before.take();
        self
    }

    /// A list that was made anew under this name: its routes count on. Of several of a name the first does.
    pub(super) fn list(&self, name: &impl Hash, mut routes: Vec<Route>) -> Arc<RouteList> {
        let key = self.key(name);
        let before = self.before.borrow_mut().remove(&key);
        if let Some(before) = before.and_then(|before| before.upgrade()) {
            count_on(&before, &mut routes);
        }
        let list = Arc::new(RouteList::new(routes));
        self.now.borrow_mut().entry(key).or_insert_with(|| Arc::downgrade(&list));
        list
    }

    /// A list that is the one of before.
    pub(super) fn again(&self, name: &impl Hash, list: &Arc<RouteList>) {
        let key = self.key(name);
        self.before.borrow_mut().remove(&key);
        self.now.borrow_mut().entry(key).or_insert_with(|| Arc::downgrade(list));
    }

    fn key(&self, name: &impl Hash) -> u64 {
        self.seed.hash_one(name)
    }
}

fn count_on(before: &RouteList, routes: &mut [Route]) {
    let mut known: HashMap<(Arc<str>, Arc<str>, String), Arc<Tally>> = HashMap::default();
    for Route { when: condition, rule } in before.routes() {
        // Of two alike the first is the one that is followed.
        let key = (Arc::clone(&rule.source), Arc::clone(&rule.name), when(condition));
        known.entry(key).or_insert_with(|| Arc::clone(&rule.tally));
    }
    for Route { when: condition, rule } in routes {
        let key = (Arc::clone(&rule.source), Arc::clone(&rule.name), when(condition));
        if let Some(tally) = known.remove(&key)
            && let Some(rule) = Arc::get_mut(rule)
        {
            rule.tally = tally;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pattern::RouteMatch,
        rule::{Action, DirectResponse, Rule},
    };

    fn route(name: &str, status: u16) -> Route {
        let answer = Action::Direct(DirectResponse { status, body: Arc::default() });
        Route { when: RouteMatch::default(), rule: Arc::new(Rule::new(name, "shop/web".into(), answer)) }
    }

    fn counted(list: &RouteList) -> Vec<u64> {
        list.routes().iter().map(|route| route.rule.tally.counts().requests).collect()
    }

    #[test]
    fn a_route_of_the_same_name_and_match_counts_on() {
        let tallies = Tallies::default().begin();
        let first = tallies.list(&"list", vec![route("a", 200), route("b", 200)]);
        first.routes()[0].rule.tally.count(200);
        first.routes()[1].rule.tally.count(503);
        let tallies = tallies.end().begin();
        let second = tallies.list(&"list", vec![route("b", 404), route("c", 200), route("a", 404)]);
        assert_eq!(counted(&second), [1, 0, 1]);
        // A request that is under way on the old one counts, too.
        first.routes()[0].rule.tally.count(200);
        assert_eq!(counted(&second), [1, 0, 2]);

        let tallies = tallies.end().begin();
        tallies.again(&"list", &second);
        assert_eq!(counted(&tallies.list(&"another", vec![route("a", 200)])), [0]);
        let tallies = tallies.end().begin();
        assert_eq!(counted(&tallies.list(&"list", vec![route("a", 200)])), [2]);
        assert_eq!(counted(&tallies.list(&"list", vec![route("a", 200)])), [0], "nothing is counted twice");
    }

    #[test]
    fn nothing_is_kept_of_a_snapshot_that_is_gone() {
        let tallies = Tallies::default().begin();
        tallies.list(&"list", vec![route("a", 200)]).routes()[0].rule.tally.count(200);
        let tallies = tallies.end().begin();
        assert_eq!(counted(&tallies.list(&"list", vec![route("a", 200)])), [0]);
    }
}
