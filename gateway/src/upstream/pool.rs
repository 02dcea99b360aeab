//! Connections that are kept for the next request, of one worker: a stack per way and address, newest first.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::{connect::sni, dial::Dial, terms::named};
use crate::net::facts::Facts;

/// Connections without requests that one worker keeps, over all endpoints.
const KEPT: usize = 4096;

/// Where a connection goes, and how: the way's key, the address, the name asked for when it is the request's own,
/// the client when the connection says who that is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Place {
    way: u64,
    address: SocketAddr,
    name: Option<Box<str>>,
    client: Option<Box<(SocketAddr, SocketAddr)>>,
}

impl Place {
    /// The place of a request for `host`.
    pub(crate) fn new(dial: &Dial, address: SocketAddr, host: &str, client: &Facts) -> Self {
        let own = matches!(dial.sni, Some(routing::upstream::Sni::Host));
        let name = own.then(|| sni(dial, host).to_ascii_lowercase().into_boxed_str());
        Self { way: dial.key, address, name, client: dial.names_client().then(|| Box::new(named(client))) }
    }
}

/// One kept connection.
struct Kept<C> {
    connection: C,
    since: Instant,
    idle: Duration,
    /// Ends with the last snapshot that knows the way: nobody can ask for the connection then.
    way: Weak<Dial>,
}

/// See the module.
pub(crate) struct Pool<C> {
    /// With how many there are in all.
    kept: RefCell<(Stacks<C>, usize)>,
}

type Stacks<C> = HashMap<Place, Vec<Kept<C>>, RandomState>;

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Self { kept: RefCell::new((HashMap::default(), 0)) }
    }
}

impl<C> Pool<C> {
    /// The connection to this place that was used last and is still good.
    pub(crate) fn take(&self, place: &Place, now: Instant, mut good: impl FnMut(&mut C) -> bool) -> Option<C> {
        let (kept, count) = &mut *self.kept.borrow_mut();
        let stack = kept.get_mut(place)?;
        while let Some(mut found) = stack.pop() {
            *count -= 1;
            if now.saturating_duration_since(found.since) < found.idle && good(&mut found.connection) {
                return Some(found.connection);
            }
        }
        None
    }

    /// Keeps a connection.
    pub(crate) fn put(&self, place: Place, dial: &Arc<Dial>, connection: C, now: Instant) {
        let (kept, count) = &mut *self.kept.borrow_mut();
        if *count >= KEPT {
            return;
        }
        *count += 1;
        let (since, idle, way) = (now, dial.idle_timeout, Arc::downgrade(dial));
        kept.entry(place).or_default().push(Kept { connection, since, idle, way });
    }

    /// Closes the connection to this place that rests longest. `false`: there is none.
    pub(crate) fn close_one(&self, place: &Place) -> bool {
        let (kept, count) = &mut *self.kept.borrow_mut();
        let Some(stack) = kept.get_mut(place).filter(|stack| !stack.is_empty()) else { return false };
        *count -= 1;
        drop(stack.remove(0));
        true
    }

    /// Closes what is not good any more: too old, ended by its endpoint, or of a way that nobody knows.
    pub(crate) fn sweep(&self, mut good: impl FnMut(&mut C) -> bool) {
        let (kept, count) = &mut *self.kept.borrow_mut();
        kept.retain(|_, stack| {
            stack.retain_mut(|one| {
                one.since.elapsed() < one.idle && one.way.strong_count() > 0 && good(&mut one.connection)
            });
            !stack.is_empty()
        });
        *count = kept.values().map(Vec::len).sum();
    }
}

/// Connections that many requests share, of one worker; one dial per place at a time.
pub(crate) struct Shared<C> {
    places: RefCell<HashMap<Place, Slot<C>, RandomState>>,
}

struct Slot<C> {
    open: Vec<Kept<C>>,
    dialling: Rc<tokio::sync::Mutex<()>>,
}

impl<C> Default for Shared<C> {
    fn default() -> Self {
        Self { places: RefCell::new(HashMap::default()) }
    }
}

impl<C> Shared<C> {
    /// What `of` makes of the first connection to this place for which it makes anything.
    pub(crate) fn find<T>(&self, place: &Place, mut of: impl FnMut(&mut C) -> Option<T>) -> Option<T> {
        let mut places = self.places.borrow_mut();
        let slot = places.get_mut(place)?;
        slot.open.iter_mut().find_map(|one| {
            let made = of(&mut one.connection)?;
            one.since = Instant::now();
            Some(made)
        })
    }

