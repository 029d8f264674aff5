//! What the container may use, from its cgroup (version 1 or 2).

use std::path::Path;

/// Without a limit the server takes the machine to have this much.
const NO_LIMIT: usize = 8 << 30;

/// CPUs, rounded down, at least 1. The standard library reads affinity and the quotas of both cgroup versions.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The default for `--max-buffered`: an eighth of the memory limit, but room for one body and not more than 1 GiB.
pub fn buffered(max_body: usize) -> usize {
    budget(memory(Path::new("/sys/fs/cgroup")), max_body)
}

fn budget(memory: usize, max_body: usize) -> usize {
    (memory / 8).clamp(max_body, max_body.max(1 << 30))
}

/// The container's memory limit in bytes.
fn memory(cgroup: &Path) -> usize {
    let files = ["memory.max", "memory/memory.limit_in_bytes"];
    let read = |file: &str| std::fs::read_to_string(cgroup.join(file)).ok()?.trim().parse().ok();
    files.into_iter().find_map(read).map_or(NO_LIMIT, |limit: usize| limit.min(NO_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_both_versions_of_cgroups() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(memory(dir.path()), NO_LIMIT);
        std::fs::create_dir(dir.path().join("memory")).unwrap();
        std::fs::write(dir.path().join("memory/memory.limit_in_bytes"), "536870912\n").unwrap();
        assert_eq!(memory(dir.path()), 512 << 20);
        std::fs::write(dir.path().join("memory.max"), "268435456\n").unwrap();
        assert_eq!(memory(dir.path()), 256 << 20);
    }

    #[test]
    fn no_limit_is_written_max_or_as_a_huge_number() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["max\n", "9223372036854771712\n"] {
            std::fs::write(dir.path().join("memory.max"), text).unwrap();
            assert_eq!(memory(dir.path()), NO_LIMIT);
        }
    }

    #[test]
    fn the_buffer_holds_at_least_one_body_and_at_most_a_gibibyte() {
        assert_eq!(budget(64 << 20, 16 << 20), 16 << 20);
        assert_eq!(budget(512 << 20, 8 << 20), 64 << 20);
        assert_eq!(budget(64 << 30, 8 << 20), 1 << 30);
    }
}
