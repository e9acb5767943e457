//! The command that tells a program to load its new certificate.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// A hook that takes longer is killed: the renewal behind it must not wait for ever.
const DEADLINE: Duration = Duration::from_secs(30);

/// A shell command that runs after each renewal, with `SIGNET_DIR` in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    command: String,
    deadline: Duration,
}

/// How a hook ended. Nothing of it undoes the renewal.
#[derive(Debug)]
pub enum HookOutcome {
    /// It said that all is well.
    Done,
    /// It ended otherwise.
    Failed(ExitStatus),
    /// It was killed, with all that it had started.
    Killed(Duration),
    /// It did not start, or the system lost it.
    NotRun(std::io::Error),
}

impl Hook {
    /// Takes a command for `sh -c`.
    #[must_use]
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            deadline: DEADLINE,
        }
    }

    /// With another deadline than 30 s.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Runs it and waits for its end, at most until its deadline. What it prints goes to our standard error.
    pub async fn run(&self, directory: &Path) -> HookOutcome {
        let child = Command::new("sh")
            .arg("-c")
            .arg(&self.command)
            .env("SIGNET_DIR", directory)
            .stdin(Stdio::null())
            // Standard output is for the program's result.
            .stdout(Stdio::from(std::io::stderr()))
            // A group of its own, so that a kill reaches what the shell has started.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return HookOutcome::NotRun(error),
        };
        match tokio::time::timeout(self.deadline, child.wait()).await {
            Ok(Ok(status)) if status.success() => HookOutcome::Done,
            Ok(Ok(status)) => HookOutcome::Failed(status),
            Ok(Err(error)) => HookOutcome::NotRun(error),
            Err(_) => {
                kill_group(&mut child).await;
                HookOutcome::Killed(self.deadline)
            }
        }
    }
}

async fn kill_group(child: &mut Child) {
    // The child has not been waited for, so its id is still its own.
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(group) = group
        && let Err(error) = kill_process_group(group, Signal::KILL)
    {
        tracing::warn!(%error, "the hook's processes were not killed");
    }
    // Reaps the shell; it is dead or dying.
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "the hook was not reaped");
    }
}

impl HookOutcome {
    /// Logs it, once.
    pub(crate) fn log(&self) {
        match self {
            Self::Done => tracing::info!("hook ran"),
            Self::Failed(status) => tracing::error!(%status, "hook failed; the renewal stands"),
            Self::Killed(deadline) => tracing::error!(
                deadline_s = deadline.as_secs(),
                "hook was killed at its deadline; the renewal stands"
            ),
            Self::NotRun(error) => tracing::error!(%error, "hook did not run; the renewal stands"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hook_knows_the_directory_and_its_failure_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let hook = Hook::new("echo here > \"$SIGNET_DIR/told\"");
        assert!(matches!(
            hook.run(directory.path()).await,
            HookOutcome::Done
        ));
        assert!(directory.path().join("told").exists());
        let outcome = Hook::new("exit 3").run(directory.path()).await;
        assert!(matches!(outcome, HookOutcome::Failed(status) if status.code() == Some(3)));
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        // The child holds a lock; once it is gone, the lock is free.
        let path = directory.path().join("lock");
        std::fs::File::create(&path).unwrap();
        let hook = Hook::new("flock \"$SIGNET_DIR/lock\" sleep 600; true")
            .with_deadline(Duration::from_millis(300));
        let outcome = hook.run(directory.path()).await;
        assert!(matches!(outcome, HookOutcome::Killed(_)), "{outcome:?}");
        // Returns only when the child is dead.
        std::fs::File::open(&path).unwrap().lock().unwrap();
    }
}
