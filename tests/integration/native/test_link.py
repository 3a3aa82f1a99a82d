# SPDX-License-Identifier: Apache-2.0
"""A client that lives for long, and a broker that hangs, dies and moves: it is served again within five seconds.
tests/unit/proto/test_link.c forces the order of each event; here the broker is real."""

import pathlib
import signal
import socket
import subprocess
import threading
import time

import pytest
import stubs
from brokers import Broker

BACK_SECONDS = 5
KEEPALIVE_SECONDS = 40  # proto/channel.c: a ping each 30 s, an answer within 10 s


class Caller:
    """The program tests/integration/native/caller.c, and the names it finds."""

    def __init__(self, folder: pathlib.Path, broker: Broker):
        self.names = folder / "names"
        self.broker = broker
        self.lines: list[tuple[float, str, str]] = []
        self.process: subprocess.Popen | None = None

    def start(self) -> "Caller":
        self.process = subprocess.Popen(
            [stubs.BUILD / "tests/integration/caller", "--broker", f"localhost:{self.broker.port}",
             "--broker-ca", self.broker.dir / "ca.crt", "--client-cert", self.broker.dir / "clients/admin.crt",
             "--client-key", self.broker.dir / "clients/admin.key", "--names", self.names],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        threading.Thread(target=self.read, daemon=True).start()
        return self

    def read(self) -> None:
        for line in self.process.stdout:
            ended_ms, _, code, text = line.rstrip("\n").split(" ", 3)
            self.lines.append((int(ended_ms) / 1000, code, text))

    def knows(self, *addresses: str) -> None:
        """What look-ups find from now on; nothing: they fail."""
        self.names.unlink(missing_ok=True)
        if addresses:
            new = self.names.with_suffix(".new")
            new.write_text("".join(f"{address}:{self.broker.port}\n" for address in addresses))
            new.rename(self.names)

    def served_after(self, began: float) -> float:
        """Seconds from began (time.monotonic) to the end of the first call after it that was answered."""
        while time.monotonic() < began + 60:
            for ended, code, _ in list(self.lines):
                if ended > began and code == "OK":
                    return ended - began
            time.sleep(0.01)
        raise AssertionError(self.lines[-1:])

    def failed_after(self, began: float) -> str:
        """The text of the first call after it that failed."""
        while time.monotonic() < began + 60:
            for ended, code, text in list(self.lines):
                if ended > began and code != "OK":
                    return text
            time.sleep(0.01)
        raise AssertionError(self.lines[-1:])

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture
def broker(tmp_path):
    one = Broker(tmp_path / "broker").start()
    yield one
    if one.process:
        one.process.send_signal(signal.SIGCONT)
    one.close()


@pytest.fixture
def caller(tmp_path, broker):
    one = Caller(tmp_path, broker)
    one.knows("ipv6:[::1]", "ipv4:127.0.0.1")  # the first one refuses
    one.start()
    one.served_after(time.monotonic())
    yield one
    one.stop()


def kill(broker: Broker) -> None:
    broker.process.kill()
    broker.process.wait()


def start_at(broker: Broker, host: str) -> None:
    def is_listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, broker.port)) == 0

    broker.is_listening = is_listening
    broker.start(listen=f"{host}:{broker.port}")


def test_a_broker_that_was_away_is_used_again(broker, caller):
    for seconds in (0, 3, 12):
        kill(broker)
        time.sleep(seconds)
        broker.start()
        assert caller.served_after(time.monotonic()) < BACK_SECONDS


def test_a_broker_that_hung_until_the_connection_was_cut_is_used_again(broker, caller):
    broker.process.send_signal(signal.SIGSTOP)
    assert "does not answer" in caller.failed_after(time.monotonic() + 20)
    time.sleep(KEEPALIVE_SECONDS - 15)
    broker.process.send_signal(signal.SIGCONT)
    assert caller.served_after(time.monotonic()) < BACK_SECONDS


def test_a_broker_that_hung_is_found_where_it_was_started_anew(broker, caller):
    broker.process.send_signal(signal.SIGSTOP)
    time.sleep(9)  # calls end without an answer; new connections hang, too
    kill(broker)
    caller.knows("ipv6:[::1]", "ipv4:127.0.0.9", "ipv4:127.0.0.2")
    start_at(broker, "127.0.0.2")
    assert caller.served_after(time.monotonic()) < BACK_SECONDS


def test_names_that_come_back_are_used(broker, caller):
    caller.knows()
    kill(broker)
    assert "localhost" in caller.failed_after(time.monotonic() + 1)
    time.sleep(6)
    start_at(broker, "127.0.0.2")  # the last known address stays dead
    caller.knows("ipv6:[::1]", "ipv4:127.0.0.2")
    assert caller.served_after(time.monotonic()) < BACK_SECONDS


def test_without_names_the_last_address_is_used(broker, caller):
    caller.knows()
    kill(broker)
    broker.start()
    assert caller.served_after(time.monotonic()) < BACK_SECONDS


def test_without_names_from_the_start_it_waits_for_them(tmp_path, broker):
    late = Caller(tmp_path, broker)
    late.knows()
    late.start()
    try:
        assert "look up localhost" in late.failed_after(time.monotonic() + 3)
        late.knows("ipv4:127.0.0.1")
        assert late.served_after(time.monotonic()) < BACK_SECONDS
    finally:
        late.stop()
