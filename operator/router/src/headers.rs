//! What a proxy changes in headers (RFC 9110, 7.6.1): nothing that belongs to one connection goes on to the next.

use hyper::HeaderMap;
use hyper::header::Entry;
use hyper::header::{
    CONNECTION, EXPECT, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};

pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const WEBSOCKET: &str = "websocket";

/// Who asks.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address, as it goes into a header.
    pub address: HeaderValue,
    pub proto: HeaderValue,
}

/// For the way to a pod.
pub fn request(headers: &mut HeaderMap, peer: &Peer) {
    let trailers = headers.get(TE).is_some_and(|te| names(te).any(|name| name.eq_ignore_ascii_case(b"trailers")));
    strip(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The router has answered it.
    headers.remove(EXPECT);
    headers.remove(PROXY_AUTHORIZATION);
    let forwarded = match headers.get(FORWARDED_FOR) {
        None => peer.address.clone(),
        Some(before) => {
            let joined = [before.as_bytes(), b", ", peer.address.as_bytes()].concat();
            HeaderValue::from_bytes(&joined).unwrap_or_else(|_| peer.address.clone())
        }
    };
    headers.insert(FORWARDED_FOR, forwarded);
    // A balancer in front that ended TLS knows better.
    headers.entry(FORWARDED_PROTO).or_insert_with(|| peer.proto.clone());
}

/// For the way to the client.
pub fn response(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(PROXY_AUTHENTICATE);
}

/// Takes away what belongs to one connection.
pub fn strip(headers: &mut HeaderMap) {
    if let Entry::Occupied(connection) = headers.entry(CONNECTION) {
        let lines: Vec<HeaderValue> = connection.remove_entry_mult().1.collect();
        for name in lines.iter().flat_map(names).filter_map(|name| HeaderName::from_bytes(name).ok()) {
            headers.remove(name);
        }
    }
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &TE, &TRANSFER_ENCODING, &UPGRADE] {
        headers.remove(name);
    }
}

/// By bytes: a name beside one that is none counts too.
fn names(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether the connection is to become a websocket. No other protocol is passed on: over h2c, for one, requests could be sent that
/// nobody looks at here.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let has = |header: &HeaderName, wanted: &[u8]| {
        headers.get_all(header).iter().any(|value| names(value).any(|name| name.eq_ignore_ascii_case(wanted)))
    };
    has(&CONNECTION, b"upgrade") && has(&UPGRADE, WEBSOCKET.as_bytes())
}

/// For both ways, where the connection becomes one.
pub fn insert_websocket(headers: &mut HeaderMap) {
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_belongs_to_a_connection_stays_there() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-also,"),
            ("x-secret", "1"),
            ("x-also", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
            ("expect", "100-continue"),
            ("x-kept", "1"),
            ("x-forwarded-for", "10.0.0.9"),
        ]);
        let peer = Peer { address: HeaderValue::from_static("10.1.2.3"), proto: HeaderValue::from_static("http") };
        headers.append("connection", HeaderValue::from_bytes(b"\xfc, x-third").unwrap());
        headers.insert("x-third", HeaderValue::from_static("1"));
        request(&mut headers, &peer);
        let expected = map(&[
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("x-kept", "1"),
            ("x-forwarded-for", "10.0.0.9, 10.1.2.3"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn only_a_websocket_is_an_upgrade_and_it_needs_both_headers() {
        let of = |connection, upgrade| is_websocket(&map(&[("connection", connection), ("upgrade", upgrade)]));
        assert!(of("keep-alive, Upgrade", "websocket") && of("upgrade", "h2c, WebSocket"));
        for other in ["h2c", "TLS/1.2", "websocket/13", ""] {
            assert!(!of("Upgrade", other), "{other}");
        }
        assert!(!of("close", "websocket") && !is_websocket(&map(&[("upgrade", "websocket")])));
    }
}
