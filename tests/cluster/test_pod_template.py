"""PodTemplates of the catalog: what the platform's admins add to a pod, and what stays Millrace's."""

import uuid

from harness import DEBIAN, SYSTEM, ClusterTest, kubectl, script, wait_for

# What an admin cannot mean: another program, another report, another life.
HOSTILE = {
    "name": "main",
    "image": "registry.invalid/other",
    "command": ["false"],
    "args": ["--other"],
    "imagePullPolicy": "Always",
    "terminationMessagePath": "/tmp/other",
    "env": [{"name": "MILLRACE_TASK", "value": "{}"}, {"name": "FROM_TEMPLATE", "value": "yes"}],
    "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
}
SHARED = {"name": "shared", "emptyDir": {}}
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
# Writes what the program reads, and never ends by itself.
SIDECAR = {
    "name": "side",
    "image": DEBIAN,
    "command": ["sh", "-c", "echo from the sidecar > /shared/word; trap exit TERM; sleep infinity & wait"],
    "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    "securityContext": RESTRICTED,
    "resources": {"requests": {"cpu": "10m"}},
}


class PodTemplates(ClusterTest):
    def setUp(self):
        super().setUp()
        self.name = f"t-{uuid.uuid4().hex[:8]}"
        self.addCleanup(kubectl, "delete", "podtemplate", "-n", SYSTEM, self.name, "--ignore-not-found")

    def template(self, *containers: dict, metadata: dict | None = None, **spec) -> None:
        template = {"metadata": metadata or {}, "spec": {"containers": containers, "volumes": [SHARED], **spec}}
        self.apply({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": self.name}, "template": template}, SYSTEM)

    def pod(self, stage: str) -> dict:
        return self.get("pods", selector=f"millrace.dev/stage={stage}")["items"][0]

    def test_a_missing_template_is_waited_for_and_named(self):
        self.run_inline({"work": script("echo $FROM_TEMPLATE", podTemplate=self.name)})
        waiting = self.waits_with("work", "PodTemplateNotFound")
        self.assertIn(self.name, waiting["message"])
        self.assertIn(SYSTEM, waiting["message"])
        self.assertEqual(self.jobs(), [])
        self.template(HOSTILE)
        self.succeeded()
        self.assertEqual(self.logs("work"), "yes\n")

    def test_what_a_template_adds_reaches_the_pod_and_what_is_millraces_stays(self):
        labels = {"team": "a", "millrace.dev/stage": "other"}
        metadata = {"annotations": {"example.com/net": "ib"}, "labels": labels}
        self.template(
            HOSTILE,
            SIDECAR,
            metadata=metadata,
            restartPolicy="Always",
            automountServiceAccountToken=True,
            securityContext={"runAsUser": 0, "supplementalGroups": [4242]},
        )
        text = 'until test -f /shared/word; do sleep 0.2; done; cat /shared/word; id -u; id -G; echo "$FROM_TEMPLATE"'
        self.run_inline({"work": script(text, podTemplate=self.name, env={"OWN": {"value": "1"}})})
        self.succeeded()
        self.assertEqual(self.logs("work").splitlines(), ["from the sidecar", "65532", "65532 4242", "yes"])
        pod = self.pod("work")
        self.assertEqual(pod["metadata"]["annotations"]["example.com/net"], "ib")
        self.assertEqual(pod["metadata"]["labels"]["team"], "a")
        main = pod["spec"]["containers"][0]
        self.assertEqual((main["name"], main["image"]), ("main", DEBIAN))
        self.assertEqual(pod["spec"]["restartPolicy"], "Never")
        self.assertFalse(pod["spec"]["automountServiceAccountToken"])
        # A sidecar ends with its stage: the pod holds nothing any more.
        wait_for("the pod's end", lambda: self.pod("work")["status"]["phase"] == "Succeeded")

    def test_a_template_that_makes_no_valid_pod_is_told_in_the_apiservers_words(self):
        privileged = {"securityContext": {"privileged": True}}
        self.template({**HOSTILE, **privileged})
        self.run_inline({"work": script("true", podTemplate=self.name)})
        self.waits_with("work", "privileged")
        self.assertEqual(self.jobs(), [])
        self.template(HOSTILE)
        self.succeeded()
