# SPDX-License-Identifier: Apache-2.0
"""What an upgrade of the chart must leave as it is, for check_chart.

chart_release.json is the record of a release: its values, and of the objects that it rendered what Kubernetes
lets nobody change, or what volumes and policies of users depend on. "check_chart --record" writes it: a release
does so. The objects themselves are not kept, because all the rest of them may change.
"""

import json
import pathlib

RECORD = pathlib.Path(__file__).with_name("chart_release.json")
# Fields that the API server refuses to change, by kind. Of kinds with none, the name alone must stay: policies
# of brokers name service accounts.
FIXED = {
    "ClusterRoleBinding": ["roleRef"],
    "CSIDriver": ["spec attachRequired", "spec volumeLifecycleModes", "spec fsGroupPolicy", "spec podInfoOnMount"],
    "DaemonSet": ["spec selector"],
    "Deployment": ["spec selector"],
    "PersistentVolumeClaim": ["spec accessModes", "spec storageClassName", "spec volumeMode"],
    "PriorityClass": ["value", "preemptionPolicy"],
    "RoleBinding": ["roleRef"],
    "Service": ["spec clusterIP"],
    "ServiceAccount": [],
    "StatefulSet": ["spec selector", "spec serviceName", "spec podManagementPolicy", "spec volumeClaimTemplates"],
    "StorageClass": ["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode", "allowVolumeExpansion"],
    "VolumeSnapshotClass": ["driver", "parameters", "deletionPolicy"],
}
# Options that say where the node's files are, and which driver this is: volumes that exist have both in them.
PLACES = ("--driver=", "--endpoint=", "--state-dir=", "--volumes=", "--kubelet-dir=", "--csi-address=",
          "--kubelet-registration-path=", "--upstream=", "--dir=", "--audit=")  # fmt: skip


def at(node, path):
    for step in path.split():
        node = node.get(step) if isinstance(node, dict) else None
    return node


def of_pod(pod):
    """Where a pod keeps files of the machine or of a claim, and who it is."""
    yield "serviceAccountName", pod.get("serviceAccountName")
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for container in pod["containers"]:
        for mount in container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            for kind, field in (("hostPath", "path"), ("persistentVolumeClaim", "claimName")):
                if kind in volume:
                    yield f"{container['name']} {mount['mountPath']} is {kind}", volume[kind][field]
        for word in container.get("args", []):
            if word.startswith(PLACES):
                yield f"{container['name']} {word.split('=')[0]}", word.split("=", 1)[1]


def facts(documents):
    """By object: what must stay."""
    found = {}
    for document in documents:
        kind = document["kind"]
        if kind not in FIXED:
            continue
        fixed = {path: at(document, path) for path in FIXED[kind]}
        if pod := at(document, "spec template spec"):
            fixed |= dict(of_pod(pod))
        found[f"{kind} {document['metadata']['name']}"] = fixed
    return found


def faults(former, now):
    """What of the former facts is not so any more. New objects and fields are no faults."""
    for name, fixed in former.items():
        if name not in now:
            yield f"{name}: it is gone"
            continue
        for path, value in fixed.items():
            if now[name].get(path) != value:
                yield f"{name}: {path} was {json.dumps(value)}, and is {json.dumps(now[name].get(path))}"


def size_faults(cases):
    """A record that has nothing to compare would find nothing."""
    kinds = {name.split()[0] for case in cases for name in case["facts"]}
    for kind in ("ClusterRoleBinding", "CSIDriver", "DaemonSet", "Deployment", "ServiceAccount", "StorageClass", "VolumeSnapshotClass"):
        if kind not in kinds:
            yield f"chart_release.json has no {kind}: run check_chart --record"


def read():
    return json.loads(RECORD.read_text())


def write(version, defaults, cases):
    RECORD.write_text(json.dumps({"version": version, "defaults": defaults, "cases": cases}, indent=1, sort_keys=True) + "\n")
