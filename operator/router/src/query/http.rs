//! One question over HTTP: no redirect is followed, no more is read than a number needs, and addresses that belong to the node or to this
//! very pod are not asked.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use millrace_routes::{Entry, Query, Use};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Reach;
use crate::door::mounted;

/// A longer answer is none: one sample with many labels is a few KiB.
const ANSWER_BYTES: usize = 64 << 10;
const HEAD_BYTES: usize = 16 << 10;
/// Where clouds tell a machine its secrets over IPv6, beside the link-local addresses.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

pub struct Said {
    pub status: StatusCode,
    pub body: Bytes,
}

/// What the address answers to the query, or why it does not.
pub async fn ask(query: &Query, reach: &Reach) -> Result<Said, String> {
    let uri: Uri = query.address.parse().map_err(|_| format!("{} is no address", query.address))?;
    let https = uri.scheme_str() == Some("https");
    let host = uri.host().ok_or_else(|| format!("{} names no host", query.address))?;
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let stream = connect(host, port, reach).await?;
    let request = request(query, &uri, reach)?;
    if https {
        let config = tls(query.ca.as_ref(), reach)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is no name of a host"))?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        return exchange(stream.map_err(|error| format!("TLS with {host}:{port}: {error}"))?, request).await;
    }
    exchange(stream, request).await
}

async fn connect(host: &str, port: u16, reach: &Reach) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| format!("{host}: {error}"))?;
    let mut why = format!("{host} has no address");
    for address in found {
        if !may_ask(address.ip(), reach.loopback) {
            why = format!("{host} is {}: addresses of a node or of the pod itself are not asked", address.ip());
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("{}: {error}", shown(host, address)),
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

fn request(query: &Query, uri: &Uri, reach: &Reach) -> Result<Request<Empty<Bytes>>, String> {
    let asked: String = form_urlencoded::byte_serialize(query.query.as_bytes()).collect();
    let path = format!("{}/api/v1/query?query={asked}", uri.path().trim_end_matches('/'));
    let host = uri.authority().map(ToString::to_string).unwrap_or_default();
    let mut request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "millrace-router")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    if let Some(token) = &query.token {
        let text = entry(token, reach)?;
        let value = [b"Bearer ", text.trim_ascii()].concat();
        let wrong = |_| format!("{}: the entry {} is no token", object(token), token.key);
        let mut value = HeaderValue::from_bytes(&value).map_err(wrong)?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Said, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    let mut builder = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) =
        builder.max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body =
            body.map_err(|error| format!("the answer broke off or is longer than {ANSWER_BYTES} bytes: {error}"))?;
        Ok(Said { status, body: body.to_bytes() })
    };
    let (_closed, said) = futures::join!(connection, answer);
    said
}

/// Read anew each time: a token that was renewed is used at once.
fn tls(ca: Option<&Entry>, reach: &Reach) -> Result<Arc<ClientConfig>, String> {
    let Some(ca) = ca else { return Err("no certificate authority is named".to_owned()) };
    let text = entry(ca, reach)?;
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_slice_iter(&text).flatten().collect::<Vec<_>>();
    if roots.add_parsable_certificates(found).0 == 0 {
        return Err(format!("{}: the entry {} holds no certificate in PEM", object(ca), ca.key));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn entry(entry: &Entry, reach: &Reach) -> Result<Vec<u8>, String> {
    let Entry { of, name, key } = entry;
    let folder = reach.mounted.join(of.folder(name, Use::Prometheus(key)));
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
