//! Who may say who an administrator is: `[[admin.oidc]]`.

use std::path::PathBuf;

use http::Uri;

use super::reader::{Fault, Section};
use crate::authn::oidc::{read_jwks, read_roots};

/// An OpenID Connect issuer whose ID tokens administrators show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSettings {
    /// The `iss` of its tokens, byte for byte: an `https` address.
    pub issuer: String,
    /// The `aud` of its tokens, byte for byte: our client id there.
    pub audience: String,
    /// Where its keys come from.
    pub keys: OidcKeys,
    /// The claim that lists an administrator's groups; `groups` by default.
    pub groups_claim: String,
    /// The claim with a name for people, which decides nothing; `email` by default.
    pub name_claim: String,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OidcKeys {
    /// Pinned: a key set in a file, read at the start.
    File(PathBuf),
    /// Fetched, and fetched again.
    Url {
        /// An `https` address. It is the only one that is ever asked, whatever a token or an answer says.
        url: Uri,
        /// Who may have issued the server's certificate there, PEM; this system's roots by default.
        ca_file: Option<PathBuf>,
    },
}

/// The longest issuer, audience or address, in bytes.
const MAX_TEXT_BYTES: usize = 512;
/// The longest name of a claim, in bytes.
const MAX_CLAIM_BYTES: usize = 64;
/// Claims that say something else (RFC 7519 §4.1).
const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

impl OidcSettings {
    /// Reads each `[[admin.oidc]]`.
    pub(super) fn read_all(admin: &mut Section<'_>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        admin.each("oidc", |section| {
            let Some(settings) = Self::read(section) else {
                return;
            };
            // Two clients of one issuer would be one principal with two sets of groups.
            if all.iter().any(|other| other.issuer == settings.issuer) {
                section.fault("issuer", "is named twice".to_owned());
            }
            all.push(settings);
        });
        all
    }

    fn read(section: &mut Section<'_>) -> Option<Self> {
        let issuer = plain(section, "issuer").filter(|issuer| {
            let good = is_https(issuer) && !issuer.contains(['#', '?']);
            if !good {
                let text =
                    "is no https address without query and fragment (OpenID Connect Core §2)";
                section.fault("issuer", text.to_owned());
            }
            good
        });
        let audience = plain(section, "audience");
        let keys = keys(section);
        let groups_claim = claim(section, "groups_claim", "groups");
        let name_claim = claim(section, "name_claim", "email");
        Some(Self {
            issuer: issuer?,
            audience: audience?,
            keys: keys?,
            groups_claim: groups_claim?,
            name_claim: name_claim?,
        })
    }

    /// What is wrong with the files that it names.
    pub(super) fn file_faults(&self) -> Vec<Fault> {
        let fault =
            |key: &str, why: String| Fault::new(&format!("admin.oidc {}: {key}", self.issuer), why);
        let found = match &self.keys {
            OidcKeys::File(file) => read_jwks(file).err().map(|why| ("jwks_file", why)),
            OidcKeys::Url { ca_file, .. } => read_roots(ca_file.as_deref())
                .err()
                .map(|why| ("ca_file", why)),
        };
        found
            .into_iter()
            .map(|(key, why)| fault(key, why.to_string()))
            .collect()
    }

    /// One line for people, as in `config show`.
    pub(super) fn describe(&self) -> String {
        let keys = match &self.keys {
            OidcKeys::File(file) => format!("jwks_file {}", file.display()),
            OidcKeys::Url { url, .. } => format!("jwks_url {url}"),
        };
        format!(
            "admin.oidc = {} for {}, {keys}\n",
            self.issuer, self.audience
        )
    }
}

