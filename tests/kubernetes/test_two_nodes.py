# SPDX-License-Identifier: Apache-2.0
"""Two nodes: a volume of the local backend stays on the disk of its node, and its pod with it."""

import time

import pytest

from objects import claim, on_node, pod, stateful_set
from servers import wait_until

pytestmark = pytest.mark.only("local", "the disks of a cloud move with their pods: test_moves.py")
NOT_FITTING = ("FailedScheduling", "node affinity|unschedulable|untolerated taint")


@pytest.fixture
def second(two_nodes, flow):
    """The second node; flow is the cluster's."""
    flow.expect_warnings(NOT_FITTING)
    return two_nodes.nodes[1]


def test_second_node(flow, second):
    flow.apply(claim("there"), pod("there", "there", **on_node(second.name)))
    flow.kubectl.wait_ready("there")
    assert flow.kubectl.get("pod", "there")["spec"]["nodeName"] == second.name
    written = flow.write("there")
    flow.kubectl.delete("pod", "there")
    flow.apply(pod("there", "there"))  # anywhere, but its volume is on the second node
    flow.kubectl.wait_ready("there")
    assert flow.kubectl.get("pod", "there")["spec"]["nodeName"] == second.name
    assert flow.md5("there") == written


def test_drain(flow, second):
    flow.apply(stateful_set("set", 1, "", nodeSelector={"kubernetes.io/hostname": second.name}))
    flow.kubectl.wait_ready("set-0")
    written = flow.write("set-0")
    started = time.monotonic()
    flow.kubectl.run("drain", second.name, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
    flow.see(f"drained in {time.monotonic() - started:.1f} s")
    try:
        wait_until(lambda: not second.shell("dmsetup ls | grep tdvol-").strip(), 60, "no volume is open on the drained node")
    finally:
        flow.kubectl.run("uncordon", second.name)
    flow.kubectl.wait_ready("set-0")
    assert flow.md5("set-0") == written
    flow.lap("pod back")


def test_out_of_service(flow, second):
    """The node dies, and an administrator says that it is out of service: its pods are deleted. They wait for its disk."""
    flow.apply(stateful_set("set", 1, "", nodeSelector={"kubernetes.io/hostname": second.name}))
    flow.kubectl.wait_ready("set-0")
    written, first = flow.write("set-0"), flow.kubectl.get("pod", "set-0")["metadata"]["uid"]
    with flow.out_of_service(second):
        flow.kubectl.wait("pod", "set-0", lambda found: found["metadata"]["uid"] != first, "another pod")
        flow.lap("pod replaced")
    flow.kubectl.wait_ready("set-0")
    assert flow.md5("set-0") == written
    flow.lap("pod back with its data")
