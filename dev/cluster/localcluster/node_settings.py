"""Renders what a node's programs read: containerd, CNI, kubelet and kube-proxy. Pure: no file, no process.

Paths under /run, /var/lib and /var/log are the node's own: see node_init.py.
"""

import json

from .certificates import of_node
from .identity import Cluster
from .pause import PAUSE_IMAGE

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


def containerd() -> str:
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = -999

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/var/lib/cni/net.d"
"""


def cni(cluster: Cluster, number: int) -> str:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": cluster.node_pods(number)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}, indent=1)


def kubelet(cluster: Cluster, name: str, number: int, taints: list[dict]) -> str:
    keys = cluster.certificates
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": cluster.node_address(number),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{keys}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{keys}/{of_node(name)}.crt",
        "tlsPrivateKeyFile": f"{keys}/{of_node(name)}.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cluster.name}/{name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [cluster.address],
        "clusterDomain": "cluster.local",
        "resolvConf": "/dev/null",
        "maxPods": 250,
        "registerWithTaints": taints,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        # Looked at often, written only when it changed: an idle cluster is to be quiet.
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "1m",
        # Renewed each quarter of this, well within the controller manager's grace of 12 s.
        "nodeLeaseDurationSeconds": 10,
        # A changed ConfigMap or Secret reaches its pod within a test's time.
        "syncFrequency": "10s",
        # The disk is the machine's, and others fill it: never collect the images that were loaded, nor evict early.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }
    return json.dumps(config, indent=1)


def proxy(cluster: Cluster) -> str:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        # What comes from elsewhere, the machine above all, is masqueraded, so that answers take the same way back.
        "clusterCIDR": cluster.pod_network,
        "clientConnection": {"kubeconfig": f"{cluster.certificates}/proxy.kubeconfig"},
        # The machine's connection tracking limits are not a node's to set.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    }
    return json.dumps(config, indent=1)
