//! A private key in a file: PKCS#8 under a passphrase (RFC 5958 §3, PBES2 of RFC 8018 with scrypt of RFC 7914), as
//! PEM. OpenSSL 3 reads what is written here.
//!
//! Who can write a key file chooses its cost, so the cost is bounded before anything is derived.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use pem_rfc7468::LineEnding;
use pkcs8::der::{Decode, Encode};
use pkcs8::pkcs5::{EncryptionScheme, pbes2};
use pkcs8::{EncryptedPrivateKeyInfoOwned, EncryptedPrivateKeyInfoRef};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::signer::Signer;
use crate::software::{KeyLoadError, SoftwareSigner};

/// The largest key file that is read.
pub const MAX_FILE_BYTES: usize = 16 * 1024;
/// The shortest passphrase: below it scrypt is no help. The same bounds as in [`crate::sealed`].
const PASSPHRASE_MIN_BYTES: usize = 12;
/// The longest passphrase that is read.
const PASSPHRASE_MAX_BYTES: usize = 1024;
/// scrypt with N = 2^14, r = 8, p = 12: 16 MiB, twelve times over, some 0.4 s. OpenSSL 3.0 cannot read N = 2^15 and
/// above at r = 8.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 12;
/// The dearest file that is opened: 128 MiB.
const MAX_SCRYPT_N: u64 = 1 << 17;
const MAX_SCRYPT_R: u16 = 8;
const MAX_SCRYPT_P: u16 = 16;
const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// Writes a new key file: mode 0600, never over another one, durable when this returns.
///
/// A crash before the return leaves no file, or a file that holds a part of the key encrypted and does not open.
///
/// # Errors
/// When the passphrase has fewer than 12 or more than 1024 bytes (trailing line ends not counted), the file exists, or
/// it cannot be written; what was begun is then removed.
pub fn write_new(path: &Path, pkcs8: &[u8], passphrase: &[u8]) -> Result<(), KeyFileError> {
    let pem = encrypt(pkcs8, passphrase)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    if let Err(error) = file
        .write_all(pem.as_bytes())
        .and_then(|()| file.sync_all())
    {
        // Ours: `create_new` made it. The write's error is the one worth telling.
        let _ = std::fs::remove_file(path);
        return Err(error.into());
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

/// Opens a key file.
///
/// # Errors
/// As [`decrypt`], and when the file cannot be read.
pub fn open(path: &Path, passphrase: &[u8]) -> Result<SoftwareSigner, KeyFileError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    decrypt(&bytes, passphrase)
}

/// Encrypts the DER of a PKCS#8 PrivateKeyInfo, under a salt and an initialization vector of its own.
///
/// # Errors
/// When the passphrase is too short or too long, or the system gives no randomness.
pub fn encrypt(pkcs8: &[u8], passphrase: &[u8]) -> Result<String, KeyFileError> {
    let passphrase = bounded(passphrase)?;
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    let random = SystemRandom::new();
    random
        .fill(&mut salt)
        .and_then(|()| random.fill(&mut iv))
        .map_err(|_| KeyLoadError::NoRandomness)?;
    let cost = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P)
        .map_err(|_| KeyFileError::NotEncrypted)?;
    let parameters = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
        .map_err(|_| KeyFileError::NotEncrypted)?;
    let encrypted = parameters
        .encrypt(passphrase, pkcs8)
        .map_err(|_| KeyFileError::NotEncrypted)?;
    let info = EncryptedPrivateKeyInfoOwned {
        encryption_algorithm: parameters.into(),
        encrypted_data: pkcs8::der::asn1::OctetString::new(encrypted)
            .map_err(|_| KeyFileError::NotEncrypted)?,
    };
    let der = info.to_der().map_err(|_| KeyFileError::NotEncrypted)?;
    pem_rfc7468::encode_string(LABEL, LineEnding::LF, &der).map_err(|_| KeyFileError::NotEncrypted)
}

/// Opens the text of a key file.
///
/// # Errors
/// When it is too large, not an encrypted key, encrypted in another way than with scrypt and AES-256-CBC or at a
/// higher cost than we pay. A wrong passphrase and a changed file give one and the same error.
pub fn decrypt(text: &[u8], passphrase: &[u8]) -> Result<SoftwareSigner, KeyFileError> {
    open_text(text, passphrase).map(|(signer, _)| signer)
}

/// Encrypts the key of a key file under another passphrase, at our cost, whatever the cost before; the signer is the
/// key as the new text gives it.
///
/// # Errors
/// As [`decrypt`] and [`encrypt`].
pub fn reencrypt(
    text: &[u8],
    passphrase: &[u8],
    new_passphrase: &[u8],
) -> Result<(SoftwareSigner, String), KeyFileError> {
    let (before, pkcs8) = open_text(text, passphrase)?;
    let new = encrypt(&pkcs8, new_passphrase)?;
    // A file that does not open would be found out at the next ceremony: too late.
    let after = decrypt(new.as_bytes(), new_passphrase)?;
    if after.public_key() != before.public_key() {
        return Err(KeyFileError::NotEncrypted);
    }
    Ok((after, new))
}

