# SPDX-License-Identifier: Apache-2.0
"""How long pods wait for their volumes, beside bare local volumes in the same cluster: run.py tests/kubernetes/ready.py

Each round creates pods with new volumes, deletes the pods, and creates them again with the volumes that exist now.
Bare: a PersistentVolume of type "local", which is a folder that was made before, so there is nothing to do for it.
The pods are the same, and rounds take turns. One node: its processor is what all pods share."""

import json
import re
import statistics
import time

from conftest import LAB
from kube import is_ready
from objects import claim, pod, storage_class

COUNTS = {1: 5, 5: 3, 20: 1}  # pods at once: rounds
BARE = "bare"
READY_S = 900
SIZE = "64Mi"
LINE = "{:<10} {:>4} {:>8} {:>14} {:>14}"


def bare_volume(name: str, node: str) -> dict:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
        "capacity": {"storage": SIZE}, "accessModes": ["ReadWriteOnce"], "storageClassName": BARE, "local": {"path": f"/run/disk/{name}"},
        "persistentVolumeReclaimPolicy": "Retain", "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
    }}  # fmt: skip


def make_class(lab) -> None:
    lab.kubectl.apply(storage_class(lab.releases[0], BARE, {}, provisioner="kubernetes.io/no-provisioner", allowVolumeExpansion=False))


def wait_all_ready(kubectl, names: list[str]) -> list[float]:
    """When each was ready. A pod's own conditions have whole seconds, so this asks often."""
    seen: dict[str, float] = {}
    end = time.monotonic() + READY_S
    while len(seen) < len(names):
        assert time.monotonic() < end, f"ready after {READY_S} s: {sorted(seen)}"
        for found in kubectl.find_all("pods", "-l", "measured=yes"):
            if is_ready(found):
                seen.setdefault(found["metadata"]["name"], time.monotonic())
        time.sleep(0.1)
    return list(seen.values())


def pods_of(names: list[str]) -> list[dict]:
    made = [pod(name, name) for name in names]
    for one in made:
        one["metadata"]["labels"] |= {"measured": "yes"}
    return made


def start(kubectl, names: list[str], *more: dict) -> tuple[float, float]:
    """Seconds until half of the pods and until all of them are ready."""
    began = time.monotonic()
    kubectl.apply(*more, *pods_of(names))
    took = [one - began for one in wait_all_ready(kubectl, names)]
    return statistics.median(took), max(took)


def one_round(lab, kind: str, n: int, number: int) -> dict[str, tuple[float, float]]:
    kubectl, node = lab.kubectl, lab.nodes[0]
    names = [f"{kind}-{n}-{number}-{i}" for i in range(n)]
    if kind == BARE:
        node.shell(f"mkdir -p {' '.join(f'/run/disk/{name}' for name in names)}")
        kubectl.apply(*(bare_volume(name, node.name) for name in names))
    times = {"new": start(kubectl, names, *(claim(name, SIZE, kind) for name in names))}
    kubectl.delete("pods", *names, seconds=READY_S)
    times["existing"] = start(kubectl, names)
    kubectl.delete("pods", *names, seconds=READY_S)
    kubectl.delete("pvc", *names, seconds=READY_S)
    if kind == BARE:
        kubectl.delete("pv", *names)
        node.shell(f"rm -rf {' '.join(f'/run/disk/{name}' for name in names)}")
    return times


def print_calls(lab) -> None:
    """How long the driver's own calls took, all in all: the rest of a pod's time is not the driver's."""
    page = lab.releases[0].page(lab.nodes[0], "metrics")
    found = re.findall(r'csi_plugin_operations_seconds_(sum|count)\{.*?method_name="([^"]+)".*?\} (\S+)', page)
    sums: dict[str, dict[str, float]] = {}
    for what, method, value in found:
        both = sums.setdefault(method.rpartition("/")[2], {"sum": 0, "count": 0})
        both[what] += float(value)
    for method, both in sorted(sums.items(), key=lambda one: -one[1]["sum"]):
        print(f"{method:<28} {both['count']:>5.0f} calls {both['sum'] / max(both['count'], 1):>8.3f} s each")


def test_ready(lab):
    make_class(lab)
    one_round(lab, "tdvol", 1, 99), one_round(lab, BARE, 1, 99)  # what the first pod alone waits for
    figures: dict[tuple[str, int, str], list[tuple[float, float]]] = {}
    for n, rounds in COUNTS.items():
        for number in range(rounds):
            for kind in (BARE, "tdvol"):
                for what, times in one_round(lab, kind, n, number).items():
                    figures.setdefault((kind, n, what), []).append(times)
                    print(f"{kind} {n} {what}: {times[0]:.2f} s, {times[1]:.2f} s", flush=True)
    print("\n" + LINE.format("volumes", "pods", "are", "half ready", "all ready"))
    rows = []
    for (kind, n, what), times in figures.items():
        half, last = (statistics.median(one[i] for one in times) for i in (0, 1))
        rows.append({"volumes": kind, "pods": n, "are": what, "half_s": half, "all_s": last, "rounds": times})
        print(LINE.format(kind, n, what, f"{half:.2f} s", f"{last:.2f} s"))
    print_calls(lab)
    (LAB / "ready.json").write_text(json.dumps(rows, indent=2))
