//! The work that waits for a token's threads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A bounded queue, first come, first served, and the number of threads that take from it.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    bound: usize,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
    threads: usize,
}

/// What a thread has to do next.
pub(super) enum Next<T> {
    Closed,
    Idle,
    Item(T),
}

/// Why nothing was put into the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    Bound(usize),
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                closed: false,
                threads: 0,
            }),
            changed: Condvar::new(),
            bound,
        }
    }

    pub(super) fn put(&self, item: T) -> Result<(), Full> {
        let mut state = self.lock();
        if state.closed {
            return Err(Full::Closed);
        }
        if state.items.len() >= self.bound {
            return Err(Full::Bound(self.bound));
        }
        state.items.push_back(item);
        self.changed.notify_one();
        Ok(())
    }

    /// The next item, waited for as long as `idle`.
    pub(super) fn next(&self, idle: Duration) -> Next<T> {
        let waiting = |state: &mut State<T>| state.items.is_empty() && !state.closed;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), idle, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        match state.items.pop_front() {
            Some(item) => Next::Item(item),
            None if state.closed => Next::Closed,
            None => Next::Idle,
        }
    }

    pub(super) fn thread_begins(&self) {
        self.lock().threads += 1;
    }

    pub(super) fn thread_ends(&self) {
        self.lock().threads -= 1;
        self.changed.notify_all();
    }

    /// Takes nothing more, forgets what waits, and waits for the threads to end, as long as `patience`.
    pub(super) fn close(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        state.closed = true;
        state.items.clear();
        self.changed.notify_all();
        // One timeout for the whole: `notify_all` of each thread that ends wakes this one too.
        let left = until.saturating_duration_since(Instant::now());
        let _ended = self
            .changed
            .wait_timeout_while(state, left, |state| state.threads > 0);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics under the lock, and the state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn work_is_taken_in_order_up_to_the_bound() {
        let queue = Queue::new(2);
        assert_eq!(queue.put(1), Ok(()));
        assert_eq!(queue.put(2), Ok(()));
        assert_eq!(queue.put(3), Err(Full::Bound(2)));
        assert!(matches!(queue.next(SOON), Next::Item(1)));
        assert!(matches!(queue.next(SOON), Next::Item(2)));
        assert!(matches!(queue.next(SOON), Next::Idle));
    }

    #[test]
    fn closing_waits_for_the_threads_and_no_longer_than_it_says() {
        let queue = Queue::new(2);
        queue.put(1).unwrap();
        queue.thread_begins();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(SOON);
                queue.thread_ends();
            });
            let began = Instant::now();
            queue.close(Duration::from_secs(20));
            assert!((SOON..Duration::from_secs(5)).contains(&began.elapsed()));
        });
        assert!(matches!(queue.next(SOON), Next::Closed));
        assert_eq!(queue.put(2), Err(Full::Closed));
        queue.thread_begins();
        queue.close(SOON);
    }
}
