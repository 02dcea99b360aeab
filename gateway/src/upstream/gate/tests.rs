use super::*;
use crate::{
    net::facts::{Arrival, Facts},
    upstream::dial::Dial,
};

fn place(port: u16) -> Place {
    let address = ([127, 0, 0, 1], port).into();
    Place::new(&Dial::direct(false, None), address, "a", &Facts::new(address, address, Arrival::Upstream))
}

fn gate(limit: u32) -> Arc<Gate> {
    let gate = Arc::<Gate>::default();
    gate.set_limit(Some(limit));
    gate
}

fn wait(gate: &Arc<Gate>, worker: &Arc<Worker>, place: &Place) -> Waiting {
    gate.enter(worker, place).expect_err("there is none free")
}

/// What has come for who waits, without waiting.
fn came(waiting: &mut Waiting) -> Option<Answer> {
    waiting.answer.try_recv().ok()
}

fn calls(worker: &Worker) -> Vec<Place> {
    std::mem::take(&mut *lock(&worker.calls)).into_iter().map(|call| call.place).collect()
}

#[test]
fn permits_are_given_in_turn_and_never_more_than_there_are() {
    let (gate, worker) = (gate(2), Arc::default());
    let (one, two) = (gate.enter(&worker, &place(1)).unwrap(), gate.enter(&worker, &place(2)).unwrap());
    let mut waits: Vec<_> = (0..3).map(|_| wait(&gate, &worker, &place(1))).collect();
    assert!(gate.permit().is_none() && gate.open() == 2);
    drop(one);
    let Some(Answer::Dial(permit)) = came(&mut waits[0]) else { panic!("the first") };
    assert!(came(&mut waits[1]).is_none());
    drop((permit, two));
    assert!(matches!(came(&mut waits[1]), Some(Answer::Dial(_))));
    assert!(matches!(came(&mut waits[2]), Some(Answer::Dial(_))));
    drop(waits);
    assert_eq!(gate.open(), 0);
}

#[test]
fn who_leaves_loses_nothing() {
    let (gate, worker) = (gate(1), Arc::default());
    let one = gate.enter(&worker, &place(1)).unwrap();
    let (first, second, mut third) =
        (wait(&gate, &worker, &place(1)), wait(&gate, &worker, &place(1)), wait(&gate, &worker, &place(1)));
    drop(first);
    drop(one);
    // The second was given the permit and leaves without having looked.
    drop(second);
    assert!(matches!(came(&mut third), Some(Answer::Dial(_))));
    drop(third);
    assert_eq!(gate.open(), 0);
    assert!(gate.permit().is_some());
}

#[test]
fn a_served_connection_goes_to_who_waits_for_it_on_its_worker() {
    let (gate, worker) = (gate(1), Arc::default());
    let permit = gate.enter(&worker, &place(1)).unwrap();
    let mut same = wait(&gate, &worker, &place(1));
    let Next::Hand(number, told) = permit.served(&worker, &place(1)) else { panic!("somebody waits") };
    assert_eq!(number, same.number);
    told.tell();
    assert!(matches!(came(&mut same), Some(Answer::Handed)));
    assert_eq!(gate.open(), 1);

    let other: Arc<Worker> = Arc::default();
    let mut elsewhere = wait(&gate, &other, &place(1));
    assert!(matches!(permit.served(&worker, &place(1)), Next::Close));
    drop(permit);
    let Some(Answer::Dial(permit)) = came(&mut elsewhere) else { panic!("the permit moves") };
    let _other_endpoint = wait(&gate, &other, &place(2));
    assert!(matches!(permit.served(&other, &place(1)), Next::Close));
}

#[test]
fn a_connection_passes_by_who_waits_longest_only_so_often() {
    let (gate, worker, other) = (gate(1), Arc::<Worker>::default(), Arc::<Worker>::default());
    let permit = gate.enter(&worker, &place(1)).unwrap();
    let mut oldest = wait(&gate, &other, &place(1));
    let mut passed = 0;
    let _rest: Vec<_> = (0..20).map(|_| wait(&gate, &worker, &place(1))).collect();
    while let Next::Hand(_, told) = permit.served(&worker, &place(1)) {
        told.tell();
        passed += 1;
    }
    assert_eq!(passed, PASSES);
    drop(permit);
    assert!(matches!(came(&mut oldest), Some(Answer::Dial(_))));
}

