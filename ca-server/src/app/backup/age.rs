//! The file format of age (<https://age-encryption.org/v1>) with a passphrase: what the tool `age` reads and writes too.
//!
//! A header with the file's key under one that scrypt makes of the passphrase, authenticated by that key; then chunks of 64
//! KiB, each sealed with its number and whether it is the last (STREAM of Hoang, Reyhanitabar, Rogaway, Vizár 2015): none can
//! be changed, moved, left out or added, and a file that was cut off is not taken for a whole one.

use std::io::{self, BufRead, Read, Write};

use base64ct::{Base64Unpadded, Encoding};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

const VERSION: &str = "age-encryption.org/v1";
const SCRYPT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
/// N = 2^17, with r = 8 and p = 1: 128 MiB and some 0.4 s.
const LOG_N: u8 = if cfg!(test) { 10 } else { 17 };
/// The most that a file may ask for: 1 GiB. Nobody may make us take more.
const LOG_N_MAX: u8 = 20;
/// The shortest passphrase: below it scrypt is no help. The same bounds as for the installation's keys.
const PASSPHRASE_BYTES: std::ops::RangeInclusive<usize> = 12..=1024;
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
const NONCE: usize = 16;
/// Four lines; `age` itself writes 150 bytes.
const HEADER_MAX: u64 = 512;

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// The passphrase has the wrong length.
    #[error("the passphrase has fewer than 12 bytes, or more than 1024")]
    PassphraseLength,
    /// The header is another one.
    #[error("it is not encrypted with a passphrase in age's format: {0}")]
    Header(&'static str),
    /// The header's key does not open.
    #[error("the passphrase is another one, or the file's header was changed")]
    Passphrase,
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A passphrase, without the line end that its file may have.
#[derive(Debug)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes it, trailing line ends left out.
    ///
    /// # Errors
    /// When it has fewer than 12 bytes or more than 1024.
    pub fn new(bytes: &[u8]) -> Result<Self, AgeError> {
        let end = bytes.iter().rposition(|b| !matches!(b, b'\n' | b'\r'));
        let bytes = &bytes[..end.map_or(0, |end| end + 1)];
        if !PASSPHRASE_BYTES.contains(&bytes.len()) {
            return Err(AgeError::PassphraseLength);
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// The key that the file's key is under.
    fn key(&self, salt: &[u8], log_n: u8) -> Result<LessSafeKey, AgeError> {
        let salt = [SCRYPT_LABEL, salt].concat();
        let params = scrypt::Params::new(log_n, 8, 1).map_err(|_| AgeError::Header("scrypt"))?;
        let mut key = Zeroizing::new([0; 32]);
        scrypt::scrypt(&self.0, &salt, &params, &mut *key)
            .map_err(|_| AgeError::Header("scrypt"))?;
        aead(&*key)
    }
}

fn aead(key: &[u8]) -> Result<LessSafeKey, AgeError> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key);
    Ok(LessSafeKey::new(key.map_err(|_| AgeError::Passphrase)?))
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, AgeError> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new()
        .fill(&mut *bytes)
        .map_err(|_| AgeError::NoRandomness)?;
    Ok(bytes)
}

/// HKDF-SHA-256 (RFC 5869).
fn derive(file_key: &[u8], salt: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; 32]>, AgeError> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(file_key)
        .expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *key))
        .map_err(|_| AgeError::Passphrase)?;
    Ok(key)
}

fn header_key(file_key: &[u8]) -> Result<hmac::Key, AgeError> {
    let key = derive(file_key, &[], b"header")?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &*key))
}

/// The chunks' key, and the number of the next one.
struct Chunks {
    key: LessSafeKey,
    next: u64,
}

impl Chunks {
    fn new(file_key: &[u8], nonce: &[u8]) -> Result<Self, AgeError> {
        let key = aead(&*derive(file_key, nonce, b"payload")?)?;
        Ok(Self { key, next: 0 })
    }

    /// Eleven bytes that count, and one that says whether it is the last.
    fn nonce(&mut self, is_last: bool) -> Nonce {
        let mut bytes = [0; 12];
        bytes[3..11].copy_from_slice(&self.next.to_be_bytes());
        bytes[11] = u8::from(is_last);
        self.next += 1;
        Nonce::assume_unique_for_key(bytes)
    }
}

