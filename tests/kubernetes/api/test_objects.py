# SPDX-License-Identifier: Apache-2.0
"""A real API server takes what deploy/ has: the chart in all its variants, and the manifests."""

import copy
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest
import yaml

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parents[2])]
import build  # noqa: E402
import helm  # noqa: E402
import programs  # noqa: E402
import servers  # noqa: E402
from kube import Kubectl  # noqa: E402

CHART, MANIFESTS = programs.TREE / "deploy/chart", programs.TREE / "deploy/kubernetes"
GIVEN = ["--set", "broker.address=broker.example.com:7443", "--set", "broker.ca=-----BEGIN CERTIFICATE-----"]
VARIANTS = {
    "local": ("tdvol", GIVEN), "certificate": ("tdvol", [*GIVEN, "--set", "attestation=certificate"]),
    "no-snapshots": ("tdvol", [*GIVEN, "--set", "sidecars.snapshotter.enabled=false", "--set-json", "volumeSnapshotClasses=[]"]),
} | {path.stem: ("tdvol-pd" if "stacked" in path.stem else "tdvol", ["-f", str(path)]) for path in sorted((CHART / "ci").glob("*.yaml"))}
OPERATORS = {"PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"}  # of the Prometheus Operator


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def operators_definition(kind: str, plural: str) -> dict:
    """The operator's kinds, without a schema: their own is not here."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.monitoring.coreos.com"},
            "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                     "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}]}}  # fmt: skip


def account(namespace: str) -> dict:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory):
    """An API server with the definitions of snapshots and of the Prometheus Operator, and the namespace tdvol."""
    port, etcd, _ = free_ports(3)
    api = servers.Api(tmp_path_factory.mktemp("api") / "server", "127.0.0.1", port, etcd_port=etcd)
    try:
        client = Kubectl(api.kubeconfig)

        def is_ready() -> bool:
            api.check()
            return client.try_run("get", "--raw", "/readyz").returncode == 0

        servers.wait_until(is_ready, 180, "the API server is ready")
        client.apply(*(operators_definition(*words) for words in OPERATORS.items()))
        for path in sorted(build.CRDS.glob("*.yaml")):
            client.apply_file(path)
        client.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        client.run("apply", "--server-side", "-f", MANIFESTS / "namespace.yaml")
        client.apply(account("tdvol"))  # pods need one, and no controller makes it here
        yield client
    finally:
        api.stop()


def rendered(release: str, options: list[str]) -> list[dict]:
    words = [helm.build(), "template", release, CHART, "-n", "tdvol", "--kube-version", programs.KUBERNETES[1:], *options]
    done = subprocess.run([*map(str, words)], check=True, capture_output=True, text=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def take(kubectl: Kubectl, objects: list[dict], *words):
    """Gives the objects to the server, which checks all of them and keeps none. Unknown fields are refused."""
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    return kubectl.try_run("apply", "--server-side", "--dry-run=server", "-n", "tdvol", "-f", "-", *words, stdin=listed)


@pytest.mark.parametrize("name", VARIANTS)
def test_chart_is_taken(kubectl, name):
    objects = rendered(*VARIANTS[name])
    done = take(kubectl, objects)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(objects)
    assert "Warning" not in done.stderr, done.stderr


@pytest.mark.parametrize("folder", ["", "certificate", "stacked-pd"])
def test_manifests_are_taken(kubectl, folder, tmp_path):
    """As kubectl apply -k gives them."""
    copied = shutil.copytree(MANIFESTS, tmp_path / "kubernetes")
    if folder == "certificate":
        path = copied / "kustomization.yaml"
        path.write_text(path.read_text().replace("# components:\n#   - certificate\n", "components:\n  - certificate\n"))
        assert "\ncomponents:" in path.read_text()
    where = copied if folder in ("", "certificate") else copied / folder
    done = kubectl.try_run("apply", "--server-side", "--dry-run=server", "-k", where)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr


def others() -> list[pathlib.Path]:
    return [*sorted(MANIFESTS.glob("**/examples/*.yaml")), MANIFESTS / "broker.yaml", MANIFESTS.parent / "monitoring/prometheusrule.yaml"]


@pytest.mark.parametrize("path", others(), ids=lambda path: str(path.relative_to(MANIFESTS.parent)))
def test_others_are_taken(kubectl, path):
    done = kubectl.try_run("apply", "--server-side", "--dry-run=server", "-n", "tdvol", "-f", path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr


def find(objects: list[dict], kind: str) -> dict:
    return next(one for one in objects if one["kind"] == kind)


def plugin(objects: list[dict]) -> dict:
    return find(objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]


# What a server refuses, and what it says: the last four are found by no schema.
FAULTS = {
    "unknown field": (lambda objects: find(objects, "CSIDriver")["spec"].update(attachRequire=False), "attachRequire"),
    "unknown field of a container": (lambda objects: plugin(objects).update(arguments=[]), "arguments"),
    "text for a number": (lambda objects: plugin(objects)["securityContext"].update(runAsUser="0"), "runAsUser"),
    "wrong name": (lambda objects: find(objects, "ServiceAccount")["metadata"].update(name="Tdvol"), "Tdvol"),
    "selector that finds no pod": (lambda objects: find(objects, "DaemonSet")["spec"]["selector"].update(matchLabels={"a": "b"}), "selector"),
    "mount of no volume": (lambda objects: plugin(objects)["volumeMounts"].append({"name": "none", "mountPath": "/none"}), "none"),
    "two volumes of a name": (lambda objects: (lambda spec: spec.append(copy.deepcopy(spec[0])))(
        find(objects, "DaemonSet")["spec"]["template"]["spec"]["volumes"]), "uplicate"),
    "wrong quantity": (lambda objects: plugin(objects)["resources"]["limits"].update(memory="512 MB"), "quantit"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_refused(kubectl, name):
    plant, words = FAULTS[name]
    objects = rendered(*VARIANTS["local"])
    plant(objects)
    done = take(kubectl, objects)
    assert done.returncode != 0
    assert words in done.stderr, done.stderr


def test_pod_security_is_needed(kubectl):
    """Without the label of namespace.yaml, the server would refuse the plugin's pods."""
    kubectl.run("create", "namespace", "plain")
    kubectl.run("label", "namespace", "plain", "pod-security.kubernetes.io/enforce=baseline")
    template = find(rendered(*VARIANTS["local"]), "DaemonSet")["spec"]["template"]
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plugin"}, "spec": template["spec"] | {"serviceAccountName": "default"}}
    kubectl.apply(account("plain"))
    for namespace, is_taken in (("plain", False), ("tdvol", True)):
        done = kubectl.try_run("apply", "--dry-run=server", "-n", namespace, "-f", "-", stdin=json.dumps(made))
        assert (done.returncode == 0) == is_taken, done.stderr
        assert is_taken or "violates PodSecurity" in done.stderr, done.stderr