#[test]
fn a_resting_connection_is_called_back_by_who_waits() {
    let (gate, worker, other) = (gate(2), Arc::<Worker>::default(), Arc::<Worker>::default());
    let (one, two) = (gate.enter(&worker, &place(1)).unwrap(), gate.enter(&worker, &place(2)).unwrap());
    assert!(matches!(one.served(&worker, &place(1)), Next::Rest));
    assert!(matches!(two.served(&worker, &place(2)), Next::Rest));
    let mut waiting = wait(&gate, &other, &place(3));
    assert_eq!(calls(&worker), [place(1)]);
    one.resume();
    gate.missed();
    assert_eq!(calls(&worker), [place(2)], "the first was in use again");
    drop(two);
    let permit = came(&mut waiting);
    assert!(matches!(permit, Some(Answer::Dial(_))));
    gate.missed();
    assert!(calls(&worker).is_empty(), "nobody waits");
}

#[test]
fn a_shared_connection_that_comes_to_rest_goes_to_who_waits_longest() {
    let (gate, worker, other) = (gate(1), Arc::<Worker>::default(), Arc::<Worker>::default());
    let permit = gate.enter(&worker, &place(1)).unwrap();
    let mut waiting = wait(&gate, &other, &place(2));
    assert!(calls(&worker).is_empty(), "it is in use");
    permit.rest(&worker, &place(1));
    assert_eq!(calls(&worker), [place(1)]);
    permit.resume();
    permit.rest(&worker, &place(1));
    assert_eq!(calls(&worker), [place(1)], "it was in use again when it was called back");
    drop(permit);
    assert!(matches!(came(&mut waiting), Some(Answer::Dial(_))));
}

#[test]
fn a_shared_connection_that_comes_to_rest_stays_for_who_can_have_a_part_of_it() {
    let (gate, worker) = (gate(1), Arc::<Worker>::default());
    let permit = gate.enter(&worker, &place(1)).unwrap();
    let _same = wait(&gate, &worker, &place(1));
    permit.rest(&worker, &place(1));
    assert!(calls(&worker).is_empty());
    let _other = wait(&gate, &worker, &place(2));
    assert_eq!(calls(&worker), [place(1)]);
}

#[test]
fn a_limit_that_changes_is_kept_from_then_on() {
    let (gate, worker) = (gate(3), Arc::default());
    let mut permits: Vec<_> = (0..3).map(|_| gate.enter(&worker, &place(1)).unwrap()).collect();
    let mut waiting = wait(&gate, &worker, &place(1));
    gate.set_limit(Some(1));
    assert!(matches!(permits[0].served(&worker, &place(1)), Next::Close));
    permits.truncate(1);
    assert!(came(&mut waiting).is_none() && gate.open() == 1);
    gate.set_limit(None);
    assert!(matches!(came(&mut waiting), Some(Answer::Dial(_))));
    assert!(gate.permit().is_some());
}

#[test]
fn who_waits_at_a_lowered_limit_calls_back_until_there_is_room() {
    let (gate, worker) = (gate(3), Arc::<Worker>::default());
    let mut permits: Vec<_> = (0..3).map(|_| gate.enter(&worker, &place(1)).unwrap()).collect();
    for permit in &permits {
        assert!(matches!(permit.served(&worker, &place(1)), Next::Rest));
    }
    gate.set_limit(Some(1));
    let mut waiting = wait(&gate, &worker, &place(2));
    for _ in 0..3 {
        assert_eq!(calls(&worker), [place(1)]);
        drop(permits.remove(0));
    }
    assert!(matches!(came(&mut waiting), Some(Answer::Dial(_))));
}

#[test]
fn permits_cross_threads_and_none_is_lost() {
    let gate = gate(3);
    let most = AtomicU64::new(0);
    let now = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let worker = Arc::default();
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for round in 0..500 {
                    let permit = match gate.enter(&worker, &place(round % 3)) {
                        Ok(permit) => permit,
                        Err(mut waiting) => match runtime.block_on(waiting.answer()) {
                            Answer::Dial(permit) => permit,
                            Answer::Handed => panic!("nobody hands anything over"),
                        },
                    };
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    now.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!(gate.open(), 0);
    assert!(most.into_inner() <= 3);
}
