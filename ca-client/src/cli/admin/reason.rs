//! Why something is revoked.

use pki::crl::Reason;

/// Reasons of certificates. What is no reason to revoke for good says what to do in its place.
pub(super) fn of_certificate(text: &str) -> Result<Reason, String> {
    const ACCEPTED: &str = "unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn";
    let why = match text {
        "certificateHold" => "a hold can be lifted again: `ca certificate hold` puts on hold",
        "removeFromCRL" => "it says that a hold was lifted: `ca certificate lift` does that",
        "cACompromise" => "it is an authority's reason: `ca authority revoke` takes it",
        "aACompromise" => {
            "it is for attribute certificates, which are not issued here (RFC 5280 §5.3.1)"
        }
        text => match text.parse() {
            Ok(reason) => return Ok(reason),
            Err(_) => "it is no reason of RFC 5280 §5.3.1's",
        },
    };
    Err(format!("{why}; expected {ACCEPTED}"))
}

/// Reasons of authorities.
pub(super) fn of_authority(text: &str) -> Result<Reason, String> {
    match text {
        "certificateHold" | "removeFromCRL" => {
            Err("an authority is not put on hold: its revocation cannot be taken back".to_owned())
        }
        "cACompromise" => Ok(Reason::CaCompromise),
        text => of_certificate(text)
            .map_err(|error| error.replace("keyCompromise,", "keyCompromise, cACompromise,")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_says_something_else_says_what_to_do() {
        assert_eq!(of_certificate("superseded"), Ok(Reason::Superseded));
        assert!(
            of_certificate("certificateHold")
                .unwrap_err()
                .contains("hold")
        );
        assert!(of_certificate("cACompromise").is_err());
        assert_eq!(of_authority("cACompromise"), Ok(Reason::CaCompromise));
        assert!(of_authority("x").unwrap_err().contains("cACompromise"));
        assert!(of_authority("certificateHold").is_err());
    }
}