/// Encrypts what is written into it. It is not whole before [`Writer::finish`].
pub struct Writer<W> {
    out: W,
    chunks: Chunks,
    buffer: Zeroizing<Vec<u8>>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// When there is no randomness or `out` takes nothing.
    pub fn new(mut out: W, passphrase: &Passphrase) -> Result<Self, AgeError> {
        let file_key = random::<16>()?;
        let salt = random::<16>()?;
        let nonce = random::<NONCE>()?;
        let mut sealed = file_key.to_vec();
        passphrase
            .key(&*salt, LOG_N)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key([0; 12]),
                Aad::empty(),
                &mut sealed,
            )
            .map_err(|_| AgeError::Passphrase)?;
        let header = format!(
            "{VERSION}\n-> scrypt {} {LOG_N}\n{}\n---",
            Base64Unpadded::encode_string(&*salt),
            Base64Unpadded::encode_string(&sealed),
        );
        let mac = hmac::sign(&header_key(&*file_key)?, header.as_bytes());
        writeln!(
            out,
            "{header} {}",
            Base64Unpadded::encode_string(mac.as_ref())
        )?;
        out.write_all(&*nonce)?;
        Ok(Self {
            out,
            chunks: Chunks::new(&*file_key, &*nonce)?,
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK + TAG)),
        })
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        let nonce = self.chunks.nonce(is_last);
        self.chunks
            .key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut *self.buffer)
            .map_err(|_| io::Error::other("a chunk is too long to be sealed"))?;
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the last chunk, and gives back what it was written to.
    ///
    /// # Errors
    /// When that takes nothing.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits until it is known that it is not the last.
        if self.buffer.len() == CHUNK && !bytes.is_empty() {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decrypts: it gives nothing that was not authenticated.
pub struct Reader<R> {
    input: R,
    chunks: Chunks,
    buffer: Zeroizing<Vec<u8>>,
    at: usize,
    is_over: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header and opens the file's key.
    ///
    /// # Errors
    /// When it is another format, or another passphrase.
    pub fn new(mut input: R, passphrase: &Passphrase) -> Result<Self, AgeError> {
        let mut lines = (&mut input).take(HEADER_MAX);
        let mut line = || {
            let mut line = String::new();
            match lines.read_line(&mut line) {
                Ok(_) if line.ends_with('\n') => Ok(line),
                Ok(_) => Err(AgeError::Header("it ends in its header")),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    Err(AgeError::Header("it does not begin as a file of age"))
                }
                Err(error) => Err(error.into()),
            }
        };
        let version = line()?;
        if version.trim_end_matches('\n') != VERSION {
            return Err(AgeError::Header("it does not begin as a file of age"));
        }
        let (stanza, body, end) = (line()?, line()?, line()?);
        let fields = stanza
            .strip_prefix("-> scrypt ")
            .and_then(|rest| rest.trim_end_matches('\n').split_once(' '))
            .ok_or(AgeError::Header("it is for keys, not for a passphrase"))?;
        let salt = decode::<16>(fields.0)?;
        let log_n: u8 = fields
            .1
            .parse()
            .map_err(|_| AgeError::Header("its work factor"))?;
        if !(1..=LOG_N_MAX).contains(&log_n) || fields.1 != log_n.to_string() {
            return Err(AgeError::Header("its work factor is out of bounds"));
        }
        let sealed = decode::<32>(body.trim_end_matches('\n'))?;
        let mac = end
            .strip_prefix("--- ")
            .ok_or(AgeError::Header("its header has more in it"))?;
        let mac = decode::<32>(mac.trim_end_matches('\n'))?;
        let mut file_key = Zeroizing::new(sealed.to_vec());
        passphrase
            .key(&salt, log_n)?
            .open_in_place(
                Nonce::assume_unique_for_key([0; 12]),
                Aad::empty(),
                &mut file_key,
            )
            .map_err(|_| AgeError::Passphrase)?;
        file_key.truncate(16);
        let header = format!("{version}{stanza}{body}---");
        hmac::verify(&header_key(&file_key)?, header.as_bytes(), &mac)
            .map_err(|_| AgeError::Passphrase)?;
        let mut nonce = [0; NONCE];
        input
            .read_exact(&mut nonce)
            .map_err(|_| AgeError::Header("it ends in its header"))?;
        Ok(Self {
            input,
            chunks: Chunks::new(&file_key, &nonce)?,
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK + TAG)),
            at: 0,
            is_over: false,
        })
    }

    fn open(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.at = 0;
        let most = (CHUNK + TAG) as u64;
        (&mut self.input).take(most).read_to_end(&mut self.buffer)?;
        self.is_over = self.input.fill_buf()?.is_empty();
        let (number, nonce) = (self.chunks.next, self.chunks.nonce(self.is_over));
        let opened = self
            .chunks
            .key
            .open_in_place(nonce, Aad::empty(), &mut self.buffer);
        let Ok(length) = opened.map(|opened| opened.len()) else {
            self.is_over = true;
            self.buffer.clear();
            return Err(damaged(number));
        };
        self.buffer.truncate(length);
        // Only a file without contents has an empty chunk.
        if length == 0 && number > 0 {
            return Err(damaged(number));
        }
        Ok(())
    }
}

