# SPDX-License-Identifier: Apache-2.0
"""Two nodes and the disks of a cloud: a volume follows its pod."""

import time

import pytest

from objects import claim, of_claim, on_node, pod, stateful_set
from servers import wait_until

pytestmark = pytest.mark.only("stacked", "local volumes stay on their node: test_two_nodes.py")


def other_node(flow, name: str):
    return next(node for node in flow.lab.nodes if node.name != name)


def test_to_the_other_node_and_back(flow):
    flow.apply(claim("moves"), pod("moves", "moves"))
    flow.kubectl.wait_ready("moves")
    written = flow.write("moves")
    for _ in range(2):
        target = other_node(flow, flow.node_of("moves").name)
        flow.kubectl.delete("pod", "moves")
        flow.apply(pod("moves", "moves", **on_node(target.name)))
        flow.check_copy("moves", written)
        assert flow.node_of("moves") is target
        flow.write("moves", "/data/more")


def test_block_moves(flow):
    device = "/dev/xvda"
    flow.apply(claim("raw", volumeMode="Block"), pod("raw", "raw", device=device))
    flow.kubectl.wait_ready("raw")
    flow.kubectl.shell("raw", f"dd if=/dev/urandom of={device} bs=64k count=16 2>/dev/null && sync")
    written = flow.kubectl.shell("raw", f"head -c 1048576 {device} | md5sum")
    target = other_node(flow, flow.node_of("raw").name)
    flow.kubectl.delete("pod", "raw")
    flow.apply(pod("raw", "raw", device=device, **on_node(target.name)))
    flow.kubectl.wait_ready("raw")
    assert flow.kubectl.shell("raw", f"head -c 1048576 {device} | md5sum") == written


def test_never_at_two_nodes(flow):
    """ReadWriteOnce: a pod on the other node waits until the first is gone."""
    flow.apply(claim("one"), pod("first", "one"))
    flow.kubectl.wait_ready("first")
    written, target = flow.write("first"), other_node(flow, flow.node_of("first").name)
    flow.apply(pod("second", "one", **on_node(target.name)))

    def is_told(_found: dict) -> bool:
        return any(event["reason"] == "FailedAttachVolume" for event in flow.kubectl.events("second"))

    flow.kubectl.wait("pod", "second", is_told, "told to wait")
    flow.kubectl.delete("pod", "first")
    flow.check_copy("second", written)


def test_readers_on_both_nodes(flow):
    """A clone with ReadOnlyMany is attached to both nodes at once."""
    flow.apply(claim("source"), pod("source", "source"))
    flow.kubectl.wait_ready("source")
    written = flow.write("source")
    flow.apply(claim("many", mode="ReadOnlyMany", **of_claim("source")))
    for node in flow.lab.nodes:  # the claim is bound for the first: two at once would wait for each other's node
        flow.apply(pod(node.name, "many", **on_node(node.name)))
        flow.check_copy(node.name, written)
        flow.check_read_only(node.name)


def test_drain(flow):
    """The pod of a StatefulSet goes to the other node, with its data, and its old node keeps nothing."""
    flow.expect_warnings(("FailedScheduling", "unschedulable|anti-affinity|untolerated taint"),
                         ("Unhealthy", "eadiness probe failed"))  # of the controller that comes for the drained one  # fmt: skip
    flow.apply(stateful_set("set", 1, ""))
    flow.kubectl.wait_ready("set-0")
    written, drained = flow.write("set-0"), flow.node_of("set-0")
    started = time.monotonic()
    flow.kubectl.run("drain", drained.name, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s", seconds=200)
    flow.see(f"drained in {time.monotonic() - started:.1f} s")
    try:
        flow.check_copy("set-0", written)
        assert flow.node_of("set-0") is not drained
        wait_until(lambda: not drained.shell("dmsetup ls | grep tdvol-; ls /dev/disk/by-id").strip(), 60, "no disk is at the drained node")
    finally:
        flow.kubectl.run("uncordon", drained.name)
    flow.release.wait()


def test_out_of_service(flow):
    """The node dies, and an administrator says so: the pod goes on at the other node, with all that it had flushed."""
    flow.apply(stateful_set("set", 1, ""))
    flow.kubectl.wait_ready("set-0")
    written, dead = flow.write("set-0"), flow.node_of("set-0")
    with flow.out_of_service(dead):
        started = time.monotonic()
        wait_until(lambda: (flow.kubectl.find("pod", "set-0") or {"spec": {}})["spec"].get("nodeName") not in (None, dead.name), 240,
                   lambda: f"the pod is on the other node: {flow.kubectl.warnings('set-0')}")  # fmt: skip
        flow.check_copy("set-0", written)
        flow.see(f"pod ready {time.monotonic() - started:.0f} s after the taint")
    assert flow.md5("set-0") == written
