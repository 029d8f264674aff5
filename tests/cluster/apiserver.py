"""What tests ask of the apiserver: by kubectl, as a person does, and reads over connections that stay. Tests look five times a
second, and a kubectl for each look would keep the machine busier than what is looked at."""

import atexit
import http.client
import json
import subprocess
import threading
from urllib.parse import quote

# One document for all groups: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Refused(Exception):
    """The apiserver said no; the text is what kubectl says then."""


def kubectl(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=180)
    if check and done.returncode != 0:
        raise Refused(done.stderr.strip())
    return done.stdout


def get(kind: str, name: str = "", namespace: str = "", selector: str = "") -> dict:
    """As `kubectl get -o json` has it, of several kinds too."""
    if "," in kind:
        return {"items": [item for one in kind.split(",") for item in get(one, name, namespace, selector)["items"]]}
    prefix, plural, namespaced = APISERVER.resource(kind)
    path = f"{prefix}/namespaces/{namespace}/{plural}" if namespaced and namespace else f"{prefix}/{plural}"
    path += f"/{name}" if name else ""
    path += f"?labelSelector={quote(selector)}" if selector else ""
    found = APISERVER.read(path)
    for item in found.get("items", []) if not name else []:
        item.setdefault("apiVersion", found["apiVersion"])
        item.setdefault("kind", found["kind"].removesuffix("List"))
    return found


class Apiserver:
    """`kubectl proxy`, which knows how the context's cluster is reached, and a connection to it for each thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.port = 0
        self.kinds: dict[str, tuple[str, str, bool]] = {}
        self.own = threading.local()

    def address(self) -> int:
        with self.lock:
            if not self.port:
                command = ["kubectl", "proxy", "--port=0"]
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
                atexit.register(process.kill)
                # "Starting to serve on 127.0.0.1:41234"
                self.port = int(process.stdout.readline().rpartition(":")[2])
            return self.port

    def read(self, path: str, accept: str = "application/json") -> dict:
        for last in (False, True):
            connection = getattr(self.own, "connection", None)
            if connection is None:
                connection = self.own.connection = http.client.HTTPConnection("127.0.0.1", self.address(), timeout=60)
            try:
                connection.request("GET", path, headers={"accept": accept})
                answer = connection.getresponse()
                body = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self.own.connection = None
                # One that was kept may have been closed meanwhile.
                if last:
                    raise Refused(f"no answer from the apiserver: {error!r}") from None
        if answer.status != 200:
            raise Refused(refusal(body))
        return json.loads(body)

    def resource(self, kind: str) -> tuple[str, str, bool]:
        """Path before namespace and name, plural, and whether it is of namespaces. `kind` is what kubectl takes."""
        if kind.lower() not in self.kinds:
            self.kinds = self.discovered()
        if kind.lower() not in self.kinds:
            raise Refused(f'error: the server doesn\'t have a resource type "{kind}"')
        return self.kinds[kind.lower()]

    def discovered(self) -> dict[str, tuple[str, str, bool]]:
        kinds = {}
        for root in ("/api", "/apis"):
            for group in self.read(root, DISCOVERY)["items"]:
                name, version = group["metadata"].get("name", ""), group["versions"][0]
                prefix = f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}"
                for resource in version["resources"]:
                    plural = resource["resource"]
                    found = (prefix, plural, resource["scope"] == "Namespaced")
                    names = [plural, resource.get("singularResource", ""), resource["responseKind"]["kind"].lower()]
                    for called in [*names, *resource.get("shortNames", []), f"{plural}.{name}"]:
                        kinds.setdefault(called, found)
        return kinds


def refusal(body: bytes) -> str:
    try:
        status = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
    return f"Error from server ({status.get('reason')}): {status.get('message')}"


APISERVER = Apiserver()
