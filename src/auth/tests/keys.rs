//! Keys that sign tokens in tests. They guard nothing.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};

/// An RSA key of 2,048 bits in PKCS#8, made by `openssl` for these tests alone: `ring` makes none.
const TEST_RSA_KEY: &str = "\
    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC5oyRTU9W9tD8VbHGa1F6co9zIw59typhFxmp1vjWNlecv+Adg\
    vYd4WNLPvbY/CF4pARoSh8ksQlDr8sqCva4MTl4mGlp+NrkyZFety5pcIpQKKNS+j7beBeBzlq9DUhrQKXO5OzDD/sF8nmhTy4rj\
    o9fPCcmI1oOsTmOffrbEFZeTqbBHrpmuTgQ8N7Xa18snjoE1uqkAnt9TJbzX3qqEN4+7Q7a+7yZEQ/UB6WNOaZKS7HDSND5yFNGn\
    2JYPHxmF0ZIUL3NlXavHQE0dxVHJZ3jE4B5tRqoFGdGoekMKsRoDLdh/uEOh9mXmJiTc97kYC37tqlE2VNoMH4ZOn+ApAgMBAAEC\
    ggEAE7HcQ77sOVErNDGqJ9wKIaI85Uvj2TkaSKTRXKaOdfQGcA9ncPsKqVj7HLEq6asQmlcUlgyz6i8q+K1skMxg78tMr8wx95wE\
    r/T3XGfye33rqNxGHeWPaCTFeF3vQDwwvg73yRofhVu82WTQ+rrohFg4qC2IpSzlEV3Lsfs2lrzpbA/kwQyJm8nvQAz3S4eOB8x6\
    qVb3HO5kbypljxaFaXzjGfx9NvXEnIeD4eqw502i8BHdt+HFKFpupvX+QCT7bDfc0o1mJSzihnAQ7K+cWtGYgk4qhh1GP5LRi63O\
    wgJnCWK5CpzhAV2sJYxIr5Wr3Pkknty2PJ5ZVC7xxRpHpQKBgQDhtXqsjQagBHrwM4wJt6jd3m5SJAVIJpoJVctBDUMdvs+xYetD\
    LRnElMeSf+2ucSMLWuHm0iRZHiMO9e2wlTPE6uuYJ1Meu+IzvO2z+tb9qI7Rj1NJE5/Pho/Z7FjedRVGXf1kSRcUGH1Bwm0DBnNR\
    B3PCGMhDgxj4QPCpuDEFGwKBgQDSjPM6VVINm2iPfMB2U8Cr2I1oZwfyJEzgY4gJ0eUO7LePKCJSFcFeNq3kBRLC91K+PJ0on8zY\
    /Tb6t+6bdzkSEQCFYQPsAJgWiF4uxsqAqb1lMm64152irs5DDClBijBjZJ5Eqw2YBPAewYMS5PlKCK0uV98auMWfWm8vgGB4CwKB\
    gQCOwAGTKipbgBnk2yUhbDfwAuLRLpjslgVsDAfd365oHKss69oohVi7vMEwBZrkbgeVAejH3HZCqs3Pg3jN6r9wNofElnJ6iKe6\
    wy2vW+EnUrjpDvXEzRWQ4fEPCez23SQUehNtntBq1EY8FeRuOmEqiUUMKDJYiIx9Tk0neif+qwKBgCh64Oh+LuBe2KN9oKMfRxPC\
    9qzz4hszz3P0rtr0d81+xWvIk5CkjiDG8ne8YfcKBeZ9UNnWn1O4mzFo238YVOicTDVYiaB+HL94SGNF5PkHqVojcBYpni0A3rcV\
    R3lKUDNLzQH2wQ5RJLlFCyY+z47kTCd0zXgdviD9ChNf4ywxAoGALRcP1pkC71jcD0oxnpImWpFYu2kOD852i9uAm7CuIOBnQZIf\
    doG1wNtKPBI6Zq54EH1KXiCK7TkZQQmtwstWnJV3LhT0d6yD21WAn3SS0SEto7pg8oemTGqdOWQ6TGfhi+W8bugvMt8sYUCJEeiz\
    WtZAZqWAvSqqS4zzdP6oVeY=";

pub(in crate::auth) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(in crate::auth) enum TestKey {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl TestKey {
    pub(in crate::auth) fn ed() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    pub(in crate::auth) fn ec() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
    }

    pub(in crate::auth) fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(TEST_RSA_KEY).unwrap()).unwrap()))
    }

    pub(in crate::auth) fn each() -> [Self; 3] {
        [Self::ed(), Self::ec(), Self::rsa()]
    }

    pub(in crate::auth) fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed(_) => "EdDSA",
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    pub(in crate::auth) fn jwk(&self, kid: &str) -> Value {
        let public = match self {
            Self::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key()) }),
            Self::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) })
            }
            Self::Rsa(_) => json!({ "kty": "RSA", "n": base64url(self.modulus()), "e": "AQAB" }),
        };
        with(public, &json!({ "kid": kid }))
    }

    pub(in crate::auth) fn modulus(&self) -> Vec<u8> {
        let Self::Rsa(pair) = self else { panic!("only RSA has a modulus") };
        PublicKeyComponents::<Vec<u8>>::from(pair.public()).n
    }

    pub(in crate::auth) fn sign(&self, message: &str) -> Vec<u8> {
        let message = message.as_bytes();
        match self {
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Ec(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A signature as algorithm RS384 makes it.
    pub(in crate::auth) fn sign_rs384(&self, message: &str) -> Vec<u8> {
        let Self::Rsa(pair) = self else { panic!("only RSA signs by RS384") };
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA384, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        signature
    }

    /// A token in which nothing but its signature can be wrong.
    pub(in crate::auth) fn token(&self, kid: &str, claims: &Value) -> String {
        self.token_with(&json!({ "alg": self.algorithm(), "kid": kid }), &claims.to_string())
    }

    pub(in crate::auth) fn token_with(&self, header: &Value, claims: &str) -> String {
        assemble(&header.to_string(), claims, |message| self.sign(message))
    }
}

pub(in crate::auth) fn assemble(header: &str, claims: &str, sign: impl FnOnce(&str) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    let signature = base64url(sign(&message));
    format!("{message}.{signature}")
}

/// `object` with the fields of `more`; `null` takes a field away.
pub(in crate::auth) fn with(mut object: Value, more: &Value) -> Value {
    let fields = object.as_object_mut().unwrap();
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    object
}
