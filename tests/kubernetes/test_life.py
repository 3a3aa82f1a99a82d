# SPDX-License-Identifier: Apache-2.0
"""The life of a volume, from its claim to its deletion."""

from objects import claim, pod


def test_life(flow):
    kubectl = flow.kubectl
    flow.apply(claim("life", "256Mi"), pod("life", "life"))
    kubectl.wait_bound("life")
    flow.lap("bound")
    kubectl.wait_ready("life")
    flow.lap("ready")
    written = flow.write("life")
    flow.lap("4 MiB written")
    kubectl.delete("pod", "life")
    flow.lap("pod deleted")
    flow.apply(pod("life", "life"))
    kubectl.wait_ready("life")
    flow.lap("second pod ready")
    assert flow.md5("life") == written
    volume = flow.volume_of("life")["metadata"]["name"]
    kubectl.delete("pod/life", "pvc/life")
    kubectl.wait_gone("pv", volume)
    flow.lap("PV gone")


def test_readme(flow):
    """From an empty cluster to a pod with an encrypted volume, by the commands of README.md, or of docs/upstreams.md, alone;
    the fixture gave those before."""
    writer = {"local": "writer", "stacked": "pd-writer"}[flow.release.kind]
    flow.lab.command(flow.release.example)
    flow.kubectl.wait_ready(writer)
    flow.lap("pod ready")
    assert flow.kubectl.run("logs", writer).count("\n") == 1
    log = flow.kubectl.run("-n", "tdvol", "logs", f"ds/{flow.release.name}-node", "-c", "tdvol")
    attested = [line for line in log.splitlines() if "attested" in line and "not attested" not in line]
    assert attested, log[-2000:]
    flow.see(attested[-1].strip()[-120:])
    mounted = flow.kubectl.shell(writer, "grep ' /data ' /proc/mounts")
    assert mounted.startswith("/dev/mapper/tdvol-"), mounted
