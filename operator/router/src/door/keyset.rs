//! A set of public keys (JWKS, RFC 7517) that tokens are signed with. Keys that are shared secrets do not count: who can check with one
//! can sign with it.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use serde_json::Value;

use super::mounted::Files;
use super::part::{Readable, Reading};

const MOST: usize = 64;
/// Keys that one token is tried with: without `kid` all of its kind fit, and each costs what a signature costs.
const TRIED: usize = 8;
/// Unusable keys that are told one by one.
const TOLD: usize = 5;
/// Bytes of the modulus of RSA: ring takes 2048 to 8192 bits.
const MODULUS: RangeInclusive<usize> = 256..=1024;

/// How a token may be signed (RFC 7518, 3.1, and RFC 8037). What is not here cannot be asked for by a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

#[derive(Debug, PartialEq)]
pub struct KeySet(Vec<Key>);

#[derive(Debug, PartialEq)]
struct Key {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Debug, PartialEq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// What counts of a key of the set.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<Value>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads one. What is no set leaves the one before; one without a key lets nobody in: the issuer may have taken them back. `place` is where it
    /// lies, in words.
    pub fn parse(content: &[u8], place: &str) -> Reading<Self> {
        let set: Set = match serde_json::from_slice(content) {
            Ok(set) => set,
            // Not the words, which may quote what is in it.
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                return Reading::Keep(vec![format!("{place} is no JWKS (line {line}, column {column})")]);
            }
        };
        let (mut keys, mut unusable) = (Vec::new(), Vec::new());
        for (i, key) in set.keys.into_iter().enumerate() {
            match usable(key) {
                Ok(Some(key)) => keys.push(key),
                Ok(None) => {}
                Err(says) => unusable.push(format!("number {} {says}", i + 1)),
            }
        }
        let mut problems = Vec::new();
        if !unusable.is_empty() {
            let many = unusable.len();
            unusable.truncate(TOLD);
            if many > TOLD {
                unusable.push(format!("and {} more", many - TOLD));
            }
            let subject = if many == 1 { "1 key is" } else { &format!("{many} keys are") };
            problems.push(format!("{place}: {subject} not usable: {}", unusable.join(", ")));
        }
        if keys.len() > MOST {
            problems.push(format!("{place} has {} keys: the first {MOST} count", keys.len()));
            keys.truncate(MOST);
        }
        if keys.is_empty() {
            problems.push(format!("{place} has no public key for signatures: RSA, P-256, P-384 or Ed25519"));
            return Reading::Close(problems);
        }
        Reading::Use(Self(keys), problems)
    }

    /// Whether some key of the set has this `kid`.
    pub fn knows(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Whether some key of the set has signed this message.
    pub fn verify(&self, algorithm: Algorithm, id: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
        let fits = |key: &&Key| {
            id.is_none_or(|id| key.id.as_deref() == Some(id))
                && key.algorithm.is_none_or(|only| only == algorithm)
                && key.material.is_for(algorithm)
        };
        self.0.iter().filter(fits).take(TRIED).any(|key| key.material.verify(algorithm, message, signature))
    }
}

impl Material {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa { .. } => algorithm.rsa().is_some(),
            Self::P256(_) => algorithm == Algorithm::Es256,
            Self::P384(_) => algorithm == Algorithm::Es384,
            Self::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }

    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Rsa { n, e }, algorithm) => algorithm.rsa().is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            (Self::P256(point), Algorithm::Es256) => {
                unparsed(&signature::ECDSA_P256_SHA256_FIXED, point, message, signature)
            }
            (Self::P384(point), Algorithm::Es384) => {
                unparsed(&signature::ECDSA_P384_SHA384_FIXED, point, message, signature)
            }
            (Self::Ed25519(point), Algorithm::EdDsa) => unparsed(&signature::ED25519, point, message, signature),
            (Self::P256(_) | Self::P384(_) | Self::Ed25519(_), _) => false,
        }
    }
}

fn unparsed(with: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(with, key).verify(message, signature).is_ok()
}

impl Algorithm {
    /// From 2048 bits on.
    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::EdDsa => return None,
        })
    }
}

impl Readable for KeySet {
    /// One that is taken away lets nobody in.
    fn read(files: &Files, object: &str, key: Option<&str>) -> Reading<Self> {
        let key = key.unwrap_or_default();
        match files.get(key) {
            Some(content) => Self::parse(content, &format!("{object}: the entry {key}")),
            None => Reading::Close(vec![format!("{object} is not there, or has no entry {key}")]),
        }
    }
}

