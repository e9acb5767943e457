//! How far long work has come, on standard error: in place at a terminal, a line every ten seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Progress of one piece of work. Nothing is said of work that is done at once.
pub(crate) struct Progress {
    what: &'static str,
    count: usize,
    shown: Instant,
    has_said: bool,
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            count: 0,
            shown: Instant::now(),
            has_said: false,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// So many more are done.
    pub(crate) fn add(&mut self, more: usize) {
        self.count += more;
        let pause = if self.is_terminal {
            Duration::from_millis(500)
        } else {
            PAUSE
        };
        if self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        self.has_said = true;
        let mut stderr = std::io::stderr().lock();
        // Nobody is left to tell when it is closed.
        let _ = if self.is_terminal {
            write!(stderr, "\r{} {} …", self.count, self.what)
        } else {
            writeln!(stderr, "{} {} …", self.count, self.what)
        };
        let _ = stderr.flush();
    }
}

impl Drop for Progress {
    /// Gives the line back to what is said next.
    fn drop(&mut self) {
        if self.has_said && self.is_terminal {
            let _ = write!(std::io::stderr().lock(), "\r\u{1b}[K");
        }
    }
}
