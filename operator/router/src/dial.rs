//! How a router reaches an address that a spec names: not one that belongs to the node or to this very pod, and over TLS by the authority
//! that is named beside it, or by the public ones.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::HeaderValue;
use millrace_routes::{Entry, Use};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::door::mounted;

/// Where clouds tell a machine its secrets over IPv6, beside the link-local addresses.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// What may be dialled, and by what.
#[derive(Debug)]
pub struct Reach {
    /// Where Secrets and ConfigMaps are mounted.
    pub mounted: PathBuf,
    /// Addresses of this very host too, where there is no cluster.
    pub loopback: bool,
}

/// What an entry is mounted for.
pub type Usage = for<'a> fn(&'a str) -> Use<'a>;

/// An open connection.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Whether some address of the host may be dialled.
pub async fn check(host: &str, port: u16, reach: &Reach) -> Result<(), String> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| format!("{host}: {error}"))?;
    let mut why = format!("{host} has no address");
    for address in found {
        if may_ask(address.ip(), reach.loopback) {
            return Ok(());
        }
        why = forbidden(host, address);
    }
    Err(why)
}

fn forbidden(host: &str, address: SocketAddr) -> String {
    format!("{host} is {}: addresses of a node or of the pod itself are not asked", address.ip())
}

/// Opens one. `ca` is read anew each time: an authority that was renewed is used at once. Without one the public authorities are trusted.
pub async fn open(uri: &Uri, ca: Option<&Entry>, usage: Usage, reach: &Reach) -> Result<Stream, String> {
    let https = uri.scheme_str() == Some("https");
    let host = uri.host().ok_or_else(|| format!("{uri} names no host"))?;
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let stream = connect(host, port, reach).await.map_err(|error| error.says)?;
    if !https {
        return Ok(Stream::Plain(stream));
    }
    let config = tls(ca, usage, reach)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is no name of a host"))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    Ok(Stream::Tls(Box::new(stream.map_err(|error| format!("TLS with {host}:{port}: {error}"))?)))
}

/// What goes into the header `authorization`.
pub fn bearer(token: &Entry, usage: Usage, reach: &Reach) -> Result<HeaderValue, String> {
    let text = entry(token, usage, reach)?;
    let value = [b"Bearer ", text.trim_ascii()].concat();
    let wrong = |_| format!("{}: the entry {} is no token", object(token), token.key);
    let mut value = HeaderValue::from_bytes(&value).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why there is no connection.
#[derive(Debug)]
pub struct DialError {
    pub says: String,
    /// Nobody was asked: the address is one that may not be dialled.
    pub forbidden: bool,
}

/// Opens a connection to some address of the host: the one that is checked is the one that is dialled.
pub async fn connect(host: &str, port: u16, reach: &Reach) -> Result<TcpStream, DialError> {
    let other = |says| DialError { says, forbidden: false };
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| other(format!("{host}: {error}")))?;
    let mut why = other(format!("{host} has no address"));
    for address in found {
        if !may_ask(address.ip(), reach.loopback) {
            why = DialError { says: forbidden(host, address), forbidden: true };
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => why = other(format!("{}: {error}", shown(host, address))),
        }
    }
    Err(why)
}

fn shown(host: &str, address: SocketAddr) -> String {
    format!("{host}:{}", address.port())
}

/// Whoever writes a query must not reach by it what only the router's pod reaches: its own ports, and the node's metadata service.
fn may_ask(ip: IpAddr, loopback: bool) -> bool {
    match ip.to_canonical() {
        ip if ip.is_loopback() => loopback,
        IpAddr::V4(ip) => !(ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => !(ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast() || ip == METADATA),
    }
}

fn tls(ca: Option<&Entry>, usage: Usage, reach: &Reach) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca {
        Some(ca) => authority(ca, usage, reach)?,
        None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn authority(ca: &Entry, usage: Usage, reach: &Reach) -> Result<RootCertStore, String> {
    let text = entry(ca, usage, reach)?;
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_slice_iter(&text).flatten().collect::<Vec<_>>();
    if roots.add_parsable_certificates(found).0 == 0 {
        return Err(format!("{}: the entry {} holds no certificate in PEM", object(ca), ca.key));
    }
    Ok(roots)
}

/// What is in an entry that is mounted.
pub fn entry(entry: &Entry, usage: Usage, reach: &Reach) -> Result<Vec<u8>, String> {
    let Entry { of, name, key } = entry;
    let folder = reach.mounted.join(of.folder(name, usage(key)));
    let object = object(entry);
    match mounted::read(&folder) {
        Ok(Some(mut files)) => files.remove(key).ok_or_else(|| format!("{object} is not there, or has no entry {key}")),
        Ok(None) => {
            Err(format!("{object} with its entry {key} is not mounted into this router: one that has it is on its way"))
        }
        Err(error) => Err(format!("{object} cannot be read: {}", error.kind())),
    }
}

fn object(entry: &Entry) -> String {
    format!("{} {}", entry.of.as_str(), entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_node_and_of_the_pod_are_not_asked() {
        for ip in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(!may_ask(ip.parse().unwrap(), false), "{ip}");
        }
        for ip in ["10.96.0.10", "192.168.1.1", "203.0.113.9", "fd00::1", "2001:db8::1"] {
            assert!(may_ask(ip.parse().unwrap(), false), "{ip}");
        }
        assert!(may_ask("127.0.0.1".parse().unwrap(), true));
        assert!(!may_ask("169.254.169.254".parse().unwrap(), true));
    }
}
