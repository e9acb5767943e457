//! Whether a change of a cluster gives anybody more.

use pki::policy;

use super::ClusterDefinition;

/// In what a definition gives more than the one before it: in words, none for what gives as much or less.
#[must_use]
pub fn widens(before: &ClusterDefinition, after: &ClusterDefinition) -> Vec<String> {
    let mut found: Vec<String> = match (before.policy(), after.policy()) {
        (Ok(before), Ok(after)) => policy::widens(&before, &after)
            .iter()
            .map(ToString::to_string)
            .collect(),
        // Refused where it is put in force.
        _ => vec!["the policy does not hold together".to_owned()],
    };
    for issuer in &after.token_issuers {
        if !before.token_issuers.contains(issuer) {
            found.push(format!("token issuer {} is new or changed", issuer.issuer));
        }
    }
    // A token is held against the issuers in their order, and where none of them answers for it the API server is asked.
    let (kept, gone): (Vec<_>, Vec<_>) = before
        .token_issuers
        .iter()
        .partition(|issuer| after.token_issuers.contains(issuer));
    for issuer in gone {
        let name = &issuer.issuer;
        if after.token_review.is_some() || kept.iter().any(|kept| kept.issuer == *name) {
            found.push(format!("tokens of {name} are held against others' bounds"));
        }
    }
    let known = after.token_issuers.iter();
    let known = known.filter(|issuer| before.token_issuers.contains(issuer));
    if !kept.into_iter().eq(known) {
        found.push("token issuers are asked in another order".to_owned());
    }
    if after.token_review.is_some() && after.token_review != before.token_review {
        found.push("token_review is new or changed".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn issuer(name: &str, lifetime: &str) -> Value {
        json!({ "issuer": name, "jwks": { "keys": [] }, "max_token_lifetime": lifetime })
    }

    fn with(issuers: &[Value], review: Option<&str>) -> ClusterDefinition {
        let mut definition = json!({ "name": "c", "trust_domain": "d", "token_issuer": issuers });
        if let Some(kubeconfig) = review {
            definition["token_review"] = json!({ "server": { "kubeconfig": kubeconfig } });
        }
        serde_json::from_value(definition).unwrap()
    }

    #[test]
    fn an_issuer_that_goes_gives_more_where_its_tokens_are_reviewed_then() {
        let (a, b) = (issuer("https://a", "1h"), issuer("https://b", "1h"));
        let both = [a.clone(), b.clone()];
        assert!(widens(&with(&both, None), &with(&both[..1], None)).is_empty());
        assert!(widens(&with(&both, Some("k")), &with(&both, Some("k"))).is_empty());
        assert!(!widens(&with(&both, Some("k")), &with(&both[..1], Some("k"))).is_empty());
        assert!(!widens(&with(&both, None), &with(&[b.clone(), a.clone()], None)).is_empty());
        assert!(!widens(&with(&[a], None), &with(&[b], None)).is_empty());
        assert!(!widens(&with(&[], None), &with(&[], Some("k"))).is_empty());
    }

    #[test]
    fn which_of_two_issuers_of_one_name_was_the_stricter_is_not_asked() {
        let (strict, lax) = (issuer("https://a", "1h"), issuer("https://a", "9d"));
        let both = [strict.clone(), lax.clone()];
        assert!(!widens(&with(&both, None), &with(&[lax], None)).is_empty());
        assert!(!widens(&with(&both, None), &with(&[strict], None)).is_empty());
    }
}
