"""Makes the cluster's authority, certificates, service account key and kubeconfigs, each once.

All of it is for a throw-away cluster on one machine: keys lie unencrypted in the state folder, which only root may enter.
"""

import base64
import json
from pathlib import Path

from .identity import Cluster
from .processes import run

AUTHORITY = "ca"
FRONT_PROXY_AUTHORITY = "front-proxy-ca"
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650")


def _authority(folder: Path, name: str) -> None:
    usage = ("-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    paths = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt.new")
    run("openssl", "req", "-x509", *KEY, *paths, "-subj", f"/CN=millrace-{name}", *usage)
    (folder / f"{name}.crt.new").rename(folder / f"{name}.crt")


def _certificate(
    folder: Path, name: str, subject: str, hosts: tuple[str, ...] = (), authority: str = AUTHORITY
) -> None:
    certificate = folder / f"{name}.crt"
    if certificate.exists():
        return
    # `req -x509` would otherwise make it an authority.
    extensions = ["-addext", "basicConstraints=critical,CA:false", "-addext", "extendedKeyUsage=clientAuth,serverAuth"]
    if hosts:
        kinds = (f"IP:{host}" if host[0].isdigit() else f"DNS:{host}" for host in hosts)
        extensions += ["-addext", f"subjectAltName={','.join(kinds)}"]
    signer = ("-CA", folder / f"{authority}.crt", "-CAkey", folder / f"{authority}.key")
    fresh = folder / f"{name}.crt.new"
    paths = ("-keyout", folder / f"{name}.key", "-out", fresh)
    run("openssl", "req", "-x509", *KEY, *signer, *paths, "-subj", subject, *extensions)
    # The rename comes last: a certificate that exists is whole, and so is its key.
    fresh.rename(certificate)


def write_kubeconfig(cluster: Cluster, certificate: str, path: Path) -> None:
    folder = cluster.certificates

    def encoded(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    user = {
        "client-certificate-data": encoded(f"{certificate}.crt"),
        "client-key-data": encoded(f"{certificate}.key"),
    }
    server = {"server": cluster.server, "certificate-authority-data": encoded(f"{AUTHORITY}.crt")}
    name = f"millrace-{cluster.name}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": certificate, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": certificate}}],
        "current-context": name,
    }
    fresh = path.with_name(f"{path.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(config, indent=1))
    fresh.rename(path)


def ensure(cluster: Cluster) -> None:
    folder = cluster.certificates
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for authority in (AUTHORITY, FRONT_PROXY_AUTHORITY):
        if not (folder / f"{authority}.crt").exists():
            _authority(folder, authority)
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    hosts = ("127.0.0.1", cluster.address, cluster.service_address, "localhost", *names)
    _certificate(folder, "apiserver", "/CN=kube-apiserver", hosts)
    _certificate(folder, "apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet")
    _certificate(folder, "front-proxy", "/CN=front-proxy-client", authority=FRONT_PROXY_AUTHORITY)
    if not (folder / "service-accounts.pub").exists():
        run("openssl", "genrsa", "-out", folder / "service-accounts.key", "2048")
        fresh = folder / "service-accounts.pub.new"
        run("openssl", "rsa", "-in", folder / "service-accounts.key", "-pubout", "-out", fresh)
        fresh.rename(folder / "service-accounts.pub")
    clients = {
        "admin": "/O=system:masters/CN=admin",
        # Its own name, so that the audit log tells its writes from a person's.
        "local-cluster": "/O=system:masters/CN=local-cluster",
        "kcm": "/CN=system:kube-controller-manager",
        "scheduler": "/CN=system:kube-scheduler",
        "proxy": "/CN=system:kube-proxy",
        "coredns": "/CN=system:coredns",
        "kwok": "/O=system:masters/CN=kwok",
    }
    for name, subject in clients.items():
        _certificate(folder, name, subject)
        if not (folder / f"{name}.kubeconfig").exists():
            write_kubeconfig(cluster, name, folder / f"{name}.kubeconfig")
    if not cluster.kubeconfig.exists():
        write_kubeconfig(cluster, "admin", cluster.kubeconfig)


def of_node(name: str) -> str:
    """The file name, without its ending, of a node's certificate."""
    return f"node-{name}"


def ensure_node(cluster: Cluster, node: str, address: str) -> None:
    folder, name = cluster.certificates, of_node(node)
    _certificate(folder, name, f"/O=system:nodes/CN=system:node:{node}", (address, node))
    if not (folder / f"{name}.kubeconfig").exists():
        write_kubeconfig(cluster, name, folder / f"{name}.kubeconfig")
