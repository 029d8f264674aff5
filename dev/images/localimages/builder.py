"""Runs buildah, with a storage of its own in the cache folder. Pulls no image: the base is made by base.py."""

import fcntl
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from . import base
from .catalog import CACHE, LOCAL_REGISTRY, Image, ImageError

STORAGE = CACHE / "buildah"
ARCHIVES = CACHE / "images"
HOST_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# Half the time of gzip.
FAST = ("--compression-format", "zstd", "--compression-level", "1")
# Another branch of the same checkout may still want them.
ARCHIVES_KEPT = 3


@contextmanager
def locked():
    """One build at a time: two would only share the cores, and race for the base image."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "buildah.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def buildah(*arguments: object) -> str:
    """One buildah command. Its output is shown only if it fails."""
    place = ["--root", STORAGE / "storage", "--runroot", STORAGE / "run", "--storage-driver", "overlay"]
    # In a mount namespace of its own: a build that fails or is killed leaves nothing mounted.
    command = ["unshare", "--mount", "buildah", *place, *arguments]
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        output = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise ImageError(f"`buildah {' '.join(str(word) for word in arguments)}` failed:\n{output}")
    return done.stdout.strip()


def reference(image: Image, tag: str, registry: str = LOCAL_REGISTRY) -> str:
    return f"{registry}/{image.name}:{tag}"


def _host_mounts(folder: Path) -> list[str]:
    """What RUN may see of the machine, and the image never has: pip's cache and the machine's own authorities."""
    cache = Path.home() / ".cache" / "pip"
    cache.mkdir(parents=True, exist_ok=True)
    mounts = [f"--volume={cache}:/root/.cache/pip:rw"]
    if HOST_AUTHORITIES.exists():
        # Not over /etc/ssl/certs: the package ca-certificates writes there.
        settings = folder / "pip.conf"
        settings.write_text("[global]\ncert = /run/host-ca.crt\n")
        mounts += [f"--volume={HOST_AUTHORITIES}:/run/host-ca.crt:ro", f"--volume={settings}:/etc/pip.conf:ro"]
    return mounts


def _build(image: Image, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="millrace-image-") as folder:
        context = Path(folder) / "context"
        context.mkdir()
        image.stage(context)
        base.ensure(buildah)
        how = ["--isolation", "chroot", "--network", "host", "--pull=never", "--layers", *_host_mounts(Path(folder))]
        try:
            buildah("build", *how, "--tag", name, "--file", context / "Dockerfile", context)
        finally:
            buildah("rm", "--all")


def archive(image: Image) -> tuple[str, Path]:
    """The image's name and its OCI archive, built now if the cache has none of this content."""
    tag = image.tag()
    name, path = reference(image, tag), ARCHIVES / f"{image.name}-{tag}.oci.tar"
    if path.exists():
        # The newest use decides which archives are kept.
        os.utime(path)
        return name, path
    with locked():
        if not path.exists():
            _build(image, name)
            _write(name, path)
            _prune(image, name)
    return name, path


def base_archive() -> tuple[str, Path]:
    """The same of the base image, which the examples' scripts run in."""
    path = ARCHIVES / f"debian-{base.RELEASE}.oci.tar"
    with locked():
        if not path.exists():
            base.ensure(buildah)
            _write(base.NAME, path)
    return base.NAME, path


def _write(name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    buildah("push", *FAST, name, f"oci-archive:{fresh}:{name}")
    fresh.rename(path)


def _prune(image: Image, name: str) -> None:
    archives = sorted(ARCHIVES.glob(f"{image.name}-{'[0-9a-f]' * 12}.oci.tar"), key=lambda path: path.stat().st_mtime)
    for path in archives[:-ARCHIVES_KEPT]:
        path.unlink()
    repository = name.rsplit(":", 1)[0]
    for old in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        if old.rsplit(":", 1)[0] == repository and old != name:
            buildah("rmi", old)


def push(image: Image, registry: str) -> str:
    """Builds the image and pushes it to a registry; its name there."""
    local_name, path = archive(image)
    name = reference(image, local_name.rsplit(":", 1)[1], registry)
    with locked():
        local = buildah("pull", f"oci-archive:{path}").splitlines()[-1]
        buildah("push", local, f"docker://{name}")
    return name
