//! AES-256-GCM under a random nonce, which goes before the ciphertext.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::memory::scrubbed;

/// Octets of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// Fails when the system gives no randomness.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Unspecified> {
    SystemRandom::new().fill(bytes)
}

/// Encrypts, bound to `context`. Fails when the system gives no randomness, or `key` is none.
pub(crate) fn encrypt(key: &[u8], context: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let mut nonce = [0; NONCE_LEN];
    random(&mut nonce)?;
    let mut buffer = Zeroizing::new(plain.to_vec());
    let tag = scrubbed(|| {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?).seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            buffer.as_mut_slice(),
        )
    })?;
    Ok([&nonce, buffer.as_slice(), tag.as_ref()].concat())
}

/// Decrypts. Fails when it was encrypted under another key or context, or was changed.
pub(crate) fn decrypt(
    key: &[u8],
    context: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(Unspecified)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce)?;
    let mut buffer = Zeroizing::new(rest.to_vec());
    let length = scrubbed(|| {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?)
            .open_in_place(nonce, Aad::from(context), buffer.as_mut_slice())
            .map(|plain| plain.len())
    })?;
    buffer.truncate(length);
    Ok(buffer)
}
