"""Nodes and pods that KWOK simulates on the same control plane, for tests of scale and of the API alone.

Simulated nodes are tainted `kwok.x-k8s.io/node=fake`: only pods that tolerate that go there.
"""

from pathlib import Path

from . import processes
from .api import Api
from .identity import Cluster

COMPONENT = "kwok"
STAGES = Path(__file__).resolve().parents[1] / "kwok"
LABEL = "kwok.x-k8s.io/node"


def _node(name: str) -> dict:
    amounts = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "1000"}
    return {
        "metadata": {
            "name": name,
            "annotations": {LABEL: "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                LABEL: "fake",
                "type": "kwok",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
            },
        },
        "spec": {"taints": [{"key": LABEL, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def _existing(api: Api) -> list[str]:
    items = api.get(f"/api/v1/nodes?labelSelector={LABEL}%3Dfake")["items"]
    return [item["metadata"]["name"] for item in items]


def scale(cluster: Cluster, count: int, program: Path | None, stages: list[Path]) -> None:
    """Makes it `count` nodes, `kwok-0` to `kwok-<count - 1>`; 0 stops KWOK, and needs no program. Given stages replace ours for pods."""
    api = Api(cluster)
    wanted = {f"kwok-{number}" for number in range(count)}
    for name in set(_existing(api)) - wanted:
        api.delete(f"/api/v1/nodes/{name}")
    files = [STAGES / "nodes.yaml", *(path.resolve() for path in stages or [STAGES / "pods.yaml"])]
    marker = cluster.state / "kwok-stages"
    chosen = "\n".join(f"{path} {path.stat().st_mtime_ns}" for path in files)
    changed = not marker.exists() or marker.read_text() != chosen
    if count == 0 or changed:
        processes.kill(cluster, COMPONENT)
        marker.unlink(missing_ok=True)
    if count == 0:
        return
    if not processes.find(cluster, COMPONENT):
        marker.write_text(chosen)
        arguments = [
            f"--kubeconfig={cluster.certificates}/kwok.kubeconfig",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={LABEL}=fake",
            # Renewed each quarter of this, within the controller manager's grace of 12 s.
            "--node-lease-duration-seconds=24",
            f"--server-address={cluster.loopback}:10247",
            *(f"--config={path}" for path in files),
        ]
        processes.start(cluster, COMPONENT, [program, *arguments])
    for name in sorted(wanted):
        api.create("/api/v1/nodes", _node(name))
