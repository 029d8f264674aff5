"""Failure is ordinary: what a run says and does when programs, images, nodes and people fail it."""

from harness import ClusterTest, condition, kubectl, script, wait_for


class Failures(ClusterTest):
    def test_exit_1_is_told_with_code_and_last_lines_and_skips_what_depends_on_it(self):
        self.run_inline({"bad": script("echo about to fail; exit 3"), "after": script("true", needs=["bad"]), "apart": script("true")})
        status = self.failed()
        bad = status["stages"]["bad"]
        self.assertEqual((bad["state"], bad["reason"], bad["exitCode"]), ("Failed", "Error", 3))
        self.assertIn("about to fail", bad["message"])
        self.assertEqual(status["stages"]["after"]["state"], "Skipped")
        self.assertEqual(status["stages"]["apart"]["state"], "Succeeded")
        self.assertIn("bad", condition({"status": status}, "Succeeded")["message"])
        wait_for("an event with the last lines", lambda: [e for e in self.events() if "about to fail" in e])

    def test_a_failed_stage_is_tried_again_up_to_its_limit(self):
        retry = {"limit": 2, "backoff": {"initial": "1s", "factor": 1}}
        self.run_inline({"flaky": script('echo attempt $MILLRACE_ATTEMPT; test "$MILLRACE_ATTEMPT" -ge 3', retry=retry)})
        flaky = self.succeeded()["stages"]["flaky"]
        self.assertEqual((flaky["attempts"], flaky["failures"]), (3, 2))
        self.assertEqual(self.jobs(), ["r-flaky-1", "r-flaky-2", "r-flaky-3"])

    def test_a_retry_limit_is_a_limit(self):
        self.run_inline({"bad": script("exit 1", retry={"limit": 1, "backoff": {"initial": "1s"}})})
        self.assertEqual(self.failed()["stages"]["bad"]["attempts"], 2)

    def test_a_timeout_ends_a_program_that_ignores_sigterm(self):
        stage = script("trap '' TERM; echo started; while :; do sleep 1; done", timeout="2s", terminationGracePeriod="1s")
        self.run_inline({"slow": stage})
        slow = self.failed()["stages"]["slow"]
        self.assertEqual(slow["reason"], "Timeout")

    def test_what_another_user_wrote_for_itself_alone_is_told_and_not_made_again(self):
        self.claim()
        private = script('umask 077; echo x > "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}}, runAsUser=1234)
        tell = script('cat "$MILLRACE_INPUT_DATA"', inputs={"data": {"from": "make.data"}})
        self.run_inline({"make": private, "tell": tell}, store={"pvc": {"claimName": "artifacts"}})
        stages = self.failed()["stages"]
        self.assertEqual((stages["tell"]["reason"], stages["make"]["attempts"]), ("StoreNotReadable", 1), stages)
        self.assertRegex(stages["tell"]["message"], r'input "data" may not be read: the pod runs as [0-9:]+, .* has owner 1234:[0-9]+ and mode 0600')

    def test_exit_0_without_the_output_is_no_success(self):
        self.claim()
        self.run_inline({"lazy": script("true", outputs={"data": {}})}, store={"pvc": {"claimName": "artifacts"}})
        lazy = self.failed()["stages"]["lazy"]
        self.assertEqual(lazy["reason"], "OutputMissing")
        self.assertIn("data", lazy["message"])

    def test_an_image_that_does_not_exist_is_told_in_the_kubelets_words_and_then_fails(self):
        stage = {"container": {"image": "registry.invalid/none:1", "command": ["true"]}, "pendingTimeout": "45s"}
        self.run_inline({"pull": stage})
        self.waits_with("pull", "registry.invalid/none:1")
        pull = self.failed()["stages"]["pull"]
        self.assertEqual(pull["reason"], "PendingTimeout")
        self.assertIn("registry.invalid/none:1", pull["message"])
        wait_for("no pod is left", lambda: not [p for p in self.get("pods")["items"] if p["status"]["phase"] == "Pending"])

    def test_a_pod_that_cannot_be_scheduled_waits_with_the_schedulers_words(self):
        self.run_inline({"big": script("true", resources={"requests": {"memory": "900Gi"}})})
        self.waits_with("big", "Insufficient memory")

    def test_an_unbound_claim_is_told_and_the_run_goes_on_when_it_is_there(self):
        stage = script('echo x > "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}})
        self.run_inline({"make": stage}, store={"pvc": {"claimName": "late"}})
        self.waits_with("make", 'persistentvolumeclaim "late" not found')
        self.claim("late")
        self.succeeded()

    def test_out_of_memory_is_told_as_such(self):
        limits = {"limits": {"memory": "48Mi"}, "requests": {"cpu": "10m"}}
        self.run_inline({"hungry": script("echo eating; head -c 300m /dev/zero | tail > /dev/null", resources=limits)})
        hungry = self.failed()["stages"]["hungry"]
        self.assertEqual((hungry["reason"], hungry["exitCode"]), ("OOMKilled", 137))

    def test_out_of_memory_that_takes_the_agent_too_is_told_by_the_container_and_tried_again(self):
        # Files in memory are no process's: the kernel kills one after the other and frees nothing, until the agent is gone too.
        memory = {"limits": {"memory": "48Mi"}, "requests": {"cpu": "10m"}}
        # The agent has to have read what is printed before.
        eat = "echo eating; sleep 2; head -c 60m /dev/zero > /dev/shm/x; sleep 60"
        self.run_inline(
            {
                "always": script(eat, resources=memory, sharedMemory="64Mi"),
                "once": script(
                    f'test "$MILLRACE_ATTEMPT" -gt 1 && exit 0; {eat}',
                    resources=memory,
                    sharedMemory="64Mi",
                    retry={"limit": 1, "backoff": {"initial": "1s"}},
                ),
            }
        )
        stages = self.failed()["stages"]
        always, once = stages["always"], stages["once"]
        self.assertEqual((always["reason"], always["exitCode"]), ("OOMKilled", 137))
        self.assertIn("raise resources.limits.memory", always["message"])
        self.assertIn("eating", always["message"])
        self.assertEqual((once["state"], once["attempts"], once["failures"]), ("Succeeded", 2, 1))
        ended = self.get("pods", selector="millrace.dev/stage=always")["items"][0]["status"]["containerStatuses"][0]["state"]["terminated"]
        self.assertNotIn("outcome", ended["message"], "the agent lived and wrote a report: this shows nothing")

    def test_a_job_deleted_by_hand_becomes_another_attempt(self):
        self.run_inline({"work": script('test "$MILLRACE_ATTEMPT" -gt 1 || sleep 120')})
        wait_for("the program", lambda: self.stage("work").get("state") == "Running")
        kubectl("delete", "job", "-n", self.namespace, "r-work-1", "--wait=false")
        work = self.succeeded()["stages"]["work"]
        self.assertEqual((work["attempts"], work.get("failures", 0), work["disruptions"]), (2, 0, 1))

    def test_a_pod_deleted_by_hand_becomes_another_attempt(self):
        self.run_inline({"work": script('test "$MILLRACE_ATTEMPT" -gt 1 || sleep 120', terminationGracePeriod="1s")})
        wait_for("the program", lambda: self.stage("work").get("state") == "Running")
        kubectl("delete", "pod", "-n", self.namespace, "-l", "millrace.dev/stage=work", "--wait=false")
        work = self.succeeded()["stages"]["work"]
        self.assertEqual((work["attempts"], work.get("failures", 0)), (2, 0))

    def test_a_quota_is_told_in_the_apiservers_words(self):
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
        self.apply(quota)
        self.run_inline({"work": script("true")})
        self.waits_with("work", "exceeded quota")
        kubectl("delete", "resourcequota", "-n", self.namespace, "none")

    def test_a_look_alike_job_is_not_adopted(self):
        container = {"name": "main", "image": "registry.invalid/x:1", "securityContext": {}}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "r-work-1"}, "spec": {"template": template, "suspend": True}}
        self.apply(job)
        self.run_inline({"work": script("true")})
        work = self.failed()["stages"]["work"]
        self.assertEqual(work["reason"], "NameTaken")
