//! Good tokens, and the tables of hostile ones: each is signed by the pinned key unless its signature is the point, so
//! that it is refused for what it says and for nothing else.

use ring::hmac;
use serde_json::{Value, json};

use super::testing::{
    EC_KID, Forge, ISSUER, NOW, b64, claims, ec_header, issuer_of, message, now, rsa_header,
};
use super::{
    Expected, IssuerSet, TokenCache, TokenError, TokenIssuer, TokenReason, UnverifiedToken,
    authenticate, authenticate_by, check,
};
use pki::time::{Timestamp, Ttl};

fn reason(token: &str, issuers: &[TokenIssuer]) -> Option<TokenReason> {
    authenticate(token, issuers, now())
        .err()
        .map(|e| e.reason())
}

/// Every token of the table is refused for its reason; all that are not are listed at once.
fn refused(table: &[(&str, String, TokenReason)], issuer: &TokenIssuer) {
    let issuers = std::slice::from_ref(issuer);
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(what, token, expected)| {
            let outcome = authenticate(token, issuers, now());
            (outcome.as_ref().err().map(TokenError::reason) != Some(*expected))
                .then(|| format!("{what}: expected {expected}, got {outcome:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_projected_token_of_either_algorithm_is_its_service_account() {
    let forge = Forge::new();
    let issuers = [forge.issuer()];
    let payload = claims().to_string();
    for token in [
        forge.with_payload(&payload),
        forge.rsa_token(&rsa_header(), payload.as_bytes()),
        forge.with_header("typ", json!("JWT")),
    ] {
        let account = authenticate(&token, &issuers, now()).unwrap();
        assert_eq!(
            (account.namespace.as_str(), account.name.as_str()),
            ("shop", "web")
        );
        assert_eq!(
            account.uid.as_deref(),
            Some("e0f1a8a6-7f19-4f0a-9e5e-6d6f2b1a0c11")
        );
        let pod = account.pod.unwrap();
        assert_eq!(pod.name, "web-7f9c");
        assert_eq!(pod.uid, "5f0c2b52-0c86-4d5a-a0ab-5a7a2d7c9f10");
        assert_eq!(account.node.unwrap().name, "edge-1");
        assert_eq!(
            account.token_id.as_deref(),
            Some("8a7e3b9e-0a4d-4bd2-8b0c-8a3f8f3f6d5e")
        );
        assert_eq!(account.expires_at, Timestamp::from_unix(NOW + 43_100));
    }
}

#[test]
fn the_longer_rsa_hash_is_used_where_the_pinned_key_says_so_and_only_there() {
    let forge = Forge::new();
    let mut jwk = forge.rsa_jwk();
    jwk["alg"] = json!("RS512");
    let issuers = [issuer_of(&json!({"keys": [jwk]}))];
    let payload = claims().to_string();
    let header = json!({"alg": "RS512", "kid": "rsa-1"}).to_string();
    let token = forge.rsa_sha512_token(header.as_bytes(), payload.as_bytes());
    assert_eq!(reason(&token, &issuers), None);
    let token = forge.rsa_token(&rsa_header(), payload.as_bytes());
    assert_eq!(reason(&token, &issuers), Some(TokenReason::Algorithm));
}

#[test]
fn the_audience_is_a_string_or_a_list_of_one() {
    let forge = Forge::new();
    let issuers = [forge.issuer()];
    for good in [json!("istio-ca"), json!(["istio-ca"])] {
        assert_eq!(reason(&forge.with("aud", good), &issuers), None);
    }
    // Whoever else it is for could show it here.
    let shared = forge.with("aud", json!(["x", "istio-ca"]));
    assert_eq!(reason(&shared, &issuers), Some(TokenReason::Audience));
}

#[test]
fn what_the_standards_let_a_reader_ignore_is_ignored() {
    let forge = Forge::new();
    let issuers = [forge.issuer()];
    // Nobody listens there: a fetch would at least take its time. None is in the code to make.
    let url = json!("http://127.0.0.1:9/keys");
    for member in ["jku", "x5u", "x5c", "jwk", "x5t", "cty", "made-up"] {
        assert_eq!(
            reason(&forge.with_header(member, url.clone()), &issuers),
            None
        );
    }
    assert_eq!(
        reason(&forge.with("unknown", json!([{"deep": 1}])), &issuers),
        None
    );
    assert_eq!(reason(&forge.without("kubernetes.io"), &issuers), None);
    assert_eq!(reason(&forge.without("nbf"), &issuers), None);
    // Skipping does not recurse, so depth costs nothing.
    let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
    let text = claims()
        .to_string()
        .replacen('{', &format!("{{\"x\":{deep},"), 1);
    assert_eq!(reason(&forge.with_payload(&text), &issuers), None);
}

#[test]
fn hostile_envelopes_are_refused() {
    use TokenReason::{Algorithm, Malformed, Signature, UnknownKey};
    let forge = Forge::new();
    let payload = claims().to_string().into_bytes();
    let good = forge.ec_token(&ec_header(), &payload);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid}).to_string().into_bytes();
    let unsigned = |alg: &str| format!("{}.", message(&header(alg, EC_KID), &payload));
    let short = b64(&forge.ec_signature(signed)[..63]);
    let zeros = b64(&[0; 64]);
    let other = Forge::new().ec_token(&ec_header(), &payload);
    let changed = signed.replacen(
        &b64(&payload),
        &b64(claims().to_string().replace("web", "wex").as_bytes()),
        1,
    );
    let kid = |kid: Value| {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        forge.ec_token(header.as_bytes(), &payload)
    };
    let raw = |header: &str| forge.ec_token(header.as_bytes(), &payload);
    refused(
        &[
            ("nothing", String::new(), Malformed),
            ("dots alone", "..".to_owned(), Malformed),
            ("one part", "abc".to_owned(), Malformed),
            ("two parts", signed.to_owned(), Malformed),
            ("four parts", format!("{good}.AA"), Malformed),
            (
                "five parts, as an encrypted token",
                format!("{good}.AA.AA"),
                Malformed,
            ),
            ("alg none, no signature", unsigned("none"), Malformed),
            (
                "alg none, a signature",
                format!("{}{signature}", unsigned("none")),
                Algorithm,
            ),
            (
                "alg None",
                format!("{}{signature}", unsigned("None")),
                Algorithm,
            ),
            ("alg NONE", format!("{}AA", unsigned("NONE")), Algorithm),
            (
                "alg empty",
                format!("{}{signature}", unsigned("")),
                Algorithm,
            ),
            (
                "alg in lower case",
                format!("{}{signature}", unsigned("es256")),
                Algorithm,
            ),
            (
                "alg with a space",
                format!("{}{signature}", unsigned("ES256 ")),
                Algorithm,
            ),
            (
                "alg PS256",
                format!("{}{signature}", unsigned("PS256")),
                Algorithm,
            ),
            (
                "alg EdDSA",
                format!("{}{signature}", unsigned("EdDSA")),
                Algorithm,
            ),
            (
                "HS256 by the public key",
                hs256(&forge, &payload),
                Algorithm,
            ),
            (
                "another algorithm of the key's kind",
                forge.ec_token(&header("ES384", EC_KID), &payload),
                Algorithm,
            ),
            (
                "the RSA key's id with ES256",
                forge.ec_token(&header("ES256", "rsa-1"), &payload),
                Algorithm,
            ),
            (
                "the EC key's id with RS256",
                forge.rsa_token(&header("RS256", EC_KID), &payload),
                Algorithm,
            ),
            (
                "the RSA key, another hash",
                forge.rsa_sha512_token(&rsa_header(), &payload),
                Signature,
            ),
            ("kid unknown", kid(json!("nope")), UnknownKey),
            (
                "kid with a path",
                kid(json!("../../../../dev/null")),
                UnknownKey,
            ),
            (
                "kid with SQL",
                kid(json!("x' UNION SELECT 'AA")),
                UnknownKey,
            ),
            ("kid with a command", kid(json!("|/usr/bin/id")), UnknownKey),
            ("kid with a zero byte", kid(json!("ec-1\0")), UnknownKey),
            ("kid in other case", kid(json!("EC-1")), UnknownKey),
            ("kid empty", kid(json!("")), UnknownKey),
            ("kid null", kid(Value::Null), UnknownKey),
            ("kid a number", kid(json!(1)), Malformed),
            ("kid a list", kid(json!(["ec-1"])), Malformed),
            ("kid missing", raw(r#"{"alg":"ES256"}"#), UnknownKey),
            (
                "a DER signature",
                format!("{signed}.{}", b64(&forge.ec_der_signature(signed))),
                Signature,
            ),
            ("a short signature", format!("{signed}.{short}"), Signature),
            (
                "a signature of zeros",
                format!("{signed}.{zeros}"),
                Signature,
            ),
            ("another key's signature", other, Signature),
            (
                "a changed payload",
                format!("{changed}.{signature}"),
                Signature,
            ),
            ("padding", format!("{signed}.{signature}=="), Malformed),
            (
                "the other base64 alphabet",
                format!("{signed}.+/+/"),
                Malformed,
            ),
            ("a space before", format!(" {good}"), Malformed),
            ("a line end behind", format!("{good}\n"), Malformed),
            ("the scheme left in", format!("Bearer {good}"), Malformed),
            ("not ASCII", format!("{good}é"), Malformed),
            ("loose trailing bits", loose_bits(&good), Malformed),
            ("crit", forge.with_header("crit", json!(["exp"])), Malformed),
            (
                "crit empty",
                forge.with_header("crit", json!([])),
                Malformed,
            ),
            (
                "crit null",
                forge.with_header("crit", Value::Null),
                Malformed,
            ),
            (
                "b64 false",
                forge.with_header("b64", json!(false)),
                Malformed,
            ),
            ("b64 true", forge.with_header("b64", json!(true)), Malformed),
            (
                "typ of an access token",
                forge.with_header("typ", json!("at+jwt")),
                Malformed,
            ),
            (
                "alg twice",
                raw(r#"{"alg":"none","alg":"ES256","kid":"ec-1"}"#),
                Malformed,
            ),
            (
                "alg twice, the second escaped",
                raw(r#"{"alg":"ES256","\u0061lg":"none","kid":"ec-1"}"#),
                Malformed,
            ),
            (
                "kid twice",
                raw(r#"{"alg":"ES256","kid":"ec-1","kid":"rsa-1"}"#),
                Malformed,
            ),
            (
                "crit behind the others",
                raw(r#"{"alg":"ES256","kid":"ec-1","crit":["x"],"x":1}"#),
                Malformed,
            ),
            ("no alg", raw(r#"{"kid":"ec-1"}"#), Malformed),
            (
                "alg a list",
                raw(r#"{"alg":["ES256"],"kid":"ec-1"}"#),
                Malformed,
            ),
            (
                "the header a list",
                raw(r#"["ES256","ec-1",null]"#),
                Malformed,
            ),
            ("the header a string", raw(r#""ES256""#), Malformed),
            ("the header null", raw("null"), Malformed),
            (
                "two headers",
                raw(r#"{"alg":"ES256","kid":"ec-1"}{}"#),
                Malformed,
            ),
            (
                "the header not UTF-8",
                forge.ec_token(b"{\"alg\":\"ES256\",\"kid\":\"\xff\"}", &payload),
                Malformed,
            ),
            ("one megabyte", "A".repeat(1 << 20), Malformed),
            (
                "a byte too long",
                "A.".repeat(super::MAX_TOKEN_BYTES / 2 + 1),
                Malformed,
            ),
        ],
        &forge.issuer(),
    );
}

/// The attack on readers that let the token choose: a MAC keyed with what everybody has.
fn hs256(forge: &Forge, payload: &[u8]) -> String {
    let message = message(br#"{"alg":"HS256","kid":"ec-1"}"#, payload);
    let key = hmac::Key::new(hmac::HMAC_SHA256, forge.ec_point());
    format!(
        "{message}.{}",
        b64(hmac::sign(&key, message.as_bytes()).as_ref())
    )
}

/// The same bytes behind another text: the last character of 64 bytes has four bits that mean nothing.
fn loose_bits(good: &str) -> String {
    let last = good.as_bytes()[good.len() - 1];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.iter().position(|c| *c == last).unwrap();
    let other = char::from(alphabet[at + 1]);
    format!("{}{other}", &good[..good.len() - 1])
}

#[test]
fn hostile_claims_are_refused() {
    use TokenReason::{Audience, Expired, Issuer, Lifetime, Malformed, NotYetValid};
    let forge = Forge::new();
    let text = claims().to_string();
    let twice = |claim: &str| forge.with_payload(&text.replacen('{', &format!("{{{claim},"), 1));
    let with = |claim, value| forge.with(claim, value);
    let times = |iat: i64, exp: i64| {
        let mut claims = claims();
        claims["iat"] = json!(iat);
        claims["exp"] = json!(exp);
        forge.with_claims(&claims)
    };
    let bomb = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
    refused(
        &[
            ("aud of others", with("aud", json!(["vault"])), Audience),
            ("aud empty", with("aud", json!([])), Audience),
            ("aud an empty string", with("aud", json!("")), Audience),
            (
                "aud a longer name",
                with("aud", json!("istio-ca.evil")),
                Audience,
            ),
            (
                "aud in other case",
                with("aud", json!(["Istio-CA"])),
                Audience,
            ),
            ("aud a number", with("aud", json!(1)), Malformed),
            (
                "aud an object",
                with("aud", json!({"istio-ca": 1})),
                Malformed,
            ),
            (
                "aud a list with a number",
                with("aud", json!(["istio-ca", 1])),
                Malformed,
            ),
            (
                "aud a list in a list",
                with("aud", json!([["istio-ca"]])),
                Malformed,
            ),
            ("aud null", with("aud", Value::Null), Malformed),
            ("aud missing", forge.without("aud"), Malformed),
            ("aud twice", twice(r#""aud":"istio-ca""#), Malformed),
            (
                "iss of another",
                with("iss", json!("https://evil.example")),
                Issuer,
            ),
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
            ("iss a list", with("iss", json!([ISSUER])), Malformed),
            ("iss missing", forge.without("iss"), Malformed),
            (
                "iss twice",
                twice(&format!(r#""iss":"{ISSUER}""#)),
                Malformed,
            ),
            ("exp past", times(NOW - 7200, NOW - 3600), Expired),
            (
                "exp past by the leeway",
                times(NOW - 7200, NOW - 10),
                Expired,
            ),
            ("exp zero", times(0, 0), Expired),
            (
                "exp a string",
                with("exp", json!((NOW + 60).to_string())),
                Malformed,
            ),
            (
                "exp a fraction",
                with("exp", json!(1_795_499_999.5)),
                Malformed,
            ),
            ("exp null", with("exp", Value::Null), Malformed),
            ("exp missing", forge.without("exp"), Malformed),
            ("exp negative", with("exp", json!(-1)), Malformed),
            (
                "exp beyond 64 bits",
                forge.with_payload(&text.replace(&(NOW + 43_100).to_string(), "1e400")),
                Malformed,
            ),
            (
                "exp the largest number",
                with("exp", json!(u64::MAX)),
                Malformed,
            ),
            (
                "exp in the year 10000",
                with("exp", json!(253_402_300_800_i64)),
                Malformed,
            ),
            (
                "exp twice",
                twice(&format!(r#""exp":{}"#, NOW + 60)),
                Malformed,
            ),
            ("nbf to come", with("nbf", json!(NOW + 11)), NotYetValid),
            ("nbf a string", with("nbf", json!("0")), Malformed),
            ("iat to come", times(NOW + 11, NOW + 3600), NotYetValid),
            ("iat missing", forge.without("iat"), Malformed),
            ("iat behind exp", times(NOW + 10, NOW + 5), Lifetime),
            (
                "13 months",
                times(NOW - 100, NOW - 100 + 395 * 86_400),
                Lifetime,
            ),
            (
                "a day and the leeway and a second",
                times(NOW - 100, NOW - 100 + 86_411),
                Lifetime,
            ),
            ("jti with a line end", with("jti", json!("a\nb")), Malformed),
            (
                "jti of 129 bytes",
                with("jti", json!("a".repeat(129))),
                Malformed,
            ),
            ("jti a number", with("jti", json!(1)), Malformed),
            (
                "a nested bomb where a claim is read",
                forge.with_payload(&text.replace(r#"["istio-ca"]"#, &bomb)),
                Malformed,
            ),
            ("the payload a list", forge.with_payload("[]"), Malformed),
            ("the payload null", forge.with_payload("null"), Malformed),
            (
                "the payload cut short",
                forge.with_payload(&text[..text.len() - 1]),
                Malformed,
            ),
            (
                "two payloads",
                forge.with_payload(&format!("{text}{text}")),
                Malformed,
            ),
            (
                "the payload not UTF-8",
                forge.ec_token(&ec_header(), b"{\"iss\":\"\xff\"}"),
                Malformed,
            ),
        ],
        &forge.issuer(),
    );
}

#[test]
fn hostile_subjects_are_refused() {
    use TokenReason::{Malformed, Subject};
    let forge = Forge::new();
    let text = claims().to_string();
    // Without the kubernetes.io claims, so that the subject's own shape decides.
    let sub = |sub: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove("kubernetes.io");
        claims["sub"] = json!(sub);
        forge.with_claims(&claims)
    };
    let bound = |pointer: &str, value: Value| {
        let mut claims = claims();
        *claims.pointer_mut(pointer).unwrap() = value;
        forge.with_claims(&claims)
    };
    let long = "a".repeat(64);
    refused(
        &[
            ("empty", sub(""), Subject),
            ("a person", sub("admin@example.com"), Subject),
            ("a node", sub("system:node:edge-1"), Subject),
            ("no account", sub("system:serviceaccount:shop"), Subject),
            (
                "an empty account",
                sub("system:serviceaccount:shop:"),
                Subject,
            ),
            (
                "an empty namespace",
                sub("system:serviceaccount::web"),
                Subject,
            ),
            (
                "a colon more",
                sub("system:serviceaccount:shop:web:admin"),
                Subject,
            ),
            (
                "a colon before",
                sub(":system:serviceaccount:shop:web"),
                Subject,
            ),
            (
                "a space behind",
                sub("system:serviceaccount:shop:web "),
                Subject,
            ),
            ("upper case", sub("system:serviceaccount:Shop:web"), Subject),
            (
                "the prefix in upper case",
                sub("System:serviceaccount:shop:web"),
                Subject,
            ),
            (
                "a letter that looks like one",
                sub("system:serviceaccount:shop:w\u{435}b"),
                Subject,
            ),
            (
                "a zero byte",
                sub("system:serviceaccount:shop:web\0"),
                Subject,
            ),
            (
                "a slash",
                sub("system:serviceaccount:shop:web/sa/admin"),
                Subject,
            ),
            ("a path", sub("system:serviceaccount:..:web"), Subject),
            (
                "a path in the account",
                sub("system:serviceaccount:shop:../kube-system"),
                Subject,
            ),
            (
                "an escaped slash",
                sub("system:serviceaccount:shop:web%2fadmin"),
                Subject,
            ),
            (
                "a dot in the namespace",
                sub("system:serviceaccount:sh.op:web"),
                Subject,
            ),
            (
                "a hyphen last",
                sub("system:serviceaccount:shop:web-"),
                Subject,
            ),
            (
                "a hyphen first",
                sub("system:serviceaccount:-shop:web"),
                Subject,
            ),
            (
                "an empty label",
                sub("system:serviceaccount:shop:we..b"),
                Subject,
            ),
            (
                "64 bytes of namespace",
                sub(&format!("system:serviceaccount:{long}:web")),
                Subject,
            ),
            (
                "254 bytes of account",
                sub(&format!("system:serviceaccount:shop:{}", "a".repeat(254))),
                Subject,
            ),
            (
                "sub a list",
                forge.with("sub", json!(["system:serviceaccount:shop:web"])),
                Malformed,
            ),
            ("sub missing", forge.without("sub"), Malformed),
            (
                "sub twice",
                forge.with_payload(&text.replacen(
                    '{',
                    r#"{"sub":"system:serviceaccount:kube-system:admin","#,
                    1,
                )),
                Malformed,
            ),
            (
                "another namespace in kubernetes.io",
                bound("/kubernetes.io/namespace", json!("kube-system")),
                Subject,
            ),
            (
                "another account in kubernetes.io",
                bound("/kubernetes.io/serviceaccount/name", json!("admin")),
                Subject,
            ),
            (
                "no namespace in kubernetes.io",
                bound(
                    "/kubernetes.io",
                    json!({"serviceaccount": {"name": "web", "uid": "1"}}),
                ),
                Malformed,
            ),
            (
                "no account in kubernetes.io",
                bound("/kubernetes.io", json!({"namespace": "shop"})),
                Malformed,
            ),
            (
                "kubernetes.io a list",
                bound(
                    "/kubernetes.io",
                    json!(["shop", {"name": "web", "uid": "1"}]),
                ),
                Malformed,
            ),
            (
                "the account a list",
                bound("/kubernetes.io/serviceaccount", json!(["web", "1"])),
                Malformed,
            ),
            (
                "kubernetes.io twice",
                forge.with_payload(&text.replacen('{', r#"{"kubernetes.io":null,"#, 1)),
                Malformed,
            ),
            (
                "the namespace twice",
                forge.with_payload(&text.replace(
                    r#""namespace":"shop""#,
                    r#""namespace":"shop","namespace":"shop""#,
                )),
                Malformed,
            ),
            (
                "an account without uid",
                bound("/kubernetes.io/serviceaccount", json!({"name": "web"})),
                Malformed,
            ),
            (
                "a pod without uid",
                bound("/kubernetes.io/pod", json!({"name": "web-1"})),
                Malformed,
            ),
            (
                "a pod name with a line end",
                bound("/kubernetes.io/pod/name", json!("web\n")),
                Malformed,
            ),
            (
                "a pod uid of 129 bytes",
                bound("/kubernetes.io/pod/uid", json!("a".repeat(129))),
                Malformed,
            ),
            (
                "a node name with a space",
                bound("/kubernetes.io/node/name", json!("a b")),
                Malformed,
            ),
        ],
        &forge.issuer(),
    );
}

#[test]
fn clocks_may_be_ten_seconds_apart_and_no_more() {
    let forge = Forge::new();
    let issuers = [forge.issuer()];
    let token = forge.with_claims(&claims());
    let at = |seconds: i64| {
        authenticate(&token, &issuers, Timestamp::from_unix(NOW + seconds))
            .err()
            .map(|e| e.reason())
    };
    assert_eq!(at(43_109), None);
    assert_eq!(at(43_110), Some(TokenReason::Expired));
    assert_eq!(at(-110), None);
    assert_eq!(at(-111), Some(TokenReason::NotYetValid));
}

#[test]
fn a_cluster_may_want_tokens_that_are_bound_to_a_pod() {
    let forge = Forge::new();
    let mut config = forge.issuer().config().clone();
    config.require_pod = true;
    let issuers = [TokenIssuer::try_from(config).unwrap()];
    let mut unbound = claims();
    unbound["kubernetes.io"]
        .as_object_mut()
        .unwrap()
        .remove("pod");
    assert_eq!(
        reason(&forge.with_claims(&unbound), &issuers),
        Some(TokenReason::Subject)
    );
    assert_eq!(reason(&forge.with_claims(&claims()), &issuers), None);
}

#[test]
fn clusters_that_share_their_issuer_are_told_apart_by_the_key() {
    let (here, there, stranger) = (Forge::new(), Forge::new(), Forge::new());
    let mut renamed = there.ec_jwk();
    renamed["kid"] = json!("ec-2");
    let issuers = [here.issuer(), issuer_of(&json!({"keys": [renamed]}))];
    let first = here.with_claims(&claims());
    let header = br#"{"alg":"ES256","kid":"ec-2"}"#;
    let second = there.ec_token(header, claims().to_string().as_bytes());
    assert_eq!(authenticate_by(&first, &issuers, now()).unwrap().issuer, 0);
    assert_eq!(authenticate_by(&second, &issuers, now()).unwrap().issuer, 1);
    // A key id that both clusters use: the signature decides.
    let same_id = [here.issuer(), there.issuer()];
    let token = there.with_claims(&claims());
    assert_eq!(authenticate_by(&token, &same_id, now()).unwrap().issuer, 1);
    // One cluster's token is nothing in another's.
    assert_eq!(
        reason(&second, &issuers[..1]),
        Some(TokenReason::UnknownKey)
    );
    let token = stranger.with_claims(&claims());
    // Of the issuers' refusals the one that found the key is told, wherever it stands.
    assert_eq!(reason(&token, &issuers), Some(TokenReason::Signature));
    let [first, second] = issuers;
    let reversed = [second, first];
    assert_eq!(reason(&token, &reversed), Some(TokenReason::Signature));
    // Another issuer's key is none of ours to look for.
    let mut foreign = claims();
    foreign["iss"] = json!("https://elsewhere.example");
    let token = stranger.ec_token(header, foreign.to_string().as_bytes());
    assert_eq!(reason(&token, &reversed), Some(TokenReason::Issuer));
    assert_eq!(reason(&token, &[]), Some(TokenReason::Issuer));
}

#[test]
fn the_claims_are_checked_against_the_issuer_whose_key_signed() {
    let forge = Forge::new();
    let token = forge.with_claims(&claims());
    let payload = UnverifiedToken::parse(&token)
        .unwrap()
        .verify_with(forge.issuer().jwks())
        .unwrap();
    let expected = Expected {
        issuer: "https://elsewhere.example",
        audiences: &["istio-ca".to_owned()],
        max_lifetime: Ttl::hours(24),
        require_pod: false,
    };
    let refusal = check(&payload.claims().unwrap(), &expected, now()).unwrap_err();
    assert_eq!(refusal.reason(), TokenReason::Issuer);
}

#[test]
fn refusals_tell_a_person_what_came_and_never_the_token() {
    let forge = Forge::new();
    let issuers = [forge.issuer()];
    let token = forge.with("aud", json!(["x"]));
    let text = authenticate(&token, &issuers, now())
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        r#"the token's audiences are ["x"], expected one of ["istio-ca"]"#
    );
    let huge = forge.with("iss", json!("a\n".repeat(4000)));
    let text = authenticate(&huge, &issuers, now())
        .unwrap_err()
        .to_string();
    assert!(text.len() < 600 && !text.contains('\n'), "{text}");
    for token in [forge.with("sub", json!("x")), forge.with("exp", json!("x"))] {
        let text = format!("{:?}", authenticate(&token, &issuers, now()).unwrap_err());
        assert!(!text.contains(token.rsplit('.').next().unwrap()));
    }
}

#[test]
fn the_cache_answers_for_the_set_that_proved_and_for_no_longer_than_the_token() {
    let forge = Forge::new();
    let cache = TokenCache::new();
    let set = IssuerSet::new(vec![forge.issuer()]);
    let token = forge.with_claims(&claims());
    let proven = cache.authenticate(&token, &set, now()).unwrap();
    assert_eq!(cache.authenticate(&token, &set, now()), Ok(proven));
    assert_eq!(cache.len(), 1);
    let at = |seconds| {
        let time = Timestamp::from_unix(NOW + seconds);
        cache
            .authenticate(&token, &set, time)
            .map_err(|e| e.reason())
    };
    // A clock that steps back does not make a known token valid before its time.
    assert_eq!(at(-111), Err(TokenReason::NotYetValid));
    assert!(at(0).is_ok());
    assert_eq!(at(43_110), Err(TokenReason::Expired));
    assert!(cache.is_empty());
    assert!(at(0).is_ok());
    // The key is taken out of the definition: another set, and no proof of the old one counts.
    let changed = IssuerSet::new(vec![issuer_of(&json!({"keys": [forge.rsa_jwk()]}))]);
    assert_eq!(
        cache
            .authenticate(&token, &changed, now())
            .map_err(|e| e.reason()),
        Err(TokenReason::UnknownKey)
    );
    cache.clear();
    assert!(cache.is_empty());
}

#[test]
fn the_cache_hits_by_the_whole_token_and_remembers_no_refusal() {
    let forge = Forge::new();
    let cache = TokenCache::new();
    let set = IssuerSet::new(vec![forge.issuer()]);
    let token = forge.with_claims(&claims());
    cache.authenticate(&token, &set, now()).unwrap();
    let (signed, _) = token.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", b64(&[1; 64]));
    let refused = cache.authenticate(&forged, &set, now()).unwrap_err();
    assert_eq!(refused.reason(), TokenReason::Signature);
    assert_eq!(cache.len(), 1);
}

#[test]
fn the_cache_keeps_within_its_capacity_and_keeps_what_is_used() {
    let forge = Forge::new();
    let cache = TokenCache::with_capacity(8);
    let set = IssuerSet::new(vec![forge.issuer()]);
    let used = forge.with_claims(&claims());
    let proven = cache.authenticate(&used, &set, now()).unwrap();
    for i in 0..40 {
        let token = forge.with("jti", json!(format!("id-{i}")));
        cache.authenticate(&token, &set, now()).unwrap();
        assert_eq!(cache.authenticate(&used, &set, now()).as_ref(), Ok(&proven));
        assert!(cache.len() <= 8, "{} entries", cache.len());
    }
    // A hit in the old generation moves the entry; it is not lost and proven anew.
    cache.clear();
    let fill = |id: &str| cache.authenticate(&forge.with("jti", json!(id)), &set, now());
    cache.authenticate(&used, &set, now()).unwrap();
    for id in ["a", "b", "c", "d"] {
        fill(id).unwrap();
    }
    assert_eq!(cache.len(), 5);
    cache.authenticate(&used, &set, now()).unwrap();
    assert_eq!(cache.len(), 5);
}
