//! What a cluster's rules may be, beyond what they mean.

use super::ClusterDefinition;
use crate::app::{Error, ErrorKind, printable};

/// The most rules of a cluster, and the most names that they give in all.
const MAX_RULES: usize = 256;
const MAX_RULE_NAMES: usize = 4_096;
/// The longest name of a rule, in characters.
const MAX_RULE_NAME: usize = 64;

impl ClusterDefinition {
    /// Whether the rules keep within bounds: every request is held against every name that they give, and what a rule is
    /// called goes into records and logs. Not asked of what is in force already.
    ///
    /// # Errors
    /// `Malformed` when they do not.
    pub fn check_rules(&self) -> Result<(), Error> {
        let malformed = |text: String| Error::new(ErrorKind::Malformed, "cluster", text);
        let names: usize = self.rules.iter().map(|it| it.dns.len() + it.ip.len()).sum();
        if self.rules.len() > MAX_RULES || names > MAX_RULE_NAMES {
            return Err(malformed(format!(
                "{} rules with {names} names and addresses: a cluster has {MAX_RULES} rules with {MAX_RULE_NAMES} at most",
                self.rules.len()
            )));
        }
        let is_plain = |name: &str| {
            let length = name.chars().count();
            (1..=MAX_RULE_NAME).contains(&length) && printable(name) == name
        };
        match self.rules.iter().position(|rule| !is_plain(&rule.name)) {
            Some(at) => Err(malformed(format!(
                "rule {}: its name has not 1 to {MAX_RULE_NAME} printable characters",
                at + 1
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(rules: &[(&str, usize)]) -> ClusterDefinition {
        let rules: Vec<_> = rules
            .iter()
            .map(|(name, names)| {
                let dns: Vec<_> = (0..*names).map(|n| format!("h{n}.example.com")).collect();
                serde_json::json!({ "name": name, "profile": "server", "callers": "spiffe://d/*", "dns": dns })
            })
            .collect();
        let definition = serde_json::json!({ "name": "c", "trust_domain": "d", "rule": rules });
        serde_json::from_value(definition).unwrap()
    }

    #[test]
    fn what_a_rule_is_called_begins_no_line_of_a_log() {
        for good in ["gateways", "Straßen 1-9", &"x".repeat(MAX_RULE_NAME)] {
            with(&[(good, 1)]).check_rules().unwrap();
        }
        for bad in [
            "",
            "a\nINFO forged",
            "\u{1b}[2J",
            "a\0",
            &"x".repeat(MAX_RULE_NAME + 1),
        ] {
            let error = with(&[("good", 1), (bad, 1)]).check_rules().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{bad:?}");
            assert!(!error.to_string().contains(['\n', '\u{1b}']), "{error}");
        }
    }

    #[test]
    fn rules_are_bounded_in_number_and_in_all() {
        let half = MAX_RULE_NAMES / 2;
        with(&[("a", half), ("b", half)]).check_rules().unwrap();
        assert!(with(&[("a", half), ("b", half + 1)]).check_rules().is_err());
        assert!(with(&vec![("a", 0); MAX_RULES]).check_rules().is_ok());
        assert!(with(&vec![("a", 0); MAX_RULES + 1]).check_rules().is_err());
    }
}
