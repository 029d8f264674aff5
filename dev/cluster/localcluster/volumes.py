"""Volumes that are folders of the cluster's state: `local` PersistentVolumes, the kind to which `fsGroup` is applied.

All nodes share the machine's file system, so a claim that is shared between nodes works.
"""

import re
import shutil
from pathlib import Path

from .api import Api
from .identity import Cluster, ClusterError

CLASS = "local"
PROVISIONER = "millrace.dev/local"
MODES = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]


def folder_of(cluster: Cluster, name: str) -> Path:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
        raise ClusterError(f"`{name}` is not a volume's name")
    return cluster.state / "volumes" / name


def _object(cluster: Cluster, name: str, size: str, modes: list[str], reclaim: str, claim: dict | None) -> dict:
    spec = {
        "capacity": {"storage": size},
        "accessModes": modes,
        "storageClassName": CLASS,
        "persistentVolumeReclaimPolicy": reclaim,
        "local": {"path": str(folder_of(cluster, name))},
        "nodeAffinity": {
            "required": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}]
            }
        },
    }
    if claim:
        spec["claimRef"] = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim}
    return {"metadata": {"name": name}, "spec": spec}


def _make_folder(cluster: Cluster, name: str) -> None:
    folder = folder_of(cluster, name)
    folder.mkdir(parents=True, exist_ok=True)
    # Root's own: a pod of another user gets in by its fsGroup, as on a real disk, or not at all.
    folder.chmod(0o770)


def create(cluster: Cluster, name: str, size: str, claim: str | None) -> None:
    reference = None
    if claim:
        namespace, slash, claimed = claim.partition("/")
        if not (namespace and slash and claimed):
            raise ClusterError(f"`{claim}` is not NAMESPACE/CLAIM")
        reference = {"namespace": namespace, "name": claimed}
    _make_folder(cluster, name)
    Api(cluster).create("/api/v1/persistentvolumes", _object(cluster, name, size, MODES, "Retain", reference))


def provision(cluster: Cluster, api: Api, claim: dict) -> None:
    """Makes the volume of a claim that waits for one. May be repeated."""
    metadata = claim["metadata"]
    name = f"pvc-{metadata['uid']}"
    reference = {key: metadata[key] for key in ("namespace", "name", "uid", "resourceVersion")}
    size = claim["spec"]["resources"]["requests"]["storage"]
    _make_folder(cluster, name)
    volume = _object(cluster, name, size, claim["spec"]["accessModes"], "Delete", reference)
    volume["metadata"]["annotations"] = {"pv.kubernetes.io/provisioned-by": PROVISIONER}
    api.create("/api/v1/persistentvolumes", volume)


def discard(cluster: Cluster, api: Api, name: str) -> None:
    """Deletes a released volume and its folder. May be repeated."""
    api.delete(f"/api/v1/persistentvolumes/{name}")
    shutil.rmtree(folder_of(cluster, name), ignore_errors=True)
