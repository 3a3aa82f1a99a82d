# SPDX-License-Identifier: Apache-2.0
"""The two releases of the chart in the cluster: local volumes, and volumes on disks of the imitated cloud."""

import subprocess

import yaml

from cluster import Cluster
from machines import Project
from nodes import Node
from servers import wait_until


class Release:
    """Local volumes, which README.md's commands install. The classes of a release have its name."""

    kind, name, driver = "local", "tdvol", "csi.tdvol.dev"
    workloads = ("ds/tdvol-node",)
    warnings: tuple = ()  # of Kubernetes, about each driver of this kind: reason, regular expression

    def __init__(self, lab: Cluster, values: dict, upgrade: str, example: str):
        """values: of the chart. upgrade, example: commands of its documentation; the second makes a claim and a pod."""
        self.lab, self.kubectl, self.values = lab, lab.kubectl, values
        self.upgrade_command, self.example = upgrade, example

    def upgrade(self, tag: str) -> None:
        """To another image of ours, and waits until all pods have it."""
        image = self.values["image"] | {"tag": tag}
        (self.lab.folder / "values.yaml").write_text(yaml.safe_dump(self.values | {"image": image}))
        self.lab.command(self.upgrade_command)
        self.wait()

    def damage(self, node: Node, volume: str) -> None:
        """Changes single bytes of a volume that is not in use and was on this node."""
        node.shell(f"""cd /var/lib/tdvol/volumes; file=$(ls | grep -F '{volume}')
            for at in $(seq 60 4 180); do printf X | dd of=$file bs=1 seek=$((at * 1048576 + 77)) conv=notrunc 2>/dev/null; done; sync""")

    def parameters(self, ours: dict) -> dict:
        """Those of a StorageClass; ours: tdvol's."""
        return ours

    def left(self) -> list[str]:
        """What there is of its volumes outside of the cluster."""
        return []

    def make_default(self) -> None:
        """Claims and snapshots of which nobody says the class have that of this release."""
        for found in self.kubectl.find_all("storageclass"):
            name, key = found["metadata"]["name"], "storageclass.kubernetes.io/is-default-class"
            self.kubectl.run("annotate", "--overwrite", "storageclass", name, f"{key}={str(name == self.name).lower()}")
        self.kubectl.run("annotate", "--overwrite", "volumesnapshotclass", self.name, "snapshot.storage.kubernetes.io/is-default-class=true")

    def plugin_pod(self, node: Node) -> dict:
        """The plugin's pod on a node that is not being deleted; there must be one."""
        labels = f"app.kubernetes.io/component=node,app.kubernetes.io/name={self.name}"
        pods = [pod for pod in self.kubectl.find_all("pods", "-n", "tdvol", "-l", labels, f"--field-selector=spec.nodeName={node.name}")
                if "deletionTimestamp" not in pod["metadata"]]  # fmt: skip
        assert len(pods) == 1, f"{len(pods)} pods of the plugin on {node.name}"
        return pods[0]

    def plugin_container(self, node: Node, name: str = "tdvol") -> dict:
        """The state of a container of the plugin's pod, as Kubernetes sees it."""
        states = self.plugin_pod(node)["status"].get("containerStatuses", [])
        return next((state for state in states if state["name"] == name), {"ready": False, "restartCount": 0})

    def kill_plugin(self, node: Node) -> None:
        """kill -9 of tdvol-csi, of the controller's too if it is on this node."""
        node.shell(f"""for pid in $(pgrep -x tdvol-csi); do
            grep -qzx -e --driver-name={self.driver} /proc/$pid/cmdline && kill -KILL $pid; done""")

    def wait(self, seconds: float = 240) -> None:
        """Until all its pods are ready."""
        for workload in self.workloads:
            self.kubectl.run("-n", "tdvol", "rollout", "status", workload, f"--timeout={seconds}s", seconds=seconds + 30)

    def page(self, node: Node, path: str) -> str:
        """A page of the plugin's HTTP server."""
        address = self.plugin_pod(node)["status"]["podIP"]
        return subprocess.run(["curl", "-s", "-m", "10", f"http://{address}:9809/{path}"], capture_output=True, text=True).stdout


class Stacked(Release):
    """Volumes on persistent disks, which docs/upstreams.md installs."""

    kind, name, driver = "stacked", "tdvol-pd", "pd.csi.tdvol.dev"
    workloads = ("deploy/tdvol-pd-controller", "ds/tdvol-pd-node")
    # A pod comes, or a claim goes, before its disk is detached.
    warnings = (("FailedAttachVolume", "Multi-Attach error|Waiting for detach for volume"),
                ("VolumeFailedDelete", "is still attached to node"))  # fmt: skip

    def __init__(self, lab: Cluster, values: dict, upgrade: str, example: str, project: Project):
        super().__init__(lab, values, upgrade, example)
        self.project = project

    def damage(self, node: Node, volume: str) -> None:
        cloud = self.project.cloud
        wait_until(lambda: not any(volume.endswith(f"/{name}") for one in cloud.instances.values() for name in one.disks), 60, "the disk is detached")
        with cloud.disks[volume].file.open("r+b") as file:
            for at in range(60, 181, 4):
                file.seek((at << 20) + 77)
                file.write(b"X")

    def parameters(self, ours: dict) -> dict:
        own = {name if name.startswith("csi.storage.k8s.io/") else f"tdvol.dev/{name}": value for name, value in ours.items()}
        return own | {"type": "pd-balanced"}

    def left(self) -> list[str]:
        return self.project.left()
