# SPDX-License-Identifier: Apache-2.0
"""tdvol comes into the cluster by the commands of README.md, on nodes that are attested."""

import json
import os
import signal

import build
import cluster
import programs
from releases import Release
from servers import wait_until

COMMANDS = ("tdvolctl broker init ", "tdvol-broker ", "kubectl apply -f deploy/kubernetes/namespace.yaml", "helm install ",
            "kubectl -n tdvol exec ds/tdvol-node ", "kubectl apply -f deploy/kubernetes/examples/pvc.yaml")  # fmt: skip
STARTED_S = 240
IMAGE = "node-1"  # in the policy


def token_of(lab: cluster.Cluster, account: str) -> dict:
    """What a policy says of the tokens of this service account."""
    return {
        "issuer": lab.command("kubectl get --raw /.well-known/openid-configuration | jq -r .issuer").strip(), "audience": "tdvol",
        "subjects": [f"system:serviceaccount:tdvol:{account}"], "keys": json.loads(lab.command("kubectl get --raw /openid/v1/jwks")),
    }  # fmt: skip


def change_policy(lab: cluster.Cluster, rules: list[dict], **more) -> None:
    """Puts rules before those of other names, and the broker reads them. more: other parts of the policy."""
    path = lab.folder / "broker/policy.json"
    policy = json.loads(path.read_text()) | more
    names = {rule["name"] for rule in rules}
    policy["rules"] = [*rules, *(rule for rule in policy["rules"] if rule["name"] not in names)]
    path.write_text(json.dumps(policy, indent=2))
    lab.command("tdvolctl policy check broker/policy.json")
    os.kill(lab.broker.process.pid, signal.SIGHUP)


def write_policy(lab: cluster.Cluster, image: dict) -> None:
    """docs/policy.md, "The first policy": its images and the rule for nodes, with the values of this cluster."""
    nodes = {"name": "nodes", "td": {"images": [IMAGE]}, "owner": {"token": token_of(lab, "tdvol-node")}, "tenant": "default",
             "may": ["create", "open", "delete"], "volumes": ["*"], "nodes": ["${token.node}"]}  # fmt: skip
    change_policy(lab, [nodes], images={IMAGE: image})


def has_started(lab: cluster.Cluster) -> bool:
    pods = lab.kubectl.find_all("pods", "-n", "tdvol")
    states = [state for pod in pods for state in pod["status"].get("containerStatuses", []) if state["name"] == "tdvol"]
    return bool(states) and all("running" in state["state"] for state in states)


def upgrade_command() -> str:
    """That of docs/install.md."""
    lines = (programs.TREE / "docs/install.md").read_text().splitlines()
    return next(line.strip() for line in lines if line.startswith("    helm upgrade tdvol deploy/chart"))


def install(lab: cluster.Cluster) -> Release:
    """All commands but the last, which is the release's example."""
    commands = cluster.install_commands()
    assert [next((start for start in COMMANDS if line.startswith(start)), line) for line in commands] == list(COMMANDS), commands
    init, broker, namespace, helm, attest, example = commands
    lab.command(init)
    lab.start_broker(broker)
    lab.command(namespace)
    lab.command(helm)
    wait_until(lambda: has_started(lab), STARTED_S, lambda: f"the plugin runs: {lab.kubectl.run('-n', 'tdvol', 'describe', 'pods')[-3000:]}", 1)
    write_policy(lab, json.loads(lab.command(attest)))
    values = {"image": {"repository": build.REPOSITORY}, "broker": {"address": f"{cluster.BROKER}:7443"}}
    made = Release(lab, values, upgrade_command(), example)
    made.wait()
    return made
