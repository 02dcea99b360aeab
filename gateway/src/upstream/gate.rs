//! Where the connections of a cluster with `maxConnections` are counted, and where requests wait for one, in turn.
//!
//! Kept connections belong to one worker, and the limit to the process. So whoever waits, and whoever keeps a connection for
//! later, is known here:
//!
//! - A connection holds a [`Permit`] from before it is dialled until it is closed: there are never more.
//! - One that is closed gives its permit to who waits longest, on whatever worker.
//! - One that has served its request is handed to a request of the same worker that waits for the same place, but only
//!   [`PASSES`] times in a row past one that waits longer; else it is closed, and its permit goes on.
//! - One that rests while somebody begins to wait, or comes to rest while somebody waits, is called back: the worker that
//!   keeps it is told to close it.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, oneshot};

use super::pool::Place;

/// How often in a row a connection may pass by who waits longest.
const PASSES: u32 = 8;
/// So many of those who wait are looked at for one that a connection can be handed to.
const LOOKS: usize = 64;

/// Numbers those who wait and what rests, over all gates: later ones are higher.
fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// One worker, as gates know it.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    calls: Mutex<Vec<Call>>,
    called: Notify,
}

/// A connection to this place is wanted back.
#[derive(Debug)]
pub(crate) struct Call {
    /// Where it leads to.
    pub(crate) place: Place,
    /// Who wants it.
    pub(crate) gate: Arc<Gate>,
}

impl Worker {
    /// Waits until connections are called back.
    pub(crate) async fn called(&self) -> Vec<Call> {
        self.called.notified().await;
        std::mem::take(&mut *lock(&self.calls))
    }

    fn call(&self, call: Call) {
        lock(&self.calls).push(call);
        self.called.notify_one();
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    limit: u32,
    open: u32,
    /// Those who wait, the longest first.
    waiting: BTreeMap<u64, Waiter>,
    /// Connections that rest, by who keeps them.
    resting: BTreeMap<u64, (Arc<Worker>, Place)>,
    passed: u32,
}

#[derive(Debug)]
struct Waiter {
    worker: Arc<Worker>,
    place: Place,
    answer: oneshot::Sender<Answer>,
}

impl Waiter {
    /// Whether a connection of this worker to this place is what it waits for.
    fn fits(&self, worker: &Arc<Worker>, place: &Place) -> bool {
        Arc::ptr_eq(&self.worker, worker) && self.place == *place
    }
}

/// What comes of waiting.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A connection may be made.
    Dial(Permit),
    /// A connection of the own worker was handed over.
    Handed,
}

/// The right to one connection; it is given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    /// `None`: it is no right any more.
    gate: Option<Arc<Gate>>,
    /// Its number while it rests.
    rests: Cell<Option<u64>>,
}

