# SPDX-License-Identifier: Apache-2.0
"""What pods can ask of a volume: block devices, groups, modes, parts, options, file systems."""

import pytest

from objects import claim, pod, stateful_set, storage_class

DEVICE = "/dev/xvda"


def test_block(flow):
    flow.apply(claim("raw", volumeMode="Block"), pod("raw", "raw", device=DEVICE))
    flow.kubectl.wait_ready("raw")
    flow.kubectl.shell("raw", f"dd if=/dev/urandom of={DEVICE} bs=64k count=16 2>/dev/null && sync")
    written = flow.kubectl.shell("raw", f"head -c 1048576 {DEVICE} | md5sum")
    flow.kubectl.delete("pod", "raw")
    flow.apply(pod("raw", "raw", device=DEVICE))
    flow.kubectl.wait_ready("raw")
    assert flow.kubectl.shell("raw", f"head -c 1048576 {DEVICE} | md5sum") == written
    flow.lap("same data in the second pod")


def test_fs_group(flow):
    security = {"fsGroup": 2000, "runAsUser": 1000, "runAsNonRoot": True}
    flow.apply(claim("group"), pod("group", "group", securityContext=security))
    flow.kubectl.wait_ready("group")
    said = flow.kubectl.shell("group", "touch /data/new && ls -n /data/new")
    assert said.split()[2:4] == ["1000", "2000"], said
    flow.see(said)


def test_read_write_once_pod(flow):
    flow.apply(claim("single", mode="ReadWriteOncePod"), pod("first", "single"))
    flow.kubectl.wait_ready("first")
    flow.expect_warnings(("FailedScheduling", "ReadWriteOncePod|PersistentVolumeClaim"))
    flow.apply(pod("second", "single"))

    def is_refused(found: dict) -> bool:
        return any(one["type"] == "PodScheduled" and one["status"] == "False" for one in found["status"].get("conditions", []))

    flow.kubectl.wait("pod", "second", is_refused, "not scheduled")
    flow.kubectl.delete("pod", "first")
    flow.kubectl.wait_ready("second")
    flow.lap("the second follows the first")


def test_two_pods_of_a_node(flow):
    flow.apply(claim("shared"), pod("one", "shared", "echo one >/data/f"))
    flow.kubectl.wait_ready("one")
    flow.apply(pod("two", "shared", **flow.beside("one")))
    flow.kubectl.wait_ready("two")
    assert flow.kubectl.shell("two", "cat /data/f") == "one"
    flow.kubectl.delete("pod", "one")
    assert flow.kubectl.shell("two", "echo two >/data/f && cat /data/f") == "two"


def test_sub_path(flow):
    flow.apply(claim("part"), pod("part", "part", "echo hello >/data/f", {"subPath": "a/b"}))
    flow.kubectl.wait_ready("part")
    assert flow.kubectl.shell("part", "cat /data/f") == "hello"
    flow.kubectl.delete("pod", "part")
    flow.apply(pod("whole", "part"))
    flow.kubectl.wait_ready("whole")
    assert flow.kubectl.shell("whole", "cat /data/a/b/f") == "hello"


def test_read_only_pods_beside_a_writer(flow):
    flow.apply(claim("mixed"), pod("writer", "mixed", "echo hello >/data/f; sync"))
    flow.kubectl.wait_ready("writer")
    beside = flow.beside("writer")
    flow.apply(pod("mount", "mixed", mount={"readOnly": True}, **beside), pod("claim", "mixed", read_only=True, **beside))
    for name in ("mount", "claim"):
        flow.kubectl.wait_ready(name)
        assert flow.kubectl.shell(name, "cat /data/f") == "hello"
        flow.check_read_only(name)
    flow.kubectl.shell("writer", "touch /data/new")


def test_mount_options(flow):
    flow.make_class("options", {"integrity": "none"}, mountOptions=["noatime", "nodiratime"])
    flow.apply(claim("options", storage_class="options"), pod("options", "options"))
    flow.kubectl.wait_ready("options")
    mounted = flow.kubectl.shell("options", "grep ' /data ' /proc/mounts").split()
    assert {"noatime", "nodiratime"} <= set(mounted[3].split(",")), mounted
    flow.see(mounted[3])


@pytest.mark.parametrize("integrity, file_system", [("aegis128", "xfs"), ("none", "xfs"), ("hmac-sha256", "ext4")])
def test_kinds(flow, integrity, file_system):
    parameters = {"integrity": integrity, "csi.storage.k8s.io/fstype": file_system}
    flow.make_class("kind", parameters)
    flow.apply(claim("kind", "512Mi", storage_class="kind"), pod("kind", "kind"))
    flow.kubectl.wait_ready("kind")
    written = flow.write("kind")
    assert flow.kubectl.shell("kind", "grep ' /data ' /proc/mounts").split()[2] == file_system
    flow.kubectl.delete("pod", "kind")
    flow.apply(pod("kind", "kind"))
    flow.kubectl.wait_ready("kind")
    assert flow.md5("kind") == written


