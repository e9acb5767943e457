//! What shares give back, what they refuse, and that fewer than enough tell nothing.

use super::*;
use proptest::prelude::*;

const ROOT: &str = "O=\"Test\", CN=\"Root 1\"";
const FIVE: [&str; 5] = ["Ada", "Bert", "Cleo", "Dora", "Émile"];

fn three_of_five(secret: &[u8]) -> Vec<Share> {
    split(secret, ROOT, 3, &FIVE).unwrap()
}

fn gathered(shares: &[Share], which: &[usize]) -> Gathered {
    let mut gathered = Gathered::default();
    for i in which {
        gathered.add(shares[*i].clone()).unwrap();
    }
    gathered
}

#[test]
fn any_three_of_five_give_the_secret_and_two_say_how_many_are_missing() {
    let secret = fresh_secret().unwrap();
    let shares = three_of_five(&secret);
    for a in 0..5 {
        for b in 0..5 {
            for c in 0..5 {
                if a != b && b != c && a != c {
                    let found = gathered(&shares, &[a, b, c]).combine().unwrap();
                    assert_eq!(found, secret);
                }
            }
        }
    }
    assert_eq!(
        gathered(&shares, &[4, 2, 0, 1, 3]).combine().unwrap(),
        secret
    );
    let few = gathered(&shares, &[1, 3]).combine().unwrap_err();
    assert_eq!(few, SharesError::TooFew { missing: 1 });
    assert_eq!(few.to_string(), "too few shares: 1 more is needed");
    assert_eq!(Gathered::default().combine(), Err(SharesError::None));
}

#[test]
fn a_share_comes_back_from_its_text() {
    let shares = three_of_five(b"1234");
    let text = shares[4].to_text();
    assert_eq!(Share::parse(text.as_bytes()), Ok(shares[4].clone()));
    let untidy = text.to_lowercase().replace("\n", "\r\n\r\n  ");
    let untidy = untidy
        .replace(
            "-----begin signet share-----",
            "-----BEGIN SIGNET SHARE-----",
        )
        .replace("-----end signet share-----", "-----END SIGNET SHARE-----")
        .replace("o=\"test\", cn=\"root 1\"", ROOT)
        .replace("émile", "Émile");
    assert_eq!(Share::parse(untidy.as_bytes()), Ok(shares[4].clone()));
    assert_eq!(
        (shares[4].number(), shares[4].count(), shares[4].threshold()),
        (5, 5, 3)
    );
    let shown = format!("{:?}", shares[4]);
    for line in text.lines().skip(5) {
        assert!(line.is_empty() || !shown.contains(line));
    }
}

/// `text` with the group `group` of the coded line `line` changed in its first character.
fn mistyped(text: &str, line: usize, group: usize) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let start = 4 + 5 * group + usize::from(group == 4);
    let row = &mut lines[5 + line - 1];
    let other = if &row[start..=start] == "7" { "8" } else { "7" };
    row.replace_range(start..=start, other);
    lines.join("\n")
}

#[test]
fn every_mistyped_group_is_found_with_its_line() {
    let shares = three_of_five(&fresh_secret().unwrap());
    let text = shares[0].to_text();
    for line in 1..=6 {
        for group in 0..5 {
            let error = Share::parse(mistyped(&text, line, group).as_bytes()).unwrap_err();
            assert_eq!(error, ShareError::Line { line }, "group {group}");
        }
    }
}

#[test]
fn what_stands_beside_the_lines_is_checked_as_well() {
    let shares = three_of_five(b"1234");
    let text = shares[0].to_text();
    for (from, to, why) in [
        ("Ada", "Bert", ShareError::Name),
        ("Root 1", "Root 2", ShareError::Name),
        ("any 3", "any 2", ShareError::Words),
        ("1 of 5", "2 of 5", ShareError::Words),
        ("holder:", "keeper:", ShareError::NotAShare),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, *text);
        let error = Share::parse(changed.as_bytes()).unwrap_err();
        assert_eq!(error, why, "{to}");
    }
    let lines: Vec<&str> = text.lines().collect();
    let without = [&lines[..7], &lines[11..]].concat().join("\n");
    let error = Share::parse(without.as_bytes()).unwrap_err();
    assert_eq!(error, ShareError::Missing { line: 3 });
    let twice = text.repeat(2);
    assert_eq!(Share::parse(twice.as_bytes()), Err(ShareError::NotAShare));
    let long = vec![b'-'; MAX_SHARE_BYTES + 1];
    assert_eq!(Share::parse(&long), Err(ShareError::TooLarge));
}

#[test]
fn another_share_of_the_same_set_does_not_lend_its_lines() {
    let shares = three_of_five(&fresh_secret().unwrap());
    let (ada, bert) = (shares[0].to_text(), shares[1].to_text());
    let (from, to) = (ada.lines().nth(7).unwrap(), bert.lines().nth(7).unwrap());
    let mixed = ada.replace(from, to);
    assert_eq!(
        Share::parse(mixed.as_bytes()),
        Err(ShareError::Line { line: 3 })
    );
}

