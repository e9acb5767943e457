//! PINs: given once, and never so often that a token locks.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use hsm::SignError;
use hsm::pkcs11::{PinFault, TokenError};
use pki::key::KeyAlgorithm;

use crate::harness::{PIN, SoftHsm, run, run_spied, signs};

fn fault(error: &TokenError) -> Option<PinFault> {
    match error {
        TokenError::Pin(fault) => Some(*fault),
        _ => None,
    }
}

#[test]
fn a_wrong_pin_is_given_once_whatever_the_number_of_sessions() {
    run_spied(
        "pins::a_wrong_pin_is_given_once_whatever_the_number_of_sessions",
        |hsm| {
            hsm.new_token("ca");
            let error = hsm.open_with("pkcs11:token=ca", "wr0ng", 8).unwrap_err();
            assert_eq!(fault(&error), Some(PinFault::Wrong), "{error}");
            assert_eq!(hsm.calls("C_Login"), 1);
            assert!(!format!("{error:?} {}", error.chain()).contains("wr0ng"));
            hsm.open_with("pkcs11:token=ca", PIN, 8).unwrap();
            assert_eq!(hsm.calls("C_Login"), 2);
        },
    );
}

#[test]
fn a_pin_that_was_changed_meanwhile_is_given_once_more_and_then_never() {
    run_spied(
        "pins::a_pin_that_was_changed_meanwhile_is_given_once_more_and_then_never",
        |hsm| {
            let token = hsm.token();
            let signer = token.generate("key", KeyAlgorithm::EcdsaP256).unwrap();
            signs(&signer).unwrap();
            let before = hsm.calls("C_Login");
            hsm.pkcs11_tool(&["--change-pin", "--new-pin", "987654"]);
            // The login is lost, and only a new one would help.
            hsm.take_away();
            assert!(signs(&signer).is_err());
            hsm.put_back();
            let until = Instant::now() + Duration::from_secs(20);
            loop {
                match signs(&signer) {
                    Err(SignError::Token(words)) if words.contains("refused the PIN") => break,
                    other => assert!(Instant::now() < until, "{other:?}"),
                }
            }
            for _ in 0..10 {
                assert!(matches!(signs(&signer), Err(SignError::Token(_))));
            }
            assert_eq!(hsm.calls("C_Login"), before + 1);
            drop(token);
            let again = hsm.open_with("pkcs11:token=ca", "987654", 2).unwrap();
            signs(&again.find(signer.uri()).unwrap()).unwrap();
        },
    );
}

#[test]
fn a_locked_token_and_one_that_would_lock_are_not_tried() {
    run_spied(
        "pins::a_locked_token_and_one_that_would_lock_are_not_tried",
        |hsm| {
            hsm.new_token("ca");
            for (flag, expected) in [(0x4_0000, PinFault::Locked), (0x2_0000, PinFault::LastTry)] {
                let before = set_flags(hsm, |flags| flags | flag);
                let error = hsm.open("pkcs11:token=ca").unwrap_err();
                assert_eq!(fault(&error), Some(expected), "{error}");
                assert_eq!(hsm.calls("C_Login"), 0);
                set_flags(hsm, |_| before);
            }
            hsm.open("pkcs11:token=ca").unwrap();
        },
    );
}

#[test]
fn a_login_that_somebody_else_ended_is_made_again() {
    run(
        "pins::a_login_that_somebody_else_ended_is_made_again",
        |hsm| {
            let token = hsm.token();
            let signer = token.generate("key", KeyAlgorithm::EcdsaP384).unwrap();
            // The same library in the same process: its login is ours.
            let other = Pkcs11::new(&hsm.softhsm).unwrap();
            let slot = other.get_slots_with_initialized_token().unwrap().remove(0);
            for _ in 0..3 {
                signs(&signer).unwrap();
                other.open_ro_session(slot).unwrap().logout().unwrap();
                signs(&signer).unwrap();
                // Every session gone; and then the module is not even initialized.
                other.clone().finalize().unwrap();
                let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
                other.initialize(arguments).unwrap();
                signs(&signer).unwrap();
                other.clone().finalize().unwrap();
                signs(&signer).unwrap();
                // A module is started anew once a second at most.
                thread::sleep(Duration::from_millis(1_100));
            }
        },
    );
}

/// Changes the flags in SoftHSM's own file of the token (CKA_OS_TOKENFLAGS): it never locks by itself.
fn set_flags(hsm: &SoftHsm, change: impl Fn(u64) -> u64) -> u64 {
    const FLAGS: [u8; 16] = [0, 0, 0, 0, 0x80, 0, 0x53, 0x4b, 0, 0, 0, 0, 0, 0, 0, 2];
    let mut folders = fs::read_dir(hsm.tokens()).unwrap();
    let file = folders.next().unwrap().unwrap().path().join("token.object");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(16).position(|w| w == FLAGS).unwrap() + 16;
    let before = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    bytes[at..at + 8].copy_from_slice(&change(before).to_be_bytes());
    // The file's first number is its generation, by which SoftHSM notices the change.
    let generation = u64::from_be_bytes(bytes[..8].try_into().unwrap()) + 1;
    bytes[..8].copy_from_slice(&generation.to_be_bytes());
    fs::write(&file, bytes).unwrap();
    before
}
