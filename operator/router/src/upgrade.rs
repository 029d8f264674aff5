//! Connections that stop being HTTP, which are websockets and nothing else: bytes are passed on both ways until both sides have ended.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use millrace_routes::Outcome;

use crate::flight::Flight;
use crate::state::Lease;

/// Holds the place at the pod until it is over.
pub fn join(client: OnUpgrade, pod: OnUpgrade, mut flight: Flight, lease: Lease) {
    tokio::spawn(async move {
        flight.ends_as(Outcome::Upgraded);
        if let (Ok(client), Ok(pod)) = (client.await, pod.await) {
            let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
            // Either side may break off: that is how most of these end.
            drop(tokio::io::copy_bidirectional(&mut client, &mut pod).await);
        }
        drop((flight, lease));
    });
}
