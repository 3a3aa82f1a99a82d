# SPDX-License-Identifier: Apache-2.0
"""One flow: what it makes in the cluster, what it saw, and that nothing of it stays."""

import contextlib
import re
import time

import objects
from nodes import Node
from releases import Release
from servers import wait_until

CLEAN_S = 120
WRITER = """mkdir -p /data/blocks
(i=0; while :; do i=$((i + 1)); dd if=/dev/urandom of=/data/new bs=64k count=8 2>/dev/null && sync &&
mv /data/new /data/blocks/$(md5sum </data/new | cut -c1-32) && echo $i >/data/count || echo error in round $i
ls -t /data/blocks | tail -n +9 | while read f; do rm /data/blocks/$f; done; sleep 0.3; done) &"""
# The pod may go on writing, and remove a block meanwhile.
MD5S = """cd /data/blocks && for f in *; do s=$(md5sum <$f 2>/dev/null) && echo "$f $s" || { [ ! -e $f ] || echo $f unreadable; }; done"""
# Kinds in the order in which a user would delete them.
DELETED = ("statefulset", "pod", "volumesnapshot", "pvc", "storageclass")
# Warnings that say nothing about a driver: reason and text. First those of the guests, and of their start; then those of
# the scheduler, which looks at a pod before its claim is there or while its claim is being bound, and of the provisioner,
# when somebody else has changed a claim at the same moment. Both try again at once.
IGNORED = (
    ("FailedNodeAllocatableEnforcement", "cpuset"), ("InvalidDiskCapacity", "invalid capacity 0"), ("Rebooted", ""),
    ("FailedScheduling", "untolerated taint"), ("CheckLimitsForResolvConf", ""), ("DNSConfigForming", ""),
    ("FailedScheduling", "unbound immediate PersistentVolumeClaims|persistentvolumeclaim .*not found|waiting for ephemeral volume controller"),
    ("FailedScheduling", "VolumeBinding.*the object has been modified"),
    ("ProvisioningFailed", "the object has been modified"),  # of a copy: it marks its source
)  # fmt: skip
# Warnings that come with the death of a node: of the node, of its pods, and of those that replace them.
OF_DEATH = (
    ("NodeNotReady", ""), ("Unhealthy", "probe failed"), ("BackOff", ""), ("FailedCreatePodSandBox", ""), ("FailedMount", ""),
    ("FailedScheduling", "unschedulable|affinity|untolerated taint"), ("TaintManagerEviction", ""),
)  # fmt: skip
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
KEPT = "pv,pvc,volumesnapshot,volumesnapshotcontent,volumeattachment"
# What the nodes have of volumes: files, mappings, loop devices, disks, mounts, folders of pods.
LEFT = r"""ls /var/lib/tdvol/volumes; dmsetup ls | grep -v '^No devices'; losetup -a; ls /dev/disk/by-id
grep -o '\S*csi\.tdvol\.dev/\([0-9a-f]\|upstream/\)\S* ' /proc/mounts; ls /var/lib/kubelet/plugins/pd.csi.tdvol.dev/upstream 2>/dev/null
grep -o '\S*kubernetes.io~csi\S*' /proc/mounts; find /var/lib/kubelet/pods -path '*kubernetes.io~csi*' -maxdepth 6 2>/dev/null"""


