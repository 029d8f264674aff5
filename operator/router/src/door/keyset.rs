//! A set of public keys (JWKS, RFC 7517) that tokens are signed with. Keys that are shared secrets do not count: who can check with one
//! can sign with it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use serde_json::Value;

use super::mounted::Files;
use super::part::{Readable, Reading};

/// A token without `kid` is tried with all that fit.
const MOST: usize = 64;

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

#[derive(Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
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
    /// Whether some key of the set has signed this message.
    pub fn verify(&self, algorithm: Algorithm, id: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
        let fits = |key: &&Key| {
            id.is_none_or(|id| key.id.as_deref() == Some(id)) && key.algorithm.is_none_or(|only| only == algorithm)
        };
        self.0.iter().filter(fits).any(|key| key.material.verify(algorithm, message, signature))
    }
}

impl Material {
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
    /// A set that is broken leaves the one before; one that is taken away lets nobody in.
    fn read(files: &Files, object: &str, key: Option<&str>) -> Reading<Self> {
        let key = key.unwrap_or_default();
        let Some(content) = files.get(key) else {
            return Reading::Close(vec![format!("{object} is not there, or has no entry {key}")]);
        };
        let keep = |says: String| Reading::Keep(vec![format!("{object}: the entry {key} {says}")]);
        let set: Set = match serde_json::from_slice(content) {
            Ok(set) => set,
            // Not the words, which may quote what is in it.
            Err(error) => return keep(format!("is no JWKS (line {}, column {})", error.line(), error.column())),
        };
        let keys: Vec<Key> = set.keys.into_iter().filter_map(usable).take(MOST).collect();
        if keys.is_empty() {
            return keep("has no public key for signatures: RSA, P-256, P-384 or Ed25519".to_owned());
        }
        Reading::Use(Self(keys), Vec::new())
    }
}

/// A set may have keys for other things beside.
fn usable(key: Value) -> Option<Key> {
    let Jwk { kty, kid, alg, usage, crv, n, e, x, y } = serde_json::from_value(key).ok()?;
    if usage.is_some_and(|usage| usage != "sig") {
        return None;
    }
    let algorithm = match alg {
        None => None,
        Some(named) => Some(serde_json::from_value(named).ok()?),
    };
    let material = match (kty.as_str(), crv.as_deref()) {
        ("RSA", _) => Material::Rsa { n: number(&n?)?, e: number(&e?)? },
        ("EC", Some("P-256")) => Material::P256(point(&x?, &y?, 32)?),
        ("EC", Some("P-384")) => Material::P384(point(&x?, &y?, 48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(decode(&x?).filter(|x| x.len() == 32)?),
        _ => return None,
    };
    Some(Key { id: kid, algorithm, material })
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
    fn only_public_keys_for_signatures_count() {
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
            assert!(matches!(read(&format!(r#"{{"keys": [{other}]}}"#)), Reading::Keep(_)), "{other}");
        }
        let all = others.iter().chain([&good]).cloned().collect::<Vec<_>>().join(",");
        let Reading::Use(set, problems) = read(&format!(r#"{{"keys": [{all}]}}"#)) else { panic!("none counts") };
        assert_eq!((set.0.len(), problems.len(), set.0[0].algorithm), (1, 0, Some(Algorithm::Es256)));
    }

    #[test]
    fn a_broken_set_is_named_without_its_content_and_one_that_is_gone_closes() {
        for broken in ["", "s3cret", r#"{"keys": "s3cret"}"#, r#"{"keys": []}"#, "[]"] {
            let Reading::Keep(problems) = read(broken) else { panic!("{broken}") };
            assert!(problems[0].starts_with("ConfigMap k: the entry jwks.json "), "{problems:?}");
            assert!(!problems[0].contains("s3cret"), "{problems:?}");
        }
        let gone = KeySet::read(&Files::new(), "ConfigMap k", Some("jwks.json"));
        assert!(matches!(gone, Reading::Close(problems) if problems[0].contains("jwks.json")));
    }
}
