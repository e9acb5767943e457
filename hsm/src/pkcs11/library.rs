//! A PKCS#11 module: where it may lie, loading it, and starting it anew.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};

use super::error::{CallFault, ModuleFault, TokenError};

/// Every module of this process, by its path. C_Initialize is the whole process's, so two tokens of one module share it; a
/// module is never unloaded, since vendors' code rarely survives that.
static LIBRARIES: Mutex<BTreeMap<PathBuf, Arc<Library>>> = Mutex::new(BTreeMap::new());

/// A loaded module.
///
/// Whoever calls it is [`Inside`]; starting it anew waits until nobody is, because C_Finalize under another thread's
/// call is undefined (PKCS#11 §5.4).
pub(super) struct Library {
    pkcs11: Pkcs11,
    gate: Mutex<Gate>,
    changed: Condvar,
}

struct Gate {
    /// Threads between [`Library::enter`] and the drop of what it gave.
    inside: usize,
    restarting: bool,
    /// How often it was started. Handles belong to one generation: in the next, the same number is another session.
    generation: u64,
    /// When it was last started anew.
    restarted: Option<Instant>,
}

/// The right to call a module, which is not started anew meanwhile.
pub(super) struct Inside<'a> {
    library: &'a Library,
    generation: u64,
}

impl Library {
    /// Loads the module at `path`, or gives what was loaded before.
    pub(super) fn load(path: &Path) -> Result<Arc<Self>, ModuleFault> {
        let path = check(path)?;
        let mut libraries = lock(&LIBRARIES);
        if let Some(library) = libraries.get(&path) {
            return Ok(Arc::clone(library));
        }
        let broken = |error| ModuleFault::Broken {
            path: path.clone(),
            error: CallFault(error),
        };
        let pkcs11 = Pkcs11::new(&path).map_err(broken)?;
        initialize(&pkcs11).map_err(broken)?;
        let library = Arc::new(Self {
            pkcs11,
            gate: Mutex::new(Gate {
                inside: 0,
                restarting: false,
                generation: 0,
                restarted: None,
            }),
            changed: Condvar::new(),
        });
        libraries.insert(path, Arc::clone(&library));
        Ok(library)
    }

    /// Waits for a restart that is under way, until `until`.
    pub(super) fn enter(&self, until: Instant) -> Option<Inside<'_>> {
        let mut gate = self.wait_while(lock(&self.gate), until, |gate| gate.restarting);
        if gate.restarting {
            return None;
        }
        gate.inside += 1;
        Some(Inside {
            library: self,
            generation: gate.generation,
        })
    }

    /// Has the module forget everything and look again (C_Finalize, C_Initialize), unless somebody did so since
    /// `generation`. Every session of every token in it ends.
    ///
    /// # Errors
    /// When the module does not start. Then it is not initialized, every call says so, and another restart may help.
    pub(super) fn restart(&self, generation: u64, until: Instant) -> Result<(), TokenError> {
        let mut gate = self.wait_while(lock(&self.gate), until, |gate| gate.restarting);
        if gate.generation != generation {
            return Ok(());
        }
        if gate.restarting {
            return Err(TokenError::Away(CallFault(hangs())));
        }
        gate.restarting = true;
        gate = self.wait_while(gate, until, |gate| gate.inside > 0);
        let result = if gate.inside > 0 {
            // A call hangs in the module: nothing is to be done but wait for it.
            Err(hangs())
        } else {
            // From here on it is another generation, whether or not the module starts: the old handles are gone.
            gate.generation += 1;
            gate.restarted = Some(Instant::now());
            drop(gate);
            // That it was not initialized, after a failed start, is no matter.
            let _ = self.pkcs11.clone().finalize();
            let result = initialize(&self.pkcs11);
            gate = lock(&self.gate);
            result
        };
        gate.restarting = false;
        drop(gate);
        self.changed.notify_all();
        result.map_err(|error| TokenError::Away(CallFault(error)))
    }

    /// Whether it was started anew so short a time ago.
    pub(super) fn was_restarted_within(&self, time: Duration) -> bool {
        lock(&self.gate)
            .restarted
            .is_some_and(|restarted| restarted.elapsed() < time)
    }

    fn wait_while<'a>(
        &self,
        gate: MutexGuard<'a, Gate>,
        until: Instant,
        condition: impl Fn(&Gate) -> bool,
    ) -> MutexGuard<'a, Gate> {
        let left = until.saturating_duration_since(Instant::now());
        self.changed
            .wait_timeout_while(gate, left, |gate| condition(gate))
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

