//! What an ID token says, and whether it says it to us, now.

use std::collections::BTreeMap;
use std::fmt;

use pki::time::{Timestamp, Ttl};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::authn::token::error::{clip, clip_list};
use crate::authn::token::{LEEWAY_SECONDS, check_window};
use crate::authn::token::{TokenError, TokenPart, VerifiedPayload};
use crate::config::OidcSettings;

/// Who an ID token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSubject {
    /// The issuer that says so.
    pub issuer: String,
    /// Its id there (`sub`): 1 to 255 printable ASCII characters without spaces. It never changes, and is no one else's.
    pub subject: String,
    /// Its groups, in the token's order, each once.
    pub groups: Vec<String>,
    /// What people call it. An issuer may let it change that itself: nothing is decided by it.
    pub name: Option<String>,
}

/// The longest that an ID token may have been made to live; with its end checked no older one passes.
const MAX_AGE: Ttl = Ttl::hours(24);
/// The longest subject, group or name, in bytes (OpenID Connect Core §2 for the subject).
const MAX_TEXT_BYTES: usize = 255;

/// Whether the claims are for us, and now.
pub(super) fn check(
    payload: &VerifiedPayload,
    settings: &OidcSettings,
    now: Timestamp,
) -> Result<OidcSubject, TokenError> {
    let claims: Claims = serde_json::from_slice(payload.as_bytes())
        .map_err(|e| TokenError::json(TokenPart::Payload, &e))?;
    let issuer = claims.text("iss")?;
    if issuer != settings.issuer {
        return Err(TokenError::Issuer {
            got: clip(issuer),
            expected: vec![settings.issuer.clone()],
        });
    }
    let audiences = claims.texts("aud")?.ok_or_else(|| missing("aud"))?;
    // One audience: whoever else a token is for could show it here.
    if audiences != [settings.audience.as_str()] {
        let audiences: Vec<String> = audiences.into_iter().map(str::to_owned).collect();
        return Err(TokenError::Audience {
            got: clip_list(&audiences),
            expected: vec![settings.audience.clone()],
        });
    }
    let time = |name| claims.time(name)?.ok_or_else(|| missing(name));
    let (expires_at, issued_at) = (time("exp")?, time("iat")?);
    let not_before = claims
        .time("nbf")?
        .map_or(issued_at, |nbf| nbf.max(issued_at));
    check_window(not_before, expires_at, now)?;
    let seconds = expires_at.seconds_since(issued_at);
    if seconds <= 0 || seconds > MAX_AGE.seconds() + LEEWAY_SECONDS {
        return Err(TokenError::Lifetime {
            seconds,
            longest: MAX_AGE,
        });
    }
    Ok(OidcSubject {
        issuer: issuer.to_owned(),
        subject: claims.subject()?,
        groups: claims.groups(&settings.groups_claim)?,
        name: claims.name(&settings.name_claim)?,
    })
}

/// Every claim of a payload, each once.
struct Claims(BTreeMap<String, Value>);

impl Claims {
    fn text(&self, name: &'static str) -> Result<&str, TokenError> {
        match self.0.get(name) {
            None => Err(missing(name)),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(wrong_type(name)),
        }
    }

    /// A text or a list of texts, as RFC 7519 §4.1.3 writes audiences; `None` when it is not there.
    fn texts(&self, name: &str) -> Result<Option<Vec<&str>>, TokenError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text])),
            Some(Value::Array(list)) => {
                let texts = list.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
                texts.map(Some).ok_or_else(|| wrong_type(name))
            }
            Some(_) => Err(wrong_type(name)),
        }
    }

    /// Whole seconds since 1970, before the year 10000; `None` when it is not there.
    fn time(&self, name: &'static str) -> Result<Option<Timestamp>, TokenError> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let seconds = value.as_u64().and_then(|value| i64::try_from(value).ok());
        let time = seconds
            .map(Timestamp::from_unix)
            .filter(|time| Some(time.unix()) == seconds);
        time.map(Some).ok_or_else(|| TokenError::Claim {
            claim: name,
            got: clip(&value.to_string()),
            why: "expected whole seconds since 1970, before the year 10000",
        })
    }

    fn subject(&self) -> Result<String, TokenError> {
        let subject = self.text("sub")?;
        let good = (1..=MAX_TEXT_BYTES).contains(&subject.len())
            && subject.bytes().all(|b| b.is_ascii_graphic());
        if !good {
            return Err(TokenError::Subject {
                got: clip(subject),
                why: "expected 1 to 255 printable ASCII characters without spaces",
            });
        }
        Ok(subject.to_owned())
    }

    /// Groups that no role can be bound to are left out.
    fn groups(&self, name: &str) -> Result<Vec<String>, TokenError> {
        let mut groups: Vec<String> = Vec::new();
        for group in self.texts(name)?.unwrap_or_default() {
            if is_shown(group) && !groups.iter().any(|known| known == group) {
                groups.push(group.to_owned());
            }
        }
        Ok(groups)
    }

    fn name(&self, name: &str) -> Result<Option<String>, TokenError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| is_shown(text))),
            Some(_) => Err(wrong_type(name)),
        }
    }
}

/// Whether a text may stand in a list or a log as it is.
fn is_shown(text: &str) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn missing(name: &str) -> TokenError {
    TokenError::Json {
        part: TokenPart::Payload,
        detail: format!("{name:?} is missing"),
    }
}

fn wrong_type(name: &str) -> TokenError {
    TokenError::Json {
        part: TokenPart::Payload,
        detail: format!("{name:?} is of another type"),
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim comes twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Each)
    }
}
