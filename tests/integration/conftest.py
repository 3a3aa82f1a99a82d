# SPDX-License-Identifier: Apache-2.0
"""Fixtures. Most tests need `client`; `make_broker` and `make_plugin` are for tests that kill processes."""

import dataclasses
import os
import pathlib
import re
import subprocess
import time

import fake_driver
import harness
import machine
import pytest
import stacked

# These may stay: logs, the broker's store, files of libmount and libblkid, and the lock files of plugin and socket.
MAY_CHANGE = re.compile(
    rf"{harness.ROOT}/(broker|[\w-]+\.log$)|/run/mount|/run/blkid|/tmp/pytest-of-root|/run/tdvol[\w-]*(/\w+\.(socket|plugin))?$"
)
SETTLE_SECONDS = 10

_daemons: list = []


def pytest_configure(config):
    """Refuses to run without root, device-mapper or the programs."""
    harness.ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    if os.geteuid() != 0 or not pathlib.Path("/dev/mapper/control").exists():
        pytest.exit("these tests need root and device-mapper: run tests/vm/run /usr/bin/python3 -m pytest ...", 2)
    for name in ("tdvol-csi", "tdvol-blockd", "tdvol-broker", "tdvolctl"):
        if not os.path.exists(harness.program(name)):
            pytest.exit(f"{harness.program(name)} is missing: build it, or set TDVOL_BUILD", 2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the logs of the daemons and the kernel to the report of a failed test."""
    report = (yield).get_result()
    if report.failed:
        for daemon in _daemons:
            if daemon.daemon and (text := daemon.daemon.new_output()):
                report.sections.append((f"log of {daemon.name}", text[-8000:]))
        kernel = subprocess.run(["dmesg"], capture_output=True, text=True, check=False).stdout
        report.sections.append(("last kernel messages", "\n".join(kernel.splitlines()[-25:])))


@pytest.fixture(scope="session")
def broker():
    """One broker for all tests that do not stop it."""
    made = harness.Broker("broker").start()
    _daemons.append(made)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def plugin(broker):
    """One plugin for all tests that do not stop it."""
    made = harness.Plugin(broker).start()
    _daemons.append(made)
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def leaves_nothing(request):
    """After each test: no loop device, mapping, mount, process or file more than before."""
    for shared in ("broker", "plugin", "shared_bed"):  # they belong to the session, not to the first test that uses them
        if shared in request.fixturenames:
            request.getfixturevalue(shared)
    before = machine.Snapshot.take()
    for daemon in _daemons:
        if daemon.daemon:
            daemon.daemon.new_output()
    yield
    end = time.monotonic() + SETTLE_SECONDS
    while (left := before.surplus(machine.Snapshot.take(), MAY_CHANGE)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left, "left over:\n" + "\n".join(left)


@pytest.fixture
def client(leaves_nothing, plugin):
    """The session's plugin; after the test its volumes are removed."""
    plugin.client.volumes.clear()
    plugin.client.snapshots.clear()
    yield plugin.client
    plugin.client.take_down()


@pytest.fixture
def make_broker(leaves_nothing):
    """make_broker(name) starts a broker of the test's own."""
    made = []

    def make(name: str = "own-broker", **arguments) -> harness.Broker:
        made.append(harness.Broker(name, **arguments))
        _daemons.append(made[-1])
        return made[-1].start()

    yield make
    for one in reversed(made):
        _daemons.remove(one)
        one.close()


@pytest.fixture
def make_plugin(leaves_nothing, make_broker):
    """make_plugin(broker, ...) starts a plugin of the test's own, with a broker of its own if none is given."""
    made = []

    def make(broker: harness.Broker | None = None, name: str = "own-plugin", **arguments) -> harness.Plugin:
        made.append(harness.Plugin(broker or make_broker(), name, **arguments))
        _daemons.append(made[-1])
        return made[-1].start()

    yield make
    for one in reversed(made):
        _daemons.remove(one)
        if one.broker.daemon is None:
            one.broker.start()
        one.close()


@pytest.fixture
def faults(leaves_nothing):
    """Fault points, for daemons made with faults=..."""
    made = harness.Faults()
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_bed(broker):
    """A stacked controller and node over one upstream driver, for all tests that stop none of them."""
    made = stacked.Bed(broker).start()
    _daemons.extend([made.upstream, *made.plugins])
    yield made
    made.close()


@pytest.fixture
def bed(leaves_nothing, shared_bed):
    """The shared bed; after the test its volumes are removed, and its switches are as before."""
    shared_bed.upstream.forget()
    yield shared_bed
    shared_bed.take_down()
    shared_bed.upstream.set(**dataclasses.asdict(fake_driver.Config()))


@pytest.fixture
def make_bed(leaves_nothing, make_broker):
    """make_bed(config, ...) starts a bed of the test's own, with a broker of its own if none is given."""
    made = []

    def make(config: fake_driver.Config | None = None, *, broker: harness.Broker | None = None, **arguments) -> stacked.Bed:
        made.append(stacked.Bed(broker or make_broker(), config, name="own", **arguments))
        _daemons.extend([made[-1].upstream, *made[-1].plugins])
        return made[-1].start()

    yield make
    for one in reversed(made):
        for daemon in (one.upstream, *one.plugins):
            _daemons.remove(daemon)
        if one.broker.daemon is None:
            one.broker.start()
        one.close()
