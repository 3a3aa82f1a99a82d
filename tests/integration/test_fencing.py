# SPDX-License-Identifier: Apache-2.0
"""A node that cannot renew its leases stops its volumes in time, and goes on when it has them back.

A lease has 30 seconds at least, so each case takes as long. TDVOL_FENCING=all runs all of them.
"""

import hashlib
import json
import os
import subprocess
import time

import harness
import machine
import pytest
from harness import MIB, keybroker, pattern, read, write

LEASE_SECONDS = 30
DATA = pattern(MIB)
ALL = pytest.mark.skipif(os.environ.get("TDVOL_FENCING") != "all", reason="TDVOL_FENCING=all: half a minute each")


@pytest.fixture
def leasing(faults):
    made = harness.Broker("leasing-broker", faults)
    path = made.dir / "policy.json"
    policy = json.loads(path.read_text())
    policy["leases"] = {"seconds": LEASE_SECONDS}
    path.write_text(json.dumps(policy))
    yield made.start()
    made.close()


@pytest.fixture
def node(leasing, make_plugin, faults):
    return make_plugin(leasing, "leasing-plugin", faults=faults)


def fenced(node, **parameters):
    volume = node.client.create(size=64 * MIB, fencing="suspend", **parameters)
    node.client.mount(volume)
    write(volume.file, DATA)
    return volume


def suspended() -> list[str]:
    """The names of the suspended layers."""
    done = subprocess.run(["dmsetup", "info", "-c", "--noheadings", "-o", "name,suspended"], capture_output=True, text=True, timeout=30)
    return [line.split(":")[0] for line in done.stdout.splitlines() if "tdvol-" in line and line.endswith("Suspended")]


def digest(node, volume) -> str:
    return hashlib.sha256(node.backing_file(volume).read_bytes()).hexdigest()


def wait_until_stopped(since: float) -> None:
    """It is stopped before the lease is over, and not long before."""
    machine.wait_until(lambda: any(name.endswith("-crypt") for name in suspended()), LEASE_SECONDS + 5, "the volume is stopped")
    assert time.monotonic() - since < LEASE_SECONDS


def start_writer(volume) -> subprocess.Popen:
    return subprocess.Popen(["dd", "if=/dev/zero", f"of={volume.file}.more", "bs=64k", "count=4", "conv=fsync", "status=none"])


def assert_nothing_is_written(node, volume, writer) -> None:
    before = digest(node, volume)
    time.sleep(3)
    assert digest(node, volume) == before and writer.poll() is None


def test_volume_stops_with_its_lease_and_goes_on_with_it(leasing, node):
    volume = fenced(node)
    assert leasing.record(volume.id).lease.lease_ms == LEASE_SECONDS * 1000
    time.sleep(LEASE_SECONDS / 3 + 8)  # past the first renewal
    assert not suspended()
    leasing.kill()
    wait_until_stopped(time.monotonic())
    writer = start_writer(volume)
    assert_nothing_is_written(node, volume, writer)
    leasing.start()
    assert writer.wait(60) == 0
    assert not suspended()
    assert read(volume.file, len(DATA)) == DATA
    node.client.unmount(volume)
    assert leasing.record(volume.id).is_closed
    node.client.mount(volume)
    assert read(volume.file, len(DATA)) == DATA


@ALL
@pytest.mark.parametrize("integrity", ["none", "hmac-sha256"])
def test_volume_whose_lease_is_gone_fails_its_users_and_can_be_closed(leasing, node, integrity):
    volume = fenced(node, integrity=integrity)
    released = time.monotonic()
    leasing.stub().ReleaseLease(keybroker.ReleaseLeaseRequest(driver=harness.DRIVER, volume_id=volume.id))
    block = f"dd if=/dev/zero of={volume.file}.more bs=64k count=4 conv=notrunc,fsync status=none"
    writer = subprocess.Popen(["sh", "-c", f"while {block}; do :; done; exit 1"])
    assert writer.wait(LEASE_SECONDS + 20) == 1
    assert time.monotonic() - released > LEASE_SECONDS / 3  # its own clock decides, not a refusal
    before = digest(node, volume)
    time.sleep(3)
    node.client.unmount(volume)
    assert digest(node, volume) == before
    node.client.mount(volume)
    assert read(volume.file, len(DATA)) == DATA


@ALL
def test_plugin_that_is_started_anew_leaves_the_volume_stopped_and_lets_it_go_on(leasing, node):
    volume = fenced(node)
    leasing.kill()
    wait_until_stopped(time.monotonic())
    node.kill()
    node.start()
    writer = start_writer(volume)
    assert_nothing_is_written(node, volume, writer)
    leasing.start()
    assert writer.wait(60) == 0
    assert read(volume.file, len(DATA)) == DATA
