# SPDX-License-Identifier: Apache-2.0
"""What fails, restarts or is replaced below volumes that are in use."""

import os
import signal
import time

import pytest

import build
from flow import OF_DEATH
from objects import claim, container, on_node, pod
from servers import wait_until

HANG_S = 150  # longer than the probes of the plugin would bear
# A new plugin is known to kubelet only some seconds after its start.
NOT_REGISTERED = ("FailedMount", r"driver name \S*csi\.tdvol\.dev not found in the list of registered CSI drivers")


def container_id(flow, name: str) -> str:
    return flow.kubectl.get("pod", name)["status"]["containerStatuses"][0]["containerID"]


def test_kubelet_restart(flow):
    flow.write_always("kept")
    node = flow.node_of("kept")
    before, count = container_id(flow, "kept"), flow.writes("kept")
    node.kill_kubelet()
    time.sleep(10)
    flow.check_writes("kept", count)
    assert container_id(flow, "kept") == before
    flow.kubectl.delete("pod", "kept")
    flow.lap("pod deleted by the new kubelet")
    flow.apply(pod("kept", "kept"))
    flow.kubectl.wait_ready("kept")
    flow.check_blocks("kept")


def test_kubelet_restart_with_sub_path(flow):
    """ReadWriteOncePod with a subPath: the new kubelet publishes again, and the container can start again."""
    flow.apply(claim("part", mode="ReadWriteOncePod"), pod("part", "part", "echo hello >>/data/f", {"subPath": "a"}))
    flow.kubectl.wait_ready("part")
    node = flow.node_of("part")
    node.kill_kubelet()
    time.sleep(20)
    flow.kubectl.try_run("exec", "part", "--", "sh", "-c", "kill -TERM 1")  # it ends with the container
    flow.kubectl.wait("pod", "part", lambda found: found["status"]["containerStatuses"][0]["restartCount"] == 1, "started again")
    flow.kubectl.wait_ready("part")
    assert flow.kubectl.shell("part", "cat /data/f").split() == ["hello", "hello"]


def test_plugin_killed(flow):
    flow.expect_warnings(("Unhealthy", "probe failed"), ("BackOff", ""))
    flow.write_always("kept")
    node = flow.node_of("kept")
    count, restarts = flow.writes("kept"), flow.release.plugin_container(node)["restartCount"]
    started = time.monotonic()
    flow.release.kill_plugin(node)

    def is_back() -> bool:
        state = flow.release.plugin_container(node)
        return state["restartCount"] > restarts and state["ready"]

    wait_until(is_back, 120, "the plugin is back")
    flow.see(f"plugin back after {time.monotonic() - started:.1f} s")
    flow.check_writes("kept", count)
    flow.kubectl.delete("pod", "kept")
    flow.apply(pod("kept", "kept"))
    flow.kubectl.wait_ready("kept")
    flow.check_blocks("kept")


@pytest.mark.only("stacked", "local volumes are of no other driver")
def test_upstream_killed(flow):
    """The other driver ends on the node: pods do not notice, and the next volume comes when it is back."""
    flow.expect_warnings(("Unhealthy", "probe failed"), ("BackOff", ""), ("FailedMount", "upstream|UNAVAILABLE|Unavailable"))
    flow.write_always("kept")
    node = flow.node_of("kept")
    count, restarts = flow.writes("kept"), flow.release.plugin_container(node, "pd")["restartCount"]
    started = time.monotonic()
    node.shell("kill -KILL $(pgrep -x gce-pd-csi-driv)")  # the kernel keeps 15 characters of a name
    wait_until(lambda: flow.release.plugin_container(node, "pd")["restartCount"] > restarts, 120, "the other driver is back")
    flow.see(f"other driver back after {time.monotonic() - started:.1f} s")
    flow.check_writes("kept", count)
    flow.kubectl.delete("pod", "kept")
    flow.apply(pod("kept", "kept", **on_node(node.name)), claim("new"), pod("new", "new", **on_node(node.name)))
    for name in ("kept", "new"):
        flow.kubectl.wait_ready(name)
    flow.check_blocks("kept")


def test_upgrade(flow):
    """A new image while volumes are in use, by the command of docs/install.md, or what follows from it for docs/upstreams.md."""
    # The new controller waits for the place of an old one: the two never share a node.
    flow.expect_warnings(("Unhealthy", "probe failed"), NOT_REGISTERED, ("FailedScheduling", "anti-affinity"))
    flow.write_always("kept")
    count, started = flow.writes("kept"), time.monotonic()
    flow.release.upgrade(build.NEXT_VERSION)
    flow.see(f"rolled in {time.monotonic() - started:.1f} s")
    for node in flow.lab.nodes:
        assert flow.release.plugin_container(node)["image"].endswith(build.NEXT_VERSION)
    flow.check_writes("kept", count)
    flow.kubectl.delete("pod", "kept")
    flow.apply(pod("kept", "kept"), claim("new"), pod("new", "new"))
    flow.kubectl.wait_ready("kept")
    flow.kubectl.wait_ready("new")
    flow.check_blocks("kept")


def test_node_crash(flow):
    """The node loses its power while a pod writes."""
    flow.expect_warnings(*OF_DEATH)
    flow.write_always("kept")
    written, node = flow.write("kept"), flow.node_of("kept")
    node.crash()
    started = time.monotonic()
    node.start()
    flow.see(f"node back after {time.monotonic() - started:.0f} s")
    flow.kubectl.wait("pod", "kept", lambda found: found["status"]["containerStatuses"][0]["restartCount"] > 0, "started again")
    flow.kubectl.wait_ready("kept")
    flow.release.wait()
    flow.see(f"pod again after {time.monotonic() - started:.0f} s")
    assert flow.md5("kept") == written
    flow.check_blocks("kept")


