//! Time, which is not trusted.
//!
//! The guard compares the wall clock with the monotonic one (which counts suspended time), with the latest time that the store has
//! seen and with the store's own clock. A step of more than an hour, back or forward, stops issuance until an operator
//! says `ca-server clock accept`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pki::time::Timestamp;

/// A step up to this is taken: leap seconds, slow corrections, replicas that differ.
const STEP_SECONDS_MAX: i64 = 3_600;

/// Where the time comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Seconds since some fixed moment, never set, suspension counted.
    fn monotonic_seconds(&self) -> i64;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the wall clock"
        )]
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seconds = since_epoch.map_or(0, |since| since.as_secs());
        Timestamp::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    fn monotonic_seconds(&self) -> i64 {
        rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec
    }
}

/// A clock that tests set.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self {
            wall: AtomicI64::new(now.unix()),
            monotonic: AtomicI64::new(0),
        }
    }

    /// Lets `seconds` pass.
    pub fn advance(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::Relaxed);
        self.monotonic.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Sets the wall clock `seconds` off, without time passing.
    pub fn step(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.wall.load(Ordering::Relaxed))
    }

    fn monotonic_seconds(&self) -> i64 {
        self.monotonic.load(Ordering::Relaxed)
    }
}

/// Why the clock is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock is {now}, and {against} says {expected}: issuance is stopped until `ca-server clock accept`"
)]
pub struct ClockStepped {
    /// What the wall clock shows.
    pub now: Timestamp,
    /// What it should show.
    pub expected: Timestamp,
    /// Who says so.
    pub against: &'static str,
}

/// Gives the time, and refuses to once the wall clock has stepped.
#[derive(Debug)]
pub struct ClockGuard {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Wall clock and monotonic clock, read together when the wall clock was last believed.
    anchor: (Timestamp, i64),
    stepped: Option<ClockStepped>,
}

impl ClockGuard {
    /// Believes the clock as it stands; [`ClockGuard::compare`] with the store follows.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let anchor = (clock.now(), clock.monotonic_seconds());
        Self {
            clock,
            state: Mutex::new(State {
                anchor,
                stepped: None,
            }),
        }
    }

    /// The time, for anything that is signed.
    ///
    /// # Errors
    /// When the clock has stepped and no operator has accepted it.
    pub fn trusted_now(&self) -> Result<Timestamp, ClockStepped> {
        let now = self.clock.now();
        let monotonic = self.clock.monotonic_seconds();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stepped.is_none() {
            let (wall, then) = state.anchor;
            let expected = Timestamp::from_unix(wall.unix() + monotonic - then);
            state.stepped = step(now, expected, "the monotonic clock");
            // Slow corrections move the anchor along, so that they never add up to a step.
            if state.stepped.is_none() && monotonic - then > 60 {
                state.anchor = (now, monotonic);
            }
        }
        match &state.stepped {
            None => Ok(now),
            Some(stepped) => Err(stepped.clone()),
        }
    }

    /// The time as the machine shows it, for logs and for checks that stop nothing.
    #[must_use]
    pub fn untrusted_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time for deciding whether something has ended: after a step the earlier of what the clock shows and what it
    /// should have shown then. A list that is good must not count as ended because a clock ran ahead.
    #[must_use]
    pub fn earliest_now(&self) -> Timestamp {
        match self.trusted_now() {
            Ok(now) => now,
            Err(stepped) => self.clock.now().min(stepped.expected),
        }
    }

    /// Compares with another clock: the store's (`exact`), or the latest time the store has seen (only a step back tells).
    pub fn compare(&self, other: Timestamp, against: &'static str, exact: bool) {
        let now = self.clock.now();
        if !exact && now >= other {
            return;
        }
        if let Some(stepped) = step(now, other, against) {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.stepped.get_or_insert(stepped);
        }
    }

    /// Believes the clock again, as an operator said.
    pub fn accept(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.anchor = (self.clock.now(), self.clock.monotonic_seconds());
        state.stepped = None;
    }
}

fn step(now: Timestamp, expected: Timestamp, against: &'static str) -> Option<ClockStepped> {
    (now.seconds_since(expected).abs() > STEP_SECONDS_MAX).then_some(ClockStepped {
        now,
        expected,
        against,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> (Arc<ManualClock>, ClockGuard) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_unix(1_800_000_000)));
        (clock.clone(), ClockGuard::new(clock))
    }

    #[test]
    fn a_step_either_way_stops_until_accepted() {
        for seconds in [STEP_SECONDS_MAX + 1, -(STEP_SECONDS_MAX + 1)] {
            let (clock, guard) = guard();
            clock.advance(86_400);
            assert!(guard.trusted_now().is_ok());
            clock.step(seconds);
            assert!(guard.trusted_now().is_err());
            clock.step(-seconds);
            assert!(
                guard.trusted_now().is_err(),
                "a stop holds even when the clock comes back"
            );
            guard.accept();
            assert!(guard.trusted_now().is_ok());
        }
    }

    #[test]
    fn after_a_step_nothing_has_ended_sooner() {
        let (clock, guard) = guard();
        let before = clock.now();
        clock.step(40 * 86_400);
        assert_eq!(guard.earliest_now(), before);
        clock.step(-80 * 86_400);
        assert_eq!(guard.earliest_now(), clock.now());
        guard.accept();
        assert_eq!(guard.earliest_now(), clock.now());
    }

    #[test]
    fn slow_corrections_do_not_add_up() {
        let (clock, guard) = guard();
        for _ in 0..10 {
            clock.advance(120);
            clock.step(1_800);
            assert!(guard.trusted_now().is_ok());
        }
    }

    #[test]
    fn the_store_tells_a_step_back_across_a_restart() {
        let (clock, guard) = guard();
        guard.compare(clock.now(), "the store's latest record", false);
        guard.compare(Timestamp::from_unix(0), "the store's latest record", false);
        assert!(guard.trusted_now().is_ok());
        guard.compare(
            Timestamp::from_unix(1_800_004_000),
            "the store's latest record",
            false,
        );
        assert!(guard.trusted_now().is_err());
    }

    #[test]
    fn the_databases_clock_is_compared_both_ways() {
        let (_, guard) = guard();
        guard.compare(
            Timestamp::from_unix(1_799_990_000),
            "the database's clock",
            true,
        );
        assert!(guard.trusted_now().is_err());
    }
}
