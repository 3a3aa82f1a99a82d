# SPDX-License-Identifier: Apache-2.0
"""tdvol before Google's driver for persistent disks, by the commands of docs/upstreams.md."""

import copy
import json
import re

import build
import cluster
import programs
from install import IMAGE, change_policy, token_of
from machines import ADDRESS, Project
from releases import Stacked

STARTS = ("kubectl label node ", "kubectl -n tdvol create secret ", "helm install tdvol-pd ",
          "kubectl apply -f deploy/kubernetes/stacked-pd/examples/pvc.yaml")  # fmt: skip


def commands() -> list[str]:
    """Those of "Install the example", in the order of STARTS."""
    text = (programs.TREE / "docs/upstreams.md").read_text()
    section = text.partition("\n## Install the example\n")[2].partition("\n## ")[0]
    found = [" ".join(one.split()) for one in re.findall(r"`([^`]+)`", section)]
    chosen = [one for start in STARTS for one in found if one.startswith(start)]
    assert len(chosen) == len(STARTS), found
    return chosen


def values() -> dict:
    """An administrator's values, and what the imitation needs: its address, and no udev, which the nodes have not."""
    upstream = copy.deepcopy(build.STACKED["upstream"])
    upstream["controller"]["args"].append(f"--compute-endpoint=http://{ADDRESS}/")
    node = {field: [one for one in upstream["node"][field] if not one["name"].startswith("udev-")] for field in ("volumes", "volumeMounts")}
    return {
        "image": {"repository": build.REPOSITORY}, "broker": {"address": f"{cluster.BROKER}:7443"},
        "upstream": {"controller": {"args": upstream["controller"]["args"]}, "node": node},
    }  # fmt: skip


def add_rules(lab: cluster.Cluster, project: str) -> None:
    """Those of deploy/kubernetes/stacked-pd/policy.json, with the values of this cluster."""
    policy = json.loads((programs.TREE / "deploy/kubernetes/stacked-pd/policy.json").read_text())
    rules = [rule for rule in policy["rules"] if rule["name"].startswith("pd-")]
    assert len(rules) == 2, policy["rules"]
    for rule in rules:
        account = rule["owner"]["token"]["subjects"][0].rpartition(":")[2]
        rule |= {"td": {"images": [IMAGE]}, "owner": {"token": token_of(lab, account)}, "volumes": [f"projects/{project}/*"]}
    change_policy(lab, rules)


def install(lab: cluster.Cluster, project: Project) -> Stacked:
    label, secret, helm, example = commands()
    for node in lab.nodes:
        lab.command(label.replace("NAME", node.name))
    (lab.folder / "cloud-sa.json").write_text(project.account.file())
    lab.command(secret)
    add_rules(lab, project.cloud.project)
    made = Stacked(lab, values(), helm.replace("helm install", "helm upgrade"), example, project)
    (lab.folder / "values.yaml").write_text(build.yaml.safe_dump(made.values))
    lab.command(helm)
    made.wait()
    return made
