//! A token's threads: each has a session, does the work that is queued, and gets another session when the old one is
//! gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::error::{Error, RvError};

use super::error::{CallFault, Fault, TokenError};
use super::library::{Inside, Library};
use super::queue::{Full, Next, Queue};
use super::session::{Access, Credentials, Link};

/// Between two words to a silent token. Some log out whoever says nothing for fifteen seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a keep-alive may take, reconnecting included.
const KEEP_ALIVE_WAIT: Duration = Duration::from_secs(5);
/// The first and the longest pause between two restarts of a module for one token: a restart ends the sessions of the
/// module's other tokens, who shall not suffer for one that is away for hours.
const RESTART_PAUSE_MIN: Duration = Duration::from_secs(1);
pub(super) const RESTART_PAUSE_MAX: Duration = Duration::from_secs(15);
/// Calls that wait at most. With a deadline of seconds, a token that is slower than this many in that time would do
/// the rest for nobody.
const QUEUE_BOUND: usize = 256;
/// How long [`Pool`]'s end waits for its threads.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The threads of one token.
pub(super) struct Pool {
    shared: Arc<Shared>,
    sessions: usize,
}

struct Shared {
    library: Arc<Library>,
    credentials: Credentials,
    queue: Queue<Job>,
    pause: Mutex<Pause>,
}

/// When the module may be started anew for this token.
struct Pause {
    not_before: Instant,
    next: Duration,
}

/// One thread's session.
struct Worker {
    shared: Arc<Shared>,
    link: Option<Link>,
}

impl Pool {
    /// Starts up to `sessions` threads, as many as the token has sessions for, each with its session.
    pub(super) fn start(
        library: Arc<Library>,
        credentials: Credentials,
        sessions: usize,
        until: Instant,
    ) -> Result<Self, TokenError> {
        let mut pool = Self {
            shared: Arc::new(Shared {
                library,
                credentials,
                queue: Queue::new(QUEUE_BOUND),
                pause: Mutex::new(Pause {
                    not_before: Instant::now(),
                    next: RESTART_PAUSE_MIN,
                }),
            }),
            sessions: 0,
        };
        while pool.sessions < sessions {
            match pool.start_one(until) {
                Ok(()) => pool.sessions += 1,
                Err(TokenError::Refused(CallFault(Error::Pkcs11(RvError::SessionCount, _))))
                    if pool.sessions > 0 =>
                {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(pool)
    }

    fn start_one(&self, until: Instant) -> Result<(), TokenError> {
        let mut worker = Worker {
            shared: Arc::clone(&self.shared),
            link: None,
        };
        let (connected, wait) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name(format!("pkcs11-{}", self.sessions))
            .spawn(move || {
                worker.shared.queue.thread_begins();
                let result = worker.run(until, Access::Read, &|_: &mut Link| Ok(()));
                let serves = result.is_ok();
                let _ = connected.send(result);
                if serves {
                    worker.serve();
                }
                worker.end();
            })
            .map_err(|_| TokenError::NoResources)?;
        receive(&wait, until)?
    }

    /// Has a thread do `work`, and waits for it as long as `deadline`. Where the session or the token turns out to be
    /// gone, `work` is done again in another session; it says [`Fault::Final`] where that would be wrong.
    ///
    /// # Errors
    /// As `work`, and when nobody does it in time.
    pub(super) fn call<T: Send + 'static>(
        &self,
        deadline: Duration,
        access: Access,
        work: impl Fn(&mut Link) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, TokenError> {
        let until = Instant::now() + deadline;
        let (answer, wait) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |worker| {
            // Nobody may be waiting any more: then this goes nowhere.
            let _ = answer.send(worker.run(until, access, &work));
        });
        self.shared.queue.put(job).map_err(|full| match full {
            Full::Bound(waiting) => TokenError::Busy { waiting },
            Full::Closed => TokenError::Closed,
        })?;
        let result = receive(&wait, until).and_then(|result| result);
        result.map_err(|error| match error {
            TokenError::Late { .. } => TokenError::Late { waited: deadline },
            other => other,
        })
    }

    /// How many threads there are, which is how many sessions.
    pub(super) fn sessions(&self) -> usize {
        self.sessions
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A thread that hangs in the module is left behind; it ends when the module lets go of it.
        self.shared.queue.close(CLOSE_PATIENCE);
    }
}

fn receive<T>(wait: &mpsc::Receiver<T>, until: Instant) -> Result<T, TokenError> {
    let waited = until.saturating_duration_since(Instant::now());
    wait.recv_timeout(waited).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => TokenError::Late { waited },
        mpsc::RecvTimeoutError::Disconnected => TokenError::Closed,
    })
}

impl Worker {
    fn serve(&mut self) {
        loop {
            match self.shared.queue.next(KEEP_ALIVE) {
                Next::Item(job) => job(self),
                Next::Idle => {
                    let until = Instant::now() + KEEP_ALIVE_WAIT;
                    // Its failure is told to whoever comes next.
                    let _ = self.run(until, Access::Read, &|link: &mut Link| link.check());
                }
                Next::Closed => return,
            }
        }
    }

    /// Does `work`: in the session at hand, then in another one, then with the module started anew.
    fn run<T>(
        &mut self,
        until: Instant,
        access: Access,
        work: &dyn Fn(&mut Link) -> Result<T, Fault>,
    ) -> Result<T, TokenError> {
        let late = || TokenError::Late {
            waited: Duration::ZERO,
        };
        let shared = Arc::clone(&self.shared);
        let mut attempt = 0;
        while Instant::now() < until {
            attempt += 1;
            let inside = shared.library.enter(until).ok_or_else(late)?;
            let generation = inside.generation();
            let result = self.attempt(&inside, access, work);
            // A restart waits until nobody is inside.
            drop(inside);
            match result {
                Ok(value) => return Ok(value),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Trouble(_)) if attempt == 1 => {}
                Err(Fault::Trouble(_)) if attempt == 2 && self.may_restart() => {
                    shared.library.restart(generation, until)?;
                }
                Err(Fault::Trouble(error)) => return Err(error),
            }
        }
        Err(late())
    }

    fn attempt<T>(
        &mut self,
        inside: &Inside<'_>,
        access: Access,
        work: &dyn Fn(&mut Link) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut link = match self.link.take() {
            Some(link) if link.serves(inside, access) => link,
            old => {
                if let Some(old) = old {
                    old.close(inside);
                }
                self.shared.credentials.open(inside, access)?
            }
        };
        match work(&mut link) {
            Ok(value) => {
                self.link = Some(link);
                self.shared.pause().next = RESTART_PAUSE_MIN;
                Ok(value)
            }
            Err(fault) => {
                // Whatever it was, a fresh session carries nothing of it.
                link.close(inside);
                Err(fault)
            }
        }
    }

    /// Whether enough time has passed since the last restart for this token; then the next pause is longer.
    fn may_restart(&self) -> bool {
        let mut pause = self.shared.pause();
        let now = Instant::now();
        if now < pause.not_before {
            return false;
        }
        pause.not_before = now + pause.next;
        pause.next = (pause.next * 2).min(RESTART_PAUSE_MAX);
        true
    }

    fn end(&mut self) {
        if let Some(link) = self.link.take() {
            let until = Instant::now() + CLOSE_PATIENCE;
            if let Some(inside) = self.shared.library.enter(until) {
                link.close(&inside);
            }
        }
        self.shared.queue.thread_ends();
    }
}

impl Shared {
    fn pause(&self) -> MutexGuard<'_, Pause> {
        // Nothing panics under the lock.
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
