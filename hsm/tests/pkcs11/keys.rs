//! Keys: made, found, brought in, and what OpenSC and OpenSSL say of them.

use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use hsm::pkcs11::TokenError;
use hsm::{Signer, canary};
use pki::key::KeyAlgorithm;

use crate::harness::{openssl, parse, request, run, signs};

#[test]
fn a_key_is_made_and_found_by_label_id_and_uri() {
    run("keys::a_key_is_made_and_found_by_label_id_and_uri", |hsm| {
        let token = hsm.token();
        assert_eq!(token.sessions(), 4);
        for (label, algorithm) in [
            ("root; 50% ü", KeyAlgorithm::EcdsaP256),
            ("384", KeyAlgorithm::EcdsaP384),
        ] {
            let made = token.generate(label, algorithm).unwrap();
            assert_eq!(made.public_key().algorithm(), algorithm);
            assert!(made.origin().is_confined(), "{}", made.origin());
            assert!(made.may_block());
            request(&made);
            canary(&made).unwrap();

            let uri = made.uri();
            assert_eq!(uri.object(), Some(label));
            assert_eq!(&parse(&uri.to_string()), uri);
            let by_label = token.uri().with_key(Some(label), None).unwrap();
            let by_id = token.uri().with_key(None, uri.id()).unwrap();
            for name in [uri, &by_label, &by_id] {
                let found = token.find(name).unwrap();
                assert_eq!(found.public_key(), made.public_key());
                assert_eq!(found.uri(), uri);
                request(&found);
            }
            let taken = token.generate(label, algorithm).unwrap_err();
            assert!(matches!(taken, TokenError::LabelTaken { .. }), "{taken}");
        }
        // Another process and another day.
        let again = hsm.open("pkcs11:token=ca").unwrap();
        let found = again.find(&parse("pkcs11:token=ca;object=384")).unwrap();
        request(&found);

        let absent = token.find(&parse("pkcs11:token=ca;object=other"));
        assert!(
            matches!(absent, Err(TokenError::NoKey { .. })),
            "{absent:?}"
        );
        let nameless = token.find(&parse("pkcs11:token=ca"));
        assert!(matches!(nameless, Err(TokenError::Uri(_))), "{nameless:?}");
        let rsa = token.generate("r", KeyAlgorithm::Rsa { bits: 2048 });
        assert!(matches!(rsa, Err(TokenError::Algorithm(_))), "{rsa:?}");
    });
}

#[test]
fn opensc_and_openssl_agree_with_what_was_made() {
    run("keys::opensc_and_openssl_agree_with_what_was_made", |hsm| {
        let token = hsm.token();
        for (label, algorithm) in [
            ("a", KeyAlgorithm::EcdsaP256),
            ("b", KeyAlgorithm::EcdsaP384),
        ] {
            let made = token.generate(label, algorithm).unwrap();
            let id = pki::crypto::hex(made.uri().id().unwrap());
            let listed = hsm.pkcs11_tool(&["-O", "--type", "privkey", "--id", &id]);
            let listed = String::from_utf8(listed).unwrap();
            for said in [
                "sign",
                "sensitive",
                "always sensitive",
                "never extractable",
                "local",
            ] {
                assert!(listed.contains(said), "{said}: {listed}");
            }
            // OpenSC 0.23 reads out no P-384 keys, not even its own.
            if algorithm == KeyAlgorithm::EcdsaP256 {
                let arguments = ["--read-object", "--type", "pubkey", "--id", &id];
                assert_eq!(hsm.pkcs11_tool(&arguments), made.public_key().spki());
            }

            std::fs::write(hsm.folder.join("csr"), request(&made).der()).unwrap();
            let verify = ["req", "-verify", "-noout", "-inform", "DER", "-in", "csr"];
            openssl(&hsm.folder, &verify);
        }
    });
}

#[test]
fn a_key_that_opensc_made_is_found_and_signs() {
    run("keys::a_key_that_opensc_made_is_found_and_signs", |hsm| {
        let token = hsm.token();
        let make = ["--keypairgen", "--key-type", "EC:secp384r1", "--usage-sign"];
        hsm.pkcs11_tool(&[&make[..], &["--id", "0102", "--label", "made"]].concat());
        let found = token.find(&parse("pkcs11:token=ca;id=%01%02")).unwrap();
        assert_eq!(found.uri().object(), Some("made"));
        assert!(found.origin().is_confined(), "{}", found.origin());
        request(&found);

        // A second of the same label: only the id tells them apart.
        hsm.pkcs11_tool(&[&make[..], &["--id", "03", "--label", "made"]].concat());
        let both = token.find(&parse("pkcs11:token=ca;object=made"));
        assert!(
            matches!(both, Err(TokenError::SeveralKeys { found: 2, .. })),
            "{both:?}"
        );
        let second = token.find(&parse("pkcs11:token=ca;object=made;id=%03"));
        assert_ne!(second.unwrap().public_key(), found.public_key());

        let each_time = ["--always-auth", "--id", "04", "--label", "slow"];
        hsm.pkcs11_tool(&[&make[..], &each_time].concat());
        let slow = token.find(&parse("pkcs11:token=ca;id=%04"));
        assert!(
            matches!(slow, Err(TokenError::AlwaysAuthenticates(_))),
            "{slow:?}"
        );

        hsm.pkcs11_tool(&["--delete-object", "--type", "privkey", "--id", "0102"]);
        let error = signs(&found).unwrap_err().to_string();
        assert!(
            error.contains("no private key in the token fits"),
            "{error}"
        );
    });
}

