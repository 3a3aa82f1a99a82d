# SPDX-License-Identifier: Apache-2.0
"""Claims, pods and classes as objects of Kubernetes."""

import build
from releases import Release

# Ends at once when it is told to; a shell that is process 1 would ignore the signal.
STAY = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"
SNAPSHOT_API = "snapshot.storage.k8s.io"


def claim(name: str, size: str = "128Mi", storage_class: str = "", mode: str = "ReadWriteOnce", **spec) -> dict:
    """storage_class: the default class if it is empty, which is that of the flow's release."""
    wanted = {"accessModes": [mode], "resources": {"requests": {"storage": size}}}
    wanted |= {"storageClassName": storage_class} if storage_class else {}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": wanted | spec}


def of_snapshot(name: str) -> dict:
    return {"dataSource": {"apiGroup": SNAPSHOT_API, "kind": "VolumeSnapshot", "name": name}}


def of_claim(name: str) -> dict:
    return {"dataSource": {"kind": "PersistentVolumeClaim", "name": name}}


def container(command: str = "", mount: dict | None = None, device: str | None = None) -> dict:
    """A container with the pod's volume below /data, or as a device."""
    made = {"name": "main", "image": build.BUSYBOX, "command": ["sh", "-c", f"{command}\n{STAY}"]}
    if device:
        return made | {"volumeDevices": [{"name": "data", "devicePath": device}]}
    return made | {"volumeMounts": [{"name": "data", "mountPath": "/data"} | (mount or {})]}


def pod(name: str, claim_name: str, command: str = "", mount: dict | None = None, device: str | None = None,
        read_only: bool = False, **spec) -> dict:  # fmt: skip
    """A pod that runs the command and then stays."""
    source = {"claimName": claim_name} | ({"readOnly": True} if read_only else {})
    wanted = {
        "terminationGracePeriodSeconds": 2, "enableServiceLinks": False, "automountServiceAccountToken": False,
        "containers": [container(command, mount, device)], "volumes": [{"name": "data", "persistentVolumeClaim": source}],
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": wanted | spec}


def on_node(name: str) -> dict:
    """Only on this node, but by the scheduler, which volumes that wait for their first consumer need."""
    return {"nodeSelector": {"kubernetes.io/hostname": name}}


def storage_class(release: Release, name: str, parameters: dict, **more) -> dict:
    """parameters: tdvol's own."""
    made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}, "provisioner": release.driver,
            "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": True,
            "parameters": release.parameters(parameters)}  # fmt: skip
    return made | more


def snapshot(name: str, claim_name: str) -> dict:
    spec = {"source": {"persistentVolumeClaimName": claim_name}}
    return {"apiVersion": f"{SNAPSHOT_API}/v1", "kind": "VolumeSnapshot", "metadata": {"name": name}, "spec": spec}


def stateful_set(name: str, replicas: int, command: str, mode: str = "ReadWriteOncePod", **spec) -> dict:
    template = pod(name, "", command)
    template["spec"] = {key: value for key, value in template["spec"].items() if key != "volumes"} | spec
    volume = claim("data", mode=mode)
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
        "serviceName": name, "replicas": replicas, "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": template["metadata"], "spec": template["spec"]},
        "volumeClaimTemplates": [{"metadata": volume["metadata"], "spec": volume["spec"]}],
    }}  # fmt: skip
