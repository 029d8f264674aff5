"""Makes the image that the Dockerfiles start from, out of Debian's packages, under the public image's name.

So one Dockerfile serves here, where no registry is reached, and anywhere else.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from .catalog import CACHE, ImageError

RELEASE = "bookworm"
NAME = f"docker.io/library/debian:{RELEASE}-slim"
# What the public slim image leaves out too.
LEFT_OUT = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
)


def ensure(buildah: Callable[..., str]) -> None:
    """Makes it unless the storage has it. The caller holds the build lock."""
    if NAME in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="base-", dir=CACHE) as folder:
        root = Path(folder) / "root"
        _bootstrap(root)
        for left_out in LEFT_OUT:
            shutil.rmtree(root / left_out, ignore_errors=True)
            (root / left_out).mkdir(parents=True)
        container = buildah("from", "scratch")
        buildah("copy", "--quiet", container, root, "/")
        buildah("config", "--cmd", "bash", "--env", f"PATH={PATH}", container)
        buildah("commit", "--rm", container, NAME)


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _bootstrap(root: Path) -> None:
    command = ["debootstrap", "--variant=minbase", RELEASE, str(root), *_mirror()]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ImageError(f"debootstrap failed: {(done.stderr or done.stdout)[-2000:]}")


def _mirror() -> list[str]:
    """Where this machine's apt gets the release from; none for debootstrap's default."""
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(SITE)"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    sites = (line.split() for line in done.stdout.splitlines())
    return next(([words[1]] for words in sites if len(words) == 2 and words[0] == RELEASE), [])