/// Waits for a connection until dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    gate: Arc<Gate>,
    /// No other one of this process has it.
    pub(crate) number: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting {
    /// What comes of it. The gate answers everybody who stays.
    pub(crate) async fn answer(&mut self) -> Answer {
        match (&mut self.answer).await {
            Ok(answer) => answer,
            // A gate lives as long as somebody waits at it, and answers who it forgets.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gate.state().waiting.remove(&self.number);
    }
}

/// What is to become of a connection that has served a request.
#[derive(Debug)]
pub(crate) enum Next {
    /// It is kept for later.
    Rest,
    /// It is for this request of the same worker, which is told when this is called.
    Hand(u64, Told),
    /// It is closed: somebody else waits.
    Close,
}

/// Tells a waiting request that a connection was handed to it.
#[derive(Debug)]
pub(crate) struct Told(oneshot::Sender<Answer>);

impl Told {
    /// Says so. A request that is gone meanwhile has left its connection to be dropped.
    pub(crate) fn tell(self) {
        let _ = self.0.send(Answer::Handed);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self(Mutex::new(State {
            limit: u32::MAX,
            open: 0,
            waiting: BTreeMap::new(),
            resting: BTreeMap::new(),
            passed: 0,
        }))
    }
}

impl Gate {
    /// So many connections may be open from now on; `None` = any number.
    pub(crate) fn set_limit(self: &Arc<Self>, limit: Option<u32>) {
        let mut state = self.state();
        state.limit = limit.unwrap_or(u32::MAX);
        while state.open < state.limit && !state.waiting.is_empty() {
            state.open += 1;
            self.pass_on(&mut state);
        }
    }

    /// A permit, when there is one and nobody waits for it.
    pub(crate) fn permit(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.state();
        let free = state.open < state.limit && state.waiting.is_empty();
        free.then(|| self.count(&mut state))
    }

    /// A permit beyond the limit.
    pub(crate) fn force(self: &Arc<Self>) -> Permit {
        self.count(&mut self.state())
    }

    fn count(self: &Arc<Self>, state: &mut State) -> Permit {
        state.open = state.open.saturating_add(1);
        Permit { gate: Some(Arc::clone(self)), rests: Cell::default() }
    }

    /// A permit, or a place among those who wait for one.
    pub(crate) fn enter(self: &Arc<Self>, worker: &Arc<Worker>, place: &Place) -> Result<Permit, Waiting> {
        let mut state = self.state();
        if state.open < state.limit && state.waiting.is_empty() {
            return Ok(self.count(&mut state));
        }
        let (number, (answer, answered)) = (number(), oneshot::channel());
        let waiter = Waiter { worker: Arc::clone(worker), place: place.clone(), answer };
        state.waiting.insert(number, waiter);
        self.call_back(&mut state);
        Err(Waiting { gate: Arc::clone(self), number, answer: answered })
    }

    /// A connection that was called back was in use again, or gone.
    pub(crate) fn missed(self: &Arc<Self>) {
        let mut state = self.state();
        if !state.waiting.is_empty() {
            self.call_back(&mut state);
        }
    }

    /// The connection that rests longest is to be closed.
    fn call_back(self: &Arc<Self>, state: &mut State) {
        if let Some((_, (worker, place))) = state.resting.pop_first() {
            worker.call(Call { place, gate: Arc::clone(self) });
        }
    }

    /// Gives a permit that is counted to who waits longest; with nobody there it is counted no more.
    fn pass_on(self: &Arc<Self>, state: &mut State) {
        state.passed = 0;
        while let Some((_, waiter)) = state.waiting.pop_first() {
            let permit = Permit { gate: Some(Arc::clone(self)), rests: Cell::default() };
            match waiter.answer.send(Answer::Dial(permit)) {
                Ok(()) => return,
                // It has gone, and we hold the lock that a permit's drop takes.
                Err(Answer::Dial(mut permit)) => permit.gate = None,
                Err(Answer::Handed) => {}
            }
        }
        state.open -= 1;
    }

    /// Connections that hold a permit.
    pub(crate) fn open(&self) -> u32 {
        self.state().open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl Permit {
    /// What is to become of its connection, which has served its request and could serve another one.
    pub(crate) fn served(&self, worker: &Arc<Worker>, place: &Place) -> Next {
        let Some(gate) = &self.gate else { return Next::Rest };
        let mut state = gate.state();
        if state.open > state.limit {
            return Next::Close;
        }
        if state.waiting.is_empty() {
            self.lie_down(&mut state, worker, place);
            return Next::Rest;
        }
        let looks = if state.passed < PASSES { LOOKS } else { 1 };
        let found = state.waiting.iter().take(looks).enumerate().find(|(_, (_, waiter))| waiter.fits(worker, place));
        let Some((before, number)) = found.map(|(before, (number, _))| (before, *number)) else { return Next::Close };
        state.passed = if before == 0 { 0 } else { state.passed + 1 };
        match state.waiting.remove(&number) {
            Some(waiter) => Next::Hand(number, Told(waiter.answer)),
            None => Next::Close,
        }
    }

    /// Its connection is one that requests share, and has none. Whoever waits longest is given it, but for a request that can
    /// have a part of this very connection.
    pub(crate) fn rest(&self, worker: &Arc<Worker>, place: &Place) {
        let Some(gate) = &self.gate else { return };
        let mut state = gate.state();
        self.lie_down(&mut state, worker, place);
        if state.waiting.values().next().is_some_and(|waiter| !waiter.fits(worker, place)) {
            gate.call_back(&mut state);
        }
    }

    fn lie_down(&self, state: &mut State, worker: &Arc<Worker>, place: &Place) {
        let number = number();
        state.resting.insert(number, (Arc::clone(worker), place.clone()));
        if let Some(before) = self.rests.replace(Some(number)) {
            state.resting.remove(&before);
        }
    }

    /// Its connection is in use again.
    pub(crate) fn resume(&self) {
        if let (Some(gate), Some(number)) = (&self.gate, self.rests.take()) {
            gate.state().resting.remove(&number);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        let mut state = gate.state();
        if let Some(number) = self.rests.take() {
            state.resting.remove(&number);
        }
        if state.open > state.limit {
            state.open -= 1;
            // Who waits needs more of them to end.
            if !state.waiting.is_empty() {
                gate.call_back(&mut state);
            }
        } else {
            gate.pass_on(&mut state);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
