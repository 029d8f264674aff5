#!/usr/bin/env bash
# Tests the charts: what the values may be, what is rendered, and, where a cluster answers, whether its apiserver takes it.
# Needs helm and, for the last part, kubectl with a cluster on which nothing is changed.
set -euo pipefail
cd "$(dirname "$0")"
# PyYAML, pinned: Python's own library reads no YAML.
libraries="${MILLRACE_CACHE:-$HOME/.cache/millrace}/python/pyyaml-6.0.3"
[ -d "$libraries" ] || python3 -m pip install --quiet --disable-pip-version-check --target "$libraries" pyyaml==6.0.3
export PYTHONPATH="$libraries"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
passed=0
fail() { echo "charts: $*" >&2; exit 1; }
ok() { passed=$((passed + 1)); }

render() { helm template millrace millrace --namespace millrace-system --set images.registry=registry.example.com/ml "$@"; }

# refuses WHAT WORDS OPTION…: rendering fails, and the message has the words.
refuses() {
  local what="$1" words="$2"
  shift 2
  if render "$@" >"$work/out" 2>&1; then fail "$what is accepted"; fi
  grep -qF -- "$words" "$work/out" || fail "$what: the message does not say '$words': $(cat "$work/out")"
  ok
}

# renders WHAT PATTERN OPTION…: some line matches.
renders() {
  local what="$1" pattern="$2"
  shift 2
  render "$@" >"$work/out" || fail "$what does not render"
  grep -qE -- "$pattern" "$work/out" || fail "$what: nothing matches '$pattern'"
  ok
}

helm lint --quiet millrace-crds >/dev/null && ok
helm lint --quiet millrace --set images.registry=registry.example.com/ml >/dev/null && ok

refuses "an unknown value" "additional properties 'replica' not allowed" --set replica=3
refuses "an unknown image" "additional properties 'trainer' not allowed" --set images.trainer.tag=1
refuses "an unknown part of an image" "additional properties 'tagg' not allowed" --set images.server.tagg=1
refuses "no replicas" "/replicas" --set replicas=0
refuses "a number of replicas in words" "/replicas" --set replicas=two
refuses "a wrong duration" "/stages/jobTtl" --set stages.jobTtl=soon
refuses "a namespace with a hostile name" "/namespaces/0" --set 'namespaces={a --no-lease}'
refuses "a service account with a comma" "/stages/serviceAccounts/0" --set-json 'stages.serviceAccounts=["a,b"]'
refuses "no registry" "images.registry is required" --set images.registry=
if helm template c millrace-crds --set any=1 >/dev/null 2>&1; then fail "millrace-crds takes a value"; fi
ok

renders "an image" 'image: registry\.example\.com/ml/operator:0\.1\.0$'
renders "a tag" '"registry\.example\.com/ml/train-tabular:7"' --set-string images.trainTabular.tag=7
renders "a digest" '"registry\.example\.com/ml/data:7@sha256:0{64}"' --set-string images.data.tag=7 --set images.data.digest="sha256:$(printf '0%.0s' {1..64})"
refuses "a digest that is none" "/images/data/digest" --set images.data.digest=sha256:0
renders "a repository of its own" '--server-image=other\.example\.com/server:0\.1\.0$' --set images.server.repository=other.example.com/server
renders "a template of a stage as it is written" 'args: \[--params, "\$\[\[ params \]\]"\]'
renders "an image for GPUs of its own" '--server-cuda-image=registry\.example\.com/ml/server-cuda:7$' --set-string images.serverCuda.tag=7
renders "a pull policy for stages and servers" '--image-pull-policy=Always$' --set images.pullPolicy=Always
renders "the images of the stock stages" '--stage-images=registry\.example\.com/ml/data:0\.1\.0,registry\.example\.com/ml/train-tabular:7$' --set-string images.trainTabular.tag=7
renders "a way out where everything is denied" 'policyTypes: \[Ingress, Egress\]$' --set networkPolicy.enabled=true
renders "namespaces" '--namespaces=a,b,millrace-system$' --set 'namespaces={a,b}'
renders "a pull secret" '--image-pull-secrets=pull$' --set 'imagePullSecrets={pull}'
helm template other millrace --set images.registry=registry.example.com/ml >"$work/out" || fail "another release does not render"
grep -qE '^ +- millrace-other-router$' "$work/out" || fail "another release gives a role that is not its own"
ok
renders "the routers' resources" '--router-resources=.*requests.*50m' --set router.replicas=3
renders "the routers' image" '--operator-image=registry\.example\.com/ml/operator:0\.1\.0$'
refuses "an unknown value of the routers" "additional properties 'replica' not allowed" --set router.replica=3
renders "rights to HTTPRoutes where they are used" '^ +- httproutes$' --set gatewayAPI.enabled=true
renders "what the operator may use of the Gateway API" '--gateway-api=true$' --set gatewayAPI.enabled=true
renders "where Gateways have their pods" '--gateway-namespaces=envoy,istio$' --set 'gatewayAPI.proxyNamespaces={envoy,istio}'
refuses "a hostile namespace of Gateways" "/gatewayAPI/proxyNamespaces/0" --set 'gatewayAPI.proxyNamespaces={a --no-lease}'
refuses "an unknown value of the Gateway API" "additional properties 'enable' not allowed" --set gatewayAPI.enable=true
renders "two replicas with a budget" '^kind: PodDisruptionBudget$'
renders "a network policy" '^kind: NetworkPolicy$' --set networkPolicy.enabled=true

