"""Adds, starts, stops and removes nodes. A node is the process of node_init.py and all that hangs from it."""

import json
import shutil
import sys
import time
from pathlib import Path

from . import certificates, cgroups, images, network, node_settings, processes
from .api import Api, ApiError
from .identity import Cluster, ClusterError

INIT = Path(__file__).with_name("node_init.py")
# Node addresses and pod ranges are made from the number.
MOST_NODES = 120
GPU = "nvidia.com/gpu"


def _folder(cluster: Cluster, name: str) -> Path:
    return cluster.state / "nodes" / name


def _component(name: str) -> str:
    return f"node-{name}"


def _record(cluster: Cluster, name: str) -> dict:
    try:
        return json.loads((_folder(cluster, name) / "node.json").read_text())
    except FileNotFoundError:
        raise ClusterError(f"no node `{name}`: there are {', '.join(names(cluster)) or 'none'}") from None


def _store(cluster: Cluster, name: str, record: dict) -> None:
    path = _folder(cluster, name) / "node.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps(record))
    path.with_suffix(".new").rename(path)


def names(cluster: Cluster) -> list[str]:
    return sorted(path.parent.name for path in (cluster.state / "nodes").glob("*/node.json"))


def first_process(cluster: Cluster, name: str) -> int | None:
    """The node's process 1, as the machine numbers it."""
    for pid in processes.find(cluster, _component(name)):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        own = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
        if len(own) > 2 and own[-1] == "1":
            return pid
    return None


def living(cluster: Cluster) -> dict[str, int]:
    found = ((name, first_process(cluster, name)) for name in names(cluster))
    return {name: pid for name, pid in found if pid}


def _route(cluster: Cluster) -> None:
    network.route_pods(cluster, {_record(cluster, name)["number"]: pid for name, pid in living(cluster).items()})


def _write_settings(cluster: Cluster, name: str, record: dict) -> None:
    folder, number = _folder(cluster, name), record["number"]
    (folder / "address").write_text(cluster.node_address(number))
    (folder / "containerd.toml").write_text(node_settings.containerd())
    (folder / "cni.json").write_text(node_settings.cni(cluster, number))
    (folder / "kubelet.json").write_text(node_settings.kubelet(cluster, name, number, record.get("taints", [])))
    (folder / "proxy.json").write_text(node_settings.proxy(cluster))


def _complete(cluster: Cluster, name: str) -> bool:
    """Whether an earlier start of this node came to its end, and the node lives."""
    return (_folder(cluster, name) / "go").exists() and first_process(cluster, name) is not None


def is_stopped(cluster: Cluster, name: str) -> bool:
    """Whether it was stopped on purpose."""
    return (_folder(cluster, name) / "stopped").exists()


def add(cluster: Cluster, name: str, programs: Path, taints: list[dict]) -> None:
    """Records a node and starts it; one that is there is started if it does not run, with the taints that it was made with."""
    if not (_folder(cluster, name) / "node.json").exists():
        taken = {_record(cluster, other)["number"] for other in names(cluster)}
        number = next((n for n in range(1, MOST_NODES) if n not in taken), None)
        if number is None:
            raise ClusterError(f"a cluster has at most {MOST_NODES - 1} nodes")
        _store(cluster, name, {"number": number, "gpus": 0, "taints": taints})
    start(cluster, name, programs)


def start(cluster: Cluster, name: str, programs: Path) -> None:
    record = _record(cluster, name)
    (_folder(cluster, name) / "stopped").unlink(missing_ok=True)
    if _complete(cluster, name):
        return
    number = record["number"]
    # What an interrupted start left.
    _end(cluster, name)
    certificates.ensure_node(cluster, name, cluster.node_address(number))
    cgroups.create(cluster, name)
    _write_settings(cluster, name, record)
    folder = _folder(cluster, name)
    own = ("--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")
    kubeconfig = cluster.certificates / f"{certificates.of_node(name)}.kubeconfig"
    init = (sys.executable, "-B", INIT, name, folder, programs, kubeconfig)
    processes.start(cluster, _component(name), ["unshare", *own, "--propagation", "private", *init])
    processes.wait(f"node {name}", lambda: first_process(cluster, name) is not None, 10)
    pid = first_process(cluster, name)
    network.connect(cluster, number, pid)
    socket = images.socket_of(pid)
    processes.wait(f"containerd of {name}", lambda: _serves(socket))
    images.load_all(cluster, pid)
    _route(cluster)
    (folder / "go").touch()


def _serves(socket: Path) -> bool:
    # While init still prepares its mounts, this path is not yet the node's: only an answer counts.
    return socket.exists() and processes.run("ctr", "--address", socket, "version", check=False).returncode == 0


def wait_ready(cluster: Cluster, name: str) -> None:
    processes.wait(f"node {name}", lambda: is_ready(cluster, name))
    restore_gpus(cluster, name)


def restore_gpus(cluster: Cluster, name: str) -> None:
    """A kubelet that starts anew forgets what no device plugin of its own advertises."""
    wanted = _record(cluster, name)["gpus"]
    node = Api(cluster).get(f"/api/v1/nodes/{name}")
    if wanted and node["status"]["allocatable"].get(GPU) != str(wanted):
        set_gpus(cluster, name, wanted)


def _started(cluster: Cluster, name: str) -> str:
    """When the node's kubelet was let go, as Kubernetes writes times."""
    try:
        seconds = (_folder(cluster, name) / "go").stat().st_mtime
    except FileNotFoundError:
        return "9999"
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def is_ready(cluster: Cluster, name: str) -> bool:
    try:
        node = Api(cluster).get(f"/api/v1/nodes/{name}")
    except (ApiError, OSError):
        return False
    conditions = node.get("status", {}).get("conditions", [])
    # For some seconds after a node was lost, the API still has what its former life said.
    started = _started(cluster, name)
    ready = any(
        c["type"] == "Ready" and c["status"] == "True" and c["lastHeartbeatTime"] >= started for c in conditions
    )
    # The taint outlives the condition by a moment, and until then no pod is scheduled.
    tainted = any(taint["key"].startswith("node.kubernetes.io/") for taint in node["spec"].get("taints", []))
    return ready and not tainted


def _end(cluster: Cluster, name: str) -> None:
    (_folder(cluster, name) / "go").unlink(missing_ok=True)
    processes.kill(cluster, _component(name))
    network.disconnect(cluster, _record(cluster, name)["number"])
    cgroups.remove(cluster, name)


def stop(cluster: Cluster, name: str) -> None:
    """Loses the node as a power cut would: every process of it is killed at once and its link goes. Its disk stays."""
    _end(cluster, name)
    (_folder(cluster, name) / "stopped").touch()
    _route(cluster)


def remove(cluster: Cluster, name: str) -> None:
    stop(cluster, name)
    Api(cluster).delete(f"/api/v1/nodes/{name}")
    for file in cluster.certificates.glob(f"{certificates.of_node(name)}.*"):
        file.unlink()
    shutil.rmtree(_folder(cluster, name))


def set_gpus(cluster: Cluster, name: str, count: int) -> None:
    """Advertises GPUs that are not there; the scheduler and the kubelet honour them. Simulated nodes too."""
    amounts = {GPU: str(count) if count else None}
    Api(cluster).patch(f"/api/v1/nodes/{name}/status", {"status": {"capacity": amounts, "allocatable": amounts}})
    if name in names(cluster):
        _store(cluster, name, {**_record(cluster, name), "gpus": count})
