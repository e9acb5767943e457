//! Good ID tokens, and the tables of hostile ones: each is signed by the pinned key unless its signature is the point, so
//! that it is refused for what it says and for nothing else.

use std::io::Write;

use ring::hmac;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{OidcError, OidcIssuers, OidcSubject};
use crate::app::{Error, ErrorKind};
use crate::authn::token::TokenReason;
use crate::authn::token::testing::{
    EC_KID, ED_KID, Forge, NOW, b64, ec_header, message, now, rsa_header,
};
use crate::config::{OidcKeys, OidcSettings};

pub(super) const ISSUER: &str = "https://idp.example.com/realms/ops";
const AUDIENCE: &str = "signet";

pub(super) fn settings(issuer: &str, keys: OidcKeys) -> OidcSettings {
    OidcSettings {
        issuer: issuer.to_owned(),
        audience: AUDIENCE.to_owned(),
        keys,
        groups_claim: "groups".to_owned(),
        name_claim: "email".to_owned(),
    }
}

/// What an identity provider writes into an ID token.
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "f81d4fae-7dec",
        "iat": NOW - 100, "nbf": NOW - 100, "exp": NOW + 3_500,
        "auth_time": NOW - 100, "nonce": "n", "email": "ann@example.com", "email_verified": true,
        "groups": ["ops", "on call", "ops"],
    })
}

/// Issuers with these keys pinned.
fn pinned(forge: &Forge) -> OidcIssuers {
    let mut file = NamedTempFile::new().unwrap();
    let keys = json!({"keys": [forge.ec_jwk(), forge.rsa_jwk(), forge.ed_jwk()]});
    file.write_all(keys.to_string().as_bytes()).unwrap();
    let other = settings(
        "https://other.example.com",
        OidcKeys::File(file.path().into()),
    );
    let ours = settings(ISSUER, OidcKeys::File(file.path().into()));
    OidcIssuers::new(&[other, ours]).unwrap()
}

async fn judge(token: &str, issuers: &OidcIssuers) -> Result<OidcSubject, TokenReason> {
    match issuers.authenticate(token, now()).await {
        Ok(subject) => Ok(subject),
        Err(OidcError::Refused(error)) => Err(error.reason()),
        Err(error) => panic!("{error}"),
    }
}