def test_broker_down(flow):
    """Running pods do not notice, and close; others wait, and come by themselves when the broker is back."""
    away = "UNAVAILABLE|Unavailable|DeadlineExceeded|no broker|context deadline"
    flow.expect_warnings(*((reason, away) for reason in ("FailedMount", "FailedAttachVolume", "ProvisioningFailed")), ("FailedScheduling", ""),
                         ("FailedAttachVolume", "volume attachment is being deleted"), ("Unhealthy", "eadiness probe failed"))  # fmt: skip
    flow.write_always("running")
    flow.apply(claim("existing"), pod("existing", "existing"))
    flow.kubectl.wait_ready("existing")
    flow.kubectl.delete("pod", "existing")
    count = flow.writes("running")
    flow.lab.stop_broker()
    try:
        flow.check_writes("running", count)
        started = time.monotonic()
        flow.kubectl.delete("pod", "running")
        flow.see(f"closed without the broker in {time.monotonic() - started:.1f} s")
        flow.apply(pod("existing", "existing"), claim("new"), pod("new", "new"))

        def is_told(_found: dict) -> bool:
            return any(event["reason"] in ("FailedMount", "FailedAttachVolume") for event in flow.kubectl.events("existing"))

        flow.kubectl.wait("pod", "existing", is_told, "refused with a reason")
        flow.see(flow.kubectl.warnings("existing")[-200:])
    finally:
        flow.lab.restart_broker()
    started = time.monotonic()
    flow.kubectl.wait_ready("existing")
    flow.see(f"existing volume ready {time.monotonic() - started:.0f} s after")
    flow.kubectl.wait_ready("new")
    flow.see(f"new volume ready {time.monotonic() - started:.0f} s after")


def test_broker_hangs(flow):
    """A broker that takes connections and does not answer: the plugin is not restarted for that."""
    pid = flow.lab.broker.process.pid
    flow.expect_warnings(("Unhealthy", "eadiness probe failed"))
    flow.write_always("running")
    node = flow.node_of("running")
    count, restarts = flow.writes("running"), flow.release.plugin_container(node)["restartCount"]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(HANG_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert flow.release.plugin_container(node)["restartCount"] == restarts
    flow.check_writes("running", count)
    flow.release.wait()
    flow.lap("plugin ready, not restarted")


def test_pinned_by_an_agent(flow):
    """A pod that has the node's tree without mount propagation, as monitoring agents do, holds a mount for ever. The
    volume is closed all the same, and goes where its next pod is: before another driver, on another node."""
    flow.apply(claim("pinned"), pod("pinned", "pinned"))
    flow.kubectl.wait_ready("pinned")
    node = flow.node_of("pinned")
    others = [one.name for one in flow.lab.nodes if one is not node and flow.release.kind == "stacked"]
    agent = pod("agent", "", **on_node(node.name))
    agent["spec"]["containers"] = [container(mount={"mountPath": "/host"})]
    agent["spec"]["volumes"] = [{"name": "data", "hostPath": {"path": "/var/lib/kubelet"}}]
    flow.apply(agent)
    flow.kubectl.wait_ready("agent")
    written = flow.write("pinned")
    flow.kubectl.delete("pod", "pinned")
    flow.lap("pod deleted")
    wait_until(lambda: not node.shell("dmsetup ls | grep ^tdvol-").strip(), 60, "no volume is open on the agent's node")
    flow.lap("volume closed")
    flow.apply(pod("pinned", "pinned", **on_node([*others, node.name][0])))
    flow.kubectl.wait_ready("pinned")
    assert flow.md5("pinned") == written
    flow.lap("pod comes again")
    flow.kubectl.delete("pod", "pinned")
    flow.kubectl.delete("pod", "agent")


def test_metrics(flow):
    node = flow.lab.nodes[0]
    assert flow.release.page(node, "healthz").strip() and flow.release.page(node, "readyz").strip()
    metrics = flow.release.page(node, "metrics")
    assert "csi_plugin_operations" in metrics, metrics[:500]
    flow.see(f"{len(metrics.splitlines())} lines")


def test_health(flow):
    """kubelet asks for the health of volumes and of the node's storage (Kubernetes 1.37)."""
    flow.expect_warnings(("VolumeUnhealthy", ""), ("VolumeConditionAbnormal", ""))
    flow.apply(claim("sick", "256Mi"), pod("sick", "sick"))
    flow.kubectl.wait_ready("sick")
    flow.write("sick", mib=96)  # some of it is where the damage will be, whatever lies before it on the disk
    volume = flow.volume_of("sick")["spec"]["csi"]["volumeHandle"]
    node = flow.node_of("sick")
    flow.kubectl.delete("pod", "sick")
    flow.release.damage(node, volume)
    flow.apply(pod("sick", "sick"))
    flow.kubectl.wait_ready("sick")
    said = flow.kubectl.try_run("exec", "sick", "--", "md5sum", "/data/r")
    assert said.returncode != 0 and "Input/output error" in said.stderr, (said.stdout, said.stderr)
    flow.lap("I/O error")

    def is_told(found: dict) -> bool:
        return "IntegrityErrors" in str(found["status"].get("volumeHealth"))

    found = flow.kubectl.wait("pod", "sick", is_told, "with the news that data is lost", 120)
    flow.see(str(found["status"]["volumeHealth"])[:300])


