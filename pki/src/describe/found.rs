//! What a file is that is not what was expected, for the message that says so.

use crate::asn1::{self, Der};
use crate::ceremony::SignedTranscript;
use crate::ocsp::{BasicResponse, OcspResponseError};

/// What `input` looks like, in words that go after "found": a guess for people, nothing to decide by.
#[must_use]
pub fn kind_of(input: &[u8]) -> &'static str {
    if input.is_empty() {
        return "nothing: it is empty";
    }
    match std::str::from_utf8(input) {
        Ok(text) => kind_of_text(text.trim_start_matches('\u{feff}').trim(), input),
        Err(_) => kind_of_octets(input),
    }
}

fn kind_of_text(text: &str, input: &[u8]) -> &'static str {
    const LABELS: [(&str, &str); 7] = [
        ("PRIVATE KEY-----", "a private key"),
        ("-----BEGIN CERTIFICATE-----", "a certificate"),
        ("CERTIFICATE REQUEST-----", "a certificate request"),
        ("-----BEGIN X509 CRL-----", "a CRL"),
        ("-----BEGIN PUBLIC KEY-----", "a public key"),
        ("-----BEGIN PKCS7-----", "a PKCS#7 file"),
        ("-----BEGIN ", "PEM of another kind"),
    ];
    if SignedTranscript::parse(input).is_ok() {
        return "a ceremony's transcript (`ca-root show` prints it)";
    }
    if let Some((_, kind)) = LABELS.iter().find(|(label, _)| text.contains(label)) {
        return kind;
    }
    let is_word = !text.contains(char::is_whitespace);
    if text.is_empty() {
        "white space"
    } else if text.starts_with("signet_enrol_") && is_word {
        "an enrolment token"
    } else if text.starts_with("eyJ") && text.matches('.').count() == 2 && is_word {
        "a JSON web token"
    } else if text.starts_with(['{', '[']) {
        if text.contains("\"keys\"") {
            "a JSON web key set"
        } else {
            "JSON"
        }
    } else if text.starts_with('<') {
        "a web page or XML"
    } else if text.lines().any(|line| line.starts_with("ceremony = ")) {
        "a ceremony's plan (`ca-root run` reads it)"
    } else if text.starts_with("MI") && text.bytes().all(is_of_base64) {
        "base64 without the BEGIN and END lines of PEM"
    } else {
        // Short DER may be text too.
        kind_of_der(input).unwrap_or("other text")
    }
}

fn is_of_base64(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"+/=\r\n".contains(&octet)
}

fn kind_of_octets(input: &[u8]) -> &'static str {
    if input.starts_with(b"SQLite format 3\0") {
        "an SQLite database"
    } else {
        kind_of_der(input).unwrap_or("binary data that is no DER")
    }
}

fn kind_of_der(input: &[u8]) -> Option<&'static str> {
    let content = Der::only(input, asn1::SEQUENCE).ok()?;
    if matches!(
        BasicResponse::of_response_der(input),
        Ok(_) | Err(OcspResponseError::Unsuccessful(_))
    ) {
        return Some("an OCSP response (`openssl ocsp -noverify -text -respin` prints it)");
    }
    let mut fields = Der::new(content).ok()?;
    Some(match fields.content(asn1::INTEGER) {
        // RFC 5958 §2, RFC 5915 §3: versions 0 and 1.
        Ok([0 | 1]) => "a private key",
        // RFC 7292 §4.
        Ok([3]) => "a PKCS#12 file",
        _ => "DER of another kind",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_hand_over_is_recognized() {
        let key = rcgen::KeyPair::generate().unwrap();
        let web = b"{\"keys\": []}";
        let token = b"eyJhbGciOiJFUzI1NiJ9.e30.c2ln\n";
        for (input, kind) in [
            (b"".as_slice(), "nothing: it is empty"),
            (b" \n", "white space"),
            (&[0xff, 0xfe, 0], "binary data that is no DER"),
            (&[0x30, 3, 0x0a, 1, 6], "an OCSP response"),
            (&key.serialize_der(), "a private key"),
            (key.serialize_pem().as_bytes(), "a private key"),
            (web, "a JSON web key set"),
            (token, "a JSON web token"),
            (b"signet_enrol_abc\n", "an enrolment token"),
            (b"<html>404</html>", "a web page"),
            (
                b"version = 1\nceremony = \"create-root\"\n",
                "a ceremony's plan",
            ),
            (b"MIIBszCC\nAVmgAwIB\n", "base64 without"),
            (b"SQLite format 3\0\xff", "an SQLite database"),
            (b"nothing of the kind", "other text"),
        ] {
            let said = kind_of(input);
            assert!(said.starts_with(kind), "{input:?}: {said}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, text: String) {
            let _ = (kind_of(&bytes), kind_of(text.as_bytes()));
        }
    }
}