    /// Whether there are connections to this place.
    pub(crate) fn has(&self, place: &Place, alive: impl Fn(&C) -> bool) -> bool {
        self.places.borrow().get(place).is_some_and(|slot| slot.open.iter().any(|one| alive(&one.connection)))
    }

    /// Lets go of the connections to this place that serve nobody any more.
    pub(crate) fn shed(&self, place: &Place, dead: impl Fn(&C) -> bool) {
        if let Some(slot) = self.places.borrow_mut().get_mut(place) {
            slot.open.retain(|one| !dead(&one.connection));
        }
    }

    /// Closes the connection to this place that rests longest. `false`: there is none.
    pub(crate) fn close_one(&self, place: &Place, busy: impl Fn(&C) -> bool) -> bool {
        let mut places = self.places.borrow_mut();
        let Some(slot) = places.get_mut(place) else { return false };
        let rest = slot.open.iter().enumerate().filter(|(_, one)| !busy(&one.connection));
        let Some(longest) = rest.min_by_key(|(_, one)| one.since).map(|(at, _)| at) else { return false };
        drop(slot.open.remove(longest));
        true
    }

    /// Held while a connection to this place is made: whoever waits for it looks again.
    pub(crate) fn dialling(&self, place: &Place) -> Rc<tokio::sync::Mutex<()>> {
        let mut places = self.places.borrow_mut();
        let slot = places
            .entry(place.clone())
            .or_insert_with(|| Slot { open: Vec::new(), dialling: Rc::new(tokio::sync::Mutex::new(())) });
        Rc::clone(&slot.dialling)
    }

    /// Adds a connection.
    pub(crate) fn put(&self, place: &Place, dial: &Arc<Dial>, connection: C) {
        let (since, idle, way) = (Instant::now(), dial.idle_timeout, Arc::downgrade(dial));
        if let Some(slot) = self.places.borrow_mut().get_mut(place) {
            slot.open.push(Kept { connection, since, idle, way });
        }
    }

    /// Lets go of connections: `busy` ones stay, unless `dead`; others go when they are too old or of a way that nobody
    /// knows.
    pub(crate) fn sweep(&self, dead: impl Fn(&C) -> bool, busy: impl Fn(&C) -> bool) {
        self.places.borrow_mut().retain(|_, slot| {
            slot.open.retain(|one| {
                let wanted = one.since.elapsed() < one.idle && one.way.strong_count() > 0;
                !dead(&one.connection) && (wanted || busy(&one.connection))
            });
            !slot.open.is_empty() || Rc::strong_count(&slot.dialling) > 1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_newest_good_connection_serves_and_unwanted_ones_go() {
        let dial = Arc::new(Dial::direct(false, None));
        let address = "127.0.0.1:1".parse().unwrap();
        let facts = Facts::new(address, address, crate::net::facts::Arrival::Upstream);
        let place = Place::new(&dial, address, "a", &facts);
        let pool = Pool::default();
        for number in 0..3 {
            pool.put(place.clone(), &dial, number, Instant::now());
        }
        assert_eq!(pool.take(&place, Instant::now(), |number| *number != 2), Some(1));
        pool.sweep(|_| true);
        assert_eq!(pool.take(&place, Instant::now(), |_| true), Some(0));
        pool.put(place.clone(), &dial, 7, Instant::now());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(pool.take(&place, Instant::now(), |_| true), None);
        pool.put(place.clone(), &dial, 8, Instant::now());
        drop(dial);
        pool.sweep(|_| true);
        assert_eq!(pool.take(&place, Instant::now(), |_| true), None);
    }
    #[test]
    fn shared_connections_that_are_dead_are_let_go_of_before_another_is_made() {
        let dial = Arc::new(Dial::direct(true, None));
        let address = "127.0.0.1:1".parse().unwrap();
        let facts = Facts::new(address, address, crate::net::facts::Arrival::Upstream);
        let place = Place::new(&dial, address, "a", &facts);
        let (pool, permit) = (Shared::default(), Rc::new(()));
        drop(pool.dialling(&place));
        pool.put(&place, &dial, (true, Rc::clone(&permit)));
        pool.put(&place, &dial, (false, Rc::clone(&permit)));
        pool.shed(&place, |(dead, _)| *dead);
        assert_eq!(Rc::strong_count(&permit), 2, "the dead one is dropped, the other one stays");
        assert!(pool.has(&place, |(dead, _)| !dead));
    }
}
