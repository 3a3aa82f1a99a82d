# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests that need no device-mapper: processes on this machine alone."""

import brokers
import pytest


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
