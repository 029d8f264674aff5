//! Where a request may go: not to the addresses from which a cloud tells a machine who it is, whoever names them, a person, a name server or a
//! redirect.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::GetError;

/// Of IPv6 and of clouds that do not use 169.254.0.0/16 alone.
const METADATA: [&str; 4] = ["fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192"];
const NAME: &str = "metadata.google.internal";

/// For people and logs: without user, password and query, which may hold secrets.
pub fn shown(address: &str) -> String {
    let (bare, _) = address.split_once(['?', '#']).unwrap_or((address, ""));
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            let slash = if rest.contains('/') { "/" } else { "" };
            format!("{scheme}://{host}{slash}{path}")
        }
        None => bare.to_owned(),
    }
}

/// The address, if a request may go there.
pub fn checked(address: &str) -> Result<Url, GetError> {
    let url =
        Url::parse(address).map_err(|error| GetError::last(format!("{} is no address: {error}", shown(address))))?;
    match refused(&url) {
        Some(why) => Err(GetError::last(why)),
        None => Ok(url),
    }
}

/// Why no request goes there. An address in numbers is in dotted form by now, however it was written.
pub fn refused(url: &Url) -> Option<String> {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = bare.trim_end_matches('.');
    let hidden = match bare.parse::<IpAddr>() {
        Ok(ip) => is_metadata(ip),
        Err(_) => name.eq_ignore_ascii_case(NAME),
    };
    hidden.then(|| said(host))
}

fn said(host: &str) -> String {
    format!("{host} is for the machine alone, not for data: no request goes there")
}

fn is_metadata(ip: IpAddr) -> bool {
    let listed = METADATA.iter().any(|known| known.parse() == Ok(ip));
    let within = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => {
            let [first, second, .., high, low] = ip.segments();
            // fe80::/10; and one of the old kind inside: ::ffff:a.b.c.d, ::a.b.c.d, 64:ff9b::a.b.c.d.
            let inside = ip.segments()[2..5].iter().all(|part| *part == 0) && (first, second) == (0x64, 0xff9b)
                || ip.to_ipv4().is_some();
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            first & 0xffc0 == 0xfe80 || (inside && is_metadata(Ipv4Addr::new(a, b, c, d).into()))
        }
    };
    listed || within
}

/// Asks the name server, and gives no address that a request may not go to.
pub struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || {
                let found: Vec<SocketAddr> = (host.as_str(), 0).to_socket_addrs()?.collect();
                let hidden = found.iter().any(|address| is_metadata(address.ip()));
                if hidden { Err(std::io::Error::other(said(&host))) } else { Ok(found) }
            });
            let found = asked.await??;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_goes_to_what_tells_a_machine_who_it_is_however_it_is_written() {
        for address in [
            "http://169.254.169.254/latest/meta-data/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "https://Metadata.Google.Internal./computeMetadata/v1/",
            "http://100.100.100.200/",
        ] {
            assert!(checked(address).unwrap_err().to_string().contains("no request goes there"), "{address}");
        }
        for address in ["https://example.com/a", "http://127.0.0.1:8080/", "http://10.0.0.1/", "http://[::1]/"] {
            assert!(checked(address).is_ok(), "{address}");
        }
    }

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        assert_eq!(shown("https://me:pass@host/a/b.csv?signature=x#y"), "https://host/a/b.csv");
        assert_eq!(shown("s3://bucket/key"), "s3://bucket/key");
        assert_eq!(shown("https://host"), "https://host");
    }
}
