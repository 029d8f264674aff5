//! How much memory this process may use: the cgroup's limit (version 2 or 1), else the machine's memory.

use std::path::Path;

/// Bytes that this process may use. Of several limits on the way up the hierarchy the smallest holds.
pub fn memory_bytes() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine_bytes(&text));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = cgroup_bytes(Path::new("/sys/fs/cgroup"), &groups);
    // 1 GiB if neither can be read: a guess that fits a stock stage's own limit.
    [machine, limit].into_iter().flatten().min().unwrap_or(1 << 30)
}

fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The smallest limit of the groups that `/proc/self/cgroup` names, below `root`.
fn cgroup_bytes(root: &Path, groups: &str) -> Option<u64> {
    let mut smallest: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (base, file) = if controllers.is_empty() {
            (root.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        // Inside a container the path may be the host's, which is not there; the mount's root is the container's group.
        let mut folder = base.join(group.trim_start_matches('/'));
        loop {
            let limit = std::fs::read_to_string(folder.join(file)).ok().and_then(|text| limit_bytes(&text));
            smallest = [smallest, limit].into_iter().flatten().min();
            if folder == base || !folder.pop() {
                break;
            }
        }
    }
    smallest
}

/// `max` (version 2) and numbers near 2^63 (version 1) are no limit.
fn limit_bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn version_2_takes_the_smallest_limit_on_the_way_up() {
        let root = tree(&[("a/memory.max", "1000000\n"), ("a/b/memory.max", "max\n")]);
        assert_eq!(cgroup_bytes(root.path(), "0::/a/b\n"), Some(1_000_000));
    }

    #[test]
    fn version_1_reads_the_memory_controller() {
        let root = tree(&[("memory/kube/memory.limit_in_bytes", "536870912\n")]);
        assert_eq!(cgroup_bytes(root.path(), "9:cpu,cpuacct:/x\n5:memory:/kube\n"), Some(536_870_912));
    }

    #[test]
    fn a_host_path_that_a_container_cannot_see_falls_back_to_the_mounts_root() {
        let root = tree(&[("memory/memory.limit_in_bytes", "1024\n")]);
        assert_eq!(cgroup_bytes(root.path(), "5:memory:/kubepods/pod1/c1\n"), Some(1024));
    }

    #[test]
    fn no_limit_is_none() {
        let root = tree(&[("memory/memory.limit_in_bytes", "9223372036854771712\n"), ("memory.max", "max")]);
        assert_eq!(cgroup_bytes(root.path(), "5:memory:/\n0::/\n"), None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory_bytes() > 1 << 20);
    }
}
