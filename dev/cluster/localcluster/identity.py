"""Which cluster this checkout has: its index, and every name, address and path that follows from the index.

Reads and writes only the allocation file and the checkout's `.cluster` link. Starts and stops nothing.
"""

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("MILLRACE_CACHE") or Path.home() / ".cache" / "millrace").resolve()
CLUSTERS = CACHE / "clusters"
ALLOCATIONS = CLUSTERS / "allocations.json"

# 32 clusters: pods in 10.64-95, Services in 10.96-127, nodes in 10.128-159.
MOST_CLUSTERS = 32
# A node's own folders replace these of the machine, so the cluster's state may not lie there.
HIDDEN_IN_NODES = ("/run", "/var/run", "/var/lib", "/var/log")


class ClusterError(Exception):
    """What is told to the person at the terminal, without a trace."""


@dataclass(frozen=True)
class Cluster:
    """One checkout's cluster. Equal index, equal everything."""

    index: int
    checkout: Path

    @property
    def name(self) -> str:
        return f"mr{self.index}"

    @property
    def state(self) -> Path:
        return CLUSTERS / self.name

    @property
    def link(self) -> Path:
        return self.checkout / ".cluster"

    @property
    def certificates(self) -> Path:
        return self.state / "certificates"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def bridge(self) -> str:
        return self.name

    @property
    def loopback(self) -> str:
        """Where the parts that only the control plane talks to listen, each on its usual port."""
        return f"127.77.{self.index}.1"

    @property
    def address(self) -> str:
        """The machine's address on the cluster's bridge: the apiserver and DNS listen there."""
        return f"10.{128 + self.index}.0.1"

    @property
    def server(self) -> str:
        return f"https://{self.address}:6443"

    @property
    def pod_network(self) -> str:
        return f"10.{64 + self.index}.0.0/16"

    @property
    def service_network(self) -> str:
        return f"10.{96 + self.index}.0.0/16"

    @property
    def service_address(self) -> str:
        """The address of the Service `kubernetes`."""
        return f"10.{96 + self.index}.0.1"

    def node_address(self, number: int) -> str:
        return f"10.{128 + self.index}.0.{10 + number}"

    def node_pods(self, number: int) -> str:
        """A /23 for each node: 250 pods fit with room for those that are still ending."""
        return f"10.{64 + self.index}.{2 * number}.0/23"


@contextmanager
def locked(path: Path):
    """Holds a file lock; the kernel drops it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def allocations() -> dict[int, Path]:
    try:
        stored = json.loads(ALLOCATIONS.read_text())
    except FileNotFoundError:
        return {}
    return {int(index): Path(checkout) for index, checkout in stored.items()}


def _store(allocated: dict[int, Path]) -> None:
    fresh = ALLOCATIONS.with_suffix(".new")
    fresh.write_text(json.dumps({str(index): str(path) for index, path in sorted(allocated.items())}, indent=1))
    fresh.rename(ALLOCATIONS)


def current() -> Cluster | None:
    """This checkout's cluster, if one was ever started and not taken down."""
    for index, checkout in allocations().items():
        if checkout == CHECKOUT:
            return Cluster(index, checkout)
    return None


def required() -> Cluster:
    cluster = current()
    if cluster is None:
        raise ClusterError("this checkout has no cluster; run `dev/cluster/cluster up`")
    return cluster


def orphans() -> list[Cluster]:
    """Clusters whose checkout was deleted while they were up."""
    return [Cluster(index, path) for index, path in allocations().items() if not path.exists()]


def allocate(in_use) -> Cluster:
    """Gives this checkout an index, the one it has or the lowest that `in_use(cluster)` says nothing of."""
    if str(CACHE).startswith(tuple(f"{folder}/" for folder in HIDDEN_IN_NODES)):
        raise ClusterError(f"MILLRACE_CACHE={CACHE} may not lie under {', '.join(HIDDEN_IN_NODES)}")
    with locked(CLUSTERS / "allocations.lock"):
        cluster = current()
        if cluster is None:
            taken = allocations()
            free = (Cluster(i, CHECKOUT) for i in range(MOST_CLUSTERS) if i not in taken)
            cluster = next((candidate for candidate in free if not in_use(candidate)), None)
            if cluster is None:
                raise ClusterError(f"all {MOST_CLUSTERS} cluster indexes are in use")
            _store({**taken, cluster.index: CHECKOUT})
        cluster.state.mkdir(parents=True, exist_ok=True)
        if cluster.link.is_symlink() or cluster.link.exists():
            cluster.link.unlink()
        cluster.link.symlink_to(cluster.state)
        return cluster


def release(cluster: Cluster) -> None:
    with locked(CLUSTERS / "allocations.lock"):
        _store({index: path for index, path in allocations().items() if index != cluster.index})
        if cluster.link.is_symlink():
            cluster.link.unlink()


@contextmanager
def locked_checkout():
    """One `up`, `down` or node change of this checkout at a time. The lock is on a folder of it, so it leaves no file."""
    folder = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
