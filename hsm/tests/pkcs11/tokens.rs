//! Which token, of several, and of none.

use hsm::pkcs11::{ModuleFault, Token, TokenError};
use pki::key::KeyAlgorithm;

use crate::harness::{PIN, parse, request, run, typed};

#[test]
fn two_tokens_are_open_at_once_and_their_keys_are_not_mixed_up() {
    run(
        "tokens::two_tokens_are_open_at_once_and_their_keys_are_not_mixed_up",
        |hsm| {
            hsm.new_token("one");
            let one = hsm.open("pkcs11:token=one").unwrap();
            let key = one.generate("key", KeyAlgorithm::EcdsaP256).unwrap();
            // Made after the module was loaded, which looks at its tokens when it starts.
            hsm.new_token("two");
            let two = hsm.open("pkcs11:token=two").unwrap();
            let other = two.generate("key", KeyAlgorithm::EcdsaP256).unwrap();
            for _ in 0..3 {
                request(&key);
                request(&other);
            }
            let elsewhere = two.find(key.uri());
            assert!(
                matches!(elsewhere, Err(TokenError::OtherToken { .. })),
                "{elsewhere:?}"
            );
            drop(one);
            drop(key);
            request(&other);
        },
    );
}

#[test]
fn a_token_is_told_from_its_likes_by_serial_number_or_slot() {
    run(
        "tokens::a_token_is_told_from_its_likes_by_serial_number_or_slot",
        |hsm| {
            hsm.new_token("twin");
            hsm.new_token("twin");
            let error = hsm.open("pkcs11:token=twin").unwrap_err();
            let TokenError::SeveralTokens { present, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(present.len(), 2);
            for twin in present {
                let uri = format!("pkcs11:token=twin;serial={}", twin.serial);
                let token = hsm.open(&uri).unwrap();
                assert_eq!(token.name(), twin);
                // SoftHSM makes its slots' numbers from the serial numbers.
                let half = twin
                    .serial
                    .trim_start_matches(|c: char| !c.is_ascii_hexdigit());
                let slot = u64::from_str_radix(&half[half.len() - 8..], 16).unwrap() & 0x7fff_ffff;
                let by_slot = hsm.open(&format!("pkcs11:slot-id={slot}")).unwrap();
                assert_eq!(by_slot.name(), twin);
                // A slot is another one tomorrow: it is not what a key is remembered by.
                assert_eq!(by_slot.uri().to_string(), uri);
            }

            let error = hsm.open("pkcs11:token=ca").unwrap_err();
            let words = error.to_string();
            for twin in present {
                assert!(words.contains(&twin.serial), "{words}");
            }
            assert!(matches!(error, TokenError::NoToken { .. }), "{error}");
        },
    );
}

#[test]
fn a_module_that_others_could_have_put_there_is_refused() {
    run(
        "tokens::a_module_that_others_could_have_put_there_is_refused",
        |hsm| {
            use std::os::unix::fs::PermissionsExt;
            hsm.new_token("ca");
            let copy = hsm.folder.join("module.so");
            std::fs::copy(&hsm.softhsm, &copy).unwrap();
            let mode = |mode| {
                std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(mode)).unwrap();
            };
            let open = |module: &str| {
                let opened = Token::open(
                    std::path::Path::new(module),
                    &parse("pkcs11:token=ca"),
                    typed(PIN),
                    1,
                );
                match opened {
                    Err(TokenError::Module(fault)) => fault,
                    other => panic!("{other:?}"),
                }
            };
            let copied = copy.to_str().unwrap();
            mode(0o664);
            assert!(matches!(open(copied), ModuleFault::Writable { .. }));
            mode(0o644);
            assert!(matches!(
                open("libsofthsm2.so"),
                ModuleFault::Relative { .. }
            ));
            assert!(matches!(
                open("../../module.so"),
                ModuleFault::Relative { .. }
            ));
            assert!(matches!(open("/usr/lib"), ModuleFault::NotAFile { .. }));
            // No code in it, or other code.
            let text = open("/etc/hostname");
            assert!(matches!(text, ModuleFault::Broken { .. }), "{text}");
            let program = std::env::current_exe().unwrap();
            let program = open(program.to_str().unwrap());
            assert!(matches!(program, ModuleFault::Broken { .. }), "{program}");
            Token::open(&copy, &parse("pkcs11:token=ca"), typed(PIN), 1).unwrap();
        },
    );
}
