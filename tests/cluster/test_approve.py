"""Stages that wait for a person: what people see, who may decide, and what follows from it."""

import json
import time

from harness import SYSTEM, ClusterTest, Refused, alone, condition, kubectl, resource, script, wait_for
from test_cli import CommandLine
from test_control import ControlTest

# Who runs these tests.
ME = json.loads(kubectl("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"]
TRAIN = script("""echo '{"f1": 0.93}' > "$MILLRACE_OUT/metrics.json" """)


def stages(**approve) -> dict:
    """Trained, asked, shipped."""
    approve = {"message": "Ship f1 $[[ stages.train.metrics.f1 ]]?", "timeout": "24h", **approve}
    return {"train": TRAIN, "sign-off": {"needs": ["train"], "approve": approve}, "ship": script("true", needs=["sign-off"])}


class ApproveTest(ControlTest):
    def asked(self, run: str = "r") -> dict:
        return self.waits_with("sign-off", "WaitingForApproval", run)

    def say(self, decision: str, run: str = "r", stage: str = "sign-off", user: str = ME, **more) -> None:
        patch = {"spec": {"approvals": {stage: {"decision": decision, "by": user, **more}}}}
        self.patch(patch, run)

    def patch(self, patch: dict, run: str = "r", *options: str) -> None:
        kubectl("patch", "mlpipelinerun", run, "-n", self.namespace, "--type=merge", "-p", json.dumps(patch), *options)


class Approve(ApproveTest):
    def test_a_run_waits_says_for_what_and_goes_on_when_it_is_approved(self):
        self.run_inline(stages())
        asked = self.asked()
        self.assertEqual(asked["state"], "Pending")
        first, *rest = asked["message"].splitlines()
        self.assertRegex(first, r"^Ship f1 0\.93\? \(gives up at \d{4}-\d\d-\d\d \d\d:\d\dZ\)$")
        self.assertEqual(rest, [f"kubectl millrace approve r sign-off -n {self.namespace}, or reject"])
        self.assertIn("until", asked["approval"])
        self.assertIn("WaitingForApproval", kubectl("get", "mlr", "r", "-n", self.namespace))
        self.assertIn("Ship f1 0.93?", kubectl("describe", "mlr", "r", "-n", self.namespace))
        wait_for("its event", lambda: len([e for e in self.events() if e.startswith("WaitingForApproval: stage sign-off: Ship f1 0.93?")]) == 1)
        time.sleep(3)
        self.assertEqual(self.jobs(), ["r-train-1"])
        self.say("Approve", comment="well done")
        status = self.succeeded()
        decided = status["stages"]["sign-off"]
        self.assertEqual((decided["state"], decided["message"]), ("Succeeded", f"approved by {ME}: well done"))
        self.assertEqual((decided["approval"]["by"], decided["approval"]["decision"]), (ME, "Approve"))
        self.assertEqual(condition({"status": status}, "Promoted")["status"], "True")
        with self.assertRaisesRegex(Refused, "a stage that has ended is not decided any more"):
            self.say("Reject")

    def test_what_is_rejected_is_not_shipped_and_can_be_asked_again(self):
        self.run_inline(stages(), finally_={"tell": script("echo $S", env={"S": {"value": "$[[ run.status ]] $[[ stages.sign_off.status ]]"}})})
        self.asked()
        self.say("Reject", comment="not yet")
        status = self.succeeded()
        self.assertEqual(self.states(), {"train": "Succeeded", "sign-off": "Skipped", "ship": "Skipped", "tell": "Succeeded"})
        promoted = condition({"status": status}, "Promoted")
        said = f"stage `sign-off`: rejected by {ME}: not yet"
        self.assertEqual((promoted["status"], promoted["reason"], promoted["message"]), ("False", "ApprovalRejected", said))
        self.assertEqual(self.logs("tell"), "Succeeded Skipped\n")
        self.ask(retryFrom={"stage": "sign-off"})
        wait_for("the question", lambda: self.stage("sign-off").get("state") == "Pending")
        with self.assertRaisesRegex(Refused, "write retries as status.stages has it"):
            self.say("Approve")
        self.say("Approve", retries=1, comment=None)
        self.succeeded()
        self.assertEqual(self.stage("ship")["state"], "Succeeded")
        self.assertEqual(self.stage("train")["attempts"], 1)

    def test_nobody_in_time_is_a_rejection(self):
        self.run_inline(stages(timeout="4s"))
        status = self.succeeded()
        self.assertEqual((status["stages"]["sign-off"]["state"], status["stages"]["sign-off"]["reason"]), ("Skipped", "ApprovalTimeout"))
        self.assertEqual(status["stages"]["sign-off"]["message"], "nobody decided within 4s")
        self.assertEqual(condition({"status": status}, "Promoted")["reason"], "ApprovalTimeout")
        self.assertEqual(self.jobs(), ["r-train-1"])

    def test_a_word_said_ahead_counts_and_one_for_another_stage_is_told(self):
        spec = {"pipeline": {"stages": stages()}, "approvals": {"sign-off": {"decision": "Approve", "by": ME}, "sing-off": {"decision": "Approve", "by": ME}}}
        self.apply(resource("MLPipelineRun", "r", spec))
        accepted = wait_for("its fault", lambda: (c := condition(self.run_of(), "Accepted")).get("reason") == "UnknownApproval" and c)
        self.assertIn("spec.approvals.sing-off: there is no stage `sing-off`: did you mean `sign-off`?", accepted["message"])
        self.succeeded()
        self.assertEqual(self.stage("ship")["state"], "Succeeded")
        self.assertFalse([e for e in self.events() if e.startswith("WaitingForApproval")])

    def test_an_approval_that_nothing_depends_on_is_refused(self):
        self.run_inline({"train": TRAIN, "sign-off": {"needs": ["train"], "approve": {"message": "?"}}})
        status = self.failed()
        said = condition({"status": status}, "Accepted")["message"]
        self.assertIn("spec.stages.sign-off: nothing depends on `sign-off`", said)
        self.assertEqual(self.jobs(), [])

    def test_a_run_that_is_suspended_or_canceled_while_it_waits(self):
        self.run_inline(stages())
        self.asked()
        self.ask(suspend=True)
        self.say("Approve")
        self.waits_with("sign-off", "nothing new begins until spec.suspend is false")
        time.sleep(2)
        self.assertEqual(self.jobs(), ["r-train-1"])
        self.ask(suspend=False)
        self.succeeded()
        self.run_inline(stages(), name="s")
        self.asked("s")
        self.ask("s", cancel="Graceful")
        self.failed("s")
        self.assertEqual((self.stage("sign-off", "s")["state"], self.stage("sign-off", "s")["reason"]), ("Failed", "Canceled"))


@alone
class Restart(ApproveTest):
    def test_an_operator_that_starts_anew_asks_no_second_time_and_hears_what_was_said(self):
        self.run_inline(stages())
        self.asked()
        kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/name=millrace", "--wait=false")
        self.say("Approve")
        self.succeeded()
        self.assertEqual(len([e for e in self.events() if e.startswith("WaitingForApproval")]), 1)


class Slots(ApproveTest):
    def test_a_run_that_waits_holds_no_slot_and_waits_for_one_when_it_is_approved(self):
        ship = script('test "$WHO" != other || sleep 600', needs=["sign-off"], env={"WHO": {"value": "$[[ run.name ]]"}}, terminationGracePeriod="1s")
        asks = {**stages(), "ship": ship}
        asks["sign-off"]["when"] = "params.ask"
        params = {"ask": {"type": "boolean", "default": True}}
        self.pipeline(asks, params=params, concurrency={"policy": "Queue"}, timeout="1h")
        self.start("r")
        self.asked()
        # The next one begins meanwhile, and asks nobody.
        self.start("other", params={"ask": False})
        self.running("ship", "other")
        self.say("Approve")
        stage = self.waits_with("sign-off", "Queued")
        self.assertEqual(stage["message"], f"approved by {ME}; place 1 in the queue of MLPipeline p: waits for the end of other")
        self.assertEqual(self.said()["reason"], "Queued")
        time.sleep(2)
        self.assertNotIn("r-ship-1", self.jobs())
        self.ask("other", cancel="Now")
        self.failed("other")
        status = self.succeeded()
        self.assertLessEqual(self.run_of("other")["status"]["completionTime"], status["stages"]["ship"]["startTime"])
        self.assertGreater(status.get("suspendedSeconds", 0), 0, "its timeout stood still")

    def test_the_newest_run_that_asks_takes_the_question_over(self):
        self.pipeline(stages(), concurrency={"policy": "Queue"})
        self.start("first")
        self.asked("first")
        time.sleep(1.1)
        self.start("second")
        self.asked("second")
        status = self.succeeded("first")
        old = status["stages"]["sign-off"]
        self.assertEqual((old["state"], old["reason"], old["message"]), ("Skipped", "Superseded", "run second, which is newer, asks the same"))
        self.assertEqual(condition({"status": status}, "Promoted")["reason"], "Superseded")
        self.say("Approve", "second")
        self.succeeded("second")


class Rights(ApproveTest):
    """Who may approve: whoever has the verb, under the own name."""

    def account(self, name: str, role: str) -> str:
        kubectl("create", "serviceaccount", name, "-n", self.namespace)
        kubectl("create", "rolebinding", name, "-n", self.namespace, f"--clusterrole={role}", f"--serviceaccount={self.namespace}:{name}")
        return f"system:serviceaccount:{self.namespace}:{name}"

    def say_as(self, user: str, decision: str = "Approve", by: str | None = None) -> None:
        said = {"decision": decision, "by": by or user}
        self.patch({"spec": {"approvals": {"sign-off": said}}}, "r", f"--as={user}")

    def test_who_may_edit_is_refused_with_clear_words_and_who_may_approve_is_let_through(self):
        editor, admin = self.account("editor", "edit"), self.account("boss", "admin")
        kubectl("create", "role", "approver", "-n", self.namespace, "--verb=get,patch,approve", "--resource=mlpipelineruns.millrace.dev")
        kubectl("create", "serviceaccount", "approver", "-n", self.namespace)
        kubectl("create", "rolebinding", "approver", "-n", self.namespace, "--role=approver", f"--serviceaccount={self.namespace}:approver")
        approver = f"system:serviceaccount:{self.namespace}:approver"
        self.run_inline(stages())
        self.asked()
        words = f"{editor} may not approve or reject: spec.approvals needs the verb approve on mlpipelineruns.millrace.dev in the namespace {self.namespace}"
        with self.assertRaisesRegex(Refused, words):
            self.say_as(editor)
        with self.assertRaisesRegex(Refused, words):
            self.say_as(editor, "Reject")
        with self.assertRaisesRegex(Refused, "nobody decides for others"):
            self.say_as(admin, by=approver)
        # Anything else of the run is the editor's, as before.
        self.patch({"spec": {"suspend": True}}, "r", f"--as={editor}")
        self.patch({"spec": {"suspend": False}}, "r", f"--as={editor}")
        self.assertEqual(self.stage("sign-off")["state"], "Pending")
        self.say_as(admin, "Reject")
        self.succeeded()
        self.assertEqual(self.stage("sign-off")["approval"]["by"], admin)
        # Nor at creation, and nobody takes away what others said.
        spec = {"pipeline": {"stages": stages()}, "approvals": {"sign-off": {"decision": "Approve", "by": editor}}}
        with self.assertRaisesRegex(Refused, "may not approve or reject"):
            made = json.dumps(resource("MLPipelineRun", "s", spec))
            kubectl("create", "-n", self.namespace, "-f", "-", f"--as={editor}", stdin=made)
        with self.assertRaisesRegex(Refused, "may not approve or reject"):
            self.patch({"spec": {"approvals": None}}, "r", f"--as={editor}")
        spec["approvals"]["sign-off"]["by"] = approver
        self.apply(resource("MLPipelineRun", "s", {"pipeline": spec["pipeline"]}))
        self.patch({"spec": {"approvals": spec["approvals"]}}, "s", f"--as={approver}")
        self.succeeded("s")
        self.assertEqual(self.stage("sign-off", "s")["message"], f"approved by {approver}")


class Commands(CommandLine, ClusterTest):
    def test_approve_and_reject_on_the_command_line(self):
        self.run_inline(stages())
        self.waits_with("sign-off", "WaitingForApproval")
        tree = self.millrace("tree", "r").out
        self.assertIn("WaitingForApproval: Ship f1 0.93? (gives up at", tree)
        self.assertIn(f"? kubectl millrace approve r sign-off -n {self.namespace} ", tree)
        self.assertIn("no stage sing-off: did you mean `sign-off`?", self.millrace("approve", "r", "sing-off", code=2).errors)
        self.assertIn("stage train of run r asks nobody", self.millrace("approve", "r", "train", code=2).errors)
        said = self.millrace("approve", "r", "--comment", "well done").out
        self.assertEqual(said, f"stage sign-off of run r is approved by {ME}\n")
        self.millrace("tree", "r", "-w")
        self.assertEqual(self.stage("sign-off")["message"], f"approved by {ME}: well done")
        self.millrace("retry", "r", "--stage", "sign-off")
        wait_for("the question", lambda: self.stage("sign-off").get("state") == "Pending")
        self.millrace("reject", "r", "--comment", "rather not")
        self.millrace("tree", "r", "-w")
        self.assertEqual(self.stage("sign-off")["message"], f"rejected by {ME}: rather not")
        self.assertIn("has ended already", self.millrace("approve", "r", code=2).errors)
