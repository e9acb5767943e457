//! Keys and requests made by OpenSSL: a second pair of hands beside rcgen, and the only one with RSA.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::parts;

/// A kind of key that `openssl genpkey` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyKind {
    /// What it is called in labels and file names.
    pub label: &'static str,
    algorithm: &'static str,
    option: &'static str,
    digest: &'static str,
}

const fn kind(
    label: &'static str,
    algorithm: &'static str,
    option: &'static str,
    digest: &'static str,
) -> KeyKind {
    KeyKind {
        label,
        algorithm,
        option,
        digest,
    }
}

/// Every kind that the leaf profiles take; requests of each are signed with another SHA-2.
pub const LEAF_KINDS: [KeyKind; 5] = [
    kind("p256", "EC", "ec_paramgen_curve:P-256", "-sha256"),
    kind("p384", "EC", "ec_paramgen_curve:P-384", "-sha384"),
    kind("rsa2048", "RSA", "rsa_keygen_bits:2048", "-sha256"),
    kind("rsa3072", "RSA", "rsa_keygen_bits:3072", "-sha384"),
    kind("rsa4096", "RSA", "rsa_keygen_bits:4096", "-sha512"),
];

/// A private key file of OpenSSL's, PKCS#8 PEM.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its kind.
    pub kind: KeyKind,
    file: PathBuf,
}

impl Key {
    /// Makes a key in `folder`.
    ///
    /// # Errors
    /// When there is no `openssl`, or it fails.
    pub fn generate(kind: KeyKind, folder: &Path) -> Result<Self> {
        let file = folder.join(format!("{}.key", kind.label));
        parts::stdout(
            Command::new("openssl")
                .args(["genpkey", "-algorithm", kind.algorithm])
                .args(["-pkeyopt", kind.option, "-out"])
                .arg(&file),
        )?;
        Ok(Self { kind, file })
    }

    /// The DER of a request with these alternative names, in OpenSSL's notation (`DNS:a,IP:192.0.2.1`; none where
    /// empty), and an empty subject.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn request(&self, alt_names: &str) -> Result<Vec<u8>> {
        let mut command = Command::new("openssl");
        command
            .args(["req", "-new", "-batch", "-subj", "/", "-outform", "DER"])
            .args([self.kind.digest, "-key"])
            .arg(&self.file);
        if !alt_names.is_empty() {
            command.args(["-addext", &format!("subjectAltName={alt_names}")]);
        }
        parts::stdout(&mut command)
    }
}
