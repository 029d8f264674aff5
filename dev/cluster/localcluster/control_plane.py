"""Starts etcd, apiserver, controller manager, scheduler, DNS and the volume provisioner, and tells whether they are ready.

Each listens only on loopback or on the cluster's bridge.
"""

import http.client
import json
import socket
import ssl
import sys
import time
from pathlib import Path

from . import processes
from .api import Api, ApiError
from .identity import Cluster, ClusterError

PROVISIONER = "provisioner"
# In the order in which they start.
COMPONENTS = ("etcd", "apiserver", "kcm", "scheduler", "coredns", PROVISIONER)


def _etcd(cluster: Cluster) -> list:
    peers = f"http://{cluster.loopback}:2380"
    clients = f"http://{cluster.loopback}:2379"
    return [
        "etcd",
        f"--data-dir={cluster.state}/etcd",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        # A throw-away cluster: what the machine's crash loses is not missed, and a killed etcd loses nothing.
        "--unsafe-no-fsync",
        f"--quota-backend-bytes={8 << 30}",
        "--log-level=warn",
    ]


def _apiserver(cluster: Cluster) -> list:
    keys = cluster.certificates
    return [
        "kube-apiserver",
        f"--etcd-servers=http://{cluster.loopback}:2379",
        f"--bind-address={cluster.address}",
        # Loopback is refused: the Service `kubernetes` must name an address that pods reach.
        f"--advertise-address={cluster.address}",
        f"--service-cluster-ip-range={cluster.service_network}",
        "--allow-privileged",
        "--authorization-mode=Node,RBAC",
        # The second lets a namespace's pods tolerate a node of their own.
        "--enable-admission-plugins=NodeRestriction,PodTolerationRestriction",
        "--enable-aggregator-routing",
        f"--client-ca-file={keys}/ca.crt",
        f"--tls-cert-file={keys}/apiserver.crt",
        f"--tls-private-key-file={keys}/apiserver.key",
        f"--kubelet-certificate-authority={keys}/ca.crt",
        f"--kubelet-client-certificate={keys}/apiserver-kubelet.crt",
        f"--kubelet-client-key={keys}/apiserver-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={keys}/service-accounts.pub",
        f"--service-account-signing-key-file={keys}/service-accounts.key",
        f"--requestheader-client-ca-file={keys}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={keys}/front-proxy.crt",
        f"--proxy-client-key-file={keys}/front-proxy.key",
        # A lost node's pods are given up in a test's time, not in five minutes.
        "--default-not-ready-toleration-seconds=15",
        "--default-unreachable-toleration-seconds=15",
        f"--audit-policy-file={cluster.state}/audit-policy.json",
        f"--audit-log-path={cluster.state}/audit.log",
        # In MB: 0 would mean 100, and tests read the log as one file.
        "--audit-log-maxsize=8192",
    ]


def _manager(cluster: Cluster) -> list:
    keys = cluster.certificates
    return [
        "kube-controller-manager",
        f"--bind-address={cluster.loopback}",
        *(f"--{flag}={keys}/kcm.kubeconfig" for flag in CLIENT_FLAGS),
        f"--root-ca-file={keys}/ca.crt",
        f"--service-account-private-key-file={keys}/service-accounts.key",
        f"--cluster-signing-cert-file={keys}/ca.crt",
        f"--cluster-signing-key-file={keys}/ca.key",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--node-monitor-period=2s",
        "--node-monitor-grace-period=12s",
        "--node-eviction-rate=10",
    ]


def _scheduler(cluster: Cluster) -> list:
    return [
        "kube-scheduler",
        f"--bind-address={cluster.loopback}",
        *(f"--{flag}={cluster.certificates}/scheduler.kubeconfig" for flag in CLIENT_FLAGS),
        "--leader-elect=false",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]


CLIENT_FLAGS = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")


def _coredns(cluster: Cluster) -> list:
    return ["coredns", "-conf", cluster.state / "Corefile"]


def _provisioner(cluster: Cluster) -> list:
    return [sys.executable, "-B", "-m", "localcluster.provisioner", cluster.index, cluster.checkout]


ARGUMENTS = dict(zip(COMPONENTS, (_etcd, _apiserver, _manager, _scheduler, _coredns, _provisioner), strict=True))


