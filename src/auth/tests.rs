#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
pub(super) mod keys;
mod reload;

use std::{path::Path, sync::Arc};

use chrono::DateTime;
use keys::{TestKey, assemble, base64url, with};
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{Phi, Practices, Role},
};

const NOW: i64 = 1_800_000_000;

/// A verifier of the keys in a file, with 30 s of leeway, at [`NOW`].
struct Bench {
    verifier: Verifier,
    clock: Arc<ManualClock>,
    folder: TempDir,
}

fn settings() -> Settings {
    Settings {
        jwks: None,
        issuer: "https://id.example.com".into(),
        audience: "heedwell".into(),
        leeway: Duration::from_secs(30),
        local_key: None,
        emergency_key: None,
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(DateTime::from_timestamp(NOW, 0).unwrap()))
}

fn write_set(path: &Path, jwks: &[Value]) {
    std::fs::write(path, json!({ "keys": jwks }).to_string()).unwrap();
}

impl Bench {
    async fn new(jwks: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        write_set(&path, jwks);
        let clock = clock();
        let settings = Settings { jwks: Some(JwksSource::File(path)), ..settings() };
        let verifier = Verifier::new(settings, clock.clone()).await.unwrap();
        Self { verifier, clock, folder }
    }

    async fn accepts(&self, token: &str) -> bool {
        match self.verifier.verify(token).await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error, TokenError::Invalid);
                false
            }
        }
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example.com", "aud": "heedwell", "sub": "svc-1", "exp": NOW + 600,
        "practices": ["p1"], "roles": ["sender"],
    })
}

#[tokio::test]
async fn a_set_of_three_families_verifies_tokens_of_each() {
    let keys = TestKey::each();
    let jwks: Vec<_> = keys.iter().map(|key| key.jwk(key.algorithm())).collect();
    let bench = Bench::new(&jwks).await;
    for key in &keys {
        assert!(bench.accepts(&key.token(key.algorithm(), &claims())).await, "{}", key.algorithm());
    }
}

#[tokio::test]
async fn the_claims_become_the_actor() {
    let key = TestKey::ed();
    let bench = Bench::new(&[key.jwk("k")]).await;
    let claims = with(
        claims(),
        &json!({
            "name": "Dana\u{7} Ruiz", "practices": ["p1", "p2", "not an id"], "roles": ["staff", "patient", "emperor"],
            "patient_id": "pat-7", "aud": ["other", "heedwell"], "iat": NOW, "jti": "x",
        }),
    );
    let actor = bench.verifier.verify(&key.token("k", &claims)).await.unwrap();
    assert_eq!(
        actor,
        Actor {
            subject: "svc-1".into(),
            display_name: "Dana Ruiz".into(),
            practices: Practices::Named(["p1", "p2"].map(|id| id.parse().unwrap()).into()),
            roles: [Role::Staff, Role::Patient].into(),
            patient: Some("pat-7".parse().unwrap()),
            expire_time: DateTime::from_timestamp(NOW + 630, 0).unwrap(),
            emergency: None,
        }
    );
}

#[tokio::test]
async fn a_token_for_an_emergency_says_why_and_lives_an_hour_at_most() {
    let key = TestKey::ed();
    let bench = Bench::new(&[key.jwk("k")]).await;
    let of = |more: &Value| {
        let emergency = json!({ "emergency": "a fire", "iat": NOW, "exp": NOW + 3_600 });
        key.token("k", &with(with(claims(), &emergency), more))
    };
    let actor = bench.verifier.verify(&of(&json!({}))).await.unwrap();
    assert_eq!(actor.emergency, Some(Phi::new("a fire".to_owned())));
    for good in [
        json!({ "iat": NOW + 30, "exp": NOW + 3_630 }),
        json!({ "iat": NOW - 3_000, "exp": NOW + 600 }),
        json!({ "emergency": "x".repeat(200) }),
        json!({ "emergency": null, "iat": 1.5, "exp": NOW + 9_000 }),
    ] {
        assert!(bench.accepts(&of(&good)).await, "{good}");
    }
    for bad in [
        json!({ "exp": NOW + 3_601 }),
        json!({ "iat": NOW - 3_000, "exp": NOW + 601 }),
        json!({ "iat": NOW + 31 }),
        json!({ "iat": null }),
        json!({ "iat": NOW.to_string() }),
        json!({ "iat": 1.5 }),
        json!({ "emergency": "" }),
        json!({ "emergency": " " }),
        json!({ "emergency": "a\nfire" }),
        json!({ "emergency": "x".repeat(201) }),
        json!({ "emergency": true }),
    ] {
        assert!(!bench.accepts(&of(&bad)).await, "{bad}");
    }
}

