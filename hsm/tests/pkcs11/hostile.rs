//! Modules that hang.

use std::io::Read;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hsm::SignError;
use hsm::pkcs11::SIGN_WAIT;
use pki::key::KeyAlgorithm;

use crate::harness::{run_spied, run_tool, signs};

/// The spy writes down each call, into a pipe: whoever stops reading from it has every call hang.
#[test]
fn a_module_that_hangs_holds_nobody_longer_than_the_deadline() {
    run_spied(
        "hostile::a_module_that_hangs_holds_nobody_longer_than_the_deadline",
        |hsm| {
            let pipe = hsm.folder.join("spied");
            run_tool(Command::new("mkfifo").arg(&pipe));
            let (go_on, wait) = mpsc::channel::<bool>();
            thread::spawn(move || {
                let mut pipe = std::fs::File::open(pipe).unwrap();
                let mut buffer = [0; 65_536];
                loop {
                    // While told to pause: nothing.
                    if wait.try_recv() == Ok(false) {
                        while wait.recv() == Ok(false) {}
                    }
                    if pipe.read(&mut buffer).unwrap_or(0) == 0 {
                        return;
                    }
                }
            });
            let token = hsm.token();
            let signer = token.generate("a", KeyAlgorithm::EcdsaP256).unwrap();
            signs(&signer).unwrap();

            go_on.send(false).unwrap();
            let mut late = 0;
            let slowest = thread::scope(|scope| {
                let calls: Vec<_> = (0..16)
                    .map(|_| {
                        scope.spawn(|| {
                            let began = Instant::now();
                            let mut result = signs(&signer);
                            // The pipe holds a few calls before it is full.
                            while result.is_ok() {
                                result = signs(&signer);
                            }
                            (result, began.elapsed())
                        })
                    })
                    .collect();
                let mut slowest = Duration::ZERO;
                for call in calls {
                    let (result, took) = call.join().unwrap();
                    late += usize::from(result == Err(SignError::Late));
                    slowest = slowest.max(took);
                }
                slowest
            });
            assert_eq!(late, 16);
            assert!(slowest < SIGN_WAIT + Duration::from_secs(2), "{slowest:?}");

            go_on.send(true).unwrap();
            signs(&signer).unwrap();
        },
    );
}