#[test]
fn a_key_brought_in_from_outside_is_not_confined() {
    run(
        "keys::a_key_brought_in_from_outside_is_not_confined",
        |hsm| {
            let token = hsm.token();
            let genpkey = [
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ];
            openssl(
                &hsm.folder,
                &[&genpkey[..], &["-outform", "DER", "-out", "key"]].concat(),
            );
            openssl(
                &hsm.folder,
                &[
                    "pkey", "-inform", "DER", "-in", "key", "-pubout", "-outform", "DER", "-out",
                    "pub",
                ],
            );
            let file = |name: &str| hsm.folder.join(name).to_str().unwrap().to_owned();
            let (key, public) = (file("key"), file("pub"));
            let name = ["--id", "05", "--label", "imported", "--usage-sign"];
            let write = |kind, file: &str, more: &[&str]| {
                let arguments = [&["--write-object", file, "--type", kind], &name[..], more];
                hsm.pkcs11_tool(&arguments.concat());
            };
            write("privkey", &key, &["--sensitive"]);
            let uri = parse("pkcs11:token=ca;object=imported");
            // Nobody can say whose signatures these would be.
            let alone = token.find(&uri);
            assert!(
                matches!(alone, Err(TokenError::NoPublicKey(_))),
                "{alone:?}"
            );

            write("pubkey", &public, &[]);
            let found = token.find(&uri).unwrap();
            let origin = found.origin();
            assert!(!origin.is_confined() && origin.cannot_leave(), "{origin}");
            assert_eq!(
                origin.to_string(),
                "brought into the token from outside, cannot leave it; may have left it before"
            );
            assert_eq!(found.public_key().spki(), std::fs::read(&public).unwrap());
            request(&found);

            // The public half of another key beside it: a canary tells, and nothing it signs is sealed.
            let other = token.generate("other", KeyAlgorithm::EcdsaP256).unwrap();
            std::fs::write(&public, other.public_key().spki()).unwrap();
            hsm.pkcs11_tool(&["--delete-object", "--type", "pubkey", "--id", "05"]);
            write("pubkey", &public, &[]);
            let swapped = token.find(&uri).unwrap();
            let error = canary(&swapped).unwrap_err();
            assert!(matches!(error, hsm::CanaryError::Seal(_)), "{error}");
        },
    );
}

#[test]
fn a_secret_in_the_token_derives_keys_and_does_not_leave_it() {
    run(
        "keys::a_secret_in_the_token_derives_keys_and_does_not_leave_it",
        |hsm| {
            let token = hsm.token();
            let uri = token.generate_secret("kek").unwrap();
            let (found, origin) = token
                .find_secret(&parse("pkcs11:token=ca;object=kek"))
                .unwrap();
            assert_eq!(found, uri);
            assert!(origin.is_confined(), "{origin}");
            let key = token.hmac(&uri, b"a").unwrap();
            assert_eq!(token.hmac(&uri, b"a").unwrap(), key);
            assert_ne!(token.hmac(&uri, b"b").unwrap(), key);
            let taken = token.generate_secret("kek");
            assert!(matches!(taken, Err(TokenError::LabelTaken { .. })));
            let other = token.generate_secret("kek 2").unwrap();
            assert_ne!(token.hmac(&other, b"a").unwrap(), key);
            // A private key is no secret, and the other way round.
            let absent = token.find(&uri);
            assert!(
                matches!(absent, Err(TokenError::NoKey { .. })),
                "{absent:?}"
            );

            // One whose value is known: it is HMAC-SHA256 and nothing else.
            let write = |id: u8, extractable| {
                let other = Pkcs11::new(&hsm.softhsm).unwrap();
                let slot = other.get_slots_with_initialized_token().unwrap().remove(0);
                // The same library in the same process: it is logged in.
                let session = other.open_rw_session(slot).unwrap();
                let template = [
                    Attribute::Class(ObjectClass::SECRET_KEY),
                    Attribute::KeyType(KeyType::GENERIC_SECRET),
                    Attribute::Token(true),
                    Attribute::Private(true),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(extractable),
                    Attribute::Sign(true),
                    Attribute::Id(vec![id]),
                    Attribute::Value(vec![7; 32]),
                ];
                session.create_object(&template).unwrap();
            };
            write(6, false);
            let imported = token.hmac(&parse("pkcs11:token=ca;id=%06"), b"c").unwrap();
            // By Python's hmac.
            let known = "39f316f7e785c0031ee73275618a94641d0926f7677254efb6fa9db60cd5abc1";
            assert_eq!(pki::crypto::hex(&imported[..]), known);

            write(7, true);
            let loose = token.hmac(&parse("pkcs11:token=ca;id=%07"), b"c");
            assert!(
                matches!(loose, Err(TokenError::Extractable(_))),
                "{loose:?}"
            );
        },
    );
}
