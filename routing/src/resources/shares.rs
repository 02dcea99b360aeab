//! Work that threads share.

use std::{num::NonZero, thread};

/// A thread for less than this many bytes is not worth its while.
const WORTH: usize = 256 << 10;

/// The work on consecutive shares of the items, in their order. As many threads as half of the cores, at least two, share it
/// where the items weigh more than a little, in bytes: the other cores are for those who are served.
pub(super) fn work<T: Sync, R: Send>(
    items: &[T],
    weight: impl Fn(&T) -> usize,
    work: impl Fn(&[T]) -> R + Sync,
) -> Vec<R> {
    let total: usize = items.iter().map(&weight).sum();
    let threads = thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2).clamp(2, 8).min(total / WORTH);
    if threads < 2 {
        return vec![work(items)];
    }
    let (most, mut rest) = (total.div_ceil(threads), items);
    let mut shares = Vec::with_capacity(threads);
    while !rest.is_empty() {
        let (mut heavy, mut count) = (0, 0);
        while heavy < most && count < rest.len() {
            heavy += weight(&rest[count]);
            count += 1;
        }
        let (share, behind) = rest.split_at(count);
        shares.push(share);
        rest = behind;
    }
    thread::scope(|scope| {
        let (first, others) = shares.split_first().expect("there are items, so there is a share");
        let work = &work;
        let running: Vec<_> = others.iter().map(|share| scope.spawn(move || work(share))).collect();
        let mut done = vec![work(first)];
        for thread in running {
            done.push(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_worked_on_once_and_in_order() {
        let items: Vec<usize> = (0..1000).collect();
        for weight in [1, 100, 5000, WORTH] {
            let done = work(&items, |_| weight, <[usize]>::to_vec);
            assert_eq!(done.concat(), items, "{weight}");
            assert!(weight < 1000 || done.len() > 1, "{weight} is enough for threads");
        }
        assert_eq!(work(&[] as &[usize], |_| 1, <[usize]>::len), [0]);
        let lopsided = [1, WORTH * 9, 1, 1];
        assert_eq!(work(&lopsided, |weight| *weight, <[usize]>::to_vec).concat(), lopsided);
    }
}
