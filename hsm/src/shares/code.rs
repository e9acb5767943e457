//! Ten octets as a line that people type: sixteen characters of Crockford's base 32 in groups of four, and a group
//! that checks them.

use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

/// Octets of a line.
pub(super) const LINE_BYTES: usize = 10;
/// Without I, L, O and U, so that nothing looks like something else.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUP: usize = 4;
const DATA_CHARACTERS: usize = 16;
const CHARACTERS: usize = DATA_CHARACTERS + GROUP;
const CONTEXT: &[u8] = b"signet share line v1\n";

/// One line's octets.
pub(super) type Line = Zeroizing<[u8; LINE_BYTES]>;

/// Writes a line: `ABCD EFGH JKMN PQRS  TVWX`. `index` counts from 1; `head` is the share's first line, to which every
/// other one is bound.
pub(super) fn encode(line: &[u8; LINE_BYTES], index: usize, head: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(CHARACTERS + GROUP + 2));
    let check = check(line, index, head);
    for (i, character) in characters(line).chain(check.iter().copied()).enumerate() {
        if i == DATA_CHARACTERS {
            text.push_str("  ");
        } else if i > 0 && i % GROUP == 0 {
            text.push(' ');
        }
        text.push(char::from(character));
    }
    text
}

/// Reads a line, however it is spaced; `None` when its check does not fit.
pub(super) fn decode(text: &str, index: usize, head: &[u8]) -> Option<Line> {
    let mut values = Zeroizing::new([0u8; CHARACTERS]);
    let mut found = 0;
    for character in text.bytes().filter(|b| !matches!(b, b' ' | b'\t' | b'-')) {
        *values.get_mut(found)? = value(character)?;
        found += 1;
    }
    if found != CHARACTERS {
        return None;
    }
    let (data, given) = values.split_at(DATA_CHARACTERS);
    let mut line = Zeroizing::new([0u8; LINE_BYTES]);
    // Eight characters of five bits are five octets.
    for (characters, octets) in data.chunks(8).zip(line.chunks_mut(5)) {
        let bits = characters
            .iter()
            .fold(0u64, |bits, v| bits << 5 | u64::from(*v));
        octets.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    let wanted = check(&line, index, head).map(value);
    given
        .iter()
        .zip(wanted)
        .all(|(given, wanted)| Some(*given) == wanted)
        .then_some(line)
}

/// The group that checks a line: 20 bits of a digest, so that one mistake in a million is taken.
fn check(line: &[u8; LINE_BYTES], index: usize, head: &[u8]) -> [u8; GROUP] {
    let mut context = Context::new(&SHA256);
    context.update(CONTEXT);
    context.update(&index.to_be_bytes());
    context.update(head);
    context.update(line);
    let digest = context.finish();
    let bytes = digest.as_ref();
    let bits = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) >> 4;
    [15, 10, 5, 0].map(|shift| ALPHABET[(bits >> shift & 31) as usize])
}

fn characters(line: &[u8; LINE_BYTES]) -> impl Iterator<Item = u8> {
    line.chunks(5).flat_map(|octets| {
        let bits = octets
            .iter()
            .fold(0u64, |bits, o| bits << 8 | u64::from(*o));
        [35, 30, 25, 20, 15, 10, 5, 0].map(|shift| ALPHABET[(bits >> shift & 31) as usize])
    })
}

/// What a character stands for; those that look like another stand for the same.
fn value(character: u8) -> Option<u8> {
    let character = match character.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    let position = ALPHABET.iter().position(|known| *known == character)?;
    u8::try_from(position).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_line_comes_back_and_no_single_mistake_passes(
            line: [u8; LINE_BYTES], index in 1usize..15, head: [u8; 4], at in 0usize..20, other in 0usize..32,
        ) {
            let text = encode(&line, index, &head);
            prop_assert_eq!(*decode(&text, index, &head).unwrap(), line);
            prop_assert_eq!(*decode(&text.to_lowercase().replace(' ', "-"), index, &head).unwrap(), line);
            let mut wrong: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
            if wrong[at] != ALPHABET[other] {
                wrong[at] = ALPHABET[other];
                let wrong = String::from_utf8(wrong).unwrap();
                prop_assert!(decode(&wrong, index, &head).is_none());
            }
        }
    }

    #[test]
    fn a_line_of_another_place_or_share_is_refused() {
        let line = [7; LINE_BYTES];
        let text = encode(&line, 2, b"head");
        assert_eq!(text.len(), 25);
        assert!(decode(&text, 3, b"head").is_none());
        assert!(decode(&text, 2, b"Head").is_none());
        assert!(decode(&text[..24], 2, b"head").is_none());
        assert!(decode(&format!("{} 0", *text), 2, b"head").is_none());
        // What looks alike is alike.
        let zeros = encode(&[0; LINE_BYTES], 1, b"");
        assert!(decode(&zeros.replace('0', "o").replace('1', "l"), 1, b"").is_some());
    }
}
