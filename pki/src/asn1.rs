//! The little DER that writing certificates takes (X.690): tag, length, content.
//!
//! Reading goes through the `der` crate, which refuses what is not DER; writing whole templates goes through
//! here, because a certificate is then one buffer and a handful of copies.

use der::{Decode, ErrorKind, Header, Reader, SliceReader, Tag};

use crate::time::Timestamp;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// Context-specific, constructed.
pub(crate) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// Context-specific, primitive.
pub(crate) const fn implicit(number: u8) -> u8 {
    0x80 | number
}

pub(crate) fn tlv(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|c| c.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    push_length(&mut out, length);
    for content in contents {
        out.extend_from_slice(content);
    }
    out
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    let bytes = length.to_be_bytes();
    let significant: &[u8] = &bytes[bytes
        .iter()
        .position(|b| *b != 0)
        .unwrap_or(bytes.len() - 1)..];
    if length >= 0x80 {
        // At most eight length octets, so the low bits never reach the form bit.
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
    }
    out.extend_from_slice(significant);
}

pub(crate) fn sequence(contents: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, contents)
}

/// A BIT STRING without unused bits.
pub(crate) fn bit_string(content: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], content])
}

/// A named-bit list of up to nine bits, `bits` counted from the first: trailing zero bits are dropped (X.690 §11.2.2).
pub(crate) fn named_bits(bits: &[u8]) -> Vec<u8> {
    let Some(highest) = bits.iter().max() else {
        return tlv(BIT_STRING, &[&[0]]);
    };
    let mut octets = vec![0u8; usize::from(highest / 8) + 1];
    for bit in bits {
        octets[usize::from(bit / 8)] |= 0x80 >> (bit % 8);
    }
    tlv(BIT_STRING, &[&[7 - highest % 8], &octets])
}

/// A non-negative INTEGER.
pub(crate) fn unsigned(value: u64) -> Vec<u8> {
    unsigned_bytes(&value.to_be_bytes())
}

/// The non-negative INTEGER of big-endian bytes, however many zeros they begin with.
pub(crate) fn unsigned_bytes(bytes: &[u8]) -> Vec<u8> {
    let leading_zeros = bytes.iter().take_while(|b| **b == 0).count();
    let significant = &bytes[leading_zeros..];
    match significant.first() {
        Some(0..0x80) => tlv(INTEGER, &[significant]),
        // Zero is one octet, and a high bit would be a sign.
        _ => tlv(INTEGER, &[&[0], significant]),
    }
}

/// UTCTime to 2049, GeneralizedTime from 2050 (RFC 5280 §4.1.2.5).
pub(crate) fn time(t: Timestamp) -> Vec<u8> {
    let d = t.date_time();
    let tail = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        d.month(),
        d.day(),
        d.hour(),
        d.minutes(),
        d.seconds()
    );
    if d.year() < 2050 {
        tlv(
            UTC_TIME,
            &[format!("{:02}{tail}", d.year() % 100).as_bytes()],
        )
    } else {
        tlv(
            GENERALIZED_TIME,
            &[format!("{:04}{tail}", d.year()).as_bytes()],
        )
    }
}

/// GeneralizedTime whatever the year, as OCSP writes it (RFC 6960 §4.2.2.1).
pub(crate) fn generalized_time(t: Timestamp) -> Vec<u8> {
    let d = t.date_time();
    let (year, month, day) = (d.year(), d.month(), d.day());
    let (hour, minute, second) = (d.hour(), d.minutes(), d.seconds());
    let text = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    tlv(GENERALIZED_TIME, &[text.as_bytes()])
}

/// Reads DER and remembers where it stands; every method refuses what is not DER.
pub(crate) struct Der<'a>(SliceReader<'a>);

/// Not DER, or not the type that was expected.
pub(crate) type DerError = der::Error;

