//! A token's PIN.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cryptoki::types::RawAuthPin;
use zeroize::{Zeroize, Zeroizing};

/// The longest PIN that is read, in bytes.
const MAX_BYTES: usize = 255;

/// A PIN, in memory that is zeroized. It is shown to the token and nowhere else.
pub struct Pin(RawAuthPin);

impl Pin {
    /// Takes a PIN as it was typed. Trailing line ends are not part of it.
    ///
    /// # Errors
    /// When it is empty or has more than 255 bytes.
    pub fn new(mut bytes: Zeroizing<Vec<u8>>) -> Result<Self, PinFileError> {
        let end = bytes
            .iter()
            .rposition(|b| !matches!(b, b'\n' | b'\r'))
            .map_or(0, |i| i + 1);
        bytes[end..].zeroize();
        bytes.truncate(end);
        if bytes.is_empty() || bytes.len() > MAX_BYTES {
            return Err(PinFileError::Length);
        }
        Ok(Self(RawAuthPin::new(Box::new(std::mem::take(&mut *bytes)))))
    }

    /// Reads a PIN from its file. With it comes the file's mode (permission bits), for who wants to warn that others can
    /// read it.
    ///
    /// # Errors
    /// When there is no such plain file or it cannot be read, and as [`Pin::new`].
    pub fn from_file(path: &Path) -> Result<(Self, u32), PinFileError> {
        // Asked first: opening a pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(PinFileError::NotAFile);
        }
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(PinFileError::NotAFile);
        }
        // One buffer of the largest size, so that nothing is moved and left behind unzeroized.
        let mut bytes = Zeroizing::new(vec![0; MAX_BYTES + 3]);
        let mut length = 0;
        while length < bytes.len() {
            match file.read(&mut bytes[length..])? {
                0 => break,
                read => length += read,
            }
        }
        bytes.truncate(length);
        Ok((Self::new(bytes)?, metadata.mode() & 0o7777))
    }

    pub(super) fn raw(&self) -> &RawAuthPin {
        &self.0
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pin(..)")
    }
}

/// Why a PIN was not taken. Nothing of it, or of the file, is in it.
#[derive(Debug, thiserror::Error)]
pub enum PinFileError {
    /// The file cannot be read.
    #[error("the PIN's file cannot be read")]
    Io(#[from] io::Error),
    /// Empty, or too long.
    #[error("a PIN has 1 to {MAX_BYTES} bytes, line ends at its end not counted")]
    Length,
    /// A directory, a pipe, a device.
    #[error("the PIN's file is not a plain file")]
    NotAFile,
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    fn pin(bytes: &[u8]) -> Result<Vec<u8>, PinFileError> {
        Pin::new(Zeroizing::new(bytes.to_vec())).map(|pin| pin.raw().expose_secret().clone())
    }

    #[test]
    fn line_ends_are_no_part_of_a_pin() {
        for typed in [&b"5678"[..], b"5678\n", b"5678\r\n\n"] {
            assert_eq!(pin(typed).unwrap(), b"5678");
        }
        assert_eq!(pin(b" 5\n6 \n").unwrap(), b" 5\n6 ");
        for refused in [&b""[..], b"\n", &[b'1'; 256]] {
            assert!(matches!(pin(refused), Err(PinFileError::Length)));
        }
    }

    #[test]
    fn a_pin_comes_from_a_plain_file_and_is_not_printed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        std::fs::write(&path, "5678\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let (pin, mode) = Pin::from_file(&path).unwrap();
        assert_eq!(pin.raw().expose_secret(), b"5678");
        assert_eq!(mode, 0o640);
        assert_eq!(format!("{pin:?}"), "Pin(..)");

        std::fs::write(&path, [b'1'; 300]).unwrap();
        assert!(matches!(Pin::from_file(&path), Err(PinFileError::Length)));
        for not_a_file in [directory.path(), Path::new("/dev/zero")] {
            let refused = Pin::from_file(not_a_file);
            assert!(matches!(refused, Err(PinFileError::NotAFile)));
        }
    }
}
