//! Tests of PKCS#11 URIs.

use super::*;
use proptest::prelude::*;

fn parse(s: &str) -> Result<KeyUri, KeyUriError> {
    KeyUri::parse(s)
}

#[test]
fn reads_what_other_tools_print() {
    // As `p11tool --list-all` prints a key of SoftHSM.
    let uri = parse(
        "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=9c3b5a0e2f1d4c7b;token=Root%3B%20CA;id=%01%fF;object=root;type=private?module-path=/usr/lib/softhsm/libsofthsm2.so",
    )
    .unwrap();
    assert_eq!(uri.token(), Some("Root; CA"));
    assert_eq!(uri.serial(), Some("9c3b5a0e2f1d4c7b"));
    assert_eq!(uri.object(), Some("root"));
    assert_eq!(uri.id(), Some(&[0x01, 0xff][..]));
    assert_eq!(
        uri.module_path(),
        Some(Path::new("/usr/lib/softhsm/libsofthsm2.so"))
    );
    assert_eq!(
        uri.to_string(),
        "pkcs11:token=Root%3B%20CA;manufacturer=SoftHSM%20project;serial=9c3b5a0e2f1d4c7b;model=SoftHSM%20v2;object=root;id=%01%FF?module-path=/usr/lib/softhsm/libsofthsm2.so"
    );
    assert!(uri.names_key());
    assert!(!parse("pkcs11:token=ca").unwrap().names_key());
    assert!(parse("pkcs11:slot-id=7").unwrap().is_by_slot_alone());
}

#[test]
fn what_is_not_exact_is_refused() {
    use KeyUriError as E;
    let long = |name: &str, n| format!("pkcs11:token=t;{name}={}", "x".repeat(n));
    let cases = [
        ("", E::Scheme),
        ("PKCS11:token=ca", E::Scheme),
        ("pkcs11:", E::NotAPair),
        ("pkcs11:token=ca;", E::NotAPair),
        ("pkcs11:;token=ca", E::NotAPair),
        ("pkcs11:token=ca?", E::NotAPair),
        ("pkcs11:object=root", E::NoToken),
        ("pkcs11:manufacturer=m;model=x;object=root", E::NoToken),
        ("pkcs11:token=", E::Empty { attribute: "token" }),
        ("pkcs11:token=t;id=", E::Empty { attribute: "id" }),
        ("pkcs11:token=a;token=a", E::Repeated { attribute: "token" }),
        (
            "pkcs11:token=a;id=%01;id=%01",
            E::Repeated { attribute: "id" },
        ),
        (
            "pkcs11:token=a;type=private;type=private",
            E::Repeated { attribute: "type" },
        ),
        ("pkcs11:token=t;type=public", E::Type),
        ("pkcs11:token=t;type=secret-key", E::Type),
        ("pkcs11:slot-id=-1", E::Slot),
        ("pkcs11:slot-id=+1", E::Slot),
        ("pkcs11:slot-id=", E::Slot),
        ("pkcs11:slot-id=18446744073709551616", E::Slot),
        ("pkcs11:token=a b", E::Encoding { attribute: "token" }),
        ("pkcs11:token=a%2", E::Encoding { attribute: "token" }),
        ("pkcs11:token=a%+1", E::Encoding { attribute: "token" }),
        ("pkcs11:token=a%zz", E::Encoding { attribute: "token" }),
        ("pkcs11:token=ä", E::Encoding { attribute: "token" }),
        ("pkcs11:token=a#b", E::Encoding { attribute: "token" }),
        (
            "pkcs11:token=t&pin-value=1",
            E::Encoding { attribute: "token" },
        ),
        (
            "pkcs11:token=t?module-path=/m?pin-value=1",
            E::Encoding {
                attribute: "module-path",
            },
        ),
        ("pkcs11:token=%ff", E::NotText { attribute: "token" }),
        ("pkcs11:token=a%00", E::NotText { attribute: "token" }),
        ("pkcs11:token=a%0A", E::NotText { attribute: "token" }),
        ("pkcs11:token=t?module-path=x.so", E::RelativeModule),
        ("pkcs11:token=t?module-path=../x.so", E::RelativeModule),
        (
            "pkcs11:token=t?module-path=/x%00.so",
            E::NotText {
                attribute: "module-path",
            },
        ),
        (
            "pkcs11:token=t?module-path=/a&module-path=/a",
            E::Repeated {
                attribute: "module-path",
            },
        ),
    ];
    for (uri, error) in cases {
        assert_eq!(parse(uri), Err(error), "{uri}");
    }
    for (name, max) in [
        ("manufacturer", 32),
        ("serial", 16),
        ("model", 16),
        ("object", 255),
        ("id", 255),
    ] {
        assert!(parse(&long(name, max)).is_ok(), "{name}");
        assert!(
            matches!(parse(&long(name, max + 1)), Err(E::TooLong { .. })),
            "{name}"
        );
    }
    for unknown in [
        "Token=a",
        "library-version=1",
        "x-vendor=1",
        " token=a",
        "module-path=/x",
    ] {
        let refused = parse(&format!("pkcs11:token=t;{unknown}"));
        assert!(matches!(refused, Err(E::Unknown { .. })), "{unknown}");
    }
    assert!(matches!(
        parse("pkcs11:token=t?module-name=x"),
        Err(E::Unknown { .. })
    ));
    assert!(matches!(parse(&"p".repeat(5_000)), Err(E::TooLong { .. })));
}