fn plain(section: &mut Section<'_>, key: &str) -> Option<String> {
    let text: String = section.required(key)?;
    let good =
        (1..=MAX_TEXT_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !good {
        let why = format!("is not 1 to {MAX_TEXT_BYTES} bytes of printable ASCII without spaces");
        section.fault(key, why);
    }
    good.then_some(text)
}

fn claim(section: &mut Section<'_>, key: &str, default: &str) -> Option<String> {
    let name = section.text(key).unwrap_or_else(|| default.to_owned());
    let good = (1..=MAX_CLAIM_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic())
        && !REGISTERED.contains(&name.as_str());
    if !good {
        section.fault(key, format!("{name:?} is no name of such a claim"));
    }
    good.then_some(name)
}

fn is_https(text: &str) -> bool {
    https(text).is_some()
}

/// An address that may be asked: https, a host, and no credentials in it.
fn https(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let good = uri.scheme_str() == Some("https")
        && !authority.host().is_empty()
        && !authority.as_str().contains('@');
    good.then_some(uri)
}

fn keys(section: &mut Section<'_>) -> Option<OidcKeys> {
    let file = section.path("jwks_file");
    let url = section.text("jwks_url");
    let ca_file = section.path("ca_file");
    match (file, url) {
        (Some(file), None) => {
            if ca_file.is_some() {
                let why = "goes with jwks_url: a file is read from this machine";
                section.fault("ca_file", why.to_owned());
            }
            Some(OidcKeys::File(file))
        }
        (None, Some(url)) => {
            let parsed = https(&url).filter(|_| url.len() <= MAX_TEXT_BYTES && !url.contains('#'));
            if parsed.is_none() {
                section.fault(
                    "jwks_url",
                    format!("{url:?} is not like https://idp.example.com/keys"),
                );
            }
            parsed.map(|url| OidcKeys::Url { url, ca_file })
        }
        _ => {
            let why = "one of jwks_file and jwks_url is needed";
            section.fault("jwks_file", why.to_owned());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<OidcSettings>, Vec<String>) {
        let mut faults = Vec::new();
        let mut admin = Section::root(text.parse().unwrap(), &mut faults);
        let all = OidcSettings::read_all(&mut admin);
        admin.finish();
        let paths = faults.iter().map(|fault| fault.path().to_owned());
        (all, paths.collect())
    }

    fn one(more: &str) -> String {
        format!("[[oidc]]\naudience = \"signet\"\n{more}\n")
    }

    #[test]
    fn an_issuer_is_read_with_its_defaults() {
        let (all, faults) = read(&one(
            "issuer = \"https://idp.example.com/r\"\njwks_url = \"https://idp.example.com:8443/keys?v=1\"",
        ));
        assert!(faults.is_empty(), "{faults:?}");
        let [settings] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!(
            (settings.groups_claim.as_str(), settings.name_claim.as_str()),
            ("groups", "email")
        );
        assert!(
            settings
                .describe()
                .contains("for signet, jwks_url https://idp")
        );
        let (all, faults) = read(&one("issuer = \"https://idp\"\njwks_file = \"/keys.json\""));
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(all[0].keys, OidcKeys::File("/keys.json".into()));
    }

    #[test]
    fn what_cannot_be_meant_is_a_fault() {
        let good = "issuer = \"https://idp\"";
        let url = "jwks_url = \"https://idp/keys\"";
        for (text, path) in [
            (one(url), "oidc[0].issuer"),
            (
                one(&format!("issuer = \"http://idp\"\n{url}")),
                "oidc[0].issuer",
            ),
            (
                one(&format!("issuer = \"https://idp#x\"\n{url}")),
                "oidc[0].issuer",
            ),
            (
                one(&format!("issuer = \"https://idp/?x\"\n{url}")),
                "oidc[0].issuer",
            ),
            (
                one(&format!("issuer = \"https://i dp\"\n{url}")),
                "oidc[0].issuer",
            ),
            (format!("[[oidc]]\n{good}\n{url}"), "oidc[0].audience"),
            (
                format!("[[oidc]]\n{good}\n{url}\naudience = \"\""),
                "oidc[0].audience",
            ),
            (one(good), "oidc[0].jwks_file"),
            (
                one(&format!("{good}\n{url}\njwks_file = \"x\"")),
                "oidc[0].jwks_file",
            ),
            (
                one(&format!("{good}\njwks_file = \"x\"\nca_file = \"y\"")),
                "oidc[0].ca_file",
            ),
            (
                one(&format!("{good}\njwks_url = \"http://idp/keys\"")),
                "oidc[0].jwks_url",
            ),
            (
                one(&format!("{good}\njwks_url = \"file:///etc/shadow\"")),
                "oidc[0].jwks_url",
            ),
            (
                one(&format!("{good}\njwks_url = \"https://u:p@idp/keys\"")),
                "oidc[0].jwks_url",
            ),
            (
                one(&format!("{good}\njwks_url = \"/keys\"")),
                "oidc[0].jwks_url",
            ),
            (
                one(&format!("{good}\n{url}\ngroups_claim = \"sub\"")),
                "oidc[0].groups_claim",
            ),
            (
                one(&format!("{good}\n{url}\nname_claim = \"\"")),
                "oidc[0].name_claim",
            ),
            (one(&format!("{good}\n{url}\ntypo = 1")), "oidc[0].typo"),
            (one(&format!("{good}\n{url}")).repeat(2), "oidc[1].issuer"),
            ("oidc = 7".to_owned(), "oidc"),
        ] {
            let (_, faults) = read(&text);
            assert_eq!(faults, [path], "{text}");
        }
    }

    #[test]
    fn files_that_do_not_read_are_faults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        std::fs::write(&file, r#"{"keys":[]}"#).unwrap();
        for keys in [
            OidcKeys::File(folder.path().join("missing")),
            OidcKeys::File(file.clone()),
            OidcKeys::Url {
                url: "https://idp/keys".parse().unwrap(),
                ca_file: Some(file),
            },
        ] {
            let settings = OidcSettings {
                issuer: "https://idp".to_owned(),
                audience: "signet".to_owned(),
                keys,
                groups_claim: "groups".to_owned(),
                name_claim: "email".to_owned(),
            };
            assert_eq!(settings.file_faults().len(), 1);
        }
    }
}
