"""The first process of a node: prepares the node's mounts, runs its three programs, and reaps.

Runs inside the node's own mount, process, network and host name namespaces, so that its death ends all that the node is:
every pod, mount and link. Standard library and no import of the other modules: it is started by path.
May not touch the machine: what it mounts is private to the node.

Arguments: the node's name, its state folder, the folder of the programs, and the node's kubeconfig.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

RESTART_AFTER_SECONDS = 1.0


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *(str(argument) for argument in arguments)], check=True)


def prepare(state: Path) -> None:
    # Pods' mounts must reach the containers that the node starts; none reach the machine.
    mount("--make-rshared", "/")
    for target, source in (("/var/lib", "var-lib"), ("/var/log", "var-log")):
        folder = state / source
        folder.mkdir(exist_ok=True)
        mount("--bind", folder, target)
    # Empty at each start, as on a machine that was switched off.
    mount("-t", "tmpfs", "-o", "mode=755", "run", "/run")
    settings = {
        "net/ipv4/ip_forward": 1,
        "net/ipv4/conf/all/rp_filter": 0,
        "net/ipv4/conf/default/rp_filter": 0,
        # Services between pods of one node are seen by kube-proxy's rules.
        "net/bridge/bridge-nf-call-iptables": 1,
    }
    for name, value in settings.items():
        path = Path("/proc/sys") / name
        if path.exists():
            path.write_text(str(value))
    folder = Path("/var/lib/cni/net.d")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "10-pods.conflist").write_bytes((state / "cni.json").read_bytes())


class Program:
    """A program that is started again when it ends."""

    def __init__(self, name: str, arguments: list[str], log: Path):
        self.name, self.arguments, self.log = name, arguments, log
        self.pid: int | None = None
        self.due = 0.0

    def tend(self) -> None:
        if self.pid is None and time.monotonic() >= self.due:
            with open(self.log, "ab") as log:
                self.pid = subprocess.Popen(
                    self.arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                ).pid

    def ended(self) -> None:
        self.pid, self.due = None, time.monotonic() + RESTART_AFTER_SECONDS


def reap(programs: list[Program]) -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for program in programs:
            if program.pid == pid:
                program.ended()


def main() -> None:
    name, state, programs, kubeconfig = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    socket.sethostname(name)
    prepare(state)
    address = (state / "address").read_text()
    containerd = Program("containerd", ["containerd", "--config", f"{state}/containerd.toml"], state / "containerd.log")
    kubelet = [
        f"{programs}/kubelet",
        f"--config={state}/kubelet.json",
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={name}",
        f"--node-ip={address}",
    ]
    proxy = [f"{programs}/kube-proxy", f"--config={state}/proxy.json", f"--hostname-override={name}"]
    later = [
        Program("kubelet", kubelet, state / "kubelet.log"),
        Program("kube-proxy", proxy, state / "kube-proxy.log"),
    ]
    running = [containerd]
    while True:
        # The machine's side has linked the network and loaded the images.
        if later and (state / "go").exists():
            running, later = running + later, []
        for program in running:
            program.tend()
        time.sleep(0.2 if later else 1)
        reap(running)


main()