impl<'a> Der<'a> {
    /// Reads `bytes`, which hold exactly what the caller goes on to read.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, DerError> {
        // SliceReader refuses an empty slice; an empty content is an exhausted reader all the same.
        if bytes.is_empty() {
            let mut reader = SliceReader::new(&[0])?;
            reader.read_slice(der::Length::ONE)?;
            return Ok(Self(reader));
        }
        Ok(Self(SliceReader::new(bytes)?))
    }

    /// The only value in `bytes`, which has `tag`: its content.
    pub(crate) fn only(bytes: &'a [u8], tag: u8) -> Result<&'a [u8], DerError> {
        let mut reader = Self::new(bytes)?;
        let content = reader.content(tag)?;
        reader.end()?;
        Ok(content)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_finished()
    }

    pub(crate) fn next_is(&self, tag: u8) -> bool {
        self.0.peek_byte() == Some(tag)
    }

    /// The next value's tag octet and content.
    pub(crate) fn any(&mut self) -> Result<(u8, &'a [u8]), DerError> {
        let tag = self.0.peek_byte().ok_or(ErrorKind::Incomplete {
            expected_len: der::Length::ONE,
            actual_len: der::Length::ZERO,
        })?;
        let header = Header::decode(&mut self.0)?;
        let content = self.0.read_slice(header.length())?;
        Ok((tag, content))
    }

    /// The content of the next value, which has `tag`.
    pub(crate) fn content(&mut self, tag: u8) -> Result<&'a [u8], DerError> {
        let (found, content) = self.any()?;
        if found == tag {
            Ok(content)
        } else {
            Err(unexpected(tag))
        }
    }

    /// The content of the next value when it has `tag`.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, DerError> {
        if self.next_is(tag) {
            self.content(tag).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The next value whole: tag, length and content.
    pub(crate) fn whole(&mut self) -> Result<&'a [u8], DerError> {
        self.0.tlv_bytes()
    }

    /// Decodes the next value with one of the `der` crate's types.
    pub(crate) fn decode<T: Decode<'a, Error = DerError>>(&mut self) -> Result<T, DerError> {
        T::decode(&mut self.0)
    }

    /// Refuses what is left over.
    pub(crate) fn end(self) -> Result<(), DerError> {
        self.0.finish()
    }

    /// A BOOLEAN's content, `DEFAULT FALSE`: a written FALSE is not DER (X.690 §11.5).
    pub(crate) fn default_false(&mut self) -> Result<bool, DerError> {
        match self.optional(BOOLEAN)? {
            None => Ok(false),
            Some([0xff]) => Ok(true),
            Some(_) => Err(ErrorKind::Value { tag: Tag::Boolean }.into()),
        }
    }

    /// UTCTime or GeneralizedTime as RFC 5280 §4.1.2.5 writes them.
    pub(crate) fn time(&mut self) -> Result<Timestamp, DerError> {
        let duration = if self.next_is(UTC_TIME) {
            self.decode::<der::asn1::UtcTime>()?.to_unix_duration()
        } else {
            self.decode::<der::asn1::GeneralizedTime>()?
                .to_unix_duration()
        };
        Ok(Timestamp::from_unix(
            i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        ))
    }

    /// A BIT STRING without unused bits: its octets.
    pub(crate) fn octet_aligned_bits(&mut self) -> Result<&'a [u8], DerError> {
        match self.content(BIT_STRING)? {
            [0, octets @ ..] => Ok(octets),
            _ => Err(ErrorKind::Value {
                tag: Tag::BitString,
            }
            .into()),
        }
    }
}

pub(crate) fn unexpected(tag: u8) -> DerError {
    match Tag::from_der(&[tag]) {
        Ok(tag) => ErrorKind::Value { tag }.into(),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_minimal() {
        assert_eq!(tlv(SEQUENCE, &[])[..], [0x30, 0]);
        assert_eq!(tlv(SEQUENCE, &[&[0; 0x7f]])[..2], [0x30, 0x7f]);
        assert_eq!(tlv(SEQUENCE, &[&[0; 0x80]])[..3], [0x30, 0x81, 0x80]);
        assert_eq!(tlv(SEQUENCE, &[&[0; 0x100]])[..4], [0x30, 0x82, 1, 0]);
    }

    #[test]
    fn named_bits_drop_trailing_zeros() {
        assert_eq!(named_bits(&[0]), [3, 2, 7, 0x80]);
        assert_eq!(named_bits(&[5, 6]), [3, 2, 1, 0x06]);
        assert_eq!(named_bits(&[]), [3, 1, 0]);
    }

    #[test]
    fn integers_stay_positive() {
        assert_eq!(unsigned(0), [2, 1, 0]);
        assert_eq!(unsigned(128), [2, 2, 0, 128]);
    }

    #[test]
    fn another_type_is_named_in_the_error() {
        let error = Der::only(&tlv(SET, &[]), SEQUENCE).unwrap_err();
        let expected = ErrorKind::Value { tag: Tag::Sequence };
        assert_eq!(error.kind(), expected);
    }

    #[test]
    fn times_turn_generalized_in_2050() {
        let time_2049 = Timestamp::from_unix(2_524_607_999);
        assert_eq!(time(time_2049)[..], *b"\x17\x0d491231235959Z");
        assert_eq!(
            time(time_2049.plus(crate::time::Ttl::minutes(1)))[0],
            GENERALIZED_TIME
        );
    }
}
