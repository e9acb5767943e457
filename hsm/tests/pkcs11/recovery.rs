//! Tokens that go away and come back.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hsm::pkcs11::{SIGN_WAIT, TokenSigner};
use hsm::{SignError, canary};
use pki::key::KeyAlgorithm;

use crate::harness::{run, run_spied, signs};

/// Signers at work, and what became of it.
#[derive(Default)]
struct Load {
    done: AtomicBool,
    signed: AtomicUsize,
    failed: AtomicUsize,
    slowest_ms: AtomicUsize,
}

/// Ends the load when a test ends, or fails.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn sign_until_done(&self, signer: &TokenSigner) {
        while !self.done.load(Ordering::Relaxed) {
            let began = Instant::now();
            match signs(signer) {
                Ok(()) => self.signed.fetch_add(1, Ordering::Relaxed),
                Err(_) => self.failed.fetch_add(1, Ordering::Relaxed),
            };
            let took = usize::try_from(began.elapsed().as_millis()).unwrap();
            self.slowest_ms.fetch_max(took, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until so many more were signed.
    fn wait_for(&self, more: usize, patience: Duration) -> Duration {
        let began = Instant::now();
        let wanted = self.signed.load(Ordering::Relaxed) + more;
        while self.signed.load(Ordering::Relaxed) < wanted {
            assert!(began.elapsed() < patience, "signing did not come back");
            thread::sleep(Duration::from_millis(5));
        }
        began.elapsed()
    }
}

#[test]
fn signing_comes_back_by_itself_when_the_token_does() {
    run(
        "recovery::signing_comes_back_by_itself_when_the_token_does",
        |hsm| {
            let token = hsm.token();
            let signers = [
                token.generate("a", KeyAlgorithm::EcdsaP256).unwrap(),
                token.generate("b", KeyAlgorithm::EcdsaP384).unwrap(),
            ];
            let load = Load::default();
            thread::scope(|scope| {
                for i in 0..6 {
                    let signer = &signers[i % 2];
                    scope.spawn(|| load.sign_until_done(signer));
                }
                let _stop = Stop(&load);
                load.wait_for(100, Duration::from_secs(10));
                assert_eq!(load.failed.load(Ordering::Relaxed), 0);
                // Gone; gone, with another, empty token store in its place; gone and back at once.
                for (replaced, away) in [(false, 2_500), (true, 2_500), (false, 0)] {
                    hsm.take_away();
                    if replaced {
                        fs::create_dir(hsm.tokens()).unwrap();
                    }
                    thread::sleep(Duration::from_millis(away));
                    if away > 0 {
                        assert!(load.failed.swap(0, Ordering::Relaxed) > 0);
                    }
                    if replaced {
                        fs::remove_dir_all(hsm.tokens()).unwrap();
                    }
                    hsm.put_back();
                    let took = load.wait_for(100, Duration::from_secs(20));
                    println!("away for {away} ms, signing again after {took:?}");
                }
            });
            let slowest = load.slowest_ms.load(Ordering::Relaxed);
            println!("slowest call: {slowest} ms");
            assert!(u128::try_from(slowest).unwrap() < SIGN_WAIT.as_millis() + 500);
            for signer in &signers {
                canary(signer).unwrap();
            }
        },
    );
}

#[test]
fn a_token_that_is_away_does_not_disturb_the_others_of_its_module() {
    run(
        "recovery::a_token_that_is_away_does_not_disturb_the_others_of_its_module",
        |hsm| {
            let token = hsm.token();
            let away = token.generate("a", KeyAlgorithm::EcdsaP256).unwrap();
            let folder = fs::read_dir(hsm.tokens()).unwrap().next().unwrap().unwrap();
            hsm.new_token("other");
            let other = hsm.open("pkcs11:token=other").unwrap();
            let stays = other.generate("a", KeyAlgorithm::EcdsaP256).unwrap();
            let (lost, kept) = (Load::default(), Load::default());
            thread::scope(|scope| {
                scope.spawn(|| lost.sign_until_done(&away));
                for _ in 0..3 {
                    scope.spawn(|| kept.sign_until_done(&stays));
                }
                let _stop = (Stop(&lost), Stop(&kept));
                lost.wait_for(20, Duration::from_secs(10));
                fs::rename(folder.path(), hsm.folder.join("gone")).unwrap();
                thread::sleep(Duration::from_secs(4));
                assert!(lost.failed.load(Ordering::Relaxed) > 0);
                fs::rename(hsm.folder.join("gone"), folder.path()).unwrap();
                lost.wait_for(20, Duration::from_secs(20));
            });
            assert_eq!(kept.failed.load(Ordering::Relaxed), 0);
            assert!(kept.signed.load(Ordering::Relaxed) > 500);
        },
    );
}

#[test]
fn a_silent_token_hears_from_us() {
    run_spied("recovery::a_silent_token_hears_from_us", |hsm| {
        let token = hsm.token();
        let signer = token.generate("a", KeyAlgorithm::EcdsaP256).unwrap();
        let before = hsm.calls("C_GetSessionInfo");
        thread::sleep(Duration::from_secs(11));
        // Each of the four sessions, once.
        assert_eq!(hsm.calls("C_GetSessionInfo"), before + 4);
        signs(&signer).unwrap();
    });
}

#[test]
fn a_token_that_came_back_is_found_before_anybody_asks() {
    run_spied(
        "recovery::a_token_that_came_back_is_found_before_anybody_asks",
        |hsm| {
            let token = hsm.token();
            let signer = token.generate("a", KeyAlgorithm::EcdsaP256).unwrap();
            hsm.take_away();
            assert!(matches!(signs(&signer), Err(SignError::Token(_))));
            let closed = hsm.calls("C_CloseSession");
            hsm.put_back();
            thread::sleep(Duration::from_secs(12));
            // Old handles may be new sessions' numbers by now: nobody closes them.
            assert_eq!(hsm.calls("C_CloseSession"), closed);
            let started = hsm.calls("C_Initialize");
            signs(&signer).unwrap();
            assert_eq!(hsm.calls("C_Initialize"), started);
        },
    );
}