/// Nothing of one that is for other things than signatures, which a set may have beside. What is said never holds what is in it.
fn usable(key: Value) -> Result<Option<Key>, &'static str> {
    let read: Result<Jwk, _> = serde_json::from_value(key);
    let Jwk { kty, kid, alg, usage, crv, n, e, x, y } = read.map_err(|_| "is no JWK")?;
    if usage.is_some_and(|usage| usage != "sig") {
        return Ok(None);
    }
    let algorithm = match alg {
        None => None,
        Some(named) => Some(serde_json::from_value(named).map_err(|_| "is for an algorithm that is not taken")?),
    };
    let (n, e) = (n.as_deref().and_then(number), e.as_deref().and_then(number));
    let point = |bytes| point(x.as_deref()?, y.as_deref()?, bytes);
    let material = match (kty.as_str(), crv.as_deref()) {
        ("RSA", _) => match (n, e) {
            (Some(n), Some(_)) if !MODULUS.contains(&n.len()) => return Err("is RSA of under 2048 or over 8192 bits"),
            (Some(n), Some(e)) => Some(Material::Rsa { n, e }),
            _ => None,
        },
        ("EC", Some("P-256")) => point(32).map(Material::P256),
        ("EC", Some("P-384")) => point(48).map(Material::P384),
        ("OKP", Some("Ed25519")) => x.as_deref().and_then(decode).filter(|x| x.len() == 32).map(Material::Ed25519),
        _ => return Err("is none of RSA, P-256, P-384 and Ed25519"),
    };
    let material = material.ok_or("has numbers that cannot be read")?;
    if algorithm.is_some_and(|only| !material.is_for(only)) {
        return Err("is of another kind than its algorithm");
    }
    Ok(Some(Key { id: kid, algorithm, material }))
}

pub fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Without leading zeros, as ring asks for it.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = decode(text)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}

/// Uncompressed (SEC 1, 2.3.3).
fn point(x: &str, y: &str, bytes: usize) -> Option<Vec<u8>> {
    let (x, y) = (decode(x)?, decode(y)?);
    (x.len() == bytes && y.len() == bytes).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reading<KeySet> {
        KeySet::read(
            &Files::from([("jwks.json".to_owned(), text.as_bytes().to_vec())]),
            "ConfigMap k",
            Some("jwks.json"),
        )
    }

    #[test]
    fn only_public_keys_for_signatures_count_and_the_others_are_told() {
        let point = URL_SAFE_NO_PAD.encode([1; 32]);
        let good =
            format!(r#"{{"kty": "EC", "crv": "P-256", "x": "{point}", "y": "{point}", "kid": "1", "alg": "ES256"}}"#);
        let others = [
            r#"{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}"#.to_owned(),
            good.replace("ES256", "none"),
            good.replace("ES256", "HS256"),
            good.replace(r#""kid""#, r#""use": "enc", "kid""#),
            good.replace("P-256", "P-384"),
            good.replace("P-256", "secp256k1"),
            r#"{"kty": "RSA", "n": "AAAA", "e": "AQAB"}"#.to_owned(),
            "7".to_owned(),
        ];
        for other in &others {
            assert!(matches!(read(&format!(r#"{{"keys": [{other}]}}"#)), Reading::Close(_)), "{other}");
        }
        let all = others.iter().chain([&good]).cloned().collect::<Vec<_>>().join(",");
        let Reading::Use(set, problems) = read(&format!(r#"{{"keys": [{all}]}}"#)) else { panic!("none counts") };
        assert_eq!((set.0.len(), set.0[0].algorithm), (1, Some(Algorithm::Es256)));
        let said =
            "ConfigMap k: the entry jwks.json: 7 keys are not usable: number 1 is for an algorithm that is not taken, ";
        assert!(problems.len() == 1 && problems[0].starts_with(said), "{problems:?}");
        assert!(problems[0].ends_with("number 6 is none of RSA, P-256, P-384 and Ed25519, and 2 more"), "{problems:?}");
        let short = r#"{"keys": [{"kty": "RSA", "n": "AQAA", "e": "AQAB"}]}"#;
        let Reading::Close(problems) = read(short) else { panic!("a short key counts") };
        assert!(problems[0].ends_with("1 key is not usable: number 1 is RSA of under 2048 or over 8192 bits"));
        let for_other_things = good.replace(r#""kid""#, r#""use": "enc", "kid""#);
        let beside = read(&format!(r#"{{"keys": [{for_other_things}, {good}]}}"#));
        assert!(matches!(beside, Reading::Use(set, problems) if set.0.len() == 1 && problems.is_empty()));
        let many = vec![good; 70].join(",");
        let Reading::Use(set, problems) = read(&format!(r#"{{"keys": [{many}]}}"#)) else { panic!("none counts") };
        assert_eq!((set.0.len(), problems.len()), (MOST, 1));
        assert!(problems[0].ends_with("has 70 keys: the first 64 count"), "{problems:?}");
    }

    #[test]
    fn a_broken_set_is_named_without_its_content_and_one_that_is_gone_or_empty_closes() {
        for broken in ["", "s3cret", r#"{"keys": "s3cret"}"#, "{}", "7"] {
            let Reading::Keep(problems) = read(broken) else { panic!("{broken}") };
            assert!(problems[0].starts_with("ConfigMap k: the entry jwks.json "), "{problems:?}");
            assert!(!problems[0].contains("s3cret"), "{problems:?}");
        }
        let empty = read(r#"{"keys": []}"#);
        assert!(matches!(empty, Reading::Close(problems) if problems[0].contains("jwks.json has no public key")));
        let gone = KeySet::read(&Files::new(), "ConfigMap k", Some("jwks.json"));
        assert!(matches!(gone, Reading::Close(problems) if problems[0].contains("jwks.json")));
    }
}
