//! What an attempt used.

use std::time::Instant;

use millrace_contract::Usage;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::cgroup::Cgroup;

/// Counts from its making.
pub struct Meter {
    began: Instant,
    cgroup: Option<Cgroup>,
    cpu_before: f64,
}

impl Meter {
    /// With `cgroup` the figures are the group's: in a container the group is the attempt's alone. Without, they are
    /// those of the processes that were reaped, where memory is the largest single process's.
    pub fn start(cgroup: Option<Cgroup>) -> Self {
        let cpu_before = cgroup.as_ref().and_then(Cgroup::cpu_seconds).unwrap_or(0.0);
        Self { began: Instant::now(), cgroup, cpu_before }
    }

    pub fn read(&self) -> Usage {
        let (children, memory) = reaped();
        let cgroup = self.cgroup.as_ref();
        let cpu = cgroup.and_then(Cgroup::cpu_seconds).map_or(children, |now| now - self.cpu_before);
        Usage {
            cpu_seconds: millis(cpu),
            peak_memory_bytes: cgroup.and_then(Cgroup::peak_memory).unwrap_or(memory),
            wall_seconds: millis(self.began.elapsed().as_secs_f64()),
        }
    }
}

/// Processor seconds and peak memory in bytes of all processes that were waited for.
fn reaped() -> (f64, u64) {
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or((0.0, 0), |used| {
        let micros = used.user_time().num_microseconds() + used.system_time().num_microseconds();
        (micros as f64 / 1e6, u64::try_from(used.max_rss()).unwrap_or(0) * 1024)
    })
}

/// More digits would only fill the report.
fn millis(seconds: f64) -> f64 {
    (seconds.max(0.0) * 1e3).round() / 1e3
}
