#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs csi-sanity against Google's persistent disk driver: sanity.py mount|block bare|INTEGRITY REPORT.xml

bare: against the driver itself. A spec that the driver fails or skips must be listed here, with the reason.
INTEGRITY: through tdvol before that driver. Everything that passes bare must pass.
The results also go to REPORT.json.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

import cloud as clouds
import disks
import driver as drivers
import harness
import machine
import program
import stacked

SECONDS = 1500
BARE = "bare"
MAY_CHANGE = re.compile(rf"{harness.ROOT}/([\w-]+\.log$|broker)|/run/(mount|blkid|upstream-tools|tdvol[\w-]*(/\w+\.(socket|plugin))?$)")


# Disks as confidential VMs have them. Their performance can be changed, so nothing of the driver stays untested.
DISK_TYPE, SIZE_GIB = "hyperdisk-balanced", 4
MUTABLE = "iops: '3500'\nthroughput: '200'\n"
# The second has the smallest limit of attached disks, which csi-sanity then tries.
MACHINE_TYPES = {"mount": "c3-standard-4", "block": "e2-medium"}

# Specs that the driver skips: csi-sanity's words, and the reason.
SKIPPED: dict[str, dict[str, str]] = {
    "both": {
        r"single node multi writer capability": "does not serve SINGLE_NODE_MULTI_WRITER",
        r"Node(Get|List)?(Volume|Storage)Health|Controller(Get|List)VolumeHealth": "does not serve volume health",
        r"GroupController": "does not serve group snapshots",
        r"SNAPSHOT_ACCESSIBILITY_CONSTRAINTS": "does not serve snapshot topology",
        r"GetSnapshot not supported": "does not serve GET_SNAPSHOT",
        r"GetCapacity not supported": "does not serve GET_CAPACITY",
        r"pagination should detect volumes added between pages": "csi-sanity itself marks it as pending",
    },
    "mount": {r"testnodevolumeattachlimit": "runs with the smaller limit of the other machine"},
    "block": {},
}
# Specs that the driver fails: a regular expression for the name, and the reason.
FOREIGN_ID = "answers INVALID_ARGUMENT for an id that is not in its own form, where the specification wants NOT_FOUND"
LONG_NAME = "the cloud takes no name of more than 63 characters; with such an id, CSI's 128 bytes would not do"
FAILED: dict[str, dict[str, str]] = {
    "both": {
        r"with maximum-length name": LONG_NAME,
        r"NodeExpandVolume should fail when volume is not found": FOREIGN_ID,
        r"CreateVolume should fail when the volume source volume is not found": FOREIGN_ID,
        r"ValidateVolumeCapabilities should fail when the requested volume does not exist": FOREIGN_ID,
        r"ControllerPublishVolume should fail when the volume does not exist": FOREIGN_ID,
    },
    "mount": {},
    "block": {},
}


def reason(lists: dict[str, dict[str, str]], access: str, *texts: str) -> str | None:
    for words, why in (lists["both"] | lists[access]).items():
        if any(re.search(words, text) for text in texts):
            return why
    return None


def run_sanity(access: str, integrity: str, socket: pathlib.Path, work: pathlib.Path, found: pathlib.Path) -> int:
    """Runs csi-sanity, which writes its JUnit report to found."""
    ours = "" if integrity == BARE else f"tdvol.dev/integrity: {integrity}\n"
    (work / "parameters.yaml").write_text(f"type: {DISK_TYPE}\n{ours}")
    (work / "mutable.yaml").write_text(MUTABLE)
    command = [
        os.environ["TDVOL_CSI_SANITY"], f"--csi.endpoint=unix:{socket}",
        f"--csi.mountdir={work}/mount", f"--csi.stagingdir={work}/staging", f"--csi.testvolumeaccesstype={access}",
        f"--csi.testvolumesize={SIZE_GIB * harness.GIB}", f"--csi.testvolumeexpandsize={2 * SIZE_GIB * harness.GIB}",
        f"--csi.testvolumeparameters={work}/parameters.yaml", f"--csi.testvolumemutableparameters={work}/mutable.yaml",
        f"--csi.testnodevolumeattachlimit={str(access == 'block').lower()}", f"--ginkgo.junit-report={found}",
        "--ginkgo.no-color", "--ginkgo.v", f"--ginkgo.timeout={SECONDS}s",
    ]  # fmt: skip
    return subprocess.run(command, cwd=work, stdin=subprocess.DEVNULL, check=False).returncode


def read(found: pathlib.Path) -> list[dict]:
    """Name, result, message and seconds of each spec."""
    specs = []
    for spec in ElementTree.parse(found).iter("testcase"):
        name = spec.get("name", "").removeprefix("[It] ")
        if name.startswith("["):
            continue  # the set-up of the suite is not a spec
        skipped = spec.find("skipped")
        broken = spec.find("failure") if spec.find("failure") is not None else spec.find("error")
        result, message = "passed", ""
        if broken is not None:
            result, message = "failed", broken.get("message") or broken.text or ""
        elif skipped is not None:
            result, message = "skipped", skipped.get("message") or ""
        specs.append({"name": name, "result": result, "message": message, "seconds": float(spec.get("time", "0"))})
    return specs