def test_install_and_upgrade(kubectl, tmp_path):
    """Helm itself against the server: install, the same again, other values, removal. No kubelet runs anything."""
    def run_helm(*words) -> None:
        environment = os.environ | {"KUBECONFIG": kubectl.words[1].partition("=")[2], "HELM_CONFIG_HOME": str(tmp_path), "HELM_CACHE_HOME": str(tmp_path), "HELM_DATA_HOME": str(tmp_path), "KUBECACHEDIR": str(tmp_path)}
        done = subprocess.run([helm.build(), *map(str, words)], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr

    run_helm("install", "tdvol", CHART, "-n", "tdvol", *GIVEN)
    assert kubectl.find("csidriver", "csi.tdvol.dev") and kubectl.find("daemonset", "tdvol-node", "-n", "tdvol")
    run_helm("upgrade", "tdvol", CHART, "-n", "tdvol", *GIVEN)
    run_helm("upgrade", "tdvol", CHART, "-n", "tdvol", *GIVEN, "--set", "attestation=certificate", "--set", "image.tag=0.1.1")
    image = kubectl.get("daemonset", "tdvol-node", "-n", "tdvol")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.endswith(":0.1.1")
    run_helm("uninstall", "tdvol", "-n", "tdvol")
    assert not kubectl.find("csidriver", "csi.tdvol.dev") and not kubectl.find_all("storageclass")
