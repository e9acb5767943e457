//! The words that descriptions are made of.
//!
//! What is described comes from strangers and ends on a terminal: control characters never leave here as they came.

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::asn1::{self, Der, DerError};
use crate::time::Timestamp;

/// A thing in words: facts in the order in which a reader wants them.
///
/// `Display` writes a block of text, one fact a line; as JSON it is one object. Keys are stable, values are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    kind: &'static str,
    facts: Vec<(&'static str, Fact)>,
}

/// What a description says under one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Fact {
    /// One thing.
    One(String),
    /// Several, or none.
    Many(Vec<String>),
}

impl Description {
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            facts: Vec::new(),
        }
    }

    pub(super) fn say(&mut self, key: &'static str, value: impl fmt::Display) {
        let value = printable(&value.to_string());
        self.facts.push((key, Fact::One(value)));
    }

    /// An empty list is not said.
    pub(super) fn list<T: fmt::Display>(
        &mut self,
        key: &'static str,
        values: impl IntoIterator<Item = T>,
    ) {
        let values: Vec<String> = values
            .into_iter()
            .map(|value| printable(&value.to_string()))
            .collect();
        if !values.is_empty() {
            self.facts.push((key, Fact::Many(values)));
        }
    }

    /// What kind of thing it is: `certificate`, `request`, `crl` or `private-key`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What it says under `key`.
    #[must_use]
    pub fn fact(&self, key: &str) -> Option<&Fact> {
        self.facts
            .iter()
            .find(|(known, _)| *known == key)
            .map(|(_, fact)| fact)
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.kind)?;
        for (key, fact) in &self.facts {
            let label = key.replace('_', " ");
            match fact {
                Fact::One(value) => writeln!(f, "  {label:<16} {value}")?,
                Fact::Many(values) => {
                    for (i, value) in values.iter().enumerate() {
                        let label = if i == 0 { label.as_str() } else { "" };
                        writeln!(f, "  {label:<16} {value}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Serialize for Description {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.facts.len() + 1))?;
        map.serialize_entry("kind", self.kind)?;
        for (key, fact) in &self.facts {
            map.serialize_entry(key, fact)?;
        }
        map.end()
    }
}

/// `text` with control characters, and those that turn the direction of writing, spelled out.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            let escaped = (c.is_control() || turns).then(|| c.escape_unicode());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// A length of time in its largest whole unit: `3 days`, `1 hour`.
pub(super) fn span(seconds: i64) -> String {
    const UNITS: [(i64, &str); 4] = [
        (2 * 86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let seconds = seconds.max(0);
    let (from, unit) = UNITS
        .into_iter()
        .find(|(from, _)| seconds >= *from)
        .unwrap_or((1, "second"));
    // Hours are counted up to two days, so that a day's certificate is seen to shrink.
    let length = if unit == "day" { 86_400 } else { from };
    let count = seconds / length;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// Where `now` stands to a validity.
pub(super) fn standing(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> String {
    if now < not_before {
        format!(
            "not valid yet: begins in {}",
            span(not_before.seconds_since(now))
        )
    } else if now > not_after {
        format!("EXPIRED {} ago", span(now.seconds_since(not_after)))
    } else {
        format!("valid now, {} left", span(not_after.seconds_since(now)))
    }
}

const ATTRIBUTES: [(&[u8], &str); 8] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x05], "serialNumber"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19],
        "DC",
    ),
];

/// A distinguished name in the order in which it is written, `O=Signet, CN=root`, fit for a terminal.
#[must_use]
pub fn name(der: &[u8]) -> String {
    match attributes(der) {
        Ok(parts) if parts.is_empty() => "(empty)".to_owned(),
        Ok(parts) => printable(&parts.join(", ")),
        Err(_) => "(not a distinguished name)".to_owned(),
    }
}

fn attributes(der: &[u8]) -> Result<Vec<String>, DerError> {
    let mut rdns = Der::new(Der::only(der, asn1::SEQUENCE)?)?;
    let mut parts = Vec::new();
    while !rdns.is_empty() {
        let mut set = Der::new(rdns.content(asn1::SET)?)?;
        while !set.is_empty() {
            let mut attribute = Der::new(set.content(asn1::SEQUENCE)?)?;
            let kind = attribute.content(asn1::OID)?;
            let (_, value) = attribute.any()?;
            let kind = ATTRIBUTES
                .iter()
                .find(|(known, _)| *known == kind)
                .map_or_else(|| oid(kind), |(_, short)| (*short).to_owned());
            parts.push(format!("{kind}={}", String::from_utf8_lossy(value)));
        }
    }
    Ok(parts)
}

/// An object identifier's content octets in dotted decimal (X.690 §8.19).
pub(super) fn oid(content: &[u8]) -> String {
    let mut arcs: Vec<u128> = Vec::new();
    let mut arc = 0u128;
    for byte in content {
        arc = (arc << 7) | u128::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - 40 * first]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    let arcs: Vec<String> = arcs.iter().map(u128::to_string).collect();
    arcs.join(".")
}

/// Hexadecimal in pairs, as OpenSSL prints it.
pub(super) fn pairs(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\u{202e}b"), "a\\u{1b}[2J\\u{202e}b");
        assert_eq!(printable("Köln"), "Köln");
    }

    #[test]
    fn spans_are_said_in_their_largest_unit() {
        for (seconds, words) in [
            (-5, "0 seconds"),
            (1, "1 second"),
            (3_599, "59 minutes"),
            (86_400, "24 hours"),
            (2 * 86_400, "2 days"),
        ] {
            assert_eq!(span(seconds), words);
        }
    }

    #[test]
    fn object_identifiers_are_dotted() {
        assert_eq!(oid(&[0x55, 0x1d, 0x11]), "2.5.29.17");
        assert_eq!(
            oid(&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37]),
            "1.3.6.1.4.1.311"
        );
        assert_eq!(oid(&[0x88, 0x37, 0x03]), "2.999.3");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, seconds: i64) {
            let _ = (oid(&bytes), name(&bytes), span(seconds));
        }
    }
}
