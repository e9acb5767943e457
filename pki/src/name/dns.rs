//! DNS names (RFC 5280 §4.2.1.6, RFC 1034 §3.5).

use super::{NameError, check, name_traits};

/// A host name: letters, digits and hyphens in labels of 1 to 63 bytes, 253 bytes in all, kept in lower case.
/// Its first label may be `*` (RFC 6125 §6.4.3); a profile decides whether it may be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

const KIND: &str = "a DNS name";

impl DnsName {
    /// Takes a host name without a trailing dot.
    ///
    /// # Errors
    /// When a label is empty, too long, begins or ends with `-`, or is all that an IPv4 address would be.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        let rest = s.strip_prefix("*.").unwrap_or(s);
        check(KIND, rest, 253, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '-')
        })?;
        for label in rest.split('.') {
            if label.is_empty()
                || label.len() > 63
                || label.starts_with('-')
                || label.ends_with('-')
            {
                return Err(NameError::shape(
                    KIND,
                    s,
                    "labels have 1 to 63 letters, digits or inner hyphens",
                ));
            }
        }
        let top = rest.rsplit('.').next().unwrap_or(rest);
        if top.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError::shape(
                KIND,
                s,
                "the last label is not all digits",
            ));
        }
        Ok(Self(s.to_ascii_lowercase()))
    }

    /// Whether its first label is `*`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The name as text, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

name_traits!(DnsName);

/// Host names that belong together: a name itself, or with a leading `**.` every name below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsPattern(String);

impl DnsPattern {
    /// Takes a pattern as text: `api.example.com`, `*.example.com` (that very wildcard name) or
    /// `**.example.com` (every name below, wildcards included).
    ///
    /// # Errors
    /// When what follows `**.` is not a host name.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        let name = DnsName::parse(s.strip_prefix("**.").unwrap_or(s))?;
        if s.starts_with("**.") && name.is_wildcard() {
            return Err(NameError::shape(
                "a DNS pattern",
                s,
                "'**.' is followed by a host name",
            ));
        }
        Ok(Self(s.to_ascii_lowercase()))
    }

    /// Whether `name` fits.
    #[must_use]
    pub fn matches(&self, name: &DnsName) -> bool {
        match self.0.strip_prefix("**") {
            Some(below) => name.0.len() > below.len() && name.0.ends_with(below),
            None => self.0 == name.0,
        }
    }

    /// Whether every name that fits `other` fits this too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self.0.strip_prefix("**"), other.0.strip_prefix("**")) {
            (Some(below), Some(other_below)) => other_below.ends_with(below),
            (Some(below), None) => other.0.len() > below.len() && other.0.ends_with(below),
            (None, Some(_)) => false,
            (None, None) => self.0 == other.0,
        }
    }

    /// Whether a name fits both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        // Of two patterns that share a name, one is all of it or below the other.
        self.covers(other) || other.covers(self)
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

name_traits!(DnsPattern);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_not_a_host_name() {
        for bad in [
            "", ".", "a..b", "a.", "-a.b", "a-.b", "1.2.3.4", "a b", "ä.de", "*", "*.", "a.*.b",
            "**.a",
        ] {
            assert!(DnsName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            DnsName::parse("API.Example.com").unwrap().as_str(),
            "api.example.com"
        );
    }

    #[test]
    fn patterns_do_not_match_across_a_label() {
        let below = DnsPattern::parse("**.example.com").unwrap();
        for (name, fits) in [
            ("a.example.com", true),
            ("b.a.example.com", true),
            ("*.example.com", true),
            ("example.com", false),
            ("badexample.com", false),
            ("a.example.com.evil", false),
        ] {
            assert_eq!(
                below.matches(&DnsName::parse(name).unwrap()),
                fits,
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn patterns_are_compared_by_what_fits_them(
            a in "(\\*\\*\\.|\\*\\.)?([ab]\\.){0,2}x",
            b in "(\\*\\*\\.|\\*\\.)?([ab]\\.){0,2}x",
            name in "(\\*\\.)?([ab]\\.){0,3}x",
        ) {
            let (a, b) = (DnsPattern::parse(&a).unwrap(), DnsPattern::parse(&b).unwrap());
            let name = DnsName::parse(&name).unwrap();
            if a.covers(&b) && b.matches(&name) {
                prop_assert!(a.matches(&name));
            }
            if a.matches(&name) && b.matches(&name) {
                prop_assert!(a.overlaps(&b) && b.overlaps(&a));
            }
            prop_assert!(a.covers(&a));
        }
    }
}
