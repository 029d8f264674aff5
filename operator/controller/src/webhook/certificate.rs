//! The webhook's certificate, from the two files of a mounted Secret of the type `kubernetes.io/tls`.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What is in the files; nothing where they are not there.
#[derive(Clone, PartialEq, Eq)]
pub struct Files {
    chain: Vec<u8>,
    key: Vec<u8>,
}

pub fn read(folder: &Path) -> Files {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
    Files { chain: read("tls.crt"), key: read("tls.key") }
}

/// What is said never holds what is in the files: rustls' own words quote lines of PEM.
pub fn config(files: &Files) -> Result<ServerConfig, &'static str> {
    if files.chain.is_empty() || files.key.is_empty() {
        return Err("tls.crt or tls.key is missing or empty");
    }
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&files.chain)
        .collect::<Result<_, _>>()
        .map_err(|_| "tls.crt is no certificate in PEM")?;
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| "tls.key is no private key in PEM")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| "there is no version of TLS to speak")?;
    let made = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut config = made.map_err(|_| "tls.crt and tls.key do not fit, or TLS cannot use them")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
