# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes cluster in the namespaces of this process (run.py): it vanishes with them. Everything that it writes is
below one folder."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import build
import nodes
import programs
from kube import Kubectl
from servers import Api, Server, wait_until

sys.path.append(str(programs.TREE / "tests"))
import helm  # noqa: E402

BROKER = "broker.example.com"
START_S = 180
PCCS_PORT = 8081
METRICS_PORT = 9810


def install_commands() -> list[str]:
    """The commands of README.md, "Install on a cluster"."""
    text = (programs.TREE / "README.md").read_text()
    section = text.partition("\n## Install on a cluster\n")[2].partition("\n## ")[0]
    block = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)[0]
    return [line.strip() for line in re.sub(r"\\\n", " ", block).splitlines()]


def measured(name: str) -> str:
    """The value of a measurement register in the simulated Trust Domains."""
    return subprocess.run(["sha384sum"], input=name, check=True, capture_output=True, text=True).stdout.split()[0]


class Cluster:
    def __init__(self, folder: pathlib.Path, *more_images: pathlib.Path):
        """more_images: archives that the nodes have besides their own."""
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.images = [build.write_images(), *more_images]
        self.nodes: list[nodes.Node] = []
        self.broker: Server | None = None
        self._make_programs()
        nodes.make_bridge()
        nodes.link_modules()
        self._start_control_plane()
        self._make_trust_domain()

    def _make_programs(self) -> None:
        """The programs that an administrator calls, and deploy/ beside them."""
        own = self.folder / "programs"
        own.mkdir()
        targets = {"kubectl": programs.BIN / "kubectl", "helm": helm.build(), "tdvolctl": build.BUILD / "ctl/tdvolctl",
                   "tdvol-broker": build.BUILD / "broker/tdvol-broker"}  # fmt: skip
        for name, target in targets.items():
            (own / name).symlink_to(target)
        (self.folder / "deploy").symlink_to(programs.TREE / "deploy")
        self.environment = os.environ | {"PATH": f"{own}:{os.environ['PATH']}", "KUBECONFIG": str(self.folder / "pki/admin.kubeconfig"),
                                         "KUBECACHEDIR": str(self.folder / "cache"), "HELM_CONFIG_HOME": str(self.folder / "helm"),
                                         "HELM_CACHE_HOME": str(self.folder / "helm"), "HELM_DATA_HOME": str(self.folder / "helm")}  # fmt: skip

    def command(self, line: str, seconds: float = 120) -> str:
        """What an administrator types on a workstation; returns the output."""
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", line], cwd=self.folder, env=self.environment,
                              capture_output=True, text=True, timeout=seconds)  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def _start_control_plane(self) -> None:
        self.api = Api(self.folder, nodes.GATEWAY, 443, service="10.96.0.1", gates="CSIVolumeHealth=true")
        self.kubectl = kubectl = Kubectl(self.api.kubeconfig)
        # Names below "local" are the search list of pods: refusing them would end the look-ups of some resolvers.
        self.api.start("dns", ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=", "--bind-interfaces",
                               f"--listen-address={nodes.GATEWAY}", "--local=/local/", "--local=/com/", "--local=/io/",
                               f"--address=/{BROKER}/{nodes.GATEWAY}"])  # fmt: skip
        (self.folder / "resolv.conf").write_text(f"nameserver {nodes.GATEWAY}\n")
        nodes.run("mount", "--bind", self.folder / "resolv.conf", pathlib.Path("/etc/resolv.conf").resolve())
        wait_until(lambda: self._is_ready(), START_S, lambda: "the API server is ready", 0.3)
        access = [f"--{kind}kubeconfig={self.api.kubeconfig}" for kind in ("", "authentication-", "authorization-")]
        common = [*access, "--bind-address=127.0.0.1", "--leader-elect=false", f"--cert-dir={self.folder}"]
        files = self.folder / "pki"
        self.api.start("controllers", [programs.BIN / "kube-controller-manager", *common, "--use-service-account-credentials=true",
                                       f"--service-account-private-key-file={files}/sa.key", f"--root-ca-file={files}/ca.crt"])  # fmt: skip
        self.api.start("scheduler", [programs.BIN / "kube-scheduler", *common])
        for path in sorted(build.CRDS.glob("*.yaml")):
            kubectl.apply_file(path)
        self.api.start("snapshots", [build.snapshot_controller(), f"--kubeconfig={self.api.kubeconfig}", "--enable-distributed-snapshotting"])
        wait_until(lambda: kubectl.find("serviceaccount", "default"), START_S, "the controllers work")

    def _is_ready(self) -> bool:
        self.api.check()
        return self.kubectl.try_run("get", "--raw", "/readyz").returncode == 0

    def _make_trust_domain(self) -> None:
        """What the simulated Trust Domains of all nodes are, and where the broker gets what it verifies them with."""
        program, folder = build.BUILD / "tests/sim/tdvol-sim", self.folder / "sim"
        folder.mkdir()
        nodes.run(program, "pki", folder / "pki")
        registers = {"mrtd": "firmware", "rtmr1": "node image", "rtmr2": "command line"}
        (folder / "td.json").write_text(json.dumps({name: measured(text) for name, text in registers.items()}))
        self.api.start("pccs", [program, "pccs", "--listen", f"127.0.0.1:{PCCS_PORT}", "--pki", folder / "pki"])

    def start_broker(self, command: str) -> None:
        """The command is README.md's, but the collateral is that of the simulated Trust Domains."""
        simulated = f"--pccs http://127.0.0.1:{PCCS_PORT} --test-root sim/pki/root.der --http {nodes.GATEWAY}:{METRICS_PORT}"
        line, count = re.subn(r"--pccs \S+", simulated, command)
        assert count == 1, f"README.md's command of the broker has no --pccs: {command}"
        self.broker_command = command
        self.broker = Server(self.folder / "broker.log", ["bash", "-c", f"exec {line}"], cwd=self.folder, env=self.environment)
        wait_until(self._broker_answers, 30, lambda: f"the broker answers: {self.broker.log.read_text()[-1000:]}")

    def _broker_answers(self) -> bool:
        self.broker.check()
        return self.broker_ctl("broker", "status").returncode == 0

    def broker_ctl(self, *words) -> subprocess.CompletedProcess:
        """tdvolctl as the broker's administrator."""
        access = {"TDVOL_BROKER": f"{BROKER}:7443", "TDVOL_BROKER_CA": "broker/ca.crt", "TDVOL_CLIENT_CERT": "broker/clients/admin.crt",
                  "TDVOL_CLIENT_KEY": "broker/clients/admin.key"}  # fmt: skip
        return subprocess.run([self.folder / "programs/tdvolctl", *words], cwd=self.folder, env=self.environment | access,
                              capture_output=True, text=True, timeout=60)  # fmt: skip

    def stop_broker(self) -> None:
        self.broker.stop()

    def restart_broker(self) -> None:
        self.start_broker(self.broker_command)

    def add_node(self) -> nodes.Node:
        number = len(self.nodes) + 1
        self.api.authority.issue(f"node-{number}", f"system:node:node-{number}", "system:nodes")
        self.nodes.append(nodes.Node(self.folder, self.kubectl, number, self.images))
        self.nodes[-1].start()
        return self.nodes[-1]

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
        if self.broker:
            self.broker.stop()
        self.api.stop()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)