impl Inside<'_> {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn pkcs11(&self) -> &Pkcs11 {
        &self.library.pkcs11
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        lock(&self.library.gate).inside -= 1;
        self.library.changed.notify_all();
    }
}

/// The module did not come to an end in time.
fn hangs() -> Error {
    Error::Pkcs11(RvError::FunctionFailed, Function::Finalize)
}

fn initialize(pkcs11: &Pkcs11) -> Result<(), Error> {
    let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    match pkcs11.initialize(arguments) {
        // By another part of this process that uses the same module.
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        result => result,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks, and what they guard is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The module's path without links, when nobody but root and this user can put something else there.
fn check(path: &Path) -> Result<PathBuf, ModuleFault> {
    let path = path.to_path_buf();
    if !path.is_absolute() {
        return Err(ModuleFault::Relative { path });
    }
    let unreadable = |path: &Path, error| ModuleFault::Io {
        path: path.to_path_buf(),
        error,
    };
    // What is loaded is what was checked: a link that is changed meanwhile leads nowhere else.
    let path = path.canonicalize().map_err(|e| unreadable(&path, e))?;
    let us = rustix::process::geteuid().as_raw();
    for (depth, part) in path.ancestors().enumerate() {
        let metadata = part.metadata().map_err(|e| unreadable(part, e))?;
        let part = part.to_path_buf();
        if depth == 0 && !metadata.is_file() {
            return Err(ModuleFault::NotAFile { path: part });
        }
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner != 0 && owner != us {
            return Err(ModuleFault::Owner { path: part, owner });
        }
        // In a sticky directory nobody renames or removes what is another's.
        let is_sticky = depth > 0 && mode & 0o1000 != 0;
        if mode & 0o022 != 0 && !is_sticky {
            return Err(ModuleFault::Writable { path: part, mode });
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_what_nobody_else_can_change_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("lib");
        create_dir(&below).unwrap();
        let module = below.join("module.so");
        write(&module, "not a module").unwrap();
        let mode = |path: &Path, mode| set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(&module, 0o644);
        mode(&below, 0o755);
        let link = directory.path().join("link.so");
        symlink(&module, &link).unwrap();
        let real = module.canonicalize().unwrap();
        assert_eq!(check(&module).unwrap(), real);
        assert_eq!(check(&link).unwrap(), real);
        assert!(matches!(
            Library::load(&module),
            Err(ModuleFault::Broken { .. })
        ));

        for writable in [0o664, 0o646] {
            mode(&module, writable);
            let refused = check(&link).unwrap_err();
            assert!(
                matches!(&refused, ModuleFault::Writable { path, mode } if *path == real && *mode == writable),
                "{refused}"
            );
        }
        mode(&module, 0o644);
        for writable in [0o775, 0o757] {
            mode(&below, writable);
            assert!(matches!(
                check(&module),
                Err(ModuleFault::Writable { path, .. }) if Some(path.as_path()) == real.parent()
            ));
        }
        mode(&below, 0o1777);
        assert!(check(&module).is_ok());

        assert!(matches!(check(&below), Err(ModuleFault::NotAFile { .. })));
        assert!(matches!(
            check(Path::new("lib/module.so")),
            Err(ModuleFault::Relative { .. })
        ));
        assert!(matches!(
            check(&directory.path().join("absent.so")),
            Err(ModuleFault::Io { .. })
        ));
    }

    #[test]
    fn what_is_another_users_is_not_loaded() {
        if !rustix::process::geteuid().is_root() {
            // Only root can give a file away.
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let module = directory.path().join("module.so");
        write(&module, "not a module").unwrap();
        std::os::unix::fs::chown(&module, Some(65_534), None).unwrap();
        assert!(matches!(
            check(&module),
            Err(ModuleFault::Owner { owner: 65_534, .. })
        ));
    }
}
