//! The admin port among callers that mean no good.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;

use crate::client::get;
use crate::pod::Pod;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn idle_sockets_do_not_keep_the_probes_waiting() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut idle = Vec::new();
    // Ten times as many as it serves at once: waiting for each to be late would take ten times the deadline of a head.
    for _ in 0..640 {
        idle.push(TcpStream::connect(("127.0.0.1", site.admin())).await.unwrap());
    }
    for path in ["/livez", "/readyz"] {
        let answer = tokio::time::timeout(Duration::from_secs(10), get(site.admin(), path)).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "ok\n"));
    }
}
