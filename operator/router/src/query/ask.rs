//! A query as a question over HTTP.

use hyper::Uri;
use millrace_routes::{Query, Use};

use crate::dial::{self, Reach};
use crate::get::{Get, Said, get};

/// One sample with many labels is a few KiB.
const ANSWER_BYTES: usize = 64 << 10;

/// What the address answers to the query, or why it does not.
pub async fn ask(query: &Query, reach: &Reach) -> Result<Said, String> {
    let address: Uri = query.address.parse().map_err(|_| format!("{} is no address", query.address))?;
    let asked: String = form_urlencoded::byte_serialize(query.query.as_bytes()).collect();
    let path = format!("{}/api/v1/query?query={asked}", address.path().trim_end_matches('/'));
    let token = query.token.as_ref();
    let authorization = token.map(|token| dial::bearer(token, |key| Use::Prometheus(key), reach)).transpose()?;
    let asked = Get {
        address: &address,
        path: &path,
        authorization,
        ca: query.ca.as_ref(),
        usage: |key| Use::Prometheus(key),
        most_bytes: ANSWER_BYTES,
    };
    get(asked, reach).await
}
