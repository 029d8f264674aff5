//! What a caller shows of itself.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::refuse::Why;

pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const BEARER: &[u8] = b"bearer ";

/// The key in `x-api-key`; without one, that of `authorization: Bearer`.
pub fn key(headers: &HeaderMap) -> Result<&[u8], Why> {
    match only(headers, &API_KEY, Why::BadKey)? {
        Some(key) => Ok(key.as_bytes()),
        None => bearer(headers, Why::BadKey)?.ok_or(Why::NoKey),
    }
}

/// The token of `authorization: Bearer`.
pub fn token(headers: &HeaderMap) -> Result<&str, Why> {
    let bad = Why::BadToken("it is no token");
    let token = bearer(headers, bad)?.ok_or(Why::NoToken)?;
    std::str::from_utf8(token).map_err(|_| bad)
}

fn bearer(headers: &HeaderMap, twice: Why) -> Result<Option<&[u8]>, Why> {
    let Some(value) = only(headers, &AUTHORIZATION, twice)? else { return Ok(None) };
    let scheme = value.as_bytes().split_at_checked(BEARER.len());
    Ok(scheme.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER)).map(|(_, rest)| rest.trim_ascii()))
}

/// Of two nobody knows which one counts elsewhere.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName, twice: Why) -> Result<Option<&'a HeaderValue>, Why> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(twice) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_key_is_in_its_own_header_or_with_the_bearer() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            key(&map(pairs)).map(|key| String::from_utf8(key.to_vec()).unwrap())
        };
        assert_eq!(of(&[("x-api-key", "a"), ("authorization", "Bearer b")]), Ok("a".to_owned()));
        assert_eq!(of(&[("authorization", "bEARER  b ")]), Ok("b".to_owned()));
        for none in ["Basic b", "Bearer", "", "b"] {
            assert_eq!(of(&[("authorization", none)]), Err(Why::NoKey), "{none}");
        }
        assert_eq!(of(&[]), Err(Why::NoKey));
    }

    #[test]
    fn two_of_one_header_let_nobody_in() {
        let mut headers = map(&[("x-api-key", "a")]);
        headers.append("x-api-key", HeaderValue::from_static("b"));
        assert_eq!(key(&headers), Err(Why::BadKey));
        let mut headers = map(&[("authorization", "Bearer a")]);
        headers.append("authorization", HeaderValue::from_static("Bearer a"));
        assert!(matches!(token(&headers), Err(Why::BadToken(_))));
    }
}
