"""Takes a cluster down to nothing, and lists what of a cluster is left.

Works from the kernel's own lists, not from what an earlier command wrote, so it also works on a half-started cluster.
"""

import shutil
from pathlib import Path

from . import cgroups, network, processes
from .identity import CHECKOUT, CLUSTERS, MOST_CLUSTERS, Cluster, ClusterError, allocations, release
from .processes import run


def _mounts(cluster: Cluster) -> list[str]:
    """Mounts of the machine itself below the cluster's state, deepest first."""
    found = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return sorted((path for path in found if path.startswith(f"{cluster.state}/")), reverse=True)


def destroy(cluster: Cluster) -> None:
    processes.kill(cluster)
    network.remove(cluster)
    cgroups.remove(cluster)
    for path in _mounts(cluster):
        run("umount", "--lazy", path)
    if _mounts(cluster):
        raise ClusterError(f"mounts remain below {cluster.state}")
    if cluster.state.exists():
        shutil.rmtree(cluster.state)
    release(cluster)


def remains(cluster: Cluster) -> list[str]:
    """All that the machine has of a cluster."""
    found = [f"process {pid} ({name})" for name, pids in processes.running(cluster).items() for pid in pids]
    found += [f"interface {name}" for name in network.interfaces(cluster)]
    found += [f"cgroup {path}" for path in cgroups.remaining(cluster)]
    found += [f"mount {path}" for path in _mounts(cluster)]
    spaces = run("ip", "netns", "list", check=False).stdout.split()
    found += [
        f"network namespace {name}" for name in spaces if name == cluster.name or name.startswith(f"{cluster.name}-")
    ]
    tables = run("nft", "list", "tables", check=False).stdout.splitlines()
    found += [f"nft {table}" for table in tables if table.split()[-1:] == [cluster.name]]
    ranges = (cluster.pod_network, cluster.service_network)
    routes = run("ip", "route", "show", "table", "all").stdout.splitlines()
    found += [f"route {line}" for line in routes if f"dev {cluster.bridge} " in f"{line} " or line.startswith(ranges)]
    if cluster.state.exists():
        found.append(f"folder {cluster.state}")
    return found


def leftovers() -> list[str]:
    """What is left of clusters that are no checkout's, or whose checkout is gone, and of this checkout's own."""
    others = {index for index, checkout in allocations().items() if checkout != CHECKOUT and checkout.exists()}
    ours = [Cluster(index, CHECKOUT) for index in range(MOST_CLUSTERS) if index not in others]
    found = [line for cluster in ours for line in remains(cluster)]
    found += [f"allocation of {path}" for index, path in allocations().items() if index not in others]
    link = CHECKOUT / ".cluster"
    if link.is_symlink():
        found.append(f"link {link}")
    if CLUSTERS.is_dir():
        known = {f"mr{index}" for index in range(MOST_CLUSTERS)}
        found += [f"folder {path}" for path in CLUSTERS.iterdir() if path.is_dir() and path.name not in known]
    return found
