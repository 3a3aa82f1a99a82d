#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs csi-sanity against the plugin: sanity.py INTEGRITY mount|block [--stacked] REPORT.xml

--stacked: against a plugin before another one of its kind, which has the local backing.

If the plugin stopped advertising a capability, csi-sanity would skip its specs and still succeed. So a spec
may be skipped only for the reasons listed here.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import harness
import machine
import stacked
from conftest import MAY_CHANGE

VOLUME_BYTES = 64 * harness.MIB
EXPANDED_BYTES = 128 * harness.MIB
SECONDS = 1000

# csi-sanity's words in a skipped spec, and why it may be skipped.
NOT_SERVED = {
    r"Controller.*[Pp]ublish": "PUBLISH_UNPUBLISH_VOLUME is not served: there is nothing to attach",
    r"testnodevolumeattachlimit": "concerns ControllerPublishVolume, which is not served",
    r"(?i)modify ?volume": "MODIFY_VOLUME is not served: a volume's parameters are fixed",
    r"GroupController|GroupSnapshots": "group snapshots are not served",
    r"SNAPSHOT_ACCESSIBILITY_CONSTRAINTS": "snapshot topology is not served",
    r"pagination should detect volumes added between pages": "csi-sanity itself marks it as pending",
}


def reason(name: str, message: str) -> str | None:
    """The reason why this spec may be skipped; None when it must run."""
    for words, why in NOT_SERVED.items():
        if re.search(words, message) or re.search(words, name):
            return why
    return None


def run_sanity(parameters: str, access: str, plugin: harness.Plugin, found: pathlib.Path) -> int:
    """Runs csi-sanity, which writes its JUnit report to found."""
    work = harness.ROOT / "sanity"
    work.mkdir()
    (work / "parameters.yaml").write_text(parameters)
    command = [
        os.environ["TDVOL_CSI_SANITY"], f"--csi.endpoint=unix:{plugin.socket}",
        f"--csi.mountdir={work}/mount", f"--csi.stagingdir={work}/staging", f"--csi.testvolumeaccesstype={access}",
        f"--csi.testvolumesize={VOLUME_BYTES}", f"--csi.testvolumeexpandsize={EXPANDED_BYTES}",
        f"--csi.testvolumeparameters={work}/parameters.yaml", f"--ginkgo.junit-report={found}",
        "--ginkgo.no-color", "--ginkgo.v", f"--ginkgo.timeout={SECONDS}s",
    ]  # fmt: skip
    status = subprocess.run(command, cwd=work, stdin=subprocess.DEVNULL, check=False).returncode
    shutil.rmtree(work, ignore_errors=True)
    return status


def judge(found: pathlib.Path, suite: ElementTree.Element) -> None:
    """Copies each spec's result; a skipped spec fails unless it may be skipped."""
    for spec in ElementTree.parse(found).iter("testcase"):
        name = spec.get("name", "").removeprefix("[It] ")
        if name.startswith("["):
            continue  # the set-up of the suite is not a spec
        case = ElementTree.SubElement(suite, "testcase", name=name, time=spec.get("time", "0"))
        skipped = spec.find("skipped")
        broken = spec.find("failure") if spec.find("failure") is not None else spec.find("error")
        if broken is not None:
            ElementTree.SubElement(case, "failure").text = broken.get("message") or broken.text
        elif skipped is not None:
            message = skipped.get("message") or ""
            if why := reason(name, message):
                ElementTree.SubElement(case, "skipped", message=why)
            else:
                ElementTree.SubElement(case, "failure").text = f"must not be skipped: {message}"
                print(f"skipped, but must run: {name}: {message}")


def add(suite: ElementTree.Element, name: str, problem: str) -> None:
    """Adds a result of our own; problem is empty on success."""
    case = ElementTree.SubElement(suite, "testcase", name=name)
    if problem:
        print(f"{name}: {problem}")
        ElementTree.SubElement(case, "failure").text = problem


def main() -> int:
    integrity, access, *more, report = sys.argv[1:]
    suite = ElementTree.Element("testsuite", name=f"csi-sanity {' '.join(more)} {integrity} {access}")
    parameters = f"integrity: {integrity}\n"
    harness.ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    before = machine.Snapshot.take()
    broker = harness.Broker("broker").start()
    lower = None
    if more == ["--stacked"]:
        lower = harness.Plugin(broker, "lower", driver="lower.tdvol.dev", state=pathlib.Path("/run/tdvol-lower")).start()
        plugin = stacked.StackedPlugin(broker, "plugin", lower.socket, attaches=False).start()
        parameters = f"tdvol.dev/integrity: {integrity}\nintegrity: none\n"
    else:
        plugin = harness.Plugin(broker).start()
    found = pathlib.Path("/tmp/ginkgo.xml")
    try:
        status = run_sanity(parameters, access, plugin, found)
        if found.exists():
            judge(found, suite)
            found.unlink()
        specs_failed = suite.find("testcase/failure") is not None
        add(suite, "csi-sanity ends well", "" if specs_failed or not status else f"exit code {status}")
        if specs_failed:
            print(plugin.daemon_log(), lower.daemon_log() if lower else "")
        kib = machine.rss_kib(plugin.daemon.process.pid) + sum(map(machine.rss_kib, plugin.helpers))
        print(f"rss_kib {kib}")
        plugin.stop()
        if lower:
            lower.close()
        broker.stop()
        plugin.close()
        left = before.surplus(machine.Snapshot.take(), MAY_CHANGE)
        add(suite, "nothing is left behind", "\n".join(left))
    except BaseException:
        print(plugin.daemon_log())
        raise
    finally:
        plugin.kill()
        if lower:
            lower.kill()
        broker.kill()
        ElementTree.ElementTree(suite).write(report)
    return 1 if suite.find("testcase/failure") is not None else 0


if __name__ == "__main__":
    sys.exit(main())
