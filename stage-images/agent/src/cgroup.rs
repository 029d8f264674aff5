//! The container's control group, version 1 or 2: what it used, and whether the kernel killed something in it.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of this process's groups. Each may be absent: a file system that is not mounted is no error.
#[derive(Clone, Debug, Default)]
pub struct Cgroup {
    memory: Option<Folder>,
    cpu: Option<Folder>,
}

#[derive(Clone, Debug)]
struct Folder {
    path: PathBuf,
    unified: bool,
}

impl Cgroup {
    /// Finds the groups of this process in the file systems that are mounted.
    pub fn find() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let folder = |controller: &str, probe_v2: &str| {
            // Where both are mounted, the controller is in the version 1 hierarchy, if it has one.
            let first = locate(&groups, &mounts, Some(controller)).map(|path| Folder { path, unified: false });
            let second = || locate(&groups, &mounts, None).map(|path| Folder { path, unified: true });
            first.or_else(second).filter(|folder| !folder.unified || folder.path.join(probe_v2).exists())
        };
        Self { memory: folder("memory", "memory.events"), cpu: folder("cpuacct", "cpu.stat") }
    }

    /// How many processes of this group the kernel killed because memory ran out.
    pub fn oom_kills(&self) -> u64 {
        let file = |folder: &Folder| if folder.unified { "memory.events" } else { "memory.oom_control" };
        self.memory.as_ref().and_then(|folder| field(&folder.path.join(file(folder)), "oom_kill")).unwrap_or(0)
    }

    /// The group's limit in bytes, if it has one.
    pub fn memory_limit(&self) -> Option<u64> {
        let Folder { path, unified } = self.memory.as_ref()?;
        let limit = number(&path.join(if *unified { "memory.max" } else { "memory.limit_in_bytes" }))?;
        // Version 1 writes "no limit" as the largest multiple of the page size.
        (limit < u64::MAX / 4).then_some(limit)
    }

    /// The most memory that the group had at once.
    pub fn peak_memory(&self) -> Option<u64> {
        let Folder { path, unified } = self.memory.as_ref()?;
        number(&path.join(if *unified { "memory.peak" } else { "memory.max_usage_in_bytes" }))
    }

    /// Processor time that the group has used.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let Folder { path, unified } = self.cpu.as_ref()?;
        if *unified {
            field(&path.join("cpu.stat"), "usage_usec").map(|micros| micros as f64 / 1e6)
        } else {
            number(&path.join("cpuacct.usage")).map(|nanos| nanos as f64 / 1e9)
        }
    }
}

/// The folder of this process's group: a version 1 controller, or the unified hierarchy.
///
/// A container may see its own group as the root of the mount, with or without a namespace of its own, so the path
/// in `/proc/self/cgroup` is taken relative to the mount's root.
fn locate(groups: &str, mounts: &str, controller: Option<&str>) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match controller {
            Some(name) => controllers.split(',').any(|found| found == name),
            None => controllers.is_empty(),
        };
        ours.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let ours = match controller {
            Some(controller) => name == "cgroup" && options.split(',').any(|option| option == controller),
            None => name == "cgroup2",
        };
        let below = Path::new(group).strip_prefix(root).ok()?;
        ours.then(|| if below.as_os_str().is_empty() { PathBuf::from(point) } else { Path::new(point).join(below) })
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A line `name value`.
fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 24 0:27 ROOT /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n\
                      31 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_group_is_found_whichever_part_of_the_tree_is_mounted() {
        let groups = "4:memory:/kubepods/pod1/abc\n3:cpu,cpuacct:/kubepods/pod1/abc\n0::/\n";
        let at = |root: &str| locate(groups, &V1.replace("ROOT", root), Some("memory"));
        assert_eq!(at("/"), Some("/sys/fs/cgroup/memory/kubepods/pod1/abc".into()));
        assert_eq!(at("/kubepods/pod1/abc"), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(at("/other"), None);
        assert_eq!(
            locate("4:memory:/\n", &V1.replace("ROOT", "/"), Some("memory")),
            Some("/sys/fs/cgroup/memory".into())
        );
        assert_eq!(locate(groups, V1, None), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(locate(groups, V1, Some("cpuacct")), None);
    }

    #[test]
    fn both_versions_files_are_read() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
        let group = |unified| {
            let folder = Some(Folder { path: place.path().to_owned(), unified });
            Cgroup { memory: folder.clone(), cpu: folder }
        };
        let read = |group: Cgroup| (group.oom_kills(), group.memory_limit(), group.peak_memory(), group.cpu_seconds());
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("memory.max_usage_in_bytes", "4096\n");
        write("cpuacct.usage", "1500000000\n");
        assert_eq!(read(group(false)), (1, None, Some(4096), Some(1.5)));
        write("memory.events", "low 0\noom 3\noom_kill 2\n");
        write("memory.max", "max\n");
        write("memory.peak", "8192\n");
        write("cpu.stat", "usage_usec 2500000\nuser_usec 1\n");
        assert_eq!(read(group(true)), (2, None, Some(8192), Some(2.5)));
        write("memory.max", "65536\n");
        assert_eq!(group(true).memory_limit(), Some(65536));
        assert_eq!(read(Cgroup::default()), (0, None, None, None));
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "oom 7\noom_kill 2\noom_group_kill 1\n").unwrap();
        assert_eq!(field(file.path(), "oom_kill"), Some(2));
        assert_eq!(field(file.path(), "absent"), None);
    }
}
