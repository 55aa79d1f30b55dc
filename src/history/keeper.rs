//! The history's thread: it alone writes.
//!
//! Read [`run`].

use super::Measured;
use super::frame::{Done, commit, newest};
use super::queue::Queue;
use super::retention::{evict, publish};
use super::rollup::{due, make};
use super::store::{self, Store, Trouble};
use crate::net::thread;
use crate::time::nanos;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Time until a failed commit is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Time for upkeep after a commit of summaries, about; what is left waits for the next.
const UPKEEP: Duration = Duration::from_secs(1);

/// Stores what comes, until the queue is closed.
pub(super) fn run(store: &Store, queue: &Queue) {
    thread::lower_priority();
    'open: while let Some(batch) = queue.take() {
        if let Some(reason) = store.suspected() {
            store.counters.note(reason);
            store.reopen(true);
        }
        let begin = Instant::now();
        let done = loop {
            match store.with(|database| commit(store, database, &batch)) {
                Ok(done) => break done,
                Err(trouble) => recover(store, &trouble),
            }
            if !queue.pause(RETRY) {
                break 'open;
            }
        };
        store.counters.commit_ns.fetch_add(nanos(begin.elapsed()), Relaxed);
        settle(store, queue, &batch, done);
        let begin = Instant::now();
        while begin.elapsed() < UPKEEP {
            match upkeep(store, begin) {
                Ok(true) => {}
                Ok(false) => break,
                Err(trouble) => {
                    recover(store, &trouble);
                    break;
                }
            }
        }
        store.measure();
        store.counters.upkeep_ns.fetch_add(nanos(begin.elapsed()), Relaxed);
        if !queue.pause(store.options.spacing) {
            break;
        }
    }
    queue.give_up();
    store.shut();
}

fn settle(store: &Store, queue: &Queue, batch: &[Measured], done: Done) {
    debug_assert_eq!(batch.len() as u64, done.committed + done.refused);
    store.counters.committed.fetch_add(done.committed, Relaxed);
    store.counters.refused.fetch_add(done.refused, Relaxed);
    if done.committed > 0 {
        store.counters.newest.store(done.newest, Relaxed);
    }
    queue.settle();
}

/// Makes coarser slots and deletes what is too old or too much; whether there is more of it.
fn upkeep(store: &Store, begin: Instant) -> Result<bool, Trouble> {
    let evicted = store.with(|database| {
        let transaction = store::begin(database)?;
        let newest = newest(&transaction)?;
        let slots = due(&transaction, &store.layout, newest.0)?;
        let catalogue = store.catalogue();
        for (n, slot) in slots.iter().enumerate() {
            if n > 0 && begin.elapsed() >= UPKEEP {
                break;
            }
            make(&transaction, &store.layout, &catalogue, &store.counters.damaged_blocks, *slot)?;
        }
        let mut evicted = evict(store, &transaction, newest)?;
        let idle = slots.is_empty() && evicted.age + evicted.bytes == 0 && !evicted.thinned && !evicted.more;
        match idle {
            true => transaction.abort()?,
            false => transaction.commit()?,
        }
        evicted.more |= !slots.is_empty();
        Ok(evicted)
    })?;
    let more = evicted.more;
    publish(store, evicted);
    Ok(more)
}

/// After a failed transaction: counts it, and opens the file anew, because redb takes nothing more after an error.
fn recover(store: &Store, trouble: &Trouble) {
    store.counters.errors.fetch_add(1, Relaxed);
    store.counters.note(trouble.text().to_owned());
    store.reopen(matches!(trouble, Trouble::Damage(_)));
}
