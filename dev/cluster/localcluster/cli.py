"""The commands of `dev/cluster/cluster`: reads arguments, calls one module, prints progress."""

import argparse
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from . import (
    binaries,
    certificates,
    control_plane,
    identity,
    images,
    network,
    nodes,
    processes,
    simulated,
    teardown,
    volumes,
)
from .api import ApiError
from .identity import ClusterError

FIRST_NODE = "node-1"


@contextmanager
def step(what: str):
    """Tells what was done and how long it took, once it is done."""
    begun = time.monotonic()
    yield
    print(f"  {what}  {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)


def up(options) -> None:
    begun = time.monotonic()
    if os.geteuid() != 0:
        raise ClusterError("a cluster makes bridges, namespaces and mounts: run it as root")
    subprocess.run([Path(__file__).resolve().parents[1] / "prerequisites"], check=True)
    programs = binaries.ensure(step)
    with identity.locked_checkout():
        for orphan in identity.orphans():
            with step(f"removed {orphan.name}, whose checkout {orphan.checkout} is gone"):
                teardown.destroy(orphan)
        cluster = identity.allocate(lambda candidate: bool(teardown.remains(candidate)))
        certificates.ensure(cluster)
        network.ensure_bridge(cluster)
        control_plane.start(cluster, programs, step)
        wanted = nodes.names(cluster)
        if not options.no_node and FIRST_NODE not in wanted:
            wanted.append(FIRST_NODE)
        # A node that was stopped on purpose stays stopped.
        for name in wanted:
            if not nodes.is_stopped(cluster, name):
                _ready_node(cluster, name, programs)
    print(f"cluster {cluster.name} is up  {time.monotonic() - begun:.1f} s", file=sys.stderr)


def _ready_node(cluster, name: str, programs: Path) -> None:
    if name in nodes.living(cluster) and nodes.is_ready(cluster, name):
        nodes.restore_gpus(cluster, name)
        return
    with step(f"started {name}"):
        nodes.add(cluster, name, programs, taints=[])
        nodes.wait_ready(cluster, name)


def down(_options) -> None:
    begun = time.monotonic()
    with identity.locked_checkout():
        cluster = identity.current()
        if cluster:
            teardown.destroy(cluster)
            print(f"cluster {cluster.name} is down  {time.monotonic() - begun:.1f} s", file=sys.stderr)


def leftovers(_options) -> int:
    found = teardown.leftovers()
    print("\n".join(found) if found else "nothing is left")
    return 1 if found else 0


def status(_options) -> int:
    cluster = identity.current()
    if cluster is None:
        print("this checkout has no cluster")
        return 1
    print(f"{cluster.name}  {cluster.server}  {cluster.state}")
    healthy = True
    for component in control_plane.COMPONENTS:
        alive = bool(processes.find(cluster, component)) and control_plane.ready(cluster, component)
        healthy = healthy and alive
        print(f"  {component:<12} {'ready' if alive else 'not ready'}")
    serving = control_plane.ready(cluster, "apiserver")
    living = nodes.living(cluster)
    for name in nodes.names(cluster):
        state = (
            "stopped" if name not in living else "ready" if serving and nodes.is_ready(cluster, name) else "not ready"
        )
        print(f"  {name:<12} {state}")
    return 0 if healthy else 1


def env(_options) -> None:
    cluster = identity.required()
    print(f"export KUBECONFIG={cluster.link}/kubeconfig")
    print(f'export PATH={binaries.folder()}:"$PATH"')
    print(f"export MILLRACE_CLUSTER_HOST={cluster.address}")


def _taint(text: str) -> dict:
    found = re.fullmatch(r"([^=:]+)(?:=([^=:]*))?:(NoSchedule|PreferNoSchedule|NoExecute)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"`{text}` is no taint: write KEY=VALUE:NoSchedule")
    return {"key": found[1], "value": found[2] or "", "effect": found[3]}


def node(options) -> None:
    with identity.locked_checkout():
        cluster = identity.required()
        for name in options.names:
            with step(f"node {options.action} {name}"):
                match options.action:
                    case "add" | "start":
                        if options.action == "add":
                            nodes.add(cluster, name, binaries.ensure(step), options.taint)
                        else:
                            nodes.start(cluster, name, binaries.ensure(step))
                        nodes.wait_ready(cluster, name)
                    case "stop":
                        nodes.stop(cluster, name)
                    case "remove":
                        nodes.remove(cluster, name)


def load(options) -> None:
    with identity.locked_checkout():
        cluster = identity.required()
        for line in images.load(cluster, options.archives, nodes.living(cluster)):
            print(line)


def gpus(options) -> None:
    nodes.set_gpus(identity.required(), options.node, options.count)


def component(options) -> None:
    cluster = identity.required()
    with step(f"{options.command} {options.component}"):
        if options.command in ("restart", "stop"):
            processes.kill(cluster, options.component)
        if options.command in ("restart", "start"):
            control_plane.launch(cluster, options.component, binaries.ensure(step))
            control_plane.wait(cluster, options.component)


def log(options) -> None:
    cluster = identity.required()
    node_log = cluster.state / "nodes" / options.component / "kubelet.log"
    path = node_log if node_log.exists() else processes.log_of(cluster, options.component)
    if not path.exists():
        raise ClusterError(f"no log of `{options.component}`: see {cluster.link}/logs")
    os.execvp("tail", ["tail", "-n", str(options.lines), *(["-f"] if options.follow else []), str(path)])


def volume(options) -> None:
    cluster = identity.required()
    if options.path:
        print(volumes.folder_of(cluster, options.name))
    elif options.size is None:
        raise ClusterError("a volume needs a size")
    else:
        volumes.create(cluster, options.name, options.size, options.claim)


def kwok(options) -> None:
    cluster = identity.required()
    with step(f"{options.count} simulated nodes"):
        simulated.scale(cluster, options.count, binaries.simulator(step) if options.count else None, options.stages)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cluster", description="A real Kubernetes on this machine, for this checkout."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help)
        added.set_defaults(run=run)
        return added

    command("up", up, "start what does not run, wait until ready").add_argument("--no-node", action="store_true")
    command("down", down, "take everything down, leave nothing")
    command("leftovers", leftovers, "list what a cluster left; fails if anything is left")
    command("status", status, "what runs and what is ready")
    command("env", env, "shell lines that point kubectl here")
    changed = command("node", node, "add, remove, stop or start nodes")
    changed.add_argument("action", choices=("add", "remove", "stop", "start"))
    changed.add_argument("names", nargs="+")
    taint = {"type": _taint, "action": "append", "default": [], "metavar": "KEY=VALUE:EFFECT"}
    changed.add_argument("--taint", **taint, help="of a node that is added: only pods that tolerate it go there")
    command("load", load, "import OCI archives into every node").add_argument("archives", nargs="+", type=Path)
    advertised = command("gpus", gpus, "advertise nvidia.com/gpu on a node")
    advertised.add_argument("node")
    advertised.add_argument("count", type=int)
    for action in ("restart", "stop", "start"):
        help = f"{action} one component; its end is a SIGKILL" if action != "start" else "start one component"
        command(action, component, help).add_argument("component", choices=control_plane.COMPONENTS)
    shown = command("log", log, "a component's log, or the kubelet's of a node")
    shown.add_argument("component")
    shown.add_argument("--follow", "-f", action="store_true")
    shown.add_argument("--lines", "-n", type=int, default=100)
    made = command("volume", volume, "make a PersistentVolume, or print its folder")
    made.add_argument("--path", action="store_true")
    made.add_argument("name")
    made.add_argument("size", nargs="?")
    made.add_argument("--claim", metavar="NAMESPACE/CLAIM")
    scaled = command("kwok", kwok, "make it N simulated nodes; 0 stops KWOK")
    scaled.add_argument("count", type=int)
    scaled.add_argument("--stages", action="append", type=Path, default=[], metavar="FILE")
    return parser


def main() -> int:
    options = _parser().parse_args()
    try:
        return options.run(options) or 0
    except (ClusterError, ApiError, OSError, subprocess.CalledProcessError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