#[test]
fn a_pin_is_refused_and_never_repeated() {
    for uri in [
        "pkcs11:token=t;object=k?pin-value=s3cret",
        "pkcs11:token=t;pin-value=s3cret",
        "pkcs11:token=t?pin-source=file:/s3cret",
        "pkcs11:token=t?pin-source=|s3cret",
    ] {
        let error = parse(uri).unwrap_err();
        assert_eq!(error, KeyUriError::Pin, "{uri}");
        assert!(error.to_string().contains("file"), "{error}");
    }
    for uri in [
        "s3cret",
        "pkcs11:s3cret",
        "pkcs11:token=t;pin=s3cret",
        "pkcs11:token=t?s3cret",
        "pkcs11:token=%s3cret",
        "pkcs11:token=t;type=s3cret",
        "pkcs11:slot-id=s3cret",
    ] {
        let error = format!("{0} {0:?}", parse(uri).unwrap_err());
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn every_attribute_of_a_token_that_is_given_has_to_fit() {
    let token = TokenDescription {
        label: "ca",
        manufacturer: "SoftHSM project",
        model: "SoftHSM v2",
        serial: "12",
        slot_id: 4,
    };
    for (uri, fits) in [
        ("pkcs11:token=ca", true),
        ("pkcs11:token=ca;serial=12;slot-id=4;object=x", true),
        ("pkcs11:token=CA", false),
        ("pkcs11:token=ca;serial=13", false),
        ("pkcs11:slot-id=5", false),
        ("pkcs11:token=ca;model=x", false),
        ("pkcs11:token=ca;manufacturer=x", false),
    ] {
        assert_eq!(parse(uri).unwrap().is_of(&token), fits, "{uri}");
    }
}

#[test]
fn a_key_takes_the_place_of_another_in_the_same_token() {
    let uri = parse("pkcs11:token=t;object=a;id=%01?module-path=/m").unwrap();
    let other = uri.with_key(Some("ü;"), None).unwrap();
    assert_eq!(other.to_string(), "pkcs11:token=t;object=%C3%BC%3B");
    assert_eq!(uri.with_key(None, None), Err(KeyUriError::NoKey));
    assert_eq!(uri.token_alone().to_string(), "pkcs11:token=t");
    let by_slot = |s| parse(s).unwrap().token_alone().to_string();
    assert_eq!(by_slot("pkcs11:slot-id=7;id=%01"), "pkcs11:slot-id=7");
    assert_eq!(by_slot("pkcs11:slot-id=7;serial=1"), "pkcs11:serial=1");
    assert!(uri.with_key(Some("a\n"), None).is_err());
    assert!(uri.with_key(None, Some(&[])).is_err());
    assert_eq!(
        KeyUri::of_token("a b", "").unwrap().to_string(),
        "pkcs11:token=a%20b"
    );
    assert_eq!(KeyUri::of_token("", ""), Err(KeyUriError::NoToken));
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(
        token in "\\PC{1,8}",
        serial in proptest::option::of("\\PC{1,4}"),
        slot_id in proptest::option::of(any::<u64>()),
        object in proptest::option::of("\\PC{1,60}"),
        id in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..40)),
        module_path in proptest::option::of("/\\PC{0,60}"),
    ) {
        let uri = KeyUri {
            token: Some(token),
            serial,
            slot_id,
            object,
            id,
            module_path: module_path.map(PathBuf::from),
            ..KeyUri::default()
        };
        prop_assert_eq!(KeyUri::parse(&uri.to_string()), Ok(uri));
    }

    #[test]
    fn never_panics(s in "(pkcs11:)?.*") {
        if let Ok(uri) = KeyUri::parse(&s) {
            prop_assert_eq!(KeyUri::parse(&uri.to_string()), Ok(uri));
        }
    }
}