/// The key, and its PKCS#8.
fn open_text(
    text: &[u8],
    passphrase: &[u8],
) -> Result<(SoftwareSigner, Zeroizing<Vec<u8>>), KeyFileError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(KeyFileError::TooLarge);
    }
    let passphrase = bounded(passphrase)?;
    let (label, der) = pem_rfc7468::decode_vec(text).map_err(|_| KeyFileError::NotAKeyFile)?;
    if label != LABEL {
        return Err(KeyFileError::NotAKeyFile);
    }
    let info = EncryptedPrivateKeyInfoRef::from_der(&der).map_err(|_| KeyFileError::NotAKeyFile)?;
    let parameters = affordable(&info.encryption_algorithm)?;
    let mut buffer = Zeroizing::new(info.encrypted_data.as_bytes().to_vec());
    let length = parameters
        .decrypt_in_place(passphrase, &mut buffer)
        .map_err(|_| KeyFileError::DoesNotOpen)?
        .len();
    buffer.truncate(length);
    // Under a wrong passphrase the padding is right once in 256 times: rubbish that loads as no key is the same error.
    let signer = SoftwareSigner::from_pkcs8(&buffer).map_err(|_| KeyFileError::DoesNotOpen)?;
    Ok((signer, buffer))
}

fn affordable(scheme: &EncryptionScheme) -> Result<&pbes2::Parameters, KeyFileError> {
    let parameters = scheme.pbes2().ok_or(KeyFileError::Scheme)?;
    let (Some(scrypt), pbes2::EncryptionScheme::Aes256Cbc { .. }) =
        (parameters.kdf.scrypt(), &parameters.encryption)
    else {
        return Err(KeyFileError::Scheme);
    };
    if scrypt.cost_parameter > MAX_SCRYPT_N
        || scrypt.block_size > MAX_SCRYPT_R
        || scrypt.parallelization > MAX_SCRYPT_P
    {
        return Err(KeyFileError::Cost);
    }
    Ok(parameters)
}

/// The passphrase without its trailing line ends, when its length is acceptable.
fn bounded(passphrase: &[u8]) -> Result<&[u8], KeyFileError> {
    let end = passphrase
        .iter()
        .rposition(|b| !matches!(b, b'\n' | b'\r'))
        .map_or(0, |i| i + 1);
    let passphrase = &passphrase[..end];
    if (PASSPHRASE_MIN_BYTES..=PASSPHRASE_MAX_BYTES).contains(&passphrase.len()) {
        Ok(passphrase)
    } else {
        Err(KeyFileError::PassphraseLength)
    }
}

