//! Places that are shared out by address: whoever takes all of its own leaves those of the others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use foldhash::fast::RandomState;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many addresses are remembered before it is looked whose places are all free again.
const FEW: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shares {
    all: Arc<Semaphore>,
    each: usize,
    own: Mutex<Own>,
}

#[derive(Debug)]
struct Own {
    by: HashMap<IpAddr, Weak<Semaphore>, RandomState>,
    /// It is looked through when it is this large.
    most: usize,
}

/// One place, until dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    /// This address has all of its own.
    Address,
    /// All are taken.
    All,
}

impl Shares {
    /// So many places, of which one address has no more than `each`.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, own: Mutex::new(Own { by: HashMap::default(), most: FEW }) }
    }

    /// A place, when one is free.
    pub(crate) fn try_take(&self, address: IpAddr) -> Result<Place, Full> {
        let own = self.of(address).try_acquire_owned().map_err(|_| Full::Address)?;
        let all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Full::All)?;
        Ok(Place { _own: own, _all: all })
    }

    /// A place, when it is this address's turn.
    pub(crate) async fn take(&self, address: IpAddr) -> Place {
        const OPEN: &str = "nobody closes it";
        let own = self.of(address).acquire_owned().await.expect(OPEN);
        let all = Arc::clone(&self.all).acquire_owned().await.expect(OPEN);
        Place { _own: own, _all: all }
    }

    fn of(&self, address: IpAddr) -> Arc<Semaphore> {
        let address = address.to_canonical();
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = own.by.get(&address).and_then(Weak::upgrade) {
            return known;
        }
        if own.by.len() >= own.most {
            own.by.retain(|_, places| places.strong_count() > 0);
            own.most = FEW.max(2 * own.by.len());
        }
        let places = Arc::new(Semaphore::new(self.each));
        own.by.insert(address, Arc::downgrade(&places));
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const C: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));

    #[test]
    fn one_address_leaves_the_places_of_others() {
        let shares = Shares::new(3, 2);
        let mut held: Vec<Place> = (0..2).map(|_| shares.try_take(A).unwrap()).collect();
        assert_eq!(shares.try_take(A).unwrap_err(), Full::Address);
        let mapped = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into();
        assert_eq!(shares.try_take(mapped).unwrap_err(), Full::Address, "it is the same one");
        held.push(shares.try_take(B).unwrap());
        assert_eq!(shares.try_take(C).unwrap_err(), Full::All);
        drop(held);
        assert!(shares.try_take(A).is_ok() && shares.try_take(C).is_ok());
    }

    #[tokio::test]
    async fn whoever_waits_in_one_line_holds_up_no_other() {
        let shares = Shares::new(3, 1);
        let first = shares.take(A).await;
        let mut second = Box::pin(shares.take(A));
        assert!(futures::poll!(second.as_mut()).is_pending());
        assert!(futures::poll!(Box::pin(shares.take(B))).is_ready());
        drop(first);
        assert!(futures::poll!(second).is_ready());
    }

    #[test]
    fn addresses_that_have_gone_are_forgotten() {
        let shares = Shares::new(10, 1);
        let held = shares.try_take(A);
        for number in 0..10 * u32::try_from(FEW).unwrap() {
            assert!(shares.try_take(IpAddr::V4(number.into())).is_ok());
        }
        assert!(shares.own.lock().unwrap().by.len() <= FEW);
        assert_eq!(shares.try_take(A).unwrap_err(), Full::Address);
        drop(held);
    }
}
