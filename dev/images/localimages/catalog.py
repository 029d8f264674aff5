"""Which images there are, what goes into each, and the tag that follows from that. Reads files; writes only a context."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CHECKOUT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("MILLRACE_CACHE") or Path.home() / ".cache" / "millrace").resolve()
TABLE = Path(__file__).resolve().parents[1] / "images.txt"
BASE = "debian"
LOCAL_REGISTRY = "registry.local/millrace"


class ImageError(Exception):
    """What is told to the person at the terminal, without a trace."""


@dataclass(frozen=True)
class Image:
    name: str
    folder: Path
    binaries: tuple[str, ...]
    values_key: str
    # Built only by its name: it is large, and what needs it is rare.
    optional: bool = False

    def files(self) -> list[PurePosixPath]:
        """The folder's files that git tracks or would, less what only cargo, a reader or a test needs."""
        listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=self.folder)
        found = sorted(PurePosixPath(name) for name in listed.split("\0") if name)
        crates = {path.parent for path in found if path.name == "Cargo.toml"} - {PurePosixPath(".")}
        return [path for path in found if (self.folder / path).is_file() and not _left_out(path, crates)]

    def programs(self) -> list[Path]:
        """The binaries, which must have been built."""
        target = CHECKOUT / os.environ.get("CARGO_TARGET_DIR", "target")
        paths = [target / "release" / name for name in self.binaries]
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise ImageError(f"image {self.name} needs {', '.join(missing)}: run `make binaries`")
        return paths

    def content(self) -> dict[str, Path]:
        """Everything in the build's context by its name there."""
        files = {str(path): self.folder / path for path in self.files()}
        if "Dockerfile" not in files:
            raise ImageError(f"image {self.name} has no {self.folder}/Dockerfile")
        return {**files, **{f"bin/{path.name}": path for path in self.programs()}}

    def tag(self) -> str:
        """Twelve digits of the hash of the content."""
        digest = hashlib.sha256()
        for name, path in sorted(self.content().items()):
            executable = os.access(path, os.X_OK)
            digest.update(f"{name}\0{executable}\0{path.stat().st_size}\0".encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:12]

    def stage(self, context: Path) -> None:
        """Copies the content into an empty folder."""
        for name, path in self.content().items():
            copy = context / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


def _left_out(path: PurePosixPath, crates: set[PurePosixPath]) -> bool:
    of_cargo = path.suffix == ".rs" or path.name in ("Cargo.toml", "Cargo.lock") or not crates.isdisjoint(path.parents)
    return of_cargo or path.suffix == ".md" or path.parts[0] == "tests"


def _git(*arguments: str, cwd: Path) -> str:
    if not cwd.is_dir():
        raise ImageError(f"no folder {cwd}")
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def images(names: list[str] | None = None) -> list[Image]:
    """The named images of the project; without a name all but the optional. `BASE` may be named, and is not among them."""
    found = table()
    unknown = set(names or ()) - {*found, BASE}
    if unknown:
        raise ImageError(f"no image {', '.join(sorted(unknown))}: there are {', '.join(found)} and {BASE}")
    return [image for name, image in found.items() if (name in names if names else not image.optional)]


def table() -> dict[str, Image]:
    """All images of the project by name, the optional too."""
    found = {}
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            name, folder, binaries, key, *more = line.split()
            programs = () if binaries == "-" else tuple(binaries.split(","))
            found[name] = Image(name, CHECKOUT / folder, programs, key, more == ["optional"])
    return found
