"""The provisioner of the default storage class, as a process: watches claims and volumes, makes and deletes folders.

Acts only on claims that the controller manager found no volume for, and only on volumes that it made itself.

Arguments: the cluster's index and checkout.
"""

import http.client
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import volumes
from .api import Api, ApiError
from .identity import Cluster

ASKED = "volume.kubernetes.io/storage-provisioner"
MADE = "pv.kubernetes.io/provisioned-by"
RETRY_SECONDS = 1.0


def wants_volume(claim: dict) -> bool:
    annotations = claim["metadata"].get("annotations", {})
    asked = annotations.get(ASKED) == volumes.PROVISIONER
    ending = "deletionTimestamp" in claim["metadata"]
    return asked and not ending and not claim["spec"].get("volumeName") and claim["status"].get("phase") == "Pending"


def is_discarded(volume: dict) -> bool:
    made = volume["metadata"].get("annotations", {}).get(MADE) == volumes.PROVISIONER
    released = volume.get("status", {}).get("phase") == "Released"
    return made and released and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"


def follow(api: Api, path: str, act: Callable[[dict], None]) -> None:
    """Acts on each object that is added or changed, for ever. A new watch starts with all objects, so none is missed."""
    while True:
        try:
            for event in api.watch(path):
                if event["type"] in ("ADDED", "MODIFIED"):
                    act(event["object"])
        except (OSError, ApiError, http.client.HTTPException, ValueError) as error:
            print(f"{path}: {error}", flush=True)
            time.sleep(RETRY_SECONDS)


def main() -> None:
    cluster = Cluster(int(sys.argv[1]), Path(sys.argv[2]))
    api = Api(cluster)

    def on_claim(claim: dict) -> None:
        if wants_volume(claim):
            volumes.provision(cluster, api, claim)

    def on_volume(volume: dict) -> None:
        if is_discarded(volume):
            volumes.discard(cluster, api, volume["metadata"]["name"])

    claims = ("/api/v1/persistentvolumeclaims", on_claim)
    threading.Thread(target=follow, args=(api, *claims), daemon=True).start()
    follow(api, "/api/v1/persistentvolumes", on_volume)


if __name__ == "__main__":
    main()
