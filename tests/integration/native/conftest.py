# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests that need no device-mapper: processes on this machine alone."""

import contextlib
import itertools
import os

import brokers
import pytest
import sims


@pytest.fixture
def make_broker(tmp_path):
    """make_broker(name) makes a broker's folder; the test starts it."""
    made = []

    def make(name: str = "broker", environment: dict[str, str] | None = None) -> brokers.Broker:
        made.append(brokers.Broker(tmp_path / name, environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def broker(make_broker):
    """A running broker of the test's own; at the end it must stop cleanly, its audit chain whole."""
    one = make_broker().start()
    yield one
    one.stop()
    one.audit()


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """A test PKI that all tests share."""
    folder = tmp_path_factory.mktemp("sim") / "pki"
    sims.sim("pki", folder)
    return folder


@pytest.fixture(scope="session")
def facts(pki):
    """Collateral of the default platform."""
    sims.sim("collateral", "--pki", pki, "--out", pki.parent / "facts")
    return pki.parent / "facts"


@pytest.fixture
def make_tsm(tmp_path, pki):
    """make_tsm(options...) mounts a TD's file system."""
    numbers = itertools.count()

    def make(*arguments) -> sims.Tsm:
        one = sims.Tsm(tmp_path / f"tsm{next(numbers)}", pki, *arguments)
        ends.callback(one.stop)
        return one

    if not os.path.exists("/dev/fuse") or os.geteuid() != 0:
        pytest.skip("needs root and /dev/fuse")
    with contextlib.ExitStack() as ends:
        yield make


@pytest.fixture
def tsm(make_tsm):
    return make_tsm()


@pytest.fixture
def make_pccs(pki):
    """make_pccs(options...) starts a PCCS."""

    def make(*arguments) -> sims.Pccs:
        one = sims.Pccs(pki, *arguments)
        ends.callback(one.stop)
        return one

    with contextlib.ExitStack() as ends:
        yield make


@pytest.fixture
def pccs(make_pccs):
    return make_pccs()