@pytest.mark.parametrize("suffix", ["", "-none"], ids=["authenticated", "none"])
def test_expand(flow, suffix):
    """While the pod runs, three times; the last is more than a disk of 1 GiB has."""
    flow.apply(claim("grow", storage_class=flow.release.name + suffix), pod("grow", "grow"))
    flow.kubectl.wait_ready("grow")
    written = flow.write("grow")
    for size, least in (("300Mi", 240), ("600Mi", 500), ("1500Mi", 1300)):
        flow.kubectl.patch("pvc", "grow", {"spec": {"resources": {"requests": {"storage": size}}}})
        flow.kubectl.wait("pvc", "grow", lambda found: found["status"]["capacity"]["storage"] == size, f"of {size}")  # noqa: B023
        shown = flow.mib("grow")
        assert shown > least, shown
        flow.lap(f"{size}: {shown} MiB")
    assert flow.md5("grow") == written


def test_ephemeral(flow):
    """The volume lives as long as its pod."""
    volume = claim("unused")["spec"]
    made = pod("short", "unused", "echo hello >/data/f")
    made["spec"]["volumes"] = [{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": volume}}}]
    flow.apply(made)
    flow.kubectl.wait_ready("short")
    name = flow.volume_of("short-data")["metadata"]["name"]
    flow.kubectl.delete("pod", "short")
    flow.kubectl.wait_gone("pv", name)
    flow.lap("PV gone with the pod")


def test_stateful_set(flow):
    """Two replicas, and a rolling update that replaces both pods."""
    flow.apply(stateful_set("set", 2, "echo start >>/data/starts"))
    flow.kubectl.run("rollout", "status", "sts/set", "--timeout=240s")
    flow.lap("2 pods ready")
    flow.kubectl.run("set", "env", "sts/set", "ROUND=2")
    flow.kubectl.run("rollout", "status", "sts/set", "--timeout=240s")
    for number in (0, 1):
        assert flow.kubectl.shell(f"set-{number}", "cat /data/starts").split() == ["start", "start"]
    flow.lap("rolled")


def test_static(flow):
    """A PersistentVolume that was made by hand, for a volume whose claim is gone."""
    flow.apply(claim("kept"), pod("kept", "kept", "echo hello >/data/f; sync"))
    flow.kubectl.wait_ready("kept")
    volume = flow.volume_of("kept")
    name = volume["metadata"]["name"]
    flow.kubectl.patch("pv", name, {"spec": {"persistentVolumeReclaimPolicy": "Retain"}})
    flow.kubectl.delete("pod/kept", "pvc/kept")
    flow.kubectl.delete("pv", name)
    spec = {key: value for key, value in volume["spec"].items() if key != "claimRef"} | {"persistentVolumeReclaimPolicy": "Delete"}
    flow.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "by-hand"}, "spec": spec},
               claim("again", volumeName="by-hand"), pod("again", "again"))  # fmt: skip
    flow.kubectl.wait_ready("again")
    assert flow.kubectl.shell("again", "cat /data/f") == "hello"


def test_wrong_class(flow):
    """A wrong parameter: an event of the claim names it."""
    flow.expect_warnings(("ProvisioningFailed", "aegis256"), ("FailedScheduling", ""))
    flow.apply(storage_class(flow.release, "wrong", {"integrity": "aegis256"}), claim("wrong", storage_class="wrong"), pod("wrong", "wrong"))

    def is_named(_found: dict) -> bool:
        return any(event["reason"] == "ProvisioningFailed" for event in flow.kubectl.events("wrong"))

    flow.kubectl.wait("pvc", "wrong", is_named, "refused with a reason")
    said = next(event["message"] for event in flow.kubectl.events("wrong") if event["reason"] == "ProvisioningFailed")
    assert "aegis256" in said, said
    flow.see(said)


@pytest.mark.only("local", "the disks of a cloud have no capacity that the scheduler could know")
def test_too_large(flow):
    """The scheduler knows how much space there is."""
    flow.expect_warnings(("FailedScheduling", "did not have enough free storage"))
    flow.apply(claim("huge", "500Gi"), pod("huge", "huge"))

    def is_told(_found: dict) -> bool:
        return any("did not have enough free storage" in event["message"] for event in flow.kubectl.events("huge"))

    flow.kubectl.wait("pod", "huge", is_told, "not scheduled for want of space", 120)