def _audit_policy() -> dict:
    """Every write, and every read by others than the cluster itself, whose idle life would bury what tests look for."""
    parts = ["apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns"]
    users = [*(f"system:{part}" for part in parts), "local-cluster", "kwok"]
    groups = ["system:nodes", "system:serviceaccounts:kube-system"]
    reads = {"level": "None", "verbs": ["get", "list", "watch"]}
    leases = {"level": "None", "resources": [{"group": "coordination.k8s.io"}]}
    rules = [
        *({**what, **who} for what in (reads, leases) for who in ({"users": users}, {"userGroups": groups})),
        {"level": "None", "nonResourceURLs": ["*"]},
        {"level": "Metadata"},
    ]
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}


def _write_settings(cluster: Cluster) -> None:
    (cluster.state / "audit-policy.json").write_text(json.dumps(_audit_policy(), indent=1))
    (cluster.state / "Corefile").write_text(
        f"""cluster.local:53 10.in-addr.arpa:53 {{
    bind {cluster.address}
    errors
    kubernetes cluster.local 10.in-addr.arpa {{
        kubeconfig {cluster.certificates}/coredns.kubeconfig
        ttl 5
    }}
}}
.:53 {{
    bind {cluster.address}
    # There is no world outside: say so at once, not after a time-out.
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
    )


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 0.5).close()
    except OSError:
        return False
    return True


def _says_ok(address: str, port: int) -> bool:
    """Whether a component's own health page, which is open to all, says ok."""
    connection = http.client.HTTPSConnection(address, port, timeout=1, context=ssl._create_unverified_context())
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def ready(cluster: Cluster, component: str) -> bool:
    match component:
        case "etcd":
            return _answers(cluster.loopback, 2379)
        case "apiserver":
            return Api(cluster).healthy()
        case "kcm":
            return _says_ok(cluster.loopback, 10257)
        case "scheduler":
            return _says_ok(cluster.loopback, 10259)
        case "coredns":
            return _answers(cluster.address, 53)
    return bool(processes.find(cluster, component))


def launch(cluster: Cluster, component: str, programs: Path) -> None:
    """Starts a component unless it runs. Does not wait."""
    if component not in ARGUMENTS:
        raise ClusterError(f"no component `{component}`: there are {', '.join(COMPONENTS)}")
    if processes.find(cluster, component):
        return
    command, *arguments = ARGUMENTS[component](cluster)
    if component == PROVISIONER:
        environment = {
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
            "MILLRACE_CACHE": str(cluster.state.parents[1]),
        }
        processes.start(cluster, component, [command, *arguments], environment)
    else:
        processes.start(cluster, component, [programs / command, *arguments])


def wait(cluster: Cluster, component: str) -> None:
    def alive_and_ready() -> bool:
        if ready(cluster, component):
            return True
        if not processes.find(cluster, component):
            # On a busy machine it may not have its own name yet.
            time.sleep(1)
        if not processes.find(cluster, component):
            tail = processes.log_of(cluster, component).read_text(errors="replace")[-1500:]
            raise ClusterError(f"{component} ended as it started: {tail}")
        return False

    processes.wait(component, alive_and_ready)


def start(cluster: Cluster, programs: Path, step) -> None:
    """Starts what does not run, in order, and waits until all of it is ready."""
    _write_settings(cluster)
    for first in ("etcd", "apiserver"):
        if not (processes.find(cluster, first) and ready(cluster, first)):
            with step(f"started {first}"):
                launch(cluster, first, programs)
                wait(cluster, first)
    rest = [component for component in COMPONENTS[2:] if not processes.find(cluster, component)]
    _create_objects(cluster)
    if rest:
        with step(f"started {', '.join(rest)}"):
            for component in rest:
                launch(cluster, component, programs)
            for component in rest:
                wait(cluster, component)
            processes.wait("the default service account", lambda: _has_service_account(cluster))


def _has_service_account(cluster: Cluster) -> bool:
    try:
        return bool(Api(cluster).get("/api/v1/namespaces/default/serviceaccounts/default"))
    except (ApiError, OSError):
        return False


def _create_objects(cluster: Cluster) -> None:
    """The rights of DNS and the default storage class: what a cluster's installer would bring."""
    api = Api(cluster)
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    core = {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]}
    slices = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    api.create(f"{rbac}/clusterroles", {"metadata": {"name": "system:coredns"}, "rules": [core, slices]})
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "system:coredns"}
    role = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "system:coredns"}
    binding = {"metadata": {"name": "system:coredns"}, "roleRef": role, "subjects": [subject]}
    api.create(f"{rbac}/clusterrolebindings", binding)
    storage_class = {
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "millrace.dev/local",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }
    api.create("/apis/storage.k8s.io/v1/storageclasses", storage_class)