/// Every token of the table is refused for its reason; all that are not are listed at once.
async fn refused(table: &[(&str, String, TokenReason)], issuers: &OidcIssuers) {
    let mut wrong = Vec::new();
    for (what, token, expected) in table {
        let outcome = judge(token, issuers).await;
        if outcome.as_ref().err() != Some(expected) {
            wrong.push(format!("{what}: expected {expected}, got {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn with(claim: &str, value: Value) -> String {
    let mut claims = claims();
    claims[claim] = value;
    claims.to_string()
}

fn without(claim: &str) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(claim).unwrap();
    claims.to_string()
}

#[tokio::test]
async fn an_id_token_of_each_algorithm_is_its_subject() {
    let forge = Forge::new();
    let issuers = pinned(&forge);
    let payload = claims().to_string().into_bytes();
    let ed_header = json!({"alg": "EdDSA", "kid": ED_KID, "typ": "JWT"}).to_string();
    for token in [
        forge.ec_token(&ec_header(), &payload),
        forge.rsa_token(&rsa_header(), &payload),
        forge.ed_token(ed_header.as_bytes(), &payload),
    ] {
        let subject = judge(&token, &issuers).await.unwrap();
        assert_eq!(
            subject,
            OidcSubject {
                issuer: ISSUER.to_owned(),
                subject: "f81d4fae-7dec".to_owned(),
                groups: vec!["ops".to_owned(), "on call".to_owned()],
                name: Some("ann@example.com".to_owned()),
            }
        );
    }
}

#[tokio::test]
async fn what_an_issuer_may_leave_out_or_write_otherwise_is_taken() {
    let forge = Forge::new();
    let issuers = pinned(&forge);
    for payload in [
        with("aud", json!([AUDIENCE])),
        without("nbf"),
        with("sub", json!("s".repeat(255))),
        with("sub", json!("auth0|1#x'--")),
        with("groups", json!("ops")),
        with("unknown", json!({"deep": [1.5, {"x": null}]})),
        // Within the leeway of ten seconds.
        with("exp", json!(NOW - 9)),
        with("nbf", json!(NOW + 10)),
    ] {
        let token = forge.with_payload(&payload);
        assert!(judge(&token, &issuers).await.is_ok(), "{payload}");
    }
    let of = async |payload: String| {
        judge(&forge.with_payload(&payload), &issuers)
            .await
            .unwrap()
    };
    assert!(of(without("groups")).await.groups.is_empty());
    assert_eq!(of(without("email")).await.name, None);
    assert_eq!(of(with("email", json!("a\u{1b}[2Jb"))).await.name, None);
    let odd = json!(["ops", "", "a\nb", "g".repeat(256), "ops"]);
    assert_eq!(of(with("groups", odd)).await.groups, ["ops"]);
}

#[tokio::test]
async fn hostile_envelopes_are_refused() {
    use TokenReason::{Algorithm, Malformed, Signature, UnknownKey};
    let forge = Forge::new();
    let issuers = pinned(&forge);
    let payload = claims().to_string().into_bytes();
    let good = forge.ec_token(&ec_header(), &payload);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid}).to_string().into_bytes();
    let with_header = |member: &str, value: Value| {
        let mut header = json!({"alg": "ES256", "kid": EC_KID});
        header[member] = value;
        forge.ec_token(header.to_string().as_bytes(), &payload)
    };
    let hs256 = {
        let key = hmac::Key::new(hmac::HMAC_SHA256, forge.ec_point());
        let message = message(&header("HS256", EC_KID), &payload);
        format!(
            "{message}.{}",
            b64(hmac::sign(&key, message.as_bytes()).as_ref())
        )
    };
    let stranger = Forge::new();
    refused(
        &[
            ("empty", String::new(), Malformed),
            ("two parts", signed.to_owned(), Malformed),
            ("a megabyte", "A".repeat(1 << 20), Malformed),
            (
                "alg none",
                format!("{}.", message(&header("none", EC_KID), &payload)),
                Malformed,
            ),
            (
                "alg none, a signature",
                format!("{}.{signature}", message(&header("none", EC_KID), &payload)),
                Algorithm,
            ),
            ("HS256 with the public key", hs256, Algorithm),
            (
                "the RSA key's id with ES256",
                forge.ec_token(&header("ES256", "rsa-1"), &payload),
                Algorithm,
            ),
            (
                "the Ed25519 key's id with ES256",
                forge.ec_token(&header("ES256", ED_KID), &payload),
                Algorithm,
            ),
            (
                "the EC key's id with EdDSA",
                forge.ed_token(&header("EdDSA", EC_KID), &payload),
                Algorithm,
            ),
            (
                "alg Ed25519",
                forge.ed_token(&header("Ed25519", ED_KID), &payload),
                Algorithm,
            ),
            (
                "kid unknown",
                with_header("kid", json!("../../dev/null")),
                UnknownKey,
            ),
            (
                "kid missing",
                forge.ec_token(br#"{"alg":"ES256"}"#, &payload),
                UnknownKey,
            ),
            (
                "another's EC key",
                stranger.ec_token(&ec_header(), &payload),
                Signature,
            ),
            (
                "another's Ed25519 key",
                stranger.ed_token(&header("EdDSA", ED_KID), &payload),
                Signature,
            ),
            (
                "an Ed25519 signature of zeros",
                format!(
                    "{}.{}",
                    message(&header("EdDSA", ED_KID), &payload),
                    b64(&[0; 64])
                ),
                Signature,
            ),
            (
                "a changed payload",
                format!(
                    "{}.{signature}",
                    message(&ec_header(), with("sub", json!("root")).as_bytes())
                ),
                Signature,
            ),
            ("crit", with_header("crit", json!(["exp"])), Malformed),
            ("crit empty", with_header("crit", json!([])), Malformed),
            (
                "an access token",
                with_header("typ", json!("at+jwt")),
                Malformed,
            ),
            (
                "alg twice",
                forge.ec_token(br#"{"alg":"none","alg":"ES256","kid":"ec-1"}"#, &payload),
                Malformed,
            ),
            ("the scheme left in", format!("Bearer {good}"), Malformed),
        ],
        &issuers,
    )
    .await;
}

#[tokio::test]
async fn hostile_claims_are_refused() {
    use TokenReason::{Audience, Expired, Issuer, Lifetime, Malformed, NotYetValid, Subject};
    let forge = Forge::new();
    let issuers = pinned(&forge);
    let text = claims().to_string();
    let twice = |claim: &str| text.replacen('{', &format!("{{{claim},"), 1);
    let deep = format!("{}{}", "[".repeat(4_000), "]".repeat(4_000));
    let table: Vec<_> = [
        (
            "iss with a slash more",
            with("iss", json!(format!("{ISSUER}/"))),
            Issuer,
        ),
        (
            "iss in other case",
            with("iss", json!(ISSUER.to_uppercase())),
            Issuer,
        ),
        (
            "iss of nobody",
            with("iss", json!("https://evil.example.com")),
            Issuer,
        ),
        ("iss a list", with("iss", json!([ISSUER])), Malformed),
        ("iss missing", without("iss"), Malformed),
        (
            "iss twice",
            twice(r#""iss":"https://evil.example.com""#),
            Malformed,
        ),
        ("aud of another", with("aud", json!("other")), Audience),
        (
            "aud shared",
            with("aud", json!([AUDIENCE, "other"])),
            Audience,
        ),
        (
            "aud twice the same",
            with("aud", json!([AUDIENCE, AUDIENCE])),
            Audience,
        ),
        ("aud empty", with("aud", json!([])), Audience),
        ("aud a prefix", with("aud", json!("signet-dev")), Audience),
        ("aud a number", with("aud", json!(1)), Malformed),
        ("aud a list of numbers", with("aud", json!([1])), Malformed),
        ("aud missing", without("aud"), Malformed),
        ("expired", with("exp", json!(NOW - 10)), Expired),
        ("exp missing", without("exp"), Malformed),
        ("exp a text", with("exp", json!("4102444800")), Malformed),
        (
            "exp a fraction",
            with("exp", json!(4_102_444_800.5)),
            Malformed,
        ),
        ("exp negative", with("exp", json!(-1)), Malformed),
        (
            "exp past all years",
            with("exp", json!(u64::MAX)),
            Malformed,
        ),
        ("exp null", with("exp", Value::Null), Malformed),
        ("exp twice", twice(r#""exp":4102444800"#), Malformed),
        (
            "exp twice, escaped",
            twice(r#""\u0065xp":4102444800"#),
            Malformed,
        ),
        ("nbf to come", with("nbf", json!(NOW + 11)), NotYetValid),
        ("iat to come", with("iat", json!(NOW + 11)), NotYetValid),
        ("iat missing", without("iat"), Malformed),
        (
            "made to live for more than a day",
            with("iat", json!(NOW + 3_500 - 86_411)),
            Lifetime,
        ),
        (
            "ends before it begins",
            with("iat", json!(NOW + 5)).replace(&(NOW + 3_500).to_string(), &(NOW - 5).to_string()),
            Lifetime,
        ),
        ("sub empty", with("sub", json!("")), Subject),
        ("sub too long", with("sub", json!("s".repeat(256))), Subject),
        ("sub with a space", with("sub", json!("a b")), Subject),
        ("sub with a line end", with("sub", json!("a\nb")), Subject),
        ("sub with a zero byte", with("sub", json!("a\0")), Subject),
        ("sub not ASCII", with("sub", json!("ä")), Subject),
        ("sub a number", with("sub", json!(1)), Malformed),
        ("sub missing", without("sub"), Malformed),
        ("sub twice", twice(r#""sub":"root""#), Malformed),
        ("groups twice", twice(r#""groups":["admins"]"#), Malformed),
        ("an unknown claim twice", twice(r#""x":1,"x":2"#), Malformed),
        (
            "groups an object",
            with("groups", json!({"ops": true})),
            Malformed,
        ),
        (
            "a group that is a number",
            with("groups", json!(["ops", 1])),
            Malformed,
        ),
        ("groups null", with("groups", Value::Null), Malformed),
        ("email a list", with("email", json!(["a"])), Malformed),
        ("a list", format!("[{text}]"), Malformed),
        ("two payloads", format!("{text}{{}}"), Malformed),
        ("no JSON", "sub=root".to_owned(), Malformed),
        (
            "nested without end",
            with("x", json!(1)).replace("\"x\":1", &format!("\"x\":{deep}")),
            Malformed,
        ),
    ]
    .into_iter()
    .map(|(what, payload, reason)| (what, forge.with_payload(&payload), reason))
    .collect();
    refused(&table, &issuers).await;
}

#[tokio::test]
async fn a_refusal_tells_its_class_and_not_whom_we_believe() {
    let forge = Forge::new();
    let issuers = pinned(&forge);
    let token = forge.with_payload(&with("iss", json!("https://evil.example.com")));
    let error = Error::from(issuers.authenticate(&token, now()).await.unwrap_err());
    assert_eq!(
        (error.kind(), error.reason()),
        (ErrorKind::Unauthenticated, "issuer")
    );
    assert!(
        !error.detail().contains("idp.example.com"),
        "{}",
        error.detail()
    );
    let token = forge.with_payload(&with("exp", json!(NOW - 10)));
    let error = Error::from(issuers.authenticate(&token, now()).await.unwrap_err());
    assert_eq!(error.to_string(), "not authenticated: expired");
}