# A certificate of tests alone; who signed it is not looked at here.
authority="$(base64 -w0 <../operator/router/tests/certs/a.crt)"
webhook=(--set webhook.enabled=true --set webhook.certificate.secretName=given --set "webhook.certificate.caBundle=$authority")
renders "a webhook" '^kind: ValidatingWebhookConfiguration$' "${webhook[@]}"
renders "a webhook that stands in nobody's way" '^    failurePolicy: Ignore$' "${webhook[@]}"
renders "a webhook's certificate" '^            secretName: given$' "${webhook[@]}"
renders "whom an apiserver trusts" "^      caBundle: $authority\$" "${webhook[@]}"
renders "a webhook's port in the policy" '^        - port: webhook$' "${webhook[@]}" --set networkPolicy.enabled=true
renders "a webhook for some namespaces" '^ +values:$' "${webhook[@]}" --set 'namespaces={a,b}'
renders "a webhook whose authority another fills in" 'cert-manager.io/inject-ca-from: a/b$' --set webhook.enabled=true --set webhook.certificate.secretName=given --set 'webhook.annotations.cert-manager\.io/inject-ca-from=a/b'
refuses "a webhook's certificate that nothing could keep" "Helm sees no cluster in which it could keep a certificate" --set webhook.enabled=true
refuses "a webhook whom nobody trusts" "webhook.certificate.secretName: apiservers trust nobody" --set webhook.enabled=true --set webhook.certificate.secretName=given
refuses "an authority without a certificate" "webhook.certificate.caBundle without secretName" --set webhook.enabled=true --set webhook.certificate.caBundle=aa
refuses "an apply that waits for minutes" "/webhook/timeoutSeconds" --set webhook.timeoutSeconds=60
refuses "an unknown value of the webhook" "additional properties 'failurePolicy' not allowed" --set webhook.failurePolicy=Fail

# lacks WHAT PATTERN OPTION…: no line matches.
lacks() {
  local what="$1" pattern="$2"
  shift 2
  render "$@" >"$work/out" || fail "$what does not render"
  if grep -nE -- "$pattern" "$work/out"; then fail "$what: a line matches '$pattern'"; fi
  ok
}
lacks "one replica" '^kind: PodDisruptionBudget$' --set replicas=1
lacks "with namespaces" '^kind: ClusterRoleBinding$' --set 'namespaces={a}'
lacks "a chart without a webhook" 'webhook'
lacks "a chart without the Gateway API" 'httproutes|gateway\.networking'
lacks "a webhook with its certificate given" '^kind: Secret$' "${webhook[@]}"
lacks "an image that was not replaced" '\$\{image:'

render --set networkPolicy.enabled=true --set gatewayAPI.enabled=true "${webhook[@]}" >"$work/all.yaml"
helm template millrace-crds millrace-crds >"$work/crds.yaml"
python3 - "$work/all.yaml" "$work/crds.yaml" <<'PYTHON'
import sys

import yaml

objects = [o for o in yaml.safe_load_all(open(sys.argv[1])) if o]
crds = [o for o in yaml.safe_load_all(open(sys.argv[2])) if o]
roles = [o for o in objects if o["kind"] in ("ClusterRole", "Role")]
assert roles, "there are no roles"
for role in roles:
    for rule in role["rules"]:
        words = rule["apiGroups"] + rule["resources"] + rule["verbs"]
        assert not any("*" in word for word in words), f"{role['metadata']['name']} has a wildcard: {rule}"
        assert not {"secrets", "escalate", "impersonate"} & set(words), f"{role['metadata']['name']}: {rule}"
        if "bind" in words:
            assert (rule["resources"], rule["resourceNames"], rule["verbs"]) == (["clusterroles"], ["millrace-router"], ["bind"]), rule
