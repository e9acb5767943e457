//! SPIFFE ids and trust domains (SPIFFE-ID §2).

use super::{NameError, check, name_traits};

/// A trust domain: lower-case letters, digits, `.`, `-`, `_`, at most 255 bytes (SPIFFE-ID §2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Takes a trust domain without its scheme.
    ///
    /// # Errors
    /// When it is not of the alphabet or too long.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        check("a trust domain", s, 255, |c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_')
        })?;
        Ok(Self(s.to_owned()))
    }

    /// Takes a trust domain as Istio's mesh configuration writes it: `@` becomes `.`, as Istio does
    /// before it builds identities.
    ///
    /// # Errors
    /// As [`TrustDomain::parse`].
    pub fn parse_istio(s: &str) -> Result<Self, NameError> {
        Self::parse(&s.replace('@', "."))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

name_traits!(TrustDomain);

/// A workload's SPIFFE id: `spiffe://<trust domain>/<path>`, with a path, at most 2048 bytes (SPIFFE-ID §2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    uri: String,
    path_at: usize,
}

const SCHEME: &str = "spiffe://";
const MAX_BYTES: usize = 2048;
const KIND: &str = "a SPIFFE id";

impl SpiffeId {
    /// Takes a SPIFFE id as text. Nothing is normalised: what is not exact is refused.
    ///
    /// # Errors
    /// When the scheme is not `spiffe` in lower case, the trust domain is not one, the path is missing, ends
    /// in `/`, has an empty, `.` or `..` segment or a character outside `[a-zA-Z0-9.-_]`, or the whole is too long.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        let (domain, path) = split(s)?;
        TrustDomain::parse(domain)?;
        for segment in path.split('/') {
            check_segment(s, segment)?;
        }
        Ok(Self {
            uri: s.to_owned(),
            path_at: SCHEME.len() + domain.len(),
        })
    }

    /// Istio's identity of a Kubernetes service account: `spiffe://<td>/ns/<namespace>/sa/<account>`.
    ///
    /// # Errors
    /// When a part cannot stand in a SPIFFE id's path.
    pub fn of_service_account(
        trust_domain: &TrustDomain,
        namespace: &str,
        account: &str,
    ) -> Result<Self, NameError> {
        for part in [namespace, account] {
            check_segment(part, part)?;
        }
        Self::parse(&format!(
            "{SCHEME}{trust_domain}/ns/{namespace}/sa/{account}"
        ))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The trust domain it belongs to.
    #[must_use]
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.uri[SCHEME.len()..self.path_at].to_owned())
    }

    /// Whether it belongs to `trust_domain`.
    #[must_use]
    pub fn is_in(&self, trust_domain: &TrustDomain) -> bool {
        &self.uri[SCHEME.len()..self.path_at] == trust_domain.as_str()
    }

    /// The path, with its leading `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.uri[self.path_at..]
    }
}

name_traits!(SpiffeId);

/// SPIFFE ids that belong together: an id whose segments may be `*` (any one segment), and whose last may be
/// `**` (any one or more).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffePattern(String);

