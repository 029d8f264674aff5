"""The bridge of a cluster, the links of its nodes, and the routes between them.

Touches only interfaces that carry the cluster's name, and namespaces of its own nodes. Makes no firewall rule and leaves the
machine's forwarding as it is: nothing is routed between a cluster and the outside.
"""

from .identity import Cluster
from .processes import run


def exists(interface: str) -> bool:
    return run("ip", "link", "show", "dev", interface, check=False).returncode == 0


def ensure_bridge(cluster: Cluster) -> None:
    if not exists(cluster.bridge):
        run("ip", "link", "add", cluster.bridge, "type", "bridge", "forward_delay", "0")
    run("ip", "address", "replace", f"{cluster.address}/24", "dev", cluster.bridge)
    run("ip", "link", "set", cluster.bridge, "up")


def in_node(pid: int, *arguments: object, check: bool = True):
    return run("nsenter", "--net", "--target", pid, *arguments, check=check)


def connect(cluster: Cluster, number: int, pid: int) -> None:
    """Links the node whose first process is `pid` to the bridge."""
    outside, inside = f"{cluster.name}-{number}", f"{cluster.name}-{number}n"
    if exists(outside):
        run("ip", "link", "delete", outside, check=False)
    run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
    run("ip", "link", "set", outside, "master", cluster.bridge, "up")
    run("ip", "link", "set", inside, "netns", pid)
    script = "\n".join(
        (
            "link set lo up",
            f"link set {inside} name eth0",
            "link set eth0 up",
            f"address add {cluster.node_address(number)}/24 dev eth0",
            # kube-proxy rewrites these before they leave; the route only lets the node's own programs send them.
            f"route add {cluster.service_network} dev eth0",
        )
    )
    run("nsenter", "--net", "--target", pid, "ip", "-batch", "-", input=script + "\n")


def route_pods(cluster: Cluster, nodes: dict[int, int]) -> None:
    """Routes to the pods and Services of the living `nodes` (number to first process), on the machine and in each node."""
    for number in nodes:
        via = (cluster.node_pods(number), "via", cluster.node_address(number))
        run("ip", "route", "replace", *via, "dev", cluster.bridge)
        for other, pid in nodes.items():
            if other != number:
                in_node(pid, "ip", "route", "replace", *via, "dev", "eth0")
    # Any node's kube-proxy serves the machine, so take one that lives.
    if nodes:
        service = (cluster.service_network, "via", cluster.node_address(min(nodes)))
        run("ip", "route", "replace", *service, "dev", cluster.bridge)
    else:
        run("ip", "route", "delete", cluster.service_network, check=False)


def disconnect(cluster: Cluster, number: int) -> None:
    run("ip", "link", "delete", f"{cluster.name}-{number}", check=False)
    run("ip", "route", "delete", cluster.node_pods(number), check=False)


def interfaces(cluster: Cluster) -> list[str]:
    """The interfaces of the machine that are this cluster's."""
    found = run("ip", "-brief", "link", "show").stdout.splitlines()
    names = (line.split()[0].split("@")[0] for line in found)
    return [name for name in names if name == cluster.bridge or name.startswith(f"{cluster.name}-")]


def remove(cluster: Cluster) -> None:
    for interface in interfaces(cluster):
        run("ip", "link", "delete", interface, check=False)
