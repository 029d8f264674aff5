//! The certificate that a model's port shows. rustls speaks TLS 1.2 and 1.3 with ring, as the client of the apiserver does.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::mounted::Files;
use super::part::{Readable, Reading};

const CERTIFICATE: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";

#[derive(Debug)]
pub struct Certificate(Arc<ServerConfig>);

impl Certificate {
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.clone()
    }
}

impl Readable for Certificate {
    /// A broken one leaves the one before in force: callers trust that one, and an empty port helps nobody.
    fn read(files: &Files, object: &str, _: Option<&str>) -> Reading<Self> {
        match config(files) {
            Ok(config) => Reading::Use(Self(Arc::new(config)), Vec::new()),
            Err(says) => Reading::Keep(vec![format!("{object}: {says}")]),
        }
    }
}

/// What is said never holds what is in the files: rustls' own words quote lines of PEM.
fn config(files: &Files) -> Result<ServerConfig, &'static str> {
    let entry = |name| files.get(name).filter(|content| !content.trim_ascii().is_empty());
    let (chain, key) = match (entry(CERTIFICATE), entry(PRIVATE_KEY)) {
        (Some(chain), Some(key)) => (chain, key),
        (None, None) => return Err("it is not there, or has neither tls.crt nor tls.key"),
        (None, _) => return Err("tls.crt is missing or empty"),
        (_, None) => return Err("tls.key is missing or empty"),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|_| "tls.crt is no certificate in PEM")?;
    if chain.is_empty() {
        return Err("tls.crt holds no certificate in PEM");
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "tls.key is no private key in PEM")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| "this router speaks no version of TLS")?;
    let made = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut config = made.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "tls.key is not the key of tls.crt",
        rustls::Error::InvalidCertificate(_) => "the first certificate of tls.crt cannot be read",
        _ => "tls.key is of a kind that TLS cannot use: write one of RSA, P-256, P-384 or Ed25519",
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: (&str, &str) = (include_str!("../../tests/certs/a.crt"), include_str!("../../tests/certs/a.key"));
    const B: (&str, &str) = (include_str!("../../tests/certs/b.crt"), include_str!("../../tests/certs/b.key"));

    fn read(certificate: &str, key: &str) -> Reading<Certificate> {
        let entries = [(CERTIFICATE, certificate), (PRIVATE_KEY, key)];
        let files = entries.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into();
        Certificate::read(&files, "Secret t", None)
    }

    #[test]
    fn a_pair_that_fits_is_taken() {
        for (certificate, key) in [A, B] {
            assert!(matches!(read(certificate, key), Reading::Use(_, problems) if problems.is_empty()));
        }
    }

    #[test]
    fn what_is_broken_keeps_the_one_before_and_is_named_without_its_content() {
        let half = &A.1[..A.1.len() / 2];
        let cases = [
            ("", "", "is not there"),
            (A.0, "", "tls.key is missing or empty"),
            ("\n", A.1, "tls.crt is missing or empty"),
            ("s3cret", A.1, "tls.crt holds no certificate"),
            (A.0, "s3cret", "tls.key is no private key"),
            (A.0, half, "tls.key is no private key"),
            (A.1, A.1, "tls.crt holds no certificate"),
            (A.0, B.1, "tls.key is not the key of tls.crt"),
        ];
        for (certificate, key, says) in cases {
            let Reading::Keep(problems) = read(certificate, key) else { panic!("{says}") };
            assert!(
                problems.len() == 1 && problems[0].starts_with("Secret t: ") && problems[0].contains(says),
                "{problems:?}"
            );
            assert!(!problems[0].contains("s3cret"), "{problems:?}");
        }
    }
}