#[test]
fn shares_that_do_not_belong_together_say_so() {
    let (ours, theirs) = (three_of_five(b"1234"), three_of_five(b"1234"));
    let mut gathered = gathered(&ours, &[0]);
    let error = gathered.add(theirs[1].clone()).unwrap_err();
    assert!(matches!(error, SharesError::OtherSet { .. }), "{error}");
    let error = gathered.add(ours[0].clone()).unwrap_err();
    assert_eq!(error, SharesError::Twice { number: 1 });
    // One person with two shares: a second one made out to the same name.
    let (a, b) = (&ours[0], &ours[1]);
    let data = Zeroizing::new(b.data().to_vec());
    let again = Share::new(ROOT, a.holder(), (3, 5, 2), b.head().set, data).unwrap();
    assert_eq!(gathered.add(again), Err(SharesError::OneHolder));
}

#[test]
fn a_share_that_was_made_up_gives_nothing() {
    let shares = three_of_five(&fresh_secret().unwrap());
    let mut data = Zeroizing::new(shares[2].data().to_vec());
    data[20] ^= 1;
    let forged = Share::new(ROOT, "Cleo", (3, 5, 3), shares[2].head().set, data).unwrap();
    let mut gathered = gathered(&shares, &[0, 1]);
    gathered.add(forged).unwrap();
    assert_eq!(gathered.combine(), Err(SharesError::DoNotFit));
}

#[test]
fn schemes_and_secrets_that_make_no_sense_are_refused() {
    let scheme = |threshold, holders: &[&str]| split(b"1234", ROOT, threshold, holders).err();
    assert_eq!(scheme(2, &["Ada", "Bert"]), None);
    for (threshold, holders) in [
        (1, &["Ada", "Bert"][..]),
        (3, &["Ada", "Bert"]),
        (2, &["Ada", "Ada"]),
        (2, &["Ada"]),
        (2, &["Ada", "Be\nrt"]),
        (2, &["Ada", ""]),
        (2, &["Ada", " Bert"]),
        (2, &["x"; 17]),
    ] {
        assert_eq!(scheme(threshold, holders), Some(SharesError::Scheme));
    }
    for length in [0, MAX_SECRET_BYTES + 1, 1000] {
        let error = split(&vec![1; length], ROOT, 2, &["Ada", "Bert"]).unwrap_err();
        assert_eq!(error, SharesError::SecretLength);
    }
    let long = split(&[1; MAX_SECRET_BYTES], ROOT, 2, &["Ada", "Bert"]).unwrap();
    assert!(long[0].to_text().len() <= MAX_SHARE_BYTES);
    let found = gathered(&long, &[1, 0]).combine().unwrap();
    assert_eq!(found.as_slice(), [1; MAX_SECRET_BYTES]);
}

/// Coefficients have to be uniform, zero among them: where zero never came (RUSTSEC-2024-0398), a share never equalled
/// the secret, and each one that was seen ruled a value out.
#[test]
fn a_share_may_be_any_octet_whatever_the_secret() {
    let mut seen = [0u32; 256];
    for _ in 0..400 {
        let shares = split(b"1234", ROOT, 2, &["Ada", "Bert"]).unwrap();
        // The padding is zero: its shares are coefficient times number.
        for octet in &shares[0].data()[5..42] {
            seen[usize::from(*octet)] += 1;
        }
    }
    // 14,800 draws, 58 for each value: to see fewer than 15 of one by chance would take longer than the sun lasts.
    assert!(seen.iter().all(|n| *n >= 15), "{seen:?}");
}

#[test]
fn a_share_is_typed_line_by_line_and_a_wrong_line_again() {
    let shares = three_of_five(b"1234");
    let text = shares[2].to_text();
    let mut typing = Typing::default();
    assert_eq!(typing.next(), (1, None));
    for line in text.lines().skip(5).take(6) {
        let (at, _) = typing.next();
        let wrong = ShareError::Line { line: at };
        assert_eq!(typing.line("0000 0000 0000 0000 0000"), Err(wrong));
        typing.line(line.split_once(':').unwrap().1).unwrap();
        assert_eq!(typing.next(), (at + 1, Some(6)));
    }
    assert!(typing.is_complete());
    assert_eq!(typing.line("x"), Err(ShareError::NotAShare));
    assert_eq!(typing.finish(ROOT, "Cleo"), Ok(shares[2].clone()));
}

proptest! {
    #[test]
    fn reading_never_panics(text: Vec<u8>, middle in "[0-9A-Z :\n]{0,300}") {
        let _ = Share::parse(&text);
        let text = format!("-----BEGIN SIGNET SHARE-----\nroot: r\nholder: h\nshare: s\n{middle}");
        let _ = Share::parse(text.as_bytes());
    }

    #[test]
    fn every_secret_comes_back(secret in prop::collection::vec(any::<u8>(), 1..=MAX_SECRET_BYTES), threshold in 2u8..=5) {
        let shares = split(&secret, ROOT, threshold, &FIVE).unwrap();
        let which: Vec<usize> = (0..usize::from(threshold)).collect();
        prop_assert_eq!(&*gathered(&shares, &which).combine().unwrap(), &secret);
    }
}
