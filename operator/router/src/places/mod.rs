//! The places at pods that take a bounded number of requests at a time, over all routers together.
//!
//! ```text
//! request ─► router B ─ GET /places/<model>/<revision> ─► router A, the keeper: its queue, its count ─► 200, the pod's address
//!                 └──► the pod, while that answer is open; dropping it gives the place back
//! ```
//! Of the ready routers behind a model's Service each router takes the same one for the keeper of a revision, by a hash of both. It counts for
//! all of them, and who waits waits there, in one queue. Where it cannot be asked, a router counts for itself: a model that answers is worth
//! more than the bound, for the second or two until its EndpointSlice says who is there.

mod ask;
mod give;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hyper::header::HeaderName;

use crate::endpoints::Endpoint;
use crate::state::{Pod, Spans, lock};

pub use ask::{Grant, Wanted, ask};
pub use give::serve;

/// Where the pod of a place is.
const POD: HeaderName = HeaderName::from_static("millrace-pod");
/// A pod that did not take the connection of who asks again.
const FAILED: HeaderName = HeaderName::from_static("millrace-failed");
/// The parts of the start from zero that who asks waited for.
const START: HeaderName = HeaderName::from_static("millrace-start");

/// The other routers, and this one among them.
#[derive(Debug, Default)]
pub struct Peers {
    /// `None`: it is alone.
    own: Option<IpAddr>,
    /// Where each of them gives places.
    port: u16,
    slots: usize,
    known: Mutex<HashMap<IpAddr, Arc<Pod>>>,
}

impl Peers {
    pub fn new(own: Option<IpAddr>, port: u16, slots: usize) -> Self {
        Self { own, port, slots, known: Mutex::default() }
    }

    /// Who keeps the places of a revision, of the routers behind its model's Service; `None` if it is this one.
    pub fn keeper(&self, routers: &[Endpoint], revision: &str) -> Option<Arc<Pod>> {
        let own = self.own?;
        let ready = || routers.iter().filter(|router| router.ready).map(|router| router.address);
        let keeper = ready().max_by_key(|address| (weight(*address, revision), *address)).filter(|is| *is != own)?;
        let mut known = lock(&self.known);
        // Those that left are forgotten, with their connections.
        known.retain(|address, _| routers.iter().any(|router| router.address == *address));
        let new = || Arc::new(Pod::new(SocketAddr::new(keeper, self.port), self.slots));
        let keeper = known.entry(keeper).or_insert_with(new).clone();
        (!keeper.is_suspect()).then_some(keeper)
    }
}

/// The same in every router (FNV-1a), with its bits stirred, as the last ones of an address differ little.
fn weight(address: IpAddr, revision: &str) -> u64 {
    let octets = match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let bytes = revision.bytes().chain(octets);
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// As a header has it: microseconds.
fn written(spans: &Spans) -> String {
    let Spans { scale, schedule, load } = spans;
    format!("{},{},{}", scale.as_micros(), schedule.as_micros(), load.as_micros())
}

fn parsed(text: &str) -> Option<Spans> {
    let mut parts = text.split(',').map(|part| part.parse().ok().map(std::time::Duration::from_micros));
    let mut next = || parts.next().flatten();
    Some(Spans { scale: next()?, schedule: next()?, load: next()? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn endpoint(last: u8, ready: bool) -> Endpoint {
        Endpoint { address: IpAddr::from([10, 0, 0, last]), ready }
    }

    #[test]
    fn all_routers_agree_on_one_ready_keeper_and_revisions_spread_over_them() {
        let routers = [endpoint(1, true), endpoint(2, true), endpoint(3, false)];
        let kept = |own: u8, revision: &str| {
            let peers = Peers::new(Some(IpAddr::from([10, 0, 0, own])), 9091, 1);
            peers.keeper(&routers, revision).map_or(own, |pod| match pod.address.ip() {
                IpAddr::V4(ip) => ip.octets()[3],
                IpAddr::V6(_) => 0,
            })
        };
        let mut keepers = [0; 4];
        for n in 0..100 {
            let revision = format!("m-{n}");
            let all = [kept(1, &revision), kept(2, &revision), kept(3, &revision)];
            assert!(all.iter().all(|keeper| *keeper == all[0]), "{revision}: {all:?}");
            keepers[usize::from(all[0])] += 1;
        }
        assert!(keepers[1] > 25 && keepers[2] > 25 && keepers[3] == 0, "{keepers:?}");
    }

    #[test]
    fn who_has_no_peers_keeps_its_places_and_one_that_does_not_answer_is_not_asked() {
        assert!(Peers::default().keeper(&[endpoint(1, true)], "m").is_none());
        let peers = Peers::new(Some(IpAddr::from([10, 0, 0, 1])), 9091, 1);
        assert!(peers.keeper(&[], "m").is_none());
        let other = peers.keeper(&[endpoint(2, true)], "m").unwrap();
        assert_eq!(other.address, SocketAddr::from(([10, 0, 0, 2], 9091)));
        other.suspect();
        assert!(peers.keeper(&[endpoint(2, true)], "m").is_none());
    }

    #[test]
    fn the_parts_of_a_start_pass_in_a_header() {
        let millis = Duration::from_millis;
        let spans = Spans { scale: millis(1), schedule: millis(20), load: millis(300) };
        assert_eq!(parsed(&written(&spans)), Some(spans));
        assert_eq!(parsed("1,2"), None);
    }
}
