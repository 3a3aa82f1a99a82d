# SPDX-License-Identifier: Apache-2.0
"""tdvol comes into the cluster by the commands of README.md, on nodes that are attested."""

import json
import os
import signal

import cluster
from servers import wait_until

COMMANDS = ("tdvolctl broker init ", "tdvol-broker ", "kubectl apply -f deploy/kubernetes/namespace.yaml", "helm install ",
            "kubectl -n tdvol exec ds/tdvol-node ", "kubectl apply -f deploy/kubernetes/examples/pvc.yaml")  # fmt: skip
STARTED_S = 240


def write_policy(lab: cluster.Cluster, image: dict) -> None:
    """docs/policy.md, "The first policy": its images and the rule for nodes, with the values of this cluster."""
    path = lab.folder / "broker/policy.json"
    policy = json.loads(path.read_text())
    token = {
        "issuer": lab.command("kubectl get --raw /.well-known/openid-configuration | jq -r .issuer").strip(), "audience": "tdvol",
        "subjects": ["system:serviceaccount:tdvol:tdvol-node"], "keys": json.loads(lab.command("kubectl get --raw /openid/v1/jwks")),
    }  # fmt: skip
    nodes = {"name": "nodes", "td": {"images": ["node-1"]}, "owner": {"token": token}, "tenant": "default",
             "may": ["create", "open", "delete"], "volumes": ["*"], "nodes": ["${token.node}"]}  # fmt: skip
    policy["images"] = {"node-1": image}
    policy["rules"] = [nodes, *(rule for rule in policy["rules"] if rule["name"] != "nodes")]
    path.write_text(json.dumps(policy, indent=2))
    lab.command("tdvolctl policy check broker/policy.json")
    os.kill(lab.broker.process.pid, signal.SIGHUP)


def has_started(lab: cluster.Cluster) -> bool:
    pods = lab.kubectl.find_all("pods", "-n", "tdvol")
    states = [state for pod in pods for state in pod["status"].get("containerStatuses", []) if state["name"] == "tdvol"]
    return bool(states) and all("running" in state["state"] for state in states)


def install(lab: cluster.Cluster) -> str:
    """All commands but the last, which is returned."""
    commands = cluster.install_commands()
    assert [next((start for start in COMMANDS if line.startswith(start)), line) for line in commands] == list(COMMANDS), commands
    init, broker, namespace, helm, attest, example = commands
    lab.command(init)
    lab.start_broker(broker)
    lab.command(namespace)
    lab.command(helm)
    wait_until(lambda: has_started(lab), STARTED_S, lambda: f"the plugin runs: {lab.kubectl.run('-n', 'tdvol', 'describe', 'pods')[-3000:]}", 1)
    write_policy(lab, json.loads(lab.command(attest)))
    lab.wait_plugin()
    return example
