# SPDX-License-Identifier: Apache-2.0
"""The broker's door against hostile clients: during each attack a known client is served, the broker stays small, and
soon afterwards all is as before."""

import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import brokers
import grpc
import pytest
import tds
from brokers import CALL_SECONDS, DRIVER, create, keybroker
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ATTACKS = pathlib.Path(__file__).with_name("attacks.py")
ATTACK_SECONDS = float(os.environ.get("TDVOL_ATTACK_SECONDS", "10"))
SANITIZED = bool(os.environ.get("TDVOL_SANITIZED"))  # such a build is larger and slower
MEMORY_MIB = 64
LATENCY_SECONDS = 1.0
FILES = 1024  # as systemd and many shells allow it


def memory_mib(pid: int, name: str = "VmRSS") -> int:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) // 1024


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def files_of(broker: brokers.Broker, client: str) -> list[pathlib.Path]:
    return [broker.dir / f"clients/{client}.crt", broker.dir / f"clients/{client}.key", broker.dir / "ca.crt"]


def stranger(broker: brokers.Broker) -> None:
    """A client whose certificate nobody signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, private, _ = files_of(broker, "stranger")
    certificate.write_bytes(tds.pem(tds.certificate(key, "stranger")))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption()))  # fmt: skip


class Known:
    """A known client: one connection that stays, and a new one for each call."""

    def __init__(self, broker: brokers.Broker):
        self.broker = broker
        self.stub = broker.stub()

    def seconds(self, stub) -> float:
        start = time.monotonic()
        try:
            stub.GetRecord(keybroker.GetRecordRequest(driver=DRIVER, volume_id="v0"), timeout=8)
        except grpc.RpcError as error:
            print(f"known client: {error.code().name}: {error.details()[:100]}")
            return 60.0
        return time.monotonic() - start

    def old_and_new(self) -> tuple[float, float]:
        old = self.seconds(self.stub)
        new = self.seconds(self.broker.stub())
        self.broker.channels.pop().close()
        return old, new

    def medians(self, is_on=None) -> tuple[float, float]:
        """While is_on(); without it, of a few calls."""
        pairs = []
        while is_on() if is_on else len(pairs) < 10:
            pairs.append(self.old_and_new())
            time.sleep(0.02)
        return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


@pytest.fixture
def small(make_broker):
    """A broker with few descriptors and a thousand records: one answer with all of them is long."""
    broker = make_broker()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    try:
        broker.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    pid = broker.process.pid
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    stub = broker.stub()
    for number in range(300):
        create(stub, f"v{number}", location="n" * 200)
    broker.channels.pop().close()
    stranger(broker)
    yield broker
    broker.stop()
    broker.audit()


@pytest.mark.parametrize(("name", "client", "least"), [
    ("connections", "stranger", 1100), ("idle", "stranger", 500), ("crowd", "stranger", 500), ("addresses", "stranger", 500),
    ("handshakes", "stranger", 100), ("resets", "stranger", 1000), ("refused", "stranger", 1000), ("header", "stranger", 10),
    ("bomb", "stranger", 1), ("pings", "stranger", 1000), ("unfinished", "stranger", 100), ("large", "stranger", 1),
    ("calls", "admin", 2800), ("unread", "admin", 1000), ("resets", "admin", 1000),
])  # fmt: skip
def test_an_attack_harms_nobody_else(small, name, client, least):
    pid, known = small.process.pid, Known(small)
    quiet, files = known.medians(), descriptors(pid)
    attack = subprocess.Popen(
        [sys.executable, str(ATTACKS), name, str(least), str(small.port), str(ATTACK_SECONDS),
         *map(str, files_of(small, client))],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert attack.stdout.readline() == f"{name} started\n"
        busiest = [0]

        def is_on() -> bool:
            busiest[0] = max(busiest[0], memory_mib(pid))
            return attack.poll() is None

        during = known.medians(is_on)
        did = attack.stdout.read().strip()
        assert attack.returncode == 0
    finally:
        attack.kill()
        attack.wait()
    time.sleep(5)
    after, peak = known.medians(), memory_mib(pid, "VmHWM")
    print(f"{did}; seconds of the known client (old, new connection): quiet {quiet[0]:.4f} {quiet[1]:.4f}, "
          f"during {during[0]:.4f} {during[1]:.4f}, after {after[0]:.4f} {after[1]:.4f}; "
          f"MiB: at most {peak}, now {memory_mib(pid)}; descriptors {files}, now {descriptors(pid)}")  # fmt: skip
    assert int(did.split(": ")[1]) >= least, "the attack did not take place"
    for now, before in zip(during, quiet, strict=True):
        assert now < min(LATENCY_SECONDS, max(10 * before, 0.25))
    assert SANITIZED or peak < MEMORY_MIB
    assert after[0] < max(10 * quiet[0], 0.1) and after[1] < max(10 * quiet[1], 0.2)
    assert descriptors(pid) <= files + 2
