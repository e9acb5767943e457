//! What `ca enroll` was told, remembered beside the identity as `signet.toml`, so that `ca renew --dir D` needs no more.
//!
//! No secret is in it: tokens are remembered by the path of their file.

use std::path::{Path, PathBuf};

use pki::certificate::Certificate;
use pki::name::{ClusterName, ProfileName};
use pki::time::Ttl;
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::credentials::CredentialSource;
use crate::identity::KeyKind;

const FILE: &str = "signet.toml";

/// The settings of one identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The server, `https://host:port`.
    pub server: String,
    /// The name in the server's certificate, where it is not the address's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// PEM file of the roots that vouch for the server.
    pub roots: PathBuf,
    /// Whether the identity's own bundle vouches for the server too: so where the CA serves under its own roots.
    #[serde(default)]
    pub follow_bundle: bool,
    /// The profile; `workload` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileName>,
    /// The lifetime; the profile's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Ttl>,
    /// What kind of key is made.
    #[serde(default)]
    pub key: KeyKind,
    /// A service account's token: the proof once the certificate has expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The cluster of that token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// An enrolment token: the proof once the certificate has expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment_token_file: Option<PathBuf>,
}

impl Settings {
    /// Reads them from an identity's directory; `None` where there are none.
    ///
    /// # Errors
    /// When the file does not read.
    pub fn load(directory: &Path) -> Result<Option<Self>, SettingsError> {
        let path = directory.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SettingsError::Io { path, source }),
        };
        match toml::from_str(&text) {
            Ok(settings) => Ok(Some(settings)),
            Err(source) => Err(SettingsError::Syntax {
                path,
                source: Box::new(source),
            }),
        }
    }

    /// Writes them; a reader sees all of the old ones or all of the new ones.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), SettingsError> {
        let path = directory.join(FILE);
        let text = toml::to_string(self).map_err(|source| SettingsError::NotWritable {
            source: Box::new(source),
        })?;
        let text = format!("# Written by `ca enroll`, read by `ca renew`.\n{text}");
        atomic::write_atomically(&path, text.as_bytes())
            .map_err(|source| SettingsError::Io { path, source })
    }

    /// The proof once the certificate has expired.
    #[must_use]
    pub fn fallback(&self) -> Option<CredentialSource> {
        match (&self.token_file, &self.cluster, &self.enrolment_token_file) {
            (Some(path), Some(cluster), _) => Some(CredentialSource::TokenFile {
                path: path.clone(),
                cluster: cluster.clone(),
            }),
            (_, _, Some(path)) => Some(CredentialSource::EnrolmentTokenFile(path.clone())),
            _ => None,
        }
    }

    /// Remembers where a token lies; standard input is not remembered.
    pub fn remember(&mut self, source: &CredentialSource) {
        let lasting = |path: &Path| {
            (path != Path::new("-")).then(|| std::path::absolute(path).unwrap_or(path.to_owned()))
        };
        match source {
            CredentialSource::EnrolmentTokenFile(path) => self.enrolment_token_file = lasting(path),
            CredentialSource::TokenFile { path, cluster } => {
                self.token_file = lasting(path);
                self.cluster = Some(cluster.clone());
            }
        }
    }
}

/// Whether one of the roots that vouched for the server is among the bundle's: then the CA serves under its own roots,
/// and a change of them is to be followed.
#[must_use]
pub fn serves_under_own_roots(server_roots: &[u8], bundle: &[Certificate]) -> bool {
    Certificate::parse_pem(server_roots)
        .is_ok_and(|roots| roots.iter().any(|root| bundle.contains(root)))
}

/// Why settings were not read or written.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The system said no.
    #[error("cannot read or write {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What no TOML can say.
    #[error("the settings cannot be written")]
    NotWritable {
        /// Why.
        source: Box<toml::ser::Error>,
    },
    /// Not settings.
    #[error("{path:?} does not read; correct it or run `ca enroll` again")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_as_they_were_and_stdin_is_not_remembered() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Settings::load(directory.path()).unwrap(), None);
        let mut settings = Settings {
            server: "https://ca.example:8443".to_owned(),
            server_name: None,
            roots: "/etc/roots.pem".into(),
            follow_bundle: true,
            profile: Some(ProfileName::parse("server").unwrap()),
            ttl: Some(Ttl::hours(2)),
            key: KeyKind::P384,
            token_file: None,
            cluster: None,
            enrolment_token_file: None,
        };
        settings.remember(&CredentialSource::EnrolmentTokenFile("-".into()));
        assert_eq!(settings.fallback(), None);
        let source = CredentialSource::TokenFile {
            path: "/var/run/token".into(),
            cluster: ClusterName::parse("Kubernetes").unwrap(),
        };
        settings.remember(&source);
        settings.save(directory.path()).unwrap();
        let read = Settings::load(directory.path()).unwrap().unwrap();
        assert_eq!(read, settings);
        assert_eq!(read.fallback(), Some(source));
    }
}
