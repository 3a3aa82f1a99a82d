# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests without device-mapper: processes on this machine."""

import contextlib
import itertools

import brokers
import pytest
import sims
import tds


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
    """A running broker for one test. At the end it must stop cleanly with a whole audit chain."""
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
def cluster():
    return tds.Cluster()


@pytest.fixture
def owner():
    return tds.Authority()


@pytest.fixture
def start(make_broker, pki, facts, cluster, owner):
    """start() starts a broker with one image and two tenants: the owner of one is a cluster, of the other a CA."""

    def make(name: str = "broker", rules=None, **options) -> brokers.Broker:
        broker = make_broker(name)
        rules = rules or [tds.rule("nodes", "default", cluster.owner(), nodes=["${token.node}"]),
                          tds.rule("others", "other", owner.owner())]  # fmt: skip
        tds.write_policy(broker, *rules)
        return broker.start(**{"test_root": pki / "root.der", "collateral_dir": facts} | options)

    return make


@pytest.fixture
def make_tsm(tmp_path, pki):
    """make_tsm(options...) mounts a TD's file system."""
    numbers = itertools.count()

    def make(*arguments) -> sims.Tsm:
        one = sims.Tsm(tmp_path / f"tsm{next(numbers)}", pki, *arguments)
        ends.callback(one.stop)
        return one

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
