# SPDX-License-Identifier: Apache-2.0
"""Snapshots and clones of volumes that are in use."""

from objects import claim, of_claim, of_snapshot, pod, snapshot


def wait_snapshot(flow, name: str) -> dict:
    return flow.kubectl.wait("volumesnapshot", name, lambda found: found.get("status", {}).get("readyToUse"), "ready to use")


def test_snapshot_and_restore(flow):
    # Of the provisioner, when two claims want one snapshot at the same time; it tries again at once.
    flow.expect_warnings(("ProvisioningFailed", "the object has been modified"))
    flow.apply(claim("source", "256Mi"), pod("source", "source"))
    flow.kubectl.wait_ready("source")
    written = flow.write("source")
    flow.apply(snapshot("before", "source"))
    taken = wait_snapshot(flow, "before")
    flow.lap(f"snapshot of {taken['status']['restoreSize']}")
    flow.write("source")
    flow.apply(claim("same", "256Mi", **of_snapshot("before")), pod("same", "same"),
               claim("larger", "512Mi", **of_snapshot("before")), pod("larger", "larger"))  # fmt: skip
    for name in ("same", "larger"):
        flow.check_copy(name, written)
    assert flow.mib("larger") > 1.7 * flow.mib("same")
    # What was copied does not need its source.
    flow.kubectl.delete("pod/source", "pvc/source")
    flow.kubectl.delete("volumesnapshot", "before")
    flow.write("same", "/data/more")
    assert flow.md5("same") == written


def test_clone(flow):
    flow.apply(claim("source", "256Mi"), pod("source", "source"))
    flow.kubectl.wait_ready("source")
    written = flow.write("source")
    flow.apply(claim("clone", "256Mi", **of_claim("source")), pod("clone", "clone"),
               claim("larger", "512Mi", **of_claim("source")), pod("larger", "larger"))  # fmt: skip
    for name in ("clone", "larger"):
        flow.check_copy(name, written)
    flow.write("clone")
    assert flow.md5("source") == written


def test_read_only_many(flow):
    """A clone that many pods read, and nobody writes."""
    flow.apply(claim("source"), pod("source", "source"))
    flow.kubectl.wait_ready("source")
    written = flow.write("source")
    flow.apply(claim("many", mode="ReadOnlyMany", **of_claim("source")), pod("one", "many"), pod("two", "many"))
    for name in ("one", "two"):
        flow.kubectl.wait_ready(name)
        assert flow.md5(name) == written
        flow.check_read_only(name)
    flow.lap("two pods read, none writes")
