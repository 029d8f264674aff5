//! Callers that show a token: keys from what is mounted, and from where their issuer publishes them.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::pod::Pod;
use crate::security::site;
use crate::site::{Site, document, revision, until};
use crate::web::{OTHER, RIGHT, Server, http, tls};

const UNKNOWN: &str = "{\"error\":\"the key that it names (kid) is not known\"}\n";

/// Signs tokens, and says with which key.
enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Signer {
    fn rsa() -> Self {
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../certs/rsa.key")).unwrap();
        Self::Rsa(RsaKeyPair::from_pkcs8(key.secret_der()).unwrap())
    }

    fn ec() -> Self {
        let (random, with) = (SystemRandom::new(), &signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let pair = EcdsaKeyPair::generate_pkcs8(with, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(with, pair.as_ref(), &random).unwrap())
    }

    fn jwks(&self) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = match self {
            Self::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": text(&public.n), "e": text(&public.e), "use": "sig", "alg": "RS256", "kid": "rsa"})
            }
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]), "kid": "ec"})
            }
        };
        json!({"keys": [key]}).to_string()
    }

    /// Of `subject`, good for a minute.
    fn token(&self, subject: &str) -> String {
        let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_mins(1);
        let claims = json!({"iss": "https://issuer", "aud": "model", "sub": subject, "exp": exp.as_secs()});
        let head = match self {
            Self::Rsa(_) => json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"}),
            Self::Ec(_) => json!({"alg": "ES256", "kid": "ec"}),
        };
        let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{head}.{claims}");
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn with_token(site: &Site, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    Client::open(site.port).await.get("/headers", &[("authorization", &bearer), ("x-api-key", "of the pod")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in_while_its_key_is_in_the_set() {
    let pod = Pod::any("a").await;
    let (rsa, ec) = (Signer::rsa(), Signer::ec());
    let jwks = json!({"of": "ConfigMap", "name": "issuer", "key": "jwks.json"});
    let mut security =
        json!({"id": "1", "auth": {"jwt": {"issuer": "https://issuer", "audiences": ["model"], "jwks": jwks}}});
    security["rate"] = json!({"perSecond": 0.01, "burst": 50, "per": "Caller"});
    let site = site(&pod, &security, &[("configmaps/issuer/jwks/jwks.json", &[("jwks.json", &rsa.jwks())])]).await;
    let answer = with_token(&site, &rsa.token("me")).await;
    let seen: BTreeMap<String, String> = serde_json::from_str(&answer.text).unwrap();
    assert!(!seen.contains_key("authorization") && seen["x-api-key"] == "of the pod", "{seen:?}");
    let refused = with_token(&site, &ec.token("me")).await;
    assert_eq!((refused.status.as_u16(), refused.text.as_str()), (401, UNKNOWN));
    assert_eq!(refused.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    assert_eq!(site.get("/").await.status, 401);
    assert_eq!(pod.requests(), 1);
    // The issuer changes its key, then somebody breaks the set.
    site.mount("configmaps/issuer/jwks/jwks.json", &[("jwks.json", &ec.jwks())]);
    until("the new key counts", || async { with_token(&site, &ec.token("me")).await.status == 200 }).await;
    assert_eq!(with_token(&site, &rsa.token("me")).await.status, 401);
    site.mount("configmaps/issuer/jwks/jwks.json", &[("jwks.json", "{\"keys\": [")]);
    until("it is told", || async { !site.problems().await.is_empty() }).await;
    assert!(site.problems().await[0].contains("ConfigMap issuer: the entry jwks.json is no JWKS"));
    assert_eq!(with_token(&site, &ec.token("me")).await.status, 200);
    site.mount("configmaps/issuer/jwks/jwks.json", &[]);
    until("nobody is let in", || async { with_token(&site, &ec.token("me")).await.status == 503 }).await;
}

/// The door of tokens of an issuer that publishes its keys at this address.
fn published(address: &str, ca: Option<&str>) -> Value {
    let mut jwks = json!({"uri": address});
    if let Some(name) = ca {
        jwks["ca"] = json!({"of": "ConfigMap", "name": name, "key": "ca.crt"});
    }
    json!({"id": "1", "auth": {"jwt": {"issuer": "https://issuer", "audiences": ["model"], "jwks": jwks}}})
}

/// Where the server of `localhost` publishes keys.
fn address(server: &Server) -> String {
    format!("https://localhost:{}/a/keys?b=c", server.address.port())
}

const ROOTS: (&str, &[(&str, &str)]) = ("configmaps/roots/issuer/ca.crt", &[("ca.crt", RIGHT[0])]);

async fn status(site: &Site, token: &str) -> u16 {
    with_token(site, token).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_an_issuer_publishes_let_in_and_a_new_one_soon_after_it_was_shown() {
    let (pod, rsa, ec) = (Pod::any("a").await, Signer::rsa(), Signer::ec());
    let server = Server::start(&[http("200 OK", &rsa.jwks())], Some(tls(RIGHT)));
    let site = site(&pod, &published(&address(&server), Some("roots")), &[ROOTS]).await;
    // A router that is ready has its keys.
    assert_eq!(status(&site, &rsa.token("me")).await, 200);
    assert_eq!((site.get("/").await.status.as_u16(), site.problems().await.len()), (401, 0));
    assert_eq!(site.all_stats().await.models["m"].security.as_ref().unwrap().id, "1");
    let asked = server.asked();
    assert!(asked.len() == 1 && asked[0].starts_with("GET /a/keys?b=c HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked[0].contains(&format!("host: localhost:{}\r\n", server.address.port())), "{asked:?}");
    // The issuer changes its key. Who comes with the new one first is refused, and fetches it for the others.
    server.set(http("200 OK", &ec.jwks()));
    let refused = with_token(&site, &ec.token("me")).await;
    assert_eq!((refused.status.as_u16(), refused.text.as_str()), (401, UNKNOWN));
    until("the new key counts", || async { status(&site, &ec.token("me")).await == 200 }).await;
    assert_eq!(status(&site, &rsa.token("me")).await, 401);
    // Nobody makes it ask more often than that: once in a second here.
    let (before, began) = (server.asked().len(), Instant::now());
    for _ in 0..200 {
        assert_eq!(status(&site, &rsa.token("me")).await, 401);
    }
    let most = before as u64 + 1 + began.elapsed().as_secs();
    assert!(server.asked().len() as u64 <= most, "{} of {most}", server.asked().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_breaks_leaves_its_last_keys_and_one_that_has_none_lets_nobody_in() {
    let (pod, rsa, ec) = (Pod::any("a").await, Signer::rsa(), Signer::ec());
    let server = Server::start(&[http("200 OK", &rsa.jwks())], Some(tls(RIGHT)));
    let site = site(&pod, &published(&address(&server), Some("roots")), &[ROOTS]).await;
    assert_eq!(status(&site, &rsa.token("me")).await, 200);
    let at = address(&server);
    let moved = "HTTP/1.1 302 Found\r\nlocation: https://localhost:1/\r\ncontent-length: 0\r\n\r\n".to_owned();
    let broken = [
        (http("500 Internal Server Error", "s3cret"), "the answer is 500"),
        (moved, "the answer is 302, and redirects are not followed"),
        (http("200 OK", "<html>s3cret"), "is no JWKS (line 1, column 1)"),
        (http("200 OK", &" ".repeat(300_000)), "is longer than 262144 bytes"),
        ("no HTTP\r\n\r\n".to_owned(), "the connection broke"),
    ];
    for (answer, words) in broken {
        server.set(answer);
        until(words, || async {
            // A key that is not there has it ask.
            assert_eq!(status(&site, &ec.token("me")).await, 401);
            site.problems().await.iter().any(|problem| problem.contains(words))
        })
        .await;
        let problems = site.problems().await;
        assert!(problems.len() == 1 && problems[0].starts_with(&at) && !problems[0].contains("s3cret"), "{problems:?}");
        assert_eq!(status(&site, &rsa.token("me")).await, 200);
        assert!(!site.all_stats().await.models["m"].security.as_ref().unwrap().closed);
    }
    server.set(http("200 OK", r#"{"keys": []}"#));
    until("nobody is let in", || async { status(&site, &rsa.token("me")).await == 503 }).await;
    assert!(site.problems().await[0].contains("has no public key"), "{:?}", site.problems().await);
    server.set(http("200 OK", &ec.jwks()));
    until("the keys are back", || async { status(&site, &ec.token("me")).await == 200 }).await;
    assert_eq!(site.problems().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_keys_nobody_is_let_in_and_why_is_told() {
    let (pod, rsa) = (Pod::any("a").await, Signer::rsa());
    let other = Server::start(&[http("200 OK", &rsa.jwks())], Some(tls(OTHER)));
    let late = Server::start(&[http("503 Service Unavailable", "")], Some(tls(RIGHT)));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let other_roots = ("configmaps/roots/issuer/ca.crt", &[("ca.crt", OTHER[0])][..]);
    let cases = [
        // A certificate of another name, of another authority, and of none that is public.
        (address(&other), Some("roots"), vec![other_roots], "TLS with localhost"),
        (address(&late), Some("roots"), vec![other_roots], "TLS with localhost"),
        (address(&late), None, vec![], "TLS with localhost"),
        (
            address(&late),
            Some("roots"),
            vec![("configmaps/roots/issuer/ca.crt", &[][..])],
            "ConfigMap roots is not there",
        ),
        (format!("https://localhost:{nobody}/"), Some("roots"), vec![ROOTS], "refused"),
        ("https://169.254.169.254/keys".to_owned(), Some("roots"), vec![ROOTS], "are not asked"),
        (address(&late), Some("roots"), vec![ROOTS], "the answer is 503"),
    ];
    for (at, ca, mounts, words) in cases {
        let site = site(&pod, &published(&at, ca), &mounts).await;
        assert_eq!(status(&site, &rsa.token("me")).await, 503, "{at}");
        let problems = site.problems().await;
        assert!(problems.len() == 1 && problems[0].starts_with(&at) && problems[0].contains(words), "{problems:?}");
        let stats = site.all_stats().await.models["m"].security.clone().unwrap();
        assert_eq!((stats.closed, stats.id.as_str()), (true, "1"));
    }
    assert_eq!((pod.requests(), other.asked().len()), (0, 0));
    let site = site(&pod, &published(&address(&late), Some("roots")), &[ROOTS]).await;
    late.set(http("200 OK", &rsa.jwks()));
    until("it is let in", || async { status(&site, &rsa.token("me")).await == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_has_other_keys_and_other_rules_have_the_same() {
    let (pod, rsa, ec) = (Pod::any("a").await, Signer::rsa(), Signer::ec());
    let first = Server::start(&[http("200 OK", &rsa.jwks())], Some(tls(RIGHT)));
    let second = Server::start(&[http("200 OK", &ec.jwks())], Some(tls(RIGHT)));
    let site = site(&pod, &published(&address(&first), Some("roots")), &[ROOTS]).await;
    let (old, new) = (rsa.token("me"), ec.token("me"));
    let takes = async |security: &Value| {
        site.routes(&document(site.port, &[revision("a", pod.address.port(), 1)], &json!({"security": security})))
            .await;
    };
    let mut other = published(&address(&first), Some("roots"));
    other["auth"]["jwt"]["audiences"] = json!(["model", "another"]);
    takes(&other).await;
    assert_eq!((status(&site, &old).await, first.asked().len()), (200, 1), "the keys stay");
    let mut security = published(&address(&second), Some("roots"));
    security["id"] = json!("2");
    takes(&security).await;
    until("the new keys count", || async {
        let seen = status(&site, &new).await;
        assert!([503, 200].contains(&seen), "{seen}");
        seen == 200
    })
    .await;
    assert_eq!(status(&site, &old).await, 401);
    assert_eq!(site.all_stats().await.models["m"].security.as_ref().unwrap().id, "2");
    // Nobody names the first one any more.
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
}
