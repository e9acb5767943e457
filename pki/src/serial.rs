//! Serial numbers.

use std::fmt;
use std::str::FromStr;

use crate::time::{Timestamp, serde_by_display};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A certificate's serial number: a positive integer of at most 20 octets (RFC 5280 §4.1.2.2).
///
/// Those that Signet issues are laid out as one version byte (0x01), two bytes of the day on which the
/// certificate expires (days since 1970, big-endian) and sixteen random bytes, so that a serial alone tells
/// where its record lies while 128 bits stay unpredictable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    bytes: [u8; MAX_OCTETS],
    len: u8,
}

const MAX_OCTETS: usize = 20;
const VERSION: u8 = 0x01;
const ISSUED_OCTETS: usize = 19;
/// Random octets in a serial number of ours.
pub const SERIAL_ENTROPY: usize = 16;

impl Serial {
    /// A serial number of ours for a certificate that ends at `not_after`.
    #[must_use]
    pub fn issue(not_after: Timestamp, entropy: [u8; SERIAL_ENTROPY]) -> Self {
        let mut bytes = [0; MAX_OCTETS];
        bytes[0] = VERSION;
        bytes[1..3].copy_from_slice(&not_after.day().to_be_bytes());
        bytes[3..ISSUED_OCTETS].copy_from_slice(&entropy);
        Self { bytes, len: 19 }
    }

    /// Takes the content octets of a DER INTEGER.
    ///
    /// # Errors
    /// When the number is zero, negative, longer than 20 octets or not minimally encoded.
    pub fn from_der_content(content: &[u8]) -> Result<Self, SerialError> {
        let [first, rest @ ..] = content else {
            return Err(SerialError::NotPositive);
        };
        if content.len() > MAX_OCTETS {
            return Err(SerialError::TooLong(content.len()));
        }
        if first & 0x80 != 0 || (*first == 0 && rest.is_empty()) {
            return Err(SerialError::NotPositive);
        }
        if *first == 0 && rest[0] & 0x80 == 0 {
            return Err(SerialError::NotMinimal);
        }
        let mut bytes = [0; MAX_OCTETS];
        bytes[..content.len()].copy_from_slice(content);
        let len = u8::try_from(content.len()).map_err(|_| SerialError::TooLong(content.len()))?;
        Ok(Self { bytes, len })
    }

    /// The content octets of its DER INTEGER.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The day of expiry that a serial number of ours carries; `None` for a foreign one.
    #[must_use]
    pub fn expires_day(&self) -> Option<u16> {
        (usize::from(self.len) == ISSUED_OCTETS && self.bytes[0] == VERSION)
            .then(|| u16::from_be_bytes([self.bytes[1], self.bytes[2]]))
    }
}

impl fmt::Display for Serial {
    /// Lower-case hexadecimal, two digits an octet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// Hexadecimal, colons allowed between octets as OpenSSL prints them.
    fn from_str(s: &str) -> Result<Self, SerialError> {
        let digits: Vec<u8> = s.bytes().filter(|b| *b != b':').collect();
        let text = std::str::from_utf8(&digits).map_err(|_| SerialError::NotHex)?;
        let bytes = crate::crypto::from_hex(text).ok_or(SerialError::NotHex)?;
        Self::from_der_content(&bytes)
    }
}

serde_by_display!(Serial);

/// Why a serial number was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// Not an even number of hexadecimal digits.
    #[error("a serial number is an even number of hexadecimal digits")]
    NotHex,
    /// Encoded with a leading zero octet that is not needed.
    #[error("the serial number is not minimally encoded")]
    NotMinimal,
    /// Zero, negative or empty.
    #[error("a serial number is positive (RFC 5280 §4.1.2.2)")]
    NotPositive,
    /// More than 20 octets.
    #[error("a serial number has at most 20 octets, this one has {0} (RFC 5280 §4.1.2.2)")]
    TooLong(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout_test_vector() {
        // 2026-11-25T02:53:00Z is day 20782 = 0x512e.
        let serial = Serial::issue(Timestamp::from_unix(1_795_575_180), [0xab; 16]);
        assert_eq!(serial.to_string(), format!("01512e{}", "ab".repeat(16)));
        assert_eq!(serial.expires_day(), Some(0x512e));
    }

    #[test]
    fn refuses_what_rfc_5280_forbids() {
        for bad in [&[][..], &[0], &[0x80], &[0x00, 0x01], &[1; 21]] {
            assert!(Serial::from_der_content(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            Serial::from_der_content(&[0x00, 0x80])
                .unwrap()
                .expires_day(),
            None
        );
    }

    proptest! {
        #[test]
        fn text_round_trips(seconds in 0i64..5_000_000_000, entropy: [u8; 16]) {
            let serial = Serial::issue(Timestamp::from_unix(seconds), entropy);
            prop_assert_eq!(serial.to_string().parse(), Ok(serial));
            prop_assert_eq!(Serial::from_der_content(serial.as_bytes()), Ok(serial));
            prop_assert_eq!(serial.expires_day(), Some(Timestamp::from_unix(seconds).day()));
        }
    }
}
