//! What befalls a machine: a disk that is full, a clock that steps.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fleet::Fleet;

/// Tells a thread of a scope to stop, however the test goes on: after a panic the scope would wait for it for ever.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A small filesystem of its own, unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// One of 64 MB; `None` where this user may not mount.
    pub fn mount() -> Option<Self> {
        Self::of_megabytes(64)
    }

    /// One of this size; `None` where this user may not mount.
    pub fn of_megabytes(size: u32) -> Option<Self> {
        let directory = tempfile::TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}m"), "tmpfs"])
            .arg(directory.path())
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Self(directory))
    }

    /// A file on it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Takes what space is left.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.path("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Gives it back.
    pub fn make_room(&self) {
        std::fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// The library that shows a program another time, where Debian's `faketime` puts it.
pub fn libfaketime() -> Option<PathBuf> {
    std::fs::read_dir("/usr/lib")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let library = entry.path().join("faketime/libfaketime.so.1");
            library.exists().then_some(library)
        })
}

/// What a program takes for the time.
pub struct Clock(PathBuf);

impl Clock {
    /// Right, for now.
    pub fn of(fleet: &Fleet) -> Self {
        let clock = Self(fleet.path("clock"));
        clock.set("+0");
        clock
    }

    /// Steps it to this offset from the time, as in `+2h`.
    pub fn set(&self, offset: &str) {
        // Whole or not at all: the program reads it at any moment.
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{offset}\n")).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }
}

/// A program whose wall clock is `clock`; its monotonic clock is true.
pub fn with_clock(mut command: Command, library: &Path, clock: &Clock) -> Command {
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock.0)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}
