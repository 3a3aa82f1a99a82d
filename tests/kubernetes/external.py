#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs Kubernetes' suite for CSI drivers, "External Storage", over tdvol in a cluster of two nodes, as root.

    tests/kubernetes/external.py [--document] [--processes N] [BACKEND] [-- GINKGO-ARGUMENT...]     as in: -- --focus=ext4

BACKEND: local, or stacked, before Google's driver over the imitated cloud; a file in external-storage/ says what the
driver can do. At the first time the suite is built, which takes some minutes after build.py. Results are in
external-storage/ of the build folder: a table and what was left out (result.md), ginkgo's report (report.json,
report.xml). --document writes them to docs/external-storage.md, too. The exit code is 0 if tests passed, none failed,
and nothing of them stayed. Environment: as for run.py.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import build
import install
import install_stacked
import run
import specs
import suite
from cluster import Cluster
from flow import Flow
from machines import Project
from programs import KUBERNETES, TREE
from servers import wait_until

LAB = build.BUILD / "external-storage"
DOCUMENT = TREE / "docs/external-storage.md"
FOCUS = "--focus=External.Storage"  # without any focus, ginkgo would leave out what has a [Feature]
CLEAN_S = 600


@contextlib.contextmanager
def local(lab: Cluster):
    yield install.install(lab)


@contextlib.contextmanager
def stacked(lab: Cluster):
    """Local volumes come first, because README.md's commands make the broker and its policy."""
    install.install(lab)
    with Project(lab.folder / "cloud", lab.nodes) as project:
        yield install_stacked.install(lab, project)


BACKENDS = {"local": local, "stacked": stacked}  # the release that is tested, while it is installed


def flags_of(lab: Cluster, backend: str) -> list[str]:
    """Those of the suite itself. provider: no cloud."""
    return [f"--kubeconfig={lab.api.kubeconfig}", f"--storage.testdriver={suite.SUITE / backend}.yaml", "--provider=skeleton",
            "--node-os-distro=debian", f"--e2e-output-dir={LAB}"]  # fmt: skip


def left_out(backend: str) -> list[specs.Group]:
    """Groups of tests that the suite does not even define, because of what the driver's file says."""
    command = [suite.PROGRAM, f"--storage.testdriver={suite.SUITE / backend}.yaml", "--list-tests"]
    said = subprocess.run(command, env=os.environ | {"DEBUG_STORAGE_TESTSUITE": "1"}, check=True, capture_output=True, text=True).stdout
    return specs.read_groups(said)


def run_ginkgo(lab: Cluster, backend: str, processes: int, arguments: list[str]) -> int:
    """The tests, some at a time. Returns 0 if nothing failed; what did is in the report."""
    chosen = [] if any(word.startswith("--focus") for word in arguments) else [FOCUS]
    chosen += [f"--skip={name}" for name in specs.skipped_names(backend)]
    command = [suite.GINKGO, f"--procs={processes}", "--no-color", "--timeout=24h", f"--output-dir={LAB}", "--json-report=report.json",
               "--junit-report=report.xml", *chosen, *arguments, suite.PROGRAM, "--", *flags_of(lab, backend)]  # fmt: skip
    return subprocess.run(command, env=lab.environment, cwd=LAB, stdin=subprocess.DEVNULL).returncode


def versions(lab: Cluster) -> str:
    info = lab.kubectl.get("node", lab.nodes[0].name)["status"]["nodeInfo"]
    sidecars = [f"csi-{name} {build.VALUES['sidecars'][name]['image']['tag']}" for name in build.MODULES]
    runtime = info["containerRuntimeVersion"].replace("://", " ").partition("~")[0]
    return ", ".join([f"Kubernetes {KUBERNETES}", *sidecars, f"snapshot-controller {build.SNAPSHOTS}", runtime,
                      f"kernel {info['kernelVersion']} (User-mode Linux)", f"{len(lab.nodes)} nodes"])  # fmt: skip


def write_document(backend: str, text: str) -> None:
    """Replaces what is between the marks of this backend."""
    pattern = rf"(<!-- external {backend} -->\n).*?(<!-- end -->)"
    said, count = re.subn(pattern, lambda found: found[1] + text + found[2], DOCUMENT.read_text(), flags=re.DOTALL)
    assert count == 1, f"{DOCUMENT} has no place for {backend}"
    DOCUMENT.write_text(said)


def main() -> int:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", nargs="?", choices=BACKENDS, default="local", metavar="BACKEND", help=", ".join(BACKENDS))
    parser.add_argument("--document", action="store_true", help="also write docs/external-storage.md")
    parser.add_argument("--processes", type=int, default=6, metavar="N", help="tests at a time (6)")
    chosen = parser.parse_args(sys.argv[1:split])
    if os.environ.get("TDVOL_INSIDE") != "1":
        suite.build_programs()
        print(suite.write_images(), flush=True)
        os.environ["TDVOL_INSIDE"] = "1"
        os.execvp(run.ENTER[0], [*run.ENTER, sys.executable, *sys.argv])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as process 1 of its namespace it would ignore the signal
    lab = Cluster(LAB, suite.write_images())
    try:
        for _ in range(2):
            lab.add_node()
        with BACKENDS[chosen.backend](lab) as release:
            flow = Flow(release, "external-storage")
            status = run_ginkgo(lab, chosen.backend, chosen.processes, sys.argv[split + 1 :])
            cases = specs.read_cases(json.loads((LAB / "report.json").read_text()))
            text = specs.document(cases, left_out(chosen.backend), versions(lab))
            (LAB / "result.md").write_text(text)
            print(text, flush=True)
            if chosen.document:
                write_document(chosen.backend, text)
            wait_until(lambda: not flow.new_left(), CLEAN_S, lambda: f"nothing is left: {flow.new_left()}", 2)
    finally:
        lab.stop()
    return status or not any(case.verdict == "passed" for case in cases)


if __name__ == "__main__":
    sys.exit(main())
