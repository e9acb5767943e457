//! Where a key came from, as its token tells.

use std::fmt;

/// What a token says of a key's past and of its ways out (PKCS#11 §4.9, §4.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyOrigin {
    /// `CKA_LOCAL`: made in the token, by it.
    pub local: bool,
    /// `CKA_SENSITIVE`: cannot be read in the clear.
    pub sensitive: bool,
    /// `CKA_ALWAYS_SENSITIVE`: never could be.
    pub always_sensitive: bool,
    /// `CKA_EXTRACTABLE`: can be taken out, wrapped under another key.
    pub extractable: bool,
    /// `CKA_NEVER_EXTRACTABLE`: never could be.
    pub never_extractable: bool,
}

impl KeyOrigin {
    /// Whether the key was made in its token and neither could nor can leave it. It is as good as the token's word: what a
    /// module written to lie says is no proof.
    #[must_use]
    pub fn is_confined(&self) -> bool {
        self.local && self.always_sensitive && self.never_extractable && self.cannot_leave()
    }

    /// Whether the key cannot leave its token now, wherever it came from.
    #[must_use]
    pub fn cannot_leave(&self) -> bool {
        self.sensitive && !self.extractable
    }
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.local {
            "made in the token"
        } else {
            "brought into the token from outside"
        })?;
        f.write_str(match (self.sensitive, self.extractable) {
            (true, false) => ", cannot leave it",
            (true, true) => ", can leave it wrapped (CKA_EXTRACTABLE)",
            (false, _) => ", can be read out of it (not CKA_SENSITIVE)",
        })?;
        f.write_str(match (self.always_sensitive, self.never_extractable) {
            (true, true) => " and never could",
            _ => "; may have left it before",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFINED: KeyOrigin = KeyOrigin {
        local: true,
        sensitive: true,
        always_sensitive: true,
        extractable: false,
        never_extractable: true,
    };

    #[test]
    fn a_key_is_confined_only_when_every_word_says_so() {
        assert!(CONFINED.is_confined());
        assert_eq!(
            CONFINED.to_string(),
            "made in the token, cannot leave it and never could"
        );
        type Change = fn(&mut KeyOrigin);
        let changes: [(Change, &str); 5] = [
            (
                |o| o.local = false,
                "brought into the token from outside, cannot leave it and never could",
            ),
            (
                |o| o.sensitive = false,
                "made in the token, can be read out of it (not CKA_SENSITIVE) and never could",
            ),
            (
                |o| o.always_sensitive = false,
                "made in the token, cannot leave it; may have left it before",
            ),
            (
                |o| o.extractable = true,
                "made in the token, can leave it wrapped (CKA_EXTRACTABLE) and never could",
            ),
            (
                |o| o.never_extractable = false,
                "made in the token, cannot leave it; may have left it before",
            ),
        ];
        for (change, words) in changes {
            let mut origin = CONFINED;
            change(&mut origin);
            assert!(!origin.is_confined(), "{words}");
            assert_eq!(origin.to_string(), words);
        }
    }
}
