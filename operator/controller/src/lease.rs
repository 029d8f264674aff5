//! The lease that one of the replicas holds. It keeps two from doing the same work; it does not make it safe: that is
//! done by names and preconditions, because a holder that is paused may write after it has lost the lease.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::metrics::{Metrics, Verb};
use crate::write::chain;

/// A holder that has not renewed for this long has lost the lease.
const DURATION: Duration = Duration::from_secs(8);
/// The holder gives up before another can take it.
const GIVE_UP: Duration = Duration::from_secs(6);
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often the standby looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A renewal of ours that was still under way may come between; a second one cannot.
const RELEASE_TRIES: usize = 3;

pub struct LeaseLock {
    api: Api<Lease>,
    name: String,
    identity: String,
    metrics: Metrics,
}

/// Whose lease it is, as one looker saw it. Clocks of two machines are never compared: a lease has run out when it did
/// not change for its whole duration as the looker's own clock counts.
struct Seen {
    version: Option<String>,
    since: Instant,
}

impl LeaseLock {
    pub fn new(client: Client, namespace: &str, name: &str, identity: String, metrics: Metrics) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), identity, metrics }
    }

    /// Waits until the lease is ours. Returns it as it was written.
    pub async fn acquire(&self) -> Lease {
        let mut seen = Seen { version: None, since: Instant::now() };
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(Some(lease)) => return lease,
                Ok(None) => {}
                Err(error) => tracing::warn!(lease = %self.name, error = %chain(&error), "failed to look at the lease"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn try_acquire(&self, seen: &mut Seen) -> Result<Option<Lease>, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            self.metrics.wrote(Verb::Lease);
            let fresh = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.held(0, Timestamp::now())),
            };
            return taken(self.api.create(&PostParams::default(), &fresh).await);
        };
        if seen.version != lease.metadata.resource_version {
            *seen = Seen { version: lease.metadata.resource_version.clone(), since: Instant::now() };
        }
        if !free(lease.spec.as_ref(), &self.identity, seen.since.elapsed()) {
            return Ok(None);
        }
        let transitions = lease.spec.as_ref().and_then(|s| s.lease_transitions).unwrap_or_default();
        lease.spec = Some(self.held(transitions.saturating_add(1), Timestamp::now()));
        self.metrics.wrote(Verb::Lease);
        taken(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// Renews for as long as that works. Returns when the lease is lost.
    pub async fn hold(&self, mut lease: Lease) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < GIVE_UP {
            tokio::time::sleep(RENEW_EVERY).await;
            let started = Instant::now();
            let deadline = GIVE_UP.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(deadline, self.renew(lease.clone())).await {
                Ok(Ok(Some(written))) => {
                    lease = written;
                    renewed = started;
                }
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.name, error = %chain(&error), "failed to renew the lease");
                }
                Err(_) => {}
            }
        }
    }

    /// The lease as it is after a renewal; nothing if it is not ours any more.
    async fn renew(&self, mut lease: Lease) -> Result<Option<Lease>, kube::Error> {
        if let Some(spec) = lease.spec.as_mut() {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        self.metrics.wrote(Verb::Lease);
        match self.api.replace(&self.name, &PostParams::default(), &lease).await {
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                // A renewal of ours may have been committed without its answer reaching us.
                let found = self.api.get_opt(&self.name).await?;
                Ok(found.filter(|found| holder(found.spec.as_ref()) == Some(&self.identity)))
            }
            answer => answer.map(Some),
        }
    }

    /// Lets the lease go, so that the other replica need not wait for it to run out. Does nothing if it is not ours.
    pub async fn release(&self) -> Result<(), kube::Error> {
        let mut tries = 0;
        loop {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            if holder(lease.spec.as_ref()) != Some(&self.identity) {
                return Ok(());
            }
            if let Some(spec) = lease.spec.as_mut() {
                spec.holder_identity = None;
                spec.lease_duration_seconds = Some(1);
            }
            self.metrics.wrote(Verb::Lease);
            tries += 1;
            match self.api.replace(&self.name, &PostParams::default(), &lease).await {
                Err(kube::Error::Api(status)) if status.code == 409 && tries < RELEASE_TRIES => {}
                answer => return answer.map(|_| ()),
            }
        }
    }

    fn held(&self, transitions: i32, now: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

fn holder(spec: Option<&LeaseSpec>) -> Option<&String> {
    spec?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

/// Whether the lease may be taken: nobody holds it, it is our own from before a restart of the container, or it has not
/// changed for its duration.
fn free(spec: Option<&LeaseSpec>, identity: &str, unchanged: Duration) -> bool {
    let Some(holder) = holder(spec) else { return true };
    let seconds = spec.and_then(|s| s.lease_duration_seconds).and_then(|s| u64::try_from(s).ok());
    holder == identity || unchanged >= seconds.map_or(DURATION, Duration::from_secs)
}

/// Somebody else may have been faster.
fn taken(answer: Result<Lease, kube::Error>) -> Result<Option<Lease>, kube::Error> {
    match answer {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_free_without_a_holder_after_a_restart_or_when_it_ran_out() {
        let spec = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(8),
            ..LeaseSpec::default()
        };
        let (short, long) = (Duration::from_secs(7), Duration::from_secs(8));
        assert!(free(None, "me", Duration::ZERO));
        assert!(free(Some(&spec("")), "me", Duration::ZERO), "it was released");
        assert!(free(Some(&spec("me")), "me", Duration::ZERO));
        assert!(!free(Some(&spec("you")), "me", short));
        assert!(free(Some(&spec("you")), "me", long));
    }

    #[test]
    fn the_holder_gives_up_before_another_can_take_the_lease() {
        assert!(GIVE_UP + RENEW_EVERY <= DURATION && DURATION <= Duration::from_secs(10));
    }
}