fn damaged(chunk: u64) -> io::Error {
    let at = chunk.saturating_mul((CHUNK + TAG) as u64) >> 10;
    let text = format!("the file was changed or cut off, some {at} KiB from its beginning");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], AgeError> {
    let bytes = Base64Unpadded::decode_vec(text).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(AgeError::Header("its header does not parse"))
}

impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            if self.is_over {
                return Ok(0);
            }
            self.open()?;
        }
        let taken = out.len().min(self.buffer.len() - self.at);
        out[..taken].copy_from_slice(&self.buffer[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase() -> Passphrase {
        Passphrase::new(b"correct horse battery\n").unwrap()
    }

    fn encrypt(contents: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &passphrase()).unwrap();
        writer.write_all(contents).unwrap();
        writer.finish().unwrap()
    }

    fn decrypt(file: &[u8]) -> Result<Vec<u8>, AgeError> {
        let mut contents = Vec::new();
        Reader::new(file, &passphrase())?.read_to_end(&mut contents)?;
        Ok(contents)
    }

    #[test]
    fn contents_of_every_length_come_back() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let contents: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let file = encrypt(&contents);
            let chunks = length.div_ceil(CHUNK).max(1);
            assert_eq!(file.len() - file_start(&file), length + chunks * TAG);
            assert_eq!(decrypt(&file).unwrap(), contents, "{length}");
        }
    }

    fn file_start(file: &[u8]) -> usize {
        let mac = file.windows(5).position(|w| w == b"\n--- ").unwrap();
        mac + 5 + 44 + NONCE
    }

    #[test]
    fn what_was_changed_cut_off_moved_or_added_to_is_not_opened() {
        let file = encrypt(&vec![7; 2 * CHUNK + 100]);
        let start = file_start(&file);
        for at in (0..start).step_by(23).chain([
            start,
            start + CHUNK,
            start + 2 * CHUNK + 40,
            file.len() - 1,
        ]) {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(decrypt(&changed).is_err(), "byte {at} of {}", file.len());
        }
        let sealed = CHUNK + TAG;
        for length in [
            0,
            20,
            start - 1,
            start,
            start + sealed,
            start + 2 * sealed,
            file.len() - 1,
        ] {
            assert!(decrypt(&file[..length]).is_err(), "cut off at {length}");
        }
        let mut swapped = file.clone();
        swapped[start..start + 2 * sealed].rotate_left(sealed);
        assert!(decrypt(&swapped).is_err());
        assert!(decrypt(&[&file[..], b"x"].concat()).is_err());
        assert!(decrypt(&[&file[..], &file[start..]].concat()).is_err());
        assert_eq!(decrypt(&file).unwrap().len(), 2 * CHUNK + 100);
    }

    #[test]
    fn another_passphrase_and_other_formats_are_told_apart() {
        let file = encrypt(b"contents");
        let other = Passphrase::new(b"incorrect horse").unwrap();
        let error = Reader::new(&file[..], &other).err().unwrap();
        assert!(matches!(error, AgeError::Passphrase), "{error}");
        let text = String::from_utf8_lossy(&file).into_owned();
        for (from, to) in [
            (" 10\n", " 21\n"),
            (" 10\n", " 010\n"),
            ("-> scrypt", "-> X25519"),
            ("v1", "v2"),
        ] {
            let changed = text.replacen(from, to, 1);
            let error = decrypt(changed.as_bytes()).unwrap_err();
            assert!(matches!(error, AgeError::Header(_)), "{to}: {error}");
        }
        for length in [0, 11, 1025] {
            assert!(Passphrase::new(&vec![b'x'; length]).is_err());
        }
    }

    /// Written by the tool `age` 1.1.1 (Debian's), with the passphrase of these tests.
    #[test]
    fn a_file_of_age_is_read() {
        let file = include_bytes!("age_1.1.1_scrypt.age");
        assert_eq!(decrypt(file).unwrap(), b"written by age\n");
    }
}