def judge(access: str, integrity: str, specs: list[dict], suite: ElementTree.Element) -> None:
    """A spec that does not pass must be listed; then it counts as skipped, with the reason. What the driver itself
    fails may pass through tdvol."""
    for spec in specs:
        case = ElementTree.SubElement(suite, "testcase", name=spec["name"], time=str(spec["seconds"]))
        lists = {"failed": FAILED, "skipped": SKIPPED}.get(spec["result"])
        listed = reason(FAILED, access, spec["name"])
        if lists is None:
            if listed and integrity == BARE:
                ElementTree.SubElement(case, "failure").text = f"is listed as failed, but passes: {listed}"
            continue
        if why := reason(lists, access, spec["name"], *([spec["message"]] if lists is SKIPPED else [])):
            ElementTree.SubElement(case, "skipped", message=f"{spec['result']} by the driver itself: {why}")
            spec["reason"] = why
        else:
            ElementTree.SubElement(case, "failure").text = f"{spec['result']}: {spec['message']}"
            print(f"{spec['result']}, and not listed: {spec['name']}: {spec['message']}")


@contextlib.contextmanager
def serve(integrity: str, driver: drivers.Driver):
    """The socket for csi-sanity, and the processes behind it."""
    if integrity == BARE:
        yield driver.socket, [driver.daemon.process.pid]
        return
    broker = harness.Broker("broker").start()
    plugin = stacked.StackedPlugin(broker, "stacked", driver.socket, node_id="node-1")
    try:
        plugin.start()
        yield plugin.socket, [plugin.daemon.process.pid, *plugin.helpers]
        plugin.stop()
        broker.stop()
    except BaseException:
        print(plugin.daemon_log())
        raise
    finally:
        plugin.close()
        broker.close()


def add(suite: ElementTree.Element, name: str, problem: str) -> None:
    """Adds a result of our own; problem is empty on success."""
    case = ElementTree.SubElement(suite, "testcase", name=name)
    if problem:
        print(f"{name}: {problem}")
        ElementTree.SubElement(case, "failure").text = problem


def main() -> int:
    access, integrity, report = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    what = "the driver itself" if integrity == BARE else f"the driver behind tdvol, {integrity}"
    suite = ElementTree.Element("testsuite", name=f"csi-sanity of {what}, {access}")
    harness.ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    disks.prepare()
    before = machine.Snapshot.take()
    work, found = harness.ROOT / "sanity", pathlib.Path("/tmp/ginkgo.xml")
    work.mkdir()
    started = time.monotonic()
    machines = {"node-1": MACHINE_TYPES[access]}
    try:
        # The driver makes a disk in any zone of its region, if it is not told where.
        with drivers.Bed(work, machines, zones=("us-central1-a",), names=clouds.ANY_NAMES) as bed:
            driver = bed.start("node-1")
            with serve(integrity, driver) as (socket, processes):
                status = run_sanity(access, integrity, socket, work, found)
                specs = read(found) if found.exists() else []
                print(f"rss_kib {sum(map(machine.rss_kib, processes))}")
            found.unlink(missing_ok=True)
            judge(access, integrity, specs, suite)
            table = {"driver": program.DRIVER, "version": program.VERSION, "integrity": integrity, "access": access,
                     "disk_type": DISK_TYPE, "seconds": round(time.monotonic() - started), "specs": specs}  # fmt: skip
            report.with_suffix(".json").write_text(json.dumps(table, indent=1) + "\n")
            counts = {result: sum(spec["result"] == result for spec in specs) for result in ("passed", "failed", "skipped")}
            print(f"{what}, {access}: " + ", ".join(f"{count} {result}" for result, count in counts.items()))
            add(suite, "csi-sanity ends well", "" if counts["failed"] or not status else f"exit code {status}")
            add(suite, "the cloud answers all calls", "\n".join(
                f"{one.method} {one.path}: {one.status}" for one in bed.calls() if one.status >= 500 or not one.call))  # fmt: skip
            add(suite, "no disk stays", "\n".join([*bed.cloud.disks, *bed.cloud.snapshots]))
            if suite.find("testcase/failure") is not None:
                print(driver.new_output()[-60000:])
            driver.stop()
        shutil.rmtree(work)
        left = before.surplus(machine.Snapshot.take(), MAY_CHANGE)
        add(suite, "nothing is left behind", "\n".join(left))
    finally:
        ElementTree.ElementTree(suite).write(report)
    return 1 if suite.find("testcase/failure") is not None else 0


if __name__ == "__main__":
    sys.exit(main())