#[tokio::test]
async fn optional_claims_may_be_absent_and_a_star_means_every_practice() {
    let key = TestKey::ed();
    let bench = Bench::new(&[key.jwk("k")]).await;
    let bare = with(claims(), &json!({ "practices": null, "roles": null }));
    let actor = bench.verifier.verify(&key.token("k", &bare)).await.unwrap();
    assert_eq!(actor.practices, Practices::Named([].into()));
    assert!(actor.roles.is_empty() && actor.patient.is_none() && actor.display_name.is_empty());

    for practices in [json!(["*"]), json!(["p1", "*"])] {
        let all = with(claims(), &json!({ "practices": practices, "roles": ["patient"] }));
        let actor = bench.verifier.verify(&key.token("k", &all)).await.unwrap();
        assert_eq!(actor.practices, Practices::All);
        assert_eq!(actor.roles, [Role::Patient].into());
    }
    let stars = with(claims(), &json!({ "practices": ["**", "p*"] }));
    let actor = bench.verifier.verify(&key.token("k", &stars)).await.unwrap();
    assert_eq!(actor.practices, Practices::Named([].into()));
}

#[tokio::test]
async fn claims_that_are_missing_or_of_another_type_are_refused() {
    let key = TestKey::ed();
    let bench = Bench::new(&[key.jwk("k")]).await;
    let exp = NOW + 600;
    for (what, change) in [
        ("no exp", json!({ "exp": null })),
        ("no aud", json!({ "aud": null })),
        ("no iss", json!({ "iss": null })),
        ("no sub", json!({ "sub": null })),
        ("exp in a string", json!({ "exp": exp.to_string() })),
        ("exp with a fraction", json!({ "exp": 1_800_000_600.5 })),
        ("exp in a list", json!({ "exp": [exp] })),
        ("exp beyond any date", json!({ "exp": i64::MAX })),
        ("exp before any date", json!({ "exp": i64::MIN })),
        ("exp beyond any number", json!({ "exp": u64::MAX })),
        ("nbf in a string", json!({ "nbf": NOW.to_string() })),
        ("another audience", json!({ "aud": "other" })),
        ("other audiences", json!({ "aud": ["other", "heedwell2"] })),
        ("no audience", json!({ "aud": [] })),
        ("aud of another type", json!({ "aud": 1 })),
        ("another issuer", json!({ "iss": "https://id.example.com/" })),
        ("issuers", json!({ "iss": ["https://id.example.com", "https://evil.example.com"] })),
        ("an empty subject", json!({ "sub": "" })),
        ("a long subject", json!({ "sub": "é".repeat(129) })),
        ("a subject with a line break", json!({ "sub": "a\nb" })),
        ("a subject that is a number", json!({ "sub": 7 })),
        ("practices in a string", json!({ "practices": "*" })),
        ("roles in a string", json!({ "roles": "operator" })),
        ("a name that is a number", json!({ "name": 7 })),
    ] {
        assert!(!bench.accepts(&key.token("k", &with(claims(), &change))).await, "{what}");
    }
    for (what, change) in [
        ("a subject of 128 characters", json!({ "sub": "é".repeat(128) })),
        ("a patient's id that none has", json!({ "patient_id": "a b" })),
        ("a long name", json!({ "name": "x".repeat(200) })),
    ] {
        assert!(bench.accepts(&key.token("k", &with(claims(), &change))).await, "{what}");
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_certificate_is_good_with_it_alone() {
    let key = TestKey::ed();
    let bench = Bench::new(&[key.jwk("k")]).await;
    let bound = |cnf: Value| key.token("k", &with(claims(), &json!({ "cnf": cnf })));
    let (own, other) = ([7; 32], [8; 32]);
    let token = bound(json!({ "x5t#S256": base64url(own) }));
    for _ in 0..2 {
        assert!(bench.verifier.verify_over(&token, Some(&own)).await.is_ok());
        assert_eq!(bench.verifier.verify_over(&token, Some(&other)).await, Err(TokenError::Invalid));
        assert_eq!(bench.verifier.verify(&token).await, Err(TokenError::Invalid));
    }
    let free = key.token("k", &claims());
    assert!(bench.verifier.verify_over(&free, Some(&own)).await.is_ok());
    // What else a token may be bound to cannot be checked here (RFC 7800, RFC 9449).
    for cnf in [
        json!({}),
        json!({ "jkt": base64url(own) }),
        json!({ "x5t#S256": base64url(own), "jkt": base64url(own) }),
        json!({ "x5t#S256": base64url(&own[..31]) }),
        json!({ "x5t#S256": "" }),
        json!({ "x5t#S256": vec![7; 32] }),
        json!("x"),
    ] {
        let refused = bench.verifier.verify_over(&bound(cnf.clone()), Some(&own)).await;
        assert_eq!(refused, Err(TokenError::Invalid), "{cnf}");
    }
}

#[tokio::test]
async fn a_claim_or_header_given_twice_is_refused() {
    let key = TestKey::ed();
    let bench = Bench::new(&[key.jwk("k")]).await;
    let header = json!({ "alg": "EdDSA", "kid": "k" });
    let once = claims().to_string();
    for second in [r#""sub":"svc-2""#, r#""exp":9999999999"#, r#""practices":["*"]"#, r#""roles":["operator"]"#] {
        let twice = format!("{{{second},{}", &once[1..]);
        assert!(!bench.accepts(&key.token_with(&header, &twice)).await, "{second}");
    }
    let twice = assemble(r#"{"alg":"EdDSA","kid":"x","kid":"k"}"#, &once, |message| key.sign(message));
    assert!(!bench.accepts(&twice).await);
}

#[tokio::test]
async fn a_token_ends_at_exp_and_begins_at_nbf_each_with_leeway() {
    let key = TestKey::ed();
    let bench = Bench::new(&[key.jwk("k")]).await;
    let token = key.token("k", &claims());
    bench.clock.advance(Duration::from_micros(629_999_999));
    assert!(bench.accepts(&token).await);
    bench.clock.advance(Duration::from_micros(1));
    assert!(!bench.accepts(&token).await);

    let early = key.token("k", &with(claims(), &json!({ "exp": NOW + 9_000, "nbf": NOW + 700 })));
    bench.clock.advance(Duration::from_secs(39));
    assert!(!bench.accepts(&early).await);
    bench.clock.advance(Duration::from_secs(1));
    assert!(bench.accepts(&early).await);
}

#[tokio::test]
async fn an_algorithm_other_than_the_keys_is_refused() {
    let (ed, rsa) = (TestKey::ed(), TestKey::rsa());
    let bench = Bench::new(&[ed.jwk("ed"), rsa.jwk("rsa")]).await;
    let claims = claims().to_string();
    let hs256 = |secret: Vec<u8>| {
        move |message: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
        }
    };
    let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid }).to_string();
    for (what, token) in [
        ("none", assemble(&header("none", "rsa"), &claims, |_| Vec::new())),
        ("None", assemble(&header("None", "rsa"), &claims, |_| Vec::new())),
        ("HS256 by the modulus", assemble(&header("HS256", "rsa"), &claims, hs256(rsa.modulus()))),
        ("HS256 by the JWK", assemble(&header("HS256", "rsa"), &claims, hs256(rsa.jwk("rsa").to_string().into()))),
        ("HS256 by nothing", assemble(&header("HS256", "rsa"), &claims, hs256(Vec::new()))),
        ("RS384", assemble(&header("RS384", "rsa"), &claims, |message| rsa.sign_rs384(message))),
        ("RS384 over RS256", assemble(&header("RS384", "rsa"), &claims, |message| rsa.sign(message))),
        ("EdDSA by the RSA key", assemble(&header("EdDSA", "rsa"), &claims, |message| ed.sign(message))),
        ("RS256 by the Ed25519 key", assemble(&header("RS256", "ed"), &claims, |message| rsa.sign(message))),
        ("ES256 by the Ed25519 key", assemble(&header("ES256", "ed"), &claims, |message| ed.sign(message))),
        ("no algorithm", assemble(r#"{"kid":"ed"}"#, &claims, |message| ed.sign(message))),
    ] {
        assert!(!bench.accepts(&token).await, "{what}");
    }
}

#[tokio::test]
async fn a_header_that_demands_extensions_is_refused() {
    let key = TestKey::ed();
    let bench = Bench::new(&[key.jwk("k")]).await;
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!("x")] {
        let header = json!({ "alg": "EdDSA", "kid": "k", "crit": crit, "b64": true });
        assert!(!bench.accepts(&key.token_with(&header, &claims().to_string())).await, "{crit}");
    }
}

#[tokio::test]
async fn keys_that_a_token_brings_along_are_not_looked_at() {
    let (ours, theirs) = (TestKey::ed(), TestKey::ed());
    let bench = Bench::new(&[ours.jwk("k")]).await;
    for kid in ["k", "theirs", "../../etc/passwd", "' OR 1=1", ""] {
        let header = json!({
            "alg": "EdDSA", "kid": kid, "jwk": theirs.jwk(kid), "jku": "https://evil.example.com/jwks.json",
        });
        assert!(!bench.accepts(&theirs.token_with(&header, &claims().to_string())).await, "{kid}");
    }
}

#[tokio::test]
async fn the_key_is_the_one_that_the_token_names() {
    let (one, two) = (TestKey::ed(), TestKey::ed());
    let bench = Bench::new(&[one.jwk("one"), two.jwk("two")]).await;
    assert!(bench.accepts(&one.token("one", &claims())).await);
    assert!(bench.accepts(&two.token("two", &claims())).await);
    assert!(!bench.accepts(&one.token("two", &claims())).await);
    assert!(!bench.accepts(&two.token("one", &claims())).await);
    assert!(!bench.accepts(&one.token("ONE", &claims())).await);
}

#[tokio::test]
async fn a_token_without_a_key_name_needs_a_set_that_leaves_no_doubt() {
    let (ed, other, ec) = (TestKey::ed(), TestKey::ed(), TestKey::ec());
    let token = ed.token_with(&json!({ "alg": "EdDSA" }), &claims().to_string());
    assert!(Bench::new(&[ed.jwk("one"), ec.jwk("two")]).await.accepts(&token).await);
    assert!(!Bench::new(&[ed.jwk("one"), other.jwk("two")]).await.accepts(&token).await);
}

#[tokio::test]
async fn a_signature_with_any_bit_flipped_is_refused() {
    for key in TestKey::each() {
        let bench = Bench::new(&[key.jwk("k")]).await;
        let token = key.token("k", &claims());
        assert!(bench.accepts(&token).await);
        let (message, _) = token.rsplit_once('.').unwrap();
        let signature = key.sign(message);
        for bit in 0..signature.len() * 8 {
            let mut flipped = signature.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let token = format!("{message}.{}", base64url(flipped));
            assert!(!bench.accepts(&token).await, "{} bit {bit}", key.algorithm());
        }
    }
}

#[tokio::test]
async fn no_letter_of_a_token_may_change_be_missing_or_added() {
    let key = TestKey::ed();
    let bench = Bench::new(&[key.jwk("k")]).await;
    let token = key.token("k", &claims());
    for at in 0..token.len() {
        let (head, tail) = token.split_at(at);
        let letter = if tail.starts_with('A') { 'B' } else { 'A' };
        assert!(!bench.accepts(&format!("{head}{letter}{}", &tail[1..])).await, "changed at {at}");
        assert!(!bench.accepts(head).await, "cut at {at}");
        assert!(!bench.accepts(&format!("{head}{}", &tail[1..])).await, "left out at {at}");
    }
    for more in [".", "=", " ", "\n", ".x"] {
        assert!(!bench.accepts(&format!("{token}{more}")).await, "{more:?}");
        assert!(!bench.accepts(&format!("{more}{token}")).await, "{more:?}");
    }
}

#[tokio::test]
async fn odd_and_oversized_input_is_refused() {
    let key = TestKey::ed();
    let bench = Bench::new(&[key.jwk("k")]).await;
    let claims_of = |len: usize| with(claims(), &json!({ "name": "x".repeat(len) }));
    let longest = (5_000..).map(|len| key.token("k", &claims_of(len))).take_while(|token| token.len() <= MAX_TOKEN_LEN);
    let longest = longest.last().unwrap();
    assert!(longest.len() > MAX_TOKEN_LEN - 4 && bench.accepts(&longest).await);
    assert!(!bench.accepts(&key.token("k", &claims_of(6_200))).await);
    for odd in ["", ".", "..", "...", "a.b", "a.b.c", "é.é.é", "\0", "Bearer x.y.z"] {
        assert!(!bench.accepts(odd).await, "{odd:?}");
    }
    let deep = format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000));
    assert!(!bench.accepts(&key.token_with(&json!({ "alg": "EdDSA", "kid": "k" }), &deep)).await);
}

#[tokio::test]
async fn a_modulus_with_a_zero_in_front_verifies_all_the_same() {
    let key = TestKey::rsa();
    let padded = [&[0][..], &key.modulus()].concat();
    let bench = Bench::new(&[with(key.jwk("k"), &json!({ "n": base64url(padded) }))]).await;
    assert!(bench.accepts(&key.token("k", &claims())).await);
}

#[tokio::test]
async fn nothing_to_verify_with_is_a_fault_of_the_setup() {
    assert!(matches!(Verifier::new(settings(), clock()).await, Err(SetupError::NoKeys)));
    let folder = tempfile::tempdir().unwrap();
    let absent = JwksSource::File(folder.path().join("absent"));
    for jwks in [absent, JwksSource::Url("http://id.example.com/jwks.json".parse().unwrap())] {
        let settings = Settings { jwks: Some(jwks), ..settings() };
        assert!(matches!(Verifier::new(settings, clock()).await, Err(SetupError::Jwks(_))));
    }
}
