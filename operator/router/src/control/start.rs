//! Follows a revision for which requests wait and which has no pod to take them: scales it from zero, asks new pods whether they can
//! serve, and lets the requests go when one can.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior};

use super::probe;
use crate::count::Span;
use crate::state::{Revision, Start, State};

const PROBE_EVERY: Duration = Duration::from_millis(50);
/// Somebody may scale it down to zero just now: it is looked at again.
const SCALE_EVERY: Duration = Duration::from_secs(1);

/// Begins to follow, unless that is done already.
pub fn follow(state: &Arc<State>, revision: &Arc<Revision>) {
    if !revision.starting.swap(true, Ordering::SeqCst) {
        state.control.spawn(run(state.clone(), revision.clone()));
    }
}

async fn run(state: Arc<State>, revision: Arc<Revision>) {
    loop {
        start(&state, &revision).await;
        revision.starting.store(false, Ordering::SeqCst);
        // Somebody may have come after the last look, and have seen that it is followed.
        let wanted = revision.queued() > 0 && !revision.is_usable();
        if !wanted || revision.starting.swap(true, Ordering::SeqCst) {
            return;
        }
    }
}

async fn start(state: &State, revision: &Arc<Revision>) {
    let at_zero = is_at_zero(revision);
    if at_zero {
        *revision.start() = Some(Start::new());
    }
    let mut scale_next = Instant::now();
    let mut ticks = tokio::time::interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while revision.queued() > 0 && !revision.is_usable() {
        ticks.tick().await;
        if is_at_zero(revision) && Instant::now() >= scale_next {
            scale_next = Instant::now() + SCALE_EVERY;
            scale(state, revision).await;
        }
        probe_pods(revision).await;
    }
    if at_zero
        && revision.is_usable()
        && let Some(spans) = revision.start().as_mut().map(Start::end)
    {
        revision.counters.span(Span::Scale, spans.scale);
        revision.counters.span(Span::Schedule, spans.schedule);
        revision.counters.span(Span::Load, spans.load);
    }
    revision.dispatch();
}

fn is_at_zero(revision: &Revision) -> bool {
    let pods = revision.pods();
    pods.ready.is_empty() && pods.pending.is_empty()
}

async fn scale(state: &State, revision: &Revision) {
    let settings = revision.settings();
    let (Some(scaler), Some(deployment)) = (&state.scaler, &settings.deployment) else { return };
    match scaler.wake(deployment).await {
        Ok(()) => {
            if let Some(start) = revision.start().as_mut() {
                start.scaled();
            }
        }
        Err(error) => {
            let source = error.source.to_string();
            tracing::warn!(%error, source, "requests wait for it; it is tried again");
        }
    }
}

/// Pods that were never ready are used as soon as they answer. Of those that were, the cluster knows better, except that one which did
/// not take a connection is tried anew.
async fn probe_pods(revision: &Arc<Revision>) {
    let (pods, settings) = (revision.pods(), revision.settings());
    let new = pods.pending.iter().filter(|pod| !pod.seen_ready.load(Ordering::Relaxed)).map(|pod| {
        let path = settings.ready_path.clone();
        async move {
            if let Some(path) = path
                && probe::is_ready(pod.address, &path).await
            {
                revision.promote(pod);
            }
        }
    });
    let suspect = pods.ready.iter().filter(|pod| pod.is_suspect()).map(|pod| async {
        if probe::is_listening(pod.address).await {
            pod.trust();
        }
    });
    futures::future::join(join_all(new), join_all(suspect)).await;
}
