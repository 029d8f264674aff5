"""The cgroups that a node's kubelet works under: `/<cluster>/<node>` in every hierarchy of the machine.

Never touches the machine's cgroup mounts, nor a cgroup outside the cluster's own folder.
"""

import os
import time
from pathlib import Path

from .identity import Cluster, ClusterError


def _hierarchies() -> list[tuple[Path, bool]]:
    """Each mounted hierarchy, and whether it is of version 2."""
    found = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            found[Path(folder)] = kind == "cgroup2"
    return list(found.items())


def create(cluster: Cluster, node: str) -> None:
    for root, unified in _hierarchies():
        folder = root
        for part in (cluster.name, node):
            if unified:
                _delegate(folder)
            folder = folder / part
            folder.mkdir(exist_ok=True)
            # A new cpuset is empty, and no process may enter it.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if not unified and (folder / setting).exists() and not (folder / setting).read_text().strip():
                    (folder / setting).write_text((folder.parent / setting).read_text())


def _delegate(folder: Path) -> None:
    for controller in (folder / "cgroup.controllers").read_text().split():
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            # In use by version 1, or by processes of the machine: what the kubelet needs and lacks, it names itself.
            continue


def remove(cluster: Cluster, node: str = "") -> None:
    """Removes the folders, whose processes must have ended. The kernel may take a moment to see that they did."""
    deadline = time.monotonic() + 10
    while folders := remaining(cluster, node):
        for top in folders:
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    continue
        if time.monotonic() > deadline:
            raise ClusterError(f"cgroups are still in use: {folders}")
        if remaining(cluster, node):
            time.sleep(0.05)


def remaining(cluster: Cluster, node: str = "") -> list[Path]:
    folders = (root / cluster.name / node for root, _ in _hierarchies())
    return [folder for folder in folders if folder.is_dir()]
