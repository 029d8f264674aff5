//! Tokens: JSON Web Tokens (RFC 7519) in the compact form. ring, which TLS brings, checks signatures; what a library would add to that
//! is little, and much of it is what must not be: shared keys, no signature, a key that the token itself names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_routes::Jwt;
use serde::Deserialize;
use serde_json::Value;

use super::keyset::{Algorithm, KeySet, decode};

/// Clocks may differ by so much.
const LEEWAY: Duration = Duration::from_mins(1);

/// Why a token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    Form,
    Algorithm,
    /// It names a key that the set does not have.
    UnknownKey,
    Signature,
    Issuer,
    Audience,
    NoEnd,
    Expired,
    NotYet,
}

impl Bad {
    pub fn says(self) -> &'static str {
        match self {
            Self::Form => "it is no token",
            Self::Algorithm => "its algorithm is not taken: RS, PS, ES256, ES384 and EdDSA are",
            Self::UnknownKey => "the key that it names (kid) is not known",
            Self::Signature => "no known key has signed it",
            Self::Issuer => "it is of another issuer",
            Self::Audience => "it is for another audience",
            Self::NoEnd => "it has no exp",
            Self::Expired => "it has expired",
            Self::NotYet => "it is not valid yet",
        }
    }
}

#[derive(Deserialize)]
struct Head {
    alg: Value,
    kid: Option<String>,
    /// Extensions that must be understood: none is.
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
    sub: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Whom the token is of. A token without a subject is of all such callers together.
pub fn subject(token: &str, rules: &Jwt, keys: &KeySet, now: SystemTime) -> Result<String, Bad> {
    let (message, signature) = token.rsplit_once('.').ok_or(Bad::Form)?;
    let (head, claims) = message.split_once('.').filter(|(_, claims)| !claims.contains('.')).ok_or(Bad::Form)?;
    let Head { alg, kid, crit } = part(head)?;
    if crit.is_some() {
        return Err(Bad::Form);
    }
    let algorithm: Algorithm = serde_json::from_value(alg).map_err(|_| Bad::Algorithm)?;
    let signature = decode(signature).ok_or(Bad::Form)?;
    if kid.as_deref().is_some_and(|id| !keys.knows(id)) {
        return Err(Bad::UnknownKey);
    }
    if !keys.verify(algorithm, kid.as_deref(), message.as_bytes(), &signature) {
        return Err(Bad::Signature);
    }
    let Claims { iss, aud, exp, nbf, sub } = part(claims)?;
    if iss.as_deref() != Some(rules.issuer.as_str()) {
        return Err(Bad::Issuer);
    }
    let ours = |audience: &String| rules.audiences.contains(audience);
    let meant = aud.is_some_and(|aud| match aud {
        Audience::One(one) => ours(&one),
        Audience::Many(many) => many.iter().any(ours),
    });
    if !meant {
        return Err(Bad::Audience);
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let leeway = LEEWAY.as_secs_f64();
    if exp.ok_or(Bad::NoEnd)? + leeway <= now {
        return Err(Bad::Expired);
    }
    if nbf.is_some_and(|nbf| nbf - leeway > now) {
        return Err(Bad::NotYet);
    }
    Ok(sub.unwrap_or_default())
}

fn part<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Bad> {
    serde_json::from_slice(&decode(text).ok_or(Bad::Form)?).map_err(|_| Bad::Form)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use millrace_routes::{Entry, Jwks, Source};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::super::mounted::Files;
    use super::super::part::{Readable, Reading};
    use super::*;

    const NOW: u64 = 1_800_000_000;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.as_ref(), &random).unwrap())
        }

        fn key(&self, id: &str) -> Value {
            let point = self.0.public_key().as_ref();
            let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id})
        }

        fn keys(&self, id: &str) -> KeySet {
            set(&[self.key(id)])
        }

        fn sign(&self, head: &Value, claims: &Value) -> String {
            let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
            let message = format!("{head}.{claims}");
            let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }

    fn set(keys: &[Value]) -> KeySet {
        let set = json!({"keys": keys}).to_string();
        match KeySet::read(&Files::from([("k".to_owned(), set.into_bytes())]), "", Some("k")) {
            Reading::Use(keys, _) => keys,
            Reading::Keep(says) | Reading::Close(says) => panic!("{says:?}"),
        }
    }

    fn rules() -> Jwt {
        let jwks = Jwks::Entry(Entry { of: Source::ConfigMap, name: "k".to_owned(), key: "k".to_owned() });
        Jwt { issuer: "https://issuer".to_owned(), audiences: vec!["a".to_owned(), "b".to_owned()], jwks }
    }

    fn claims() -> Value {
        json!({"iss": "https://issuer", "aud": ["x", "b"], "exp": NOW + 10, "sub": "me"})
    }

    fn check(token: &str, keys: &KeySet) -> Result<String, Bad> {
        subject(token, &rules(), keys, UNIX_EPOCH + Duration::from_secs(NOW))
    }

    #[test]
    fn claims_are_checked_one_by_one() {
        let signer = Signer::new();
        let keys = signer.keys("1");
        let head = json!({"alg": "ES256", "kid": "1", "typ": "JWT"});
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            check(&signer.sign(&head, &claims), &keys)
        };
        assert_eq!(with("extra", json!(1)), Ok("me".to_owned()));
        assert_eq!(with("aud", json!("a")), Ok("me".to_owned()));
        assert_eq!(with("sub", Value::Null), Ok(String::new()));
        assert_eq!(with("exp", json!(NOW - 59)), Ok("me".to_owned()));
        assert_eq!(with("nbf", json!(NOW + 59)), Ok("me".to_owned()));
        let refused = [
            ("iss", json!("https://other"), Bad::Issuer),
            ("iss", Value::Null, Bad::Issuer),
            ("aud", json!("c"), Bad::Audience),
            ("aud", json!([]), Bad::Audience),
            ("aud", Value::Null, Bad::Audience),
            ("exp", Value::Null, Bad::NoEnd),
            ("exp", json!(NOW - 61), Bad::Expired),
            ("exp", json!("never"), Bad::Form),
            ("nbf", json!(NOW + 61), Bad::NotYet),
        ];
        for (name, value, bad) in refused {
            assert_eq!(with(name, value.clone()), Err(bad), "{name}: {value}");
        }
    }

    #[test]
    fn only_a_signature_of_a_known_key_counts() {
        let (signer, stranger) = (Signer::new(), Signer::new());
        let keys = signer.keys("1");
        let head = json!({"alg": "ES256"});
        let token = signer.sign(&head, &claims());
        assert_eq!(check(&token, &keys), Ok("me".to_owned()));
        assert_eq!(check(&stranger.sign(&head, &claims()), &keys), Err(Bad::Signature));
        assert_eq!(check(&signer.sign(&json!({"alg": "ES256", "kid": "2"}), &claims()), &keys), Err(Bad::UnknownKey));
        assert_eq!(check(&stranger.sign(&json!({"alg": "ES256", "kid": "1"}), &claims()), &keys), Err(Bad::Signature));
        let parts: Vec<&str> = token.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(claims().to_string().replace("me", "you"));
        assert_eq!(check(&[parts[0], &forged, parts[2]].join("."), &keys), Err(Bad::Signature));
        assert_eq!(check(&[parts[0], parts[1], ""].join("."), &keys), Err(Bad::Signature));
    }

    #[test]
    fn a_token_that_names_no_key_is_tried_with_eight() {
        let (signer, stranger) = (Signer::new(), Signer::new());
        for (before, expected) in [(7, Ok("me".to_owned())), (8, Err(Bad::Signature))] {
            let mut keys = vec![stranger.key("2"); before];
            keys.push(signer.key("1"));
            assert_eq!(check(&signer.sign(&json!({"alg": "ES256"}), &claims()), &set(&keys)), expected);
            let named = signer.sign(&json!({"alg": "ES256", "kid": "1"}), &claims());
            assert_eq!(check(&named, &set(&keys)), Ok("me".to_owned()));
        }
    }

    #[test]
    fn a_token_cannot_choose_how_it_is_checked() {
        let signer = Signer::new();
        let keys = signer.keys("1");
        for alg in ["none", "None", "HS256", "ES512", "es256"] {
            assert_eq!(check(&signer.sign(&json!({"alg": alg}), &claims()), &keys), Err(Bad::Algorithm), "{alg}");
        }
        for alg in ["RS256", "ES384", "EdDSA"] {
            assert_eq!(check(&signer.sign(&json!({"alg": alg}), &claims()), &keys), Err(Bad::Signature), "{alg}");
        }
        let extended = json!({"alg": "ES256", "crit": ["b64"], "b64": false});
        assert_eq!(check(&signer.sign(&extended, &claims()), &keys), Err(Bad::Form));
        for text in ["", "a", "a.b", "a.b.c", "a.b.c.d", "..", "{}.{}."] {
            assert_eq!(check(text, &keys), Err(Bad::Form), "{text}");
        }
    }
}
