//! DER by hand, right or wrong on purpose: what no library would write.

/// Tag, length, content.
#[must_use]
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&[tag][..], &length(content.len()), &content].concat()
}

/// A definite length in as few octets as it takes (X.690 §10.1).
#[must_use]
pub fn length(n: usize) -> Vec<u8> {
    if n < 0x80 {
        return vec![u8::try_from(n).unwrap_or(0x7f)];
    }
    let octets: Vec<u8> = n
        .to_be_bytes()
        .into_iter()
        .skip_while(|octet| *octet == 0)
        .collect();
    let count = u8::try_from(octets.len()).unwrap_or(8);
    [&[0x80 | count][..], &octets].concat()
}

/// SEQUENCE.
#[must_use]
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

/// SET.
#[must_use]
pub fn set(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x31, parts)
}

/// A non-negative INTEGER from big-endian octets.
#[must_use]
pub fn integer(octets: &[u8]) -> Vec<u8> {
    let start = octets.iter().position(|octet| *octet != 0);
    let magnitude = start.map_or(&[0][..], |start| &octets[start..]);
    let pad: &[u8] = if magnitude[0] & 0x80 == 0 { &[] } else { &[0] };
    tlv(2, &[pad, magnitude])
}

/// BIT STRING without unused bits.
#[must_use]
pub fn bits(octets: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], octets])
}

/// OBJECT IDENTIFIER from its dotted form; arcs that are no numbers are left out.
#[must_use]
pub fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted
        .split('.')
        .filter_map(|arc| arc.parse().ok())
        .collect();
    let mut content = Vec::new();
    for (i, arc) in arcs.iter().enumerate().skip(1) {
        let value = if i == 1 { arcs[0] * 40 + arc } else { *arc };
        let groups = (1..10)
            .rev()
            .map(|i| value >> (7 * i))
            .filter(|rest| *rest != 0);
        content.extend(groups.map(|rest| 0x80 | low_seven(rest)));
        content.push(low_seven(value));
    }
    tlv(6, &[&content])
}

fn low_seven(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or(0)
}

/// An Extension.
#[must_use]
pub fn extension(dotted: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&oid(dotted), critical, &tlv(4, &[value])])
}

/// An attribute of a request that asks for `extensions`, under `dotted`.
#[must_use]
pub fn extension_request(dotted: &str, extensions: &[&[u8]]) -> Vec<u8> {
    sequence(&[&oid(dotted), &set(&[&sequence(extensions)])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_x690_writes() {
        assert_eq!(
            oid("1.2.840.113549"),
            [6, 6, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]
        );
        assert_eq!(oid("2.5.29.17"), [6, 3, 0x55, 0x1d, 0x11]);
        assert_eq!(integer(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[]), [2, 1, 0]);
        assert_eq!(length(0x100), [0x82, 1, 0]);
    }
}