impl SpiffePattern {
    /// Takes a pattern as text.
    ///
    /// # Errors
    /// When, its wildcards aside, it is not a SPIFFE id.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        let (domain, path) = split(s)?;
        TrustDomain::parse(domain)?;
        let last = path.split('/').count() - 1;
        for (i, segment) in path.split('/').enumerate() {
            if segment == "*" || (segment == "**" && i == last) {
                continue;
            }
            check_segment(s, segment)?;
        }
        Ok(Self(s.to_owned()))
    }

    /// The pattern that only `id` fits.
    #[must_use]
    pub fn exactly(id: &SpiffeId) -> Self {
        Self(id.uri.clone())
    }

    /// Whether `id` fits.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        let mut wanted = self.0[SCHEME.len()..].split('/');
        let mut given = id.uri[SCHEME.len()..].split('/');
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some("**"), Some(_)) => return true,
                (Some("*"), Some(_)) => {}
                (Some(w), Some(g)) if w == g => {}
                _ => return false,
            }
        }
    }

    /// Whether every id that fits `other` fits this too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut wide = self.0[SCHEME.len()..].split('/');
        let mut narrow = other.0[SCHEME.len()..].split('/');
        loop {
            match (wide.next(), narrow.next()) {
                (None, None) | (Some("**"), Some(_)) => return true,
                (Some("*"), Some(segment)) if segment != "**" => {}
                (Some(w), Some(n)) if w == n => {}
                _ => return false,
            }
        }
    }

    /// Whether an id fits both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut ours = self.0[SCHEME.len()..].split('/');
        let mut theirs = other.0[SCHEME.len()..].split('/');
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some("**"), Some(_)) | (Some(_), Some("**")) => return true,
                (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }

    /// The one id that fits, where there are no wildcards.
    #[must_use]
    pub fn only(&self) -> Option<SpiffeId> {
        SpiffeId::parse(&self.0).ok()
    }

    /// The trust domain that every id that fits belongs to.
    #[must_use]
    pub fn trust_domain(&self) -> TrustDomain {
        let rest = &self.0[SCHEME.len()..];
        TrustDomain(rest.split('/').next().unwrap_or(rest).to_owned())
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

name_traits!(SpiffePattern);

fn split(s: &str) -> Result<(&str, &str), NameError> {
    if s.len() > MAX_BYTES {
        return Err(NameError::TooLong {
            kind: KIND,
            length: s.len(),
            max: MAX_BYTES,
        });
    }
    let rest = s
        .strip_prefix(SCHEME)
        .ok_or_else(|| NameError::shape(KIND, s, "it begins with spiffe:// in lower case"))?;
    rest.split_once('/')
        .ok_or_else(|| NameError::shape(KIND, s, "a path follows the trust domain (X509-SVID §2)"))
}

fn check_segment(whole: &str, segment: &str) -> Result<(), NameError> {
    if matches!(segment, "" | "." | "..") {
        return Err(NameError::shape(
            KIND,
            whole,
            "no path segment is empty, '.' or '..', and none follows a last '/'",
        ));
    }
    check(KIND, segment, MAX_BYTES, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_the_spiffe_id_standard_forbids() {
        let long = format!("spiffe://td/{}", "a".repeat(2048));
        for bad in [
            "",
            "spiffe://",
            "spiffe:///a",
            "spiffe://td",
            "spiffe://td/",
            "spiffe://td/a/",
            "spiffe://td//a",
            "spiffe://td/./a",
            "spiffe://td/..",
            "SPIFFE://td/a",
            "https://td/a",
            "spiffe://TD/a",
            "spiffe://user@td/a",
            "spiffe://td:80/a",
            "spiffe://td/a?q",
            "spiffe://td/a#f",
            "spiffe://td/%41",
            "spiffe://td/ä",
            "spiffe://td/a\0",
            "spiffe://td/a ",
            " spiffe://td/a",
            "spiffe://t*/a",
            &long,
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn service_accounts_cannot_smuggle_path_segments() {
        let td = TrustDomain::parse("cluster.local").unwrap();
        let id = SpiffeId::of_service_account(&td, "foo", "bar").unwrap();
        assert_eq!(id.as_str(), "spiffe://cluster.local/ns/foo/sa/bar");
        assert!(id.is_in(&td));
        assert_eq!(id.path(), "/ns/foo/sa/bar");
        assert!(SpiffeId::of_service_account(&td, "foo/sa/admin", "x").is_err());
        assert!(SpiffeId::of_service_account(&td, "", "x").is_err());
    }

    #[test]
    fn istios_at_sign_becomes_a_dot() {
        assert_eq!(TrustDomain::parse_istio("a@b.c").unwrap().as_str(), "a.b.c");
    }

    #[test]
    fn patterns_match_whole_segments_only() {
        let id = |s| SpiffeId::parse(s).unwrap();
        let any_account = SpiffePattern::parse("spiffe://td/ns/foo/sa/*").unwrap();
        assert!(any_account.matches(&id("spiffe://td/ns/foo/sa/bar")));
        assert!(!any_account.matches(&id("spiffe://td/ns/foo/sa/bar/x")));
        assert!(!any_account.matches(&id("spiffe://td/ns/foo/sa")));
        assert!(!any_account.matches(&id("spiffe://other/ns/foo/sa/bar")));
        let below = SpiffePattern::parse("spiffe://td/edge/**").unwrap();
        assert!(below.matches(&id("spiffe://td/edge/a/b")));
        assert!(!below.matches(&id("spiffe://td/edge")));
        for bad in ["spiffe://*/a", "spiffe://td/**/a", "spiffe://td/a*"] {
            assert!(SpiffePattern::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_printed_as_it_was(s in "spiffe://[a-z0-9._-]{1,20}(/[a-zA-Z0-9._-]{1,9}){1,4}") {
            if let Ok(id) = SpiffeId::parse(&s) {
                prop_assert_eq!(id.to_string(), s.clone());
                prop_assert!(SpiffePattern::exactly(&id).matches(&id));
                prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), s);
            }
        }

        #[test]
        fn patterns_are_compared_by_what_fits_them(
            a in "spiffe://t(/([ab]|\\*)){1,3}(/\\*\\*)?",
            b in "spiffe://t(/([ab]|\\*)){1,3}(/\\*\\*)?",
            id in "spiffe://t(/[ab]){1,4}",
        ) {
            let (a, b) = (SpiffePattern::parse(&a).unwrap(), SpiffePattern::parse(&b).unwrap());
            let id = SpiffeId::parse(&id).unwrap();
            if a.covers(&b) && b.matches(&id) {
                prop_assert!(a.matches(&id));
            }
            if a.matches(&id) && b.matches(&id) {
                prop_assert!(a.overlaps(&b) && b.overlaps(&a));
            }
            prop_assert!(a.covers(&a));
        }

        #[test]
        fn never_panics(s in ".*") {
            let _ = SpiffeId::parse(&s);
            let _ = SpiffePattern::parse(&s);
        }
    }
}