class Flow:
    def __init__(self, release: Release, name: str):
        """release: whose volumes they are."""
        self.release, self.lab, self.kubectl, self.name = release, release.lab, release.kubectl, name
        self.start, self.seen, self.expected = time.monotonic(), [], []
        self.start_text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.before = set(self.left())  # of a flow that failed
        self.kubectl.run("delete", "events", "--all", "-A")

    def see(self, text: str) -> None:
        """Notes what was seen, for the table."""
        self.seen.append(text)

    def lap(self, what: str) -> None:
        self.see(f"{what} {time.monotonic() - self.start:.1f} s")

    def expect_warnings(self, *warnings: tuple[str, str]) -> None:
        """Warnings that this flow causes on purpose: of each the reason, and a regular expression of its text."""
        self.expected += warnings

    def apply(self, *wanted: dict) -> None:
        self.kubectl.apply(*wanted)

    def node_of(self, pod: str) -> Node:
        """The node on which the pod runs."""
        name = self.kubectl.get("pod", pod)["spec"]["nodeName"]
        return next(node for node in self.lab.nodes if node.name == name)

    def beside(self, pod: str) -> dict:
        """What a pod needs that shall be on the same node as this one."""
        return objects.on_node(self.node_of(pod).name)

    @contextlib.contextmanager
    def out_of_service(self, node: Node):
        """The node dies, and an administrator says that it is out of service. At the end it comes back."""
        self.expect_warnings(*OF_DEATH)
        started = time.monotonic()
        node.crash()
        try:
            self.kubectl.run("wait", "--for=condition=Ready=Unknown", f"node/{node.name}", "--timeout=180s")
            self.see(f"not ready after {time.monotonic() - started:.0f} s")
            self.kubectl.run("taint", "nodes", node.name, f"{OUT_OF_SERVICE}=nodeshutdown:NoExecute")
            yield
        finally:
            node.start()
            self.kubectl.try_run("taint", "nodes", node.name, f"{OUT_OF_SERVICE}-")
        for release in self.lab.releases:
            release.wait()

    def make_class(self, name: str, parameters: dict, **more) -> None:
        """A StorageClass. The scheduler learns a moment later how much space there is for it."""

        def capacities() -> list[dict]:
            return [one for one in self.kubectl.find_all("csistoragecapacities", "-A") if one["storageClassName"] == name]

        wait_until(lambda: not capacities(), 60, "the capacities of a class of this name are gone")
        self.apply(objects.storage_class(self.release, name, parameters, **more))
        if self.release.kind == "local":
            wait_until(lambda: len(capacities()) == len(self.lab.nodes), 60, "the scheduler knows the class")

    def volume_of(self, claim: str) -> dict:
        """The PersistentVolume of a claim."""
        return self.kubectl.get("pv", self.kubectl.wait_bound(claim)["spec"]["volumeName"])

    def write(self, pod: str, path: str = "/data/r", mib: int = 4) -> str:
        """Writes random bytes, flushes them, and returns their MD5."""
        self.kubectl.shell(pod, f"dd if=/dev/urandom of={path} bs=64k count={16 * mib} 2>/dev/null && sync")
        return self.md5(pod, path)

    def write_always(self, name: str, **spec) -> None:
        """A claim and a pod that writes, flushes and keeps the last blocks, named by their MD5, and notes each error."""
        self.apply(objects.claim(name, "256Mi"), objects.pod(name, name, WRITER, **spec))
        self.kubectl.wait_ready(name)
        wait_until(lambda: self.writes(name) > 2, 60, "the pod writes")

    def writes(self, pod: str) -> int:
        return int(self.kubectl.shell(pod, "cat /data/count 2>/dev/null || echo 0") or 0)

    def check_writes(self, pod: str, more_than: int) -> None:
        """The pod went on writing without an error."""
        wait_until(lambda: self.writes(pod) > more_than, 60, f"the pod goes on writing after {more_than}")
        log = self.kubectl.run("logs", pod)
        assert "error" not in log, log[-500:]
        self.see(f"writes {more_than} -> {self.writes(pod)}, no error")

    def check_blocks(self, pod: str) -> None:
        """Every block has the content that its name says."""
        said = self.kubectl.shell(pod, MD5S).splitlines()
        assert said and all(line == f"{line[:32]} {line[:32]}  -" for line in said), said
        self.see(f"{len(said)} blocks whole")

    def md5(self, pod: str, path: str = "/data/r") -> str:
        return self.kubectl.shell(pod, f"md5sum <{path}").split()[0]

    def mib(self, pod: str) -> int:
        """The size of the file system in a pod."""
        return int(self.kubectl.shell(pod, "df -Pm /data | tail -n 1").split()[1])

    def check_copy(self, pod: str, written: str) -> None:
        """The pod becomes ready, and its volume has the data with this MD5."""
        self.kubectl.wait_ready(pod)
        assert self.md5(pod) == written
        self.lap(f"{pod}, {self.mib(pod)} MiB")

    def check_read_only(self, pod: str) -> None:
        said = self.kubectl.shell(pod, "touch /data/new 2>&1 || true")
        assert "Read-only file system" in said, said

    def left(self) -> list[str]:
        """What there is of volumes, in the cluster, on the nodes, in the cloud and at the broker."""
        found = self.release.left()
        found += [f"{one['kind']} {one['metadata']['name']}" for one in self.kubectl.find_all(KEPT)]
        for node in self.lab.nodes:
            if node.process:
                found += [f"{node.name}: {line}" for line in node.shell(LEFT).splitlines() if line.strip()]
        listed = self.lab.broker_ctl("volume", "list")
        assert listed.returncode == 0, listed.stderr
        return found + [f"broker: {line}" for line in listed.stdout.splitlines()[1:]]

    def warnings(self) -> list[str]:
        """Warnings that nobody expects, on all objects. Kubernetes tells again minutes later what was said in a flow before."""
        allowed = [*self.expected, *IGNORED, *self.release.warnings]
        return [f"{event['reason']} on {event['involvedObject']['kind']} {event['involvedObject'].get('name')}: {event['message']}"
                for event in self.kubectl.find_all("events", "-A")
                if event["type"] != "Normal" and (event["eventTime"] or event["firstTimestamp"] or "") >= self.start_text
                and not any(event["reason"] == reason and re.search(text, event["message"]) for reason, text in allowed)]  # fmt: skip

    def clean(self) -> None:
        """Deletes what the flow made."""
        for kind in DELETED:
            found = [one["metadata"]["name"] for one in self.kubectl.find_all(kind)
                     if one["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") != "Helm"]  # fmt: skip
            if found:
                self.kubectl.delete(kind, *found)

    def new_left(self) -> list[str]:
        return [one for one in self.left() if one not in self.before]

    def finish(self) -> None:
        """Nothing stays, and no user had to read a warning."""
        self.clean()
        wait_until(lambda: not self.new_left(), CLEAN_S, lambda: f"nothing is left: {self.new_left()} {self.warnings()}", 1)
        assert not self.warnings(), "\n".join(self.warnings())

    def rescue(self) -> None:
        """After a failure, so that the next flow can run: as finish, but it complains about nothing."""
        try:
            self.clean()
            wait_until(lambda: not self.new_left(), CLEAN_S, lambda: f"nothing is left: {self.new_left()}", 1)
        except Exception as error:  # whatever it is, the flow has failed already
            self.see(f"not clean: {str(error)[:200]}")
