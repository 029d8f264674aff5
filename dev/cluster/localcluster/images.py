"""Imports image archives into the nodes' containerd. Each archive is kept, so that a later node gets it too.

Pulls nothing: there is no registry.
"""

import json
import os
import shutil
import tarfile
from pathlib import Path

from . import pause
from .identity import Cluster, ClusterError
from .node_settings import CONTAINERD_SOCKET
from .processes import run

NAME = "org.opencontainers.image.ref.name"


def socket_of(pid: int) -> Path:
    """The node's containerd, seen from the machine."""
    return Path(f"/proc/{pid}/root{CONTAINERD_SOCKET}")


def _ctr(pid: int, *arguments: object, **options):
    return run("ctr", "--address", socket_of(pid), "--namespace", "k8s.io", *arguments, **options)


def described(archive: Path) -> dict[str, str]:
    """The names in an OCI archive and their digests."""
    try:
        with tarfile.open(archive) as file:
            index = json.load(file.extractfile("index.json"))
    except (OSError, tarfile.TarError, KeyError) as error:
        raise ClusterError(f"{archive} is not an OCI archive: {error}") from error
    named = {m.get("annotations", {}).get(NAME): m["digest"] for m in index["manifests"]}
    if None in named:
        raise ClusterError(f"{archive} holds an image without a name")
    return named


def _present(pid: int) -> dict[str, str]:
    """The images of a node and their digests."""
    lines = _ctr(pid, "images", "list").stdout.splitlines()[1:]
    return {fields[0]: fields[2] for fields in (line.split() for line in lines) if len(fields) > 2}


def _import(pid: int, archives: list[Path]) -> list[str]:
    present = _present(pid)
    imported = []
    for archive in archives:
        wanted = described(archive)
        if not all(present.get(name) == digest for name, digest in wanted.items()):
            with open(archive, "rb") as file:
                # Through standard input: the node may not see the file's path.
                _ctr(pid, "images", "import", "-", stdin=file)
            imported += wanted
        for name, digest in wanted.items():
            pinned = by_digest(name, digest)
            if pinned not in present:
                _ctr(pid, "images", "tag", "--force", name, pinned)
    return imported


def by_digest(name: str, digest: str) -> str:
    """The name that an image which was pulled has too: with it pods may name the image by its digest, and say which ran."""
    path, slash, last = name.rpartition("/")
    return f"{path}{slash}{last.split(':')[0]}@{digest}"


def _kept(cluster: Cluster) -> Path:
    return cluster.state / "images"


def load_all(cluster: Cluster, pid: int) -> None:
    """Gives a node the pause image and all that was loaded before."""
    _import(pid, [pause.ensure(), *sorted(_kept(cluster).glob("*.tar"))])


def load(cluster: Cluster, archives: list[Path], nodes: dict[str, int]) -> list[str]:
    """Keeps the archives and imports them into the living nodes that lack them; says which node got what."""
    kept = _kept(cluster)
    kept.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        described(archive)
        copy = kept / f"{archive.name.removesuffix('.tar')}.tar"
        if copy.exists() and copy.samefile(archive):
            continue
        fresh = copy.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        try:
            os.link(archive, fresh)
        except OSError:
            shutil.copyfile(archive, fresh)
        fresh.rename(copy)
    return [f"{node}: {name}" for node, pid in nodes.items() for name in _import(pid, archives)]