/// Why a key file was not written or opened. Nothing of the key or the passphrase is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It would cost more to open than we pay.
    #[error("the key file asks for more than scrypt with N = 2^17, r = 8, p = 16")]
    Cost,
    /// Wrong passphrase, or changed bytes.
    #[error("the key file does not open: a wrong passphrase, or changed bytes")]
    DoesNotOpen,
    /// The file could not be read or written.
    #[error("the key file cannot be read or written")]
    Io(#[from] io::Error),
    /// No key to encrypt, or no randomness.
    #[error("no key")]
    Key(#[from] KeyLoadError),
    /// Not PEM of an encrypted key.
    #[error("not a key file: expected one PEM block {LABEL:?}")]
    NotAKeyFile,
    /// The encryption failed.
    #[error("the key could not be encrypted")]
    NotEncrypted,
    /// A passphrase too short or too long.
    #[error("a passphrase has 12 to 1024 bytes")]
    PassphraseLength,
    /// Encrypted in a way that we do not read.
    #[error("the key file is not encrypted with scrypt and AES-256-CBC (PBES2)")]
    Scheme,
    /// More bytes than are read.
    #[error("the key file has more than {MAX_FILE_BYTES} bytes")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::key::KeyAlgorithm;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    const PASSPHRASE: &[u8] = b"correct horse battery\n";

    fn key_in(directory: &Path) -> (std::path::PathBuf, SoftwareSigner) {
        let (signer, pkcs8) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP384).unwrap();
        let path = directory.join("root.key");
        write_new(&path, &pkcs8, PASSPHRASE).unwrap();
        (path, signer)
    }

    #[test]
    fn a_key_file_opens_under_its_passphrase_and_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (path, signer) = key_in(directory.path());
        let opened = open(&path, b"correct horse battery").unwrap();
        assert_eq!(opened.public_key(), signer.public_key());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for wrong in [&b"wrong horse battery!"[..], b"correct horse battery "] {
            assert!(matches!(open(&path, wrong), Err(KeyFileError::DoesNotOpen)));
        }
        for length in [0, 11, 1025] {
            assert!(matches!(
                open(&path, &vec![b'x'; length]),
                Err(KeyFileError::PassphraseLength)
            ));
        }
    }

    #[test]
    fn a_key_file_is_never_written_over_another() {
        let directory = tempfile::tempdir().unwrap();
        let (path, _) = key_in(directory.path());
        let before = std::fs::read(&path).unwrap();
        let (_, pkcs8) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let error = write_new(&path, &pkcs8, PASSPHRASE).unwrap_err();
        assert!(matches!(&error, KeyFileError::Io(e) if e.kind() == io::ErrorKind::AlreadyExists));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn openssl_opens_the_key_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, signer) = key_in(directory.path());
        let Ok(output) = Command::new("openssl")
            .args(["pkey", "-pubout", "-outform", "DER", "-passin"])
            .arg("pass:correct horse battery")
            .arg("-in")
            .arg(&path)
            .output()
        else {
            return;
        };
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, signer.public_key().spki());
    }

    #[test]
    fn a_key_file_of_openssls_is_taken_over_at_our_cost() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let openssl = |arguments: &[&str]| {
            Command::new("openssl")
                .args(arguments)
                .current_dir(directory.path())
                .output()
        };
        for curve in ["P-256", "P-384"] {
            let curve = format!("ec_paramgen_curve:{curve}");
            let genpkey = ["genpkey", "-algorithm", "EC", "-pkeyopt", &curve];
            let Ok(output) = openssl(&[&genpkey[..], &["-out", "plain.pem"]].concat()) else {
                return;
            };
            assert!(output.status.success(), "{output:?}");
            let topk8 = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-scrypt"];
            let files = ["-in", "plain.pem", "-out", "theirs.pem"];
            let under = ["-passout", "pass:a passphrase of theirs"];
            let output = openssl(&[&topk8[..], &files, &under].concat()).unwrap();
            assert!(output.status.success(), "{output:?}");
            let public = ["pkey", "-in", "plain.pem", "-pubout", "-outform", "DER"];
            let public = openssl(&public).unwrap().stdout;

            let theirs = std::fs::read(path("theirs.pem")).unwrap();
            let (signer, ours) = reencrypt(&theirs, b"a passphrase of theirs", PASSPHRASE).unwrap();
            assert_eq!(signer.public_key().spki(), public);
            std::fs::write(path("ours.pem"), &ours).unwrap();
            let under = ["-passin", "pass:correct horse battery"];
            let back = ["pkey", "-in", "ours.pem", "-pubout", "-outform", "DER"];
            assert_eq!(
                openssl(&[&back[..], &under].concat()).unwrap().stdout,
                public
            );
            let cost = |text: &[u8]| {
                let (_, der) = pem_rfc7468::decode_vec(text).unwrap();
                let info = EncryptedPrivateKeyInfoRef::from_der(&der).unwrap();
                let scheme = info.encryption_algorithm.pbes2().unwrap();
                scheme.kdf.scrypt().unwrap().parallelization
            };
            assert_eq!((cost(&theirs), cost(ours.as_bytes())), (1, 12));
            assert!(matches!(
                reencrypt(&theirs, PASSPHRASE, PASSPHRASE),
                Err(KeyFileError::DoesNotOpen)
            ));
            assert!(matches!(
                reencrypt(&theirs, b"a passphrase of theirs", b"short"),
                Err(KeyFileError::PassphraseLength)
            ));
        }
    }

    fn with_parameters(change: impl FnOnce(&mut pbes2::Parameters)) -> Vec<u8> {
        let (_, pkcs8) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let pem = encrypt(&pkcs8, PASSPHRASE).unwrap();
        let (_, der) = pem_rfc7468::decode_vec(pem.as_bytes()).unwrap();
        let mut info = EncryptedPrivateKeyInfoOwned::from_der(&der).unwrap();
        let mut parameters = info.encryption_algorithm.pbes2().unwrap().clone();
        change(&mut parameters);
        info.encryption_algorithm = parameters.into();
        pem_rfc7468::encode_string(LABEL, LineEnding::LF, &info.to_der().unwrap())
            .unwrap()
            .into_bytes()
    }

    #[test]
    fn a_hostile_cost_is_refused_before_anything_is_derived() {
        type Change = fn(&mut pbes2::ScryptParams);
        let changes: [Change; 3] = [
            |s| s.cost_parameter = 1 << 18,
            |s| s.block_size = 9,
            |s| s.parallelization = 17,
        ];
        for change in changes {
            let file = with_parameters(|parameters| {
                let pbes2::Kdf::Scrypt(scrypt) = &mut parameters.kdf else {
                    panic!("not scrypt");
                };
                change(scrypt);
            });
            let error = decrypt(&file, PASSPHRASE).unwrap_err();
            assert!(matches!(error, KeyFileError::Cost), "{error}");
        }
        let pbkdf2 = with_parameters(|parameters| {
            parameters.kdf = pbes2::Pbkdf2Params::hmac_sha256(1_000, &[7; 16])
                .unwrap()
                .into();
        });
        assert!(matches!(
            decrypt(&pbkdf2, PASSPHRASE),
            Err(KeyFileError::Scheme)
        ));
        assert!(matches!(
            decrypt(&vec![b'-'; MAX_FILE_BYTES + 1], PASSPHRASE),
            Err(KeyFileError::TooLarge)
        ));
        assert!(matches!(
            decrypt(b"-----BEGIN PRIVATE KEY-----\n", PASSPHRASE),
            Err(KeyFileError::NotAKeyFile)
        ));
    }
}