assert sum("bind" in rule["verbs"] for role in roles for rule in role["rules"]) == 1, "who may give the routers' role?"
assert "millrace-router" in {role["metadata"]["name"] for role in roles}
for own in ("leases", "podtemplates"):
    reached = [role["kind"] for role in roles for rule in role["rules"] if own in rule["resources"]]
    assert reached == ["Role"], f"{own} are reached by {reached}, not by one Role of the release's namespace"
claims = [(role["kind"], rule["verbs"]) for role in roles for rule in role["rules"] if "persistentvolumeclaims" in rule["resources"]]
assert claims == [("ClusterRole", ["get"])], f"claims are asked for by name and nothing else: {claims}"
people = {r["metadata"]["name"]: r for r in roles if r["metadata"]["name"].rpartition("-")[2] in ("view", "edit", "admin")}
assert set(people) == {"millrace-view", "millrace-edit", "millrace-admin"}, sorted(people)
may_approve = [name for name, role in people.items() for rule in role["rules"] if "approve" in rule["verbs"]]
assert may_approve == ["millrace-admin"], f"who may approve: {may_approve}"
policies = {o["kind"]: o for o in objects if o["kind"].startswith("ValidatingAdmission")}
asked = next(o for o in objects if o["kind"] == "ValidatingWebhookConfiguration")["webhooks"]
assert len(asked) == 1 and asked[0]["failurePolicy"] == "Ignore" and asked[0]["sideEffects"] == "None", asked
target = asked[0]["clientConfig"]["service"]
service = next(o for o in objects if o["kind"] == "Service" and o["metadata"]["name"] == target["name"])
ports = [port["name"] for o in objects if o["kind"] == "Deployment" for c in o["spec"]["template"]["spec"]["containers"] for port in c["ports"]]
assert service["spec"]["ports"][0]["port"] == target["port"] and service["spec"]["ports"][0]["targetPort"] in ports, service
assert policies["ValidatingAdmissionPolicyBinding"]["spec"]["policyName"] == policies["ValidatingAdmissionPolicy"]["metadata"]["name"]
viewed = set(people["millrace-view"]["rules"][0]["resources"])
kinds = {crd["spec"]["names"]["plural"] for crd in crds}
assert len(kinds) == 6 and kinds <= viewed, f"of {sorted(kinds)} view lacks {sorted(kinds - viewed)}"
for crd in crds:
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", crd["metadata"]["name"]
pod = next(o for o in objects if o["kind"] == "Deployment")["spec"]["template"]["spec"]
container = pod["containers"][0]
assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
assert container["securityContext"]["allowPrivilegeEscalation"] is False
templates = {o["metadata"]["name"] for o in objects if o["kind"] == "StageTemplate"}
assert {"ingest", "validate", "transform", "evaluate", "train-tabular"} <= templates, templates
PYTHON
ok

# The apiserver's own word, with nothing written. The catalog is checked only where the CRDs are.
if kubectl --request-timeout=5s get --raw /readyz >/dev/null 2>&1; then
  check() { kubectl apply --server-side --force-conflicts --dry-run=server -f "$1" >"$work/out" 2>&1 || fail "$2: $(cat "$work/out")"; ok; }
  check "$work/crds.yaml" "the apiserver refuses a CRD"
  present=false
  if kubectl get crd stagetemplates.millrace.dev >/dev/null 2>&1; then present=true; fi
  # In a namespace that is there: nothing has to be made for a dry run.
  python3 - "$work/all.yaml" "$present" >"$work/checked.yaml" <<'PYTHON'
import sys

import yaml

objects = [o for o in yaml.safe_load_all(open(sys.argv[1])) if o]
for o in objects:
    if o["kind"] == "StageTemplate" and sys.argv[2] == "false":
        continue
    if not o["kind"].startswith(("Cluster", "Validating")):
        o["metadata"]["namespace"] = "default"
    print("---")
    print(yaml.safe_dump(o), end="")
PYTHON
  check "$work/checked.yaml" "the apiserver refuses an object of the chart"
else
  echo "charts: no cluster answers, so no apiserver was asked"
fi
echo "$passed passed, 0 failed"
