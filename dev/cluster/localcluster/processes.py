"""Starts, finds and kills the cluster's processes.

Every process carries its cluster and component in one environment variable, which its children inherit. So there are no
pid files to go stale: what runs is what the kernel says runs. Kills nothing that does not carry the mark.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .identity import Cluster, ClusterError

MARK = "MILLRACE_CLUSTER_PROCESS"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _marked() -> Iterator[tuple[int, str]]:
    """Every process of every cluster of this cache folder: its pid and its mark."""
    wanted = f"{MARK}=".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            environment = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue
        # A zombie's environment is empty, so the dead are not found.
        for variable in environment.split(b"\0"):
            if variable.startswith(wanted):
                yield int(entry), variable[len(wanted) :].decode()


def find(cluster: Cluster, component: str | None = None) -> list[int]:
    mark = f"{cluster.state}:{component or ''}"
    return [pid for pid, found in _marked() if (found == mark if component else found.startswith(mark))]


def running(cluster: Cluster) -> dict[str, list[int]]:
    """The cluster's components that have a process."""
    found: dict[str, list[int]] = {}
    prefix = f"{cluster.state}:"
    for pid, mark in _marked():
        if mark.startswith(prefix):
            found.setdefault(mark.removeprefix(prefix), []).append(pid)
    return found


def start(cluster: Cluster, component: str, arguments: list, environment: dict[str, str] | None = None) -> None:
    """Starts a component that outlives this command. Its output is appended to `logs/<component>.log`."""
    cluster.logs.mkdir(parents=True, exist_ok=True)
    with open(log_of(cluster, component), "ab") as log:
        subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env={"PATH": PATH, "HOME": "/root", **(environment or {}), MARK: f"{cluster.state}:{component}"},
        )


def kill(cluster: Cluster, component: str | None = None, seconds: float = 20) -> None:
    """Kills a component (all without one) and waits until the kernel has let go of it, its ports above all."""
    deadline = time.monotonic() + seconds
    # Again, as a process may have started another one in between.
    while pids := find(cluster, component):
        for handle in [opened for pid in pids if (opened := _killed(pid)) is not None]:
            # Readable once the last thread is gone: the mark is gone earlier, while sockets are still open.
            ended, _, _ = select.select([handle], [], [], max(0, deadline - time.monotonic()))
            os.close(handle)
            if not ended:
                raise ClusterError(f"a process of {component or cluster.name} did not end within {seconds:.0f} s")


def _killed(pid: int) -> int | None:
    """A handle of the process, after it was sent its end; none if it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        os.close(handle)
        return None
    return handle


def log_of(cluster: Cluster, component: str) -> Path:
    return cluster.logs / f"{component}.log"


def wait(what: str, ready: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} was not ready after {seconds:.0f} s")
        time.sleep(0.05)


def run(*arguments: object, check: bool = True, **options) -> subprocess.CompletedProcess:
    """Runs a command to its end; an error tells what it printed."""
    command = [str(argument) for argument in arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise ClusterError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")
    return done
