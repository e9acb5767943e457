//! Who takes part: witnesses, and the holders of shares.

use std::collections::BTreeSet;
use std::fmt;

use crate::ceremony::fault::{Faults, Section};
use crate::ceremony::file_name::FileName;

/// The most witnesses of a ceremony.
const MAX_WITNESSES: usize = 16;
/// The most holders of shares: `hsm::shares` gives a share's number four bits.
const MAX_HOLDERS: usize = 16;
const MAX_CHARACTERS: usize = 60;
const DEFAULT_PREFIX: &str = "share";

/// A person's name as a plan writes it: 1 to 60 printable characters, no space at an end, no two in a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Person(String);

/// Not a person's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a person's name: 1 to {MAX_CHARACTERS} printable characters, no space at an end, no two in a row"
)]
pub struct PersonError;

impl Person {
    /// Takes a name.
    ///
    /// # Errors
    /// When it is empty or too long, does not print, or is spaced so that two people could look like one.
    pub fn parse(name: &str) -> Result<Self, PersonError> {
        // As `{:?}` escapes it, less the quotes and what it escapes for them: what does not print stands out.
        let prints = name
            .chars()
            .all(|c| matches!(c, '\'' | '"') || c.escape_debug().eq([c]));
        let plain = (1..=MAX_CHARACTERS).contains(&name.chars().count())
            && prints
            && !name.contains('\\')
            && !name.contains("  ")
            && name.trim() == name;
        plain.then(|| Self(name.to_owned())).ok_or(PersonError)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Person {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Person {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// How what opens a new key is split.
#[derive(Clone, Debug)]
pub struct Sharing {
    threshold: u8,
    holders: Vec<Person>,
    /// `None` when the shares are shown on the terminal and written by hand.
    files: Option<Vec<FileName>>,
}

impl Sharing {
    /// How many shares it takes.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Who gets one, in the order of their numbers.
    #[must_use]
    pub fn holders(&self) -> &[Person] {
        &self.holders
    }

    /// The file of each holder's share; none when they are shown on the terminal.
    #[must_use]
    pub fn files(&self) -> Option<&[FileName]> {
        self.files.as_deref()
    }

    /// What happens, for people.
    pub(super) fn words(&self) -> Vec<String> {
        let (threshold, count) = (self.threshold, self.holders.len());
        let mut words = vec![format!(
            "  opened by   any {threshold} of {count} shares; there is no passphrase that one person knows"
        )];
        for (i, holder) in self.holders.iter().enumerate() {
            let place = match &self.files {
                Some(files) => format!("into {}", files[i]),
                None => "shown on the terminal".to_owned(),
            };
            words.push(format!(
                "              share {} of {holder}, {place}",
                i + 1
            ));
        }
        words
    }
}

/// Names of a plan, each once.
pub(super) fn people(section: &mut Section, faults: &mut Faults, key: &str) -> Vec<Person> {
    let at = section.at(key);
    let values = match section.take(key) {
        None => return Vec::new(),
        Some(toml::Value::Array(values)) if values.len() <= MAX_WITNESSES => values,
        Some(_) => {
            let what = format!("expected at most {MAX_WITNESSES} names");
            faults.push(at, what);
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, value) in values.iter().enumerate() {
        match value.as_str().map(Person::parse) {
            // "ada" and "Ada" would be one person with two shares.
            Some(Ok(name)) if seen.insert(name.as_str().to_lowercase()) => names.push(name),
            Some(Ok(name)) => faults.push(format!("{at}[{i}]"), format!("{name} stands twice")),
            Some(Err(error)) => faults.push(format!("{at}[{i}]"), error),
            None => faults.push(format!("{at}[{i}]"), "expected a text"),
        }
    }
    names
}

/// The section `[shares]`.
pub(super) fn sharing(mut section: Section, faults: &mut Faults) -> Option<Sharing> {
    let before = faults.all().len();
    let holders = people(&mut section, faults, "holders");
    let at = section.at("holders");
    if !(2..=MAX_HOLDERS).contains(&holders.len()) && faults.all().len() == before {
        faults.push(at, format_args!("expected 2 to {MAX_HOLDERS} names"));
    }
    let at = section.at("threshold");
    let threshold = section.take("threshold").and_then(|v| v.as_integer());
    let threshold = threshold.and_then(|n| u8::try_from(n).ok());
    let threshold = threshold.filter(|n| (2..=holders.len()).contains(&usize::from(*n)));
    if threshold.is_none() {
        let what = "expected a number from 2 to that of the holders";
        faults.push(at, what);
    }
    let prefix = section.optional(faults, "prefix", FileName::parse);
    let at = section.at("show");
    let show = match section.take("show") {
        None => false,
        Some(toml::Value::Boolean(show)) => show,
        Some(_) => {
            faults.push(at, "expected true or false");
            false
        }
    };
    section.end(faults);
    let prefix = prefix.as_ref().map_or(DEFAULT_PREFIX, FileName::as_str);
    let files = (1..=holders.len())
        .map(|n| FileName::parse(&format!("{prefix}-{n}.txt")))
        .collect::<Result<_, _>>()
        .map_err(|error| faults.push("shares.prefix", error));
    (faults.all().len() == before).then_some(())?;
    Some(Sharing {
        threshold: threshold?,
        holders,
        files: (!show).then_some(files.ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_print_as_they_are_are_taken() {
        for good in [
            "Ada Lovelace",
            "Émile",
            "O'Brien",
            "李",
            "Jean-Luc \"JL\" P.",
        ] {
            assert!(Person::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            "Ada ",
            " Ada",
            "Ada  L",
            "A\nB",
            "a\u{202e}b",
            "a\\b",
            "a\tb",
        ] {
            assert!(Person::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Person::parse(&"x".repeat(61)).is_err());
    }
}
