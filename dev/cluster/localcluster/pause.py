"""Builds the image of the container that holds a pod's namespaces, as an OCI archive. Needs a C compiler and nothing else."""

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from pathlib import Path

from .identity import CACHE
from .processes import run

SOURCE = Path(__file__).resolve().parents[1] / "pause" / "pause.c"
PAUSE_IMAGE = f"registry.local/millrace/pause:{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    """An archive that is the same for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _archive(program: bytes) -> bytes:
    blobs: dict[str, tuple[bytes, int]] = {}

    def blob(kind: str, data: bytes) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = (data, 0o644)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    layer = blob("layer.v1.tar", _tar({"pause": (program, 0o755)}))
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", json.dumps(config).encode()),
        "layers": [layer],
    }
    named = blob("manifest.v1+json", json.dumps(manifest).encode())
    named["annotations"] = {"org.opencontainers.image.ref.name": PAUSE_IMAGE}
    index = {"schemaVersion": 2, "manifests": [named]}
    layout = {"imageLayoutVersion": "1.0.0"}
    parts = {"oci-layout": layout, "index.json": index}
    return _tar({**{name: (json.dumps(part).encode(), 0o644) for name, part in parts.items()}, **blobs})


def ensure() -> Path:
    """The archive, built now if the cache has none for this source."""
    path = CACHE / "images" / f"pause-{PAUSE_IMAGE.rsplit(':', 1)[1]}.oci.tar"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        program = Path(folder) / "pause"
        run("gcc", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE)
        fresh = Path(folder) / "archive"
        fresh.write_bytes(_archive(program.read_bytes()))
        fresh.rename(path)
    return path
