//! Who we are to the server: a token or the current certificate.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use pki::name::ClusterName;
use tonic::metadata::{Ascii, MetadataValue};
use zeroize::Zeroizing;

/// What an enrolment token begins with, so that it is told from other secrets in a file or a leak.
const ENROLMENT_PREFIX: &str = "signet_enrol_";
/// The most bytes of a token: Kubernetes' have about 1,000.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;
/// The path that means standard input.
const STDIN: &str = "-";

/// A bearer token. It is wiped when dropped and never printed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes a token as it stands in a file: white space around it is dropped.
    ///
    /// # Errors
    /// When it is empty, longer than 16 KiB or has other characters than visible ASCII.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let text = text.trim();
        let fits = u64::try_from(text.len()).is_ok_and(|length| length <= MAX_TOKEN_BYTES);
        if text.is_empty() || !fits || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(CredentialsError::NotAToken);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The value of `authorization`, marked so that HTTP/2 does not put it into its header table.
    pub(crate) fn bearer(&self) -> Result<MetadataValue<Ascii>, CredentialsError> {
        let text = Zeroizing::new(format!("Bearer {}", self.0.as_str()));
        let mut value: MetadataValue<Ascii> =
            text.parse().map_err(|_| CredentialsError::NotAToken)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

/// The proof of who we are.
#[derive(Clone)]
pub enum Credentials {
    /// The current certificate, as TLS client certificate.
    Certificate {
        /// PEM, leaf first.
        chain: String,
        /// PEM of its PKCS#8 key.
        key: Zeroizing<String>,
    },
    /// An enrolment token.
    Enrolment(Token),
    /// A Kubernetes service account's token.
    Token {
        /// The token, made for the CA's audience.
        token: Token,
        /// The cluster whose API server made it.
        cluster: ClusterName,
    },
}

impl Credentials {
    /// Takes an enrolment token.
    ///
    /// # Errors
    /// When it is not a token, or does not begin as an enrolment token does.
    pub fn enrolment(text: &str) -> Result<Self, CredentialsError> {
        let token = Token::parse(text)?;
        if !token.0.starts_with(ENROLMENT_PREFIX) {
            return Err(CredentialsError::NotAnEnrolmentToken);
        }
        Ok(Self::Enrolment(token))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate { .. } => "Credentials(certificate)",
            Self::Enrolment(_) => "Credentials(enrolment token)",
            Self::Token { .. } => "Credentials(service-account token)",
        })
    }
}

/// Where a token lies. It is read when it is needed: the platform replaces it every hour or so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// A file with an enrolment token; `-` is standard input.
    EnrolmentTokenFile(PathBuf),
    /// A file with a Kubernetes service account's token; `-` is standard input.
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The cluster whose API server made it.
        cluster: ClusterName,
    },
}

impl CredentialSource {
    /// Reads it.
    ///
    /// # Errors
    /// When the file does not read or holds no token.
    pub fn read(&self) -> Result<Credentials, CredentialsError> {
        match self {
            Self::EnrolmentTokenFile(path) => Credentials::enrolment(&read_token(path)?),
            Self::TokenFile { path, cluster } => Ok(Credentials::Token {
                token: Token::parse(&read_token(path)?)?,
                cluster: cluster.clone(),
            }),
        }
    }
}

/// A token's file, or standard input for `-`, as far as a token can be.
pub(crate) fn read_token(path: &Path) -> Result<Zeroizing<String>, CredentialsError> {
    let mut text = Zeroizing::new(String::new());
    let limit = MAX_TOKEN_BYTES + 1;
    let read = if path == Path::new(STDIN) {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    read.map_err(|source| CredentialsError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(text)
}

/// Why a proof of who we are is not usable. Nothing of a token is in it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file does not read.
    #[error("cannot read the token file {path:?}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate that proves nothing in a TLS handshake, and no token.
    #[error(
        "the certificate is not good for TLS clients, so it cannot prove who renews it: enrol with a token file that stays"
    )]
    NotAClient,
    /// Not a token.
    #[error(
        "what was given as token is empty, longer than 16 KiB or not one word of visible ASCII"
    )]
    NotAToken,
    /// A token of another kind.
    #[error("not an enrolment token: one begins with {ENROLMENT_PREFIX:?}")]
    NotAnEnrolmentToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_one_word_and_never_printed() {
        let token = Token::parse(" abc.def\n").unwrap();
        assert_eq!(token.bearer().unwrap().to_str().unwrap(), "Bearer abc.def");
        assert!(token.bearer().unwrap().is_sensitive());
        assert!(!format!("{token:?}").contains("abc"));
        for bad in ["", " \n", "a b", "a\nb", "ä", &"x".repeat(16 * 1024 + 1)] {
            assert!(Token::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_enrolment_token_is_told_by_its_prefix() {
        assert!(Credentials::enrolment("signet_enrol_abc").is_ok());
        assert!(matches!(
            Credentials::enrolment("eyJhbGciOi"),
            Err(CredentialsError::NotAnEnrolmentToken)
        ));
    }
}
