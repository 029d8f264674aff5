"""Builds the cluster's programs from their Go modules, once per content of ../kubernetes/.

Writes only to the cache folder, and there to a new folder that is renamed when complete: a build that was killed leaves
nothing that a later one would take for whole.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .identity import CACHE, ClusterError, locked

SOURCE = Path(__file__).resolve().parents[1] / "kubernetes"
# Built when simulated nodes are asked for: a cluster without them needs no minutes of it.
LATER = "kwok"
COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl", "etcd")


def folder() -> Path:
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go", "tools.txt"):
        digest.update((SOURCE / name).read_bytes())
    return CACHE / "bin" / digest.hexdigest()[:16]


def _version() -> str:
    for line in (SOURCE / "go.mod").read_text().splitlines():
        if "k8s.io/kubernetes v" in line:
            return line.split()[-1]
    raise ClusterError("go.mod does not require k8s.io/kubernetes")


def _stamps() -> str:
    """Without its version, charts' `kubeVersion`, skew checks and clients go wrong."""
    version = _version()
    major, minor, _ = version.removeprefix("v").split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(f"-X {package}.{key}={value}" for package in packages for key, value in values.items())


def _go(arguments: list[str], environment: dict[str, str]) -> None:
    settings = {**os.environ, "CGO_ENABLED": "0", **environment}
    done = subprocess.run(["go", *arguments], check=False, cwd=SOURCE, env=settings, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"`go {' '.join(arguments)}` failed: {done.stderr.strip()[-4000:]}")


def tools() -> list[list[str]]:
    lines = (SOURCE / "tools.txt").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def ensure(step) -> Path:
    """The folder of all programs, built now if it is not there. `step(what)` is a context that tells how long it took."""
    built = folder()
    if built.exists():
        return built
    if shutil.which("go") is None:
        raise ClusterError("the cluster's programs are built with Go, and there is no `go` here")
    with locked(CACHE / "bin" / "lock"):
        if built.exists():
            return built
        fresh = Path(tempfile.mkdtemp(prefix="building-", dir=CACHE / "bin"))
        try:
            with step("built Kubernetes (about 5 min the first time)"):
                flags = ["-trimpath", "-tags", "selinux,notest", "-ldflags", f"-s -w {_stamps()}"]
                _go(["build", *flags, "-o", str(fresh / "kubernetes"), "."], {})
            for command in COMMANDS:
                (fresh / command).symlink_to("kubernetes")
            for name, package, version in tools():
                if name != LATER:
                    _install(name, package, version, fresh, step)
            fresh.chmod(0o755)
            fresh.rename(built)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return built


def simulator(step) -> Path:
    """The program that simulates nodes, built now if it is not there."""
    program = ensure(step) / LATER
    with locked(CACHE / "bin" / "lock"):
        if not program.exists():
            fresh = Path(tempfile.mkdtemp(prefix="building-", dir=CACHE / "bin"))
            try:
                _install(*next(tool for tool in tools() if tool[0] == LATER), fresh, step)
                (fresh / LATER).rename(program)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return program


def _install(name: str, package: str, version: str, into: Path, step) -> None:
    with step(f"built {name}"):
        _go(["install", "-trimpath", "-ldflags", "-s -w", f"{package}@{version}"], {"GOBIN": str(into)})
