# SPDX-License-Identifier: Apache-2.0
"""/healthz, /readyz and /metrics of plugin and broker: never late, and true about their own sockets."""

import contextlib
import http.client
import os
import pathlib
import signal
import socket
import stat
import threading
import time

import grpc
import pytest
import stubs
from brokers import free_port
from test_node import Plugin

stubs.generate()
import csi_pb2 as csi  # noqa: E402
import csi_pb2_grpc  # noqa: E402

QUICK_SECONDS = 0.1
AGAIN_SECONDS = 15


def page(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str, float]:
    """Status, text, and how long it took."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), time.monotonic() - begun
    finally:
        connection.close()


def wait_for(condition, what: str) -> None:
    """A program that has just been started may not listen yet."""
    end = time.monotonic() + AGAIN_SECONDS
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            if condition():
                return
        assert time.monotonic() < end, what
        time.sleep(0.05)


def median(numbers: list[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


@pytest.fixture
def start_plugin(tmp_path, broker):
    with contextlib.ExitStack() as ends:

        def start(*options, **changed) -> Plugin:
            folder = tmp_path / "plugin"
            clients = broker.dir / "clients"
            plugin = Plugin(folder, folder / "none", [broker.address], broker.dir / "ca.crt", "--client-cert", clients / "node.crt",
                            "--client-key", clients / "node.key", "--registration-socket", folder / "reg.sock", *options, **changed)  # fmt: skip
            ends.callback(plugin.stop)
            plugin.wait(lambda: plugin.lines("ready"), "it starts")
            return plugin

        yield start




@pytest.fixture
def plugin(start_plugin):
    # the role of the controller needs no device-mapper
    return start_plugin("--role", "controller")


def ask(path: pathlib.Path) -> str:
    with grpc.insecure_channel(f"unix://{path}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        info = csi_pb2_grpc.IdentityStub(channel).GetPluginInfo(csi.GetPluginInfoRequest(), timeout=10)
    return info.name


def test_hanging_broker_delays_no_probe(plugin, broker):
    wait_for(lambda: page(plugin.port, "/readyz")[0] == 200, "it becomes ready")
    took: dict[str, list[float]] = {"/healthz": [], "/readyz": []}
    broker.process.send_signal(signal.SIGSTOP)
    try:
        end = time.monotonic() + 12
        while time.monotonic() < end:
            for path, times in took.items():
                status, text, seconds = page(plugin.port, path)
                times.append(seconds)
                assert path == "/readyz" or status == 200
            time.sleep(0.05)
        assert status == 503 and ("the key broker has not answered for" in text or "ago" in text or "deadline" in text.lower()), text
    finally:
        broker.process.send_signal(signal.SIGCONT)
    for path, times in took.items():
        assert max(times) < 10 * QUICK_SECONDS and median(times) < QUICK_SECONDS, (path, max(times), median(times))
    wait_for(lambda: page(plugin.port, "/readyz")[0] == 200, "it becomes ready again")


def test_slow_clients_keep_no_place(plugin):
    """They send a byte now and then; libmicrohttpd gave them all places for ever."""
    begun = time.monotonic()
    slow = [socket.create_connection(("127.0.0.1", plugin.port), 10) for _ in range(40)]
    times = []
    while time.monotonic() < begun + 8:
        for one in slow:
            with contextlib.suppress(OSError):
                one.send(b"G" if time.monotonic() < begun + 1 else b"E")
        times.append(page(plugin.port, "/healthz")[2])
        time.sleep(0.2)
    assert max(times) < 10 * QUICK_SECONDS and median(times) < QUICK_SECONDS, times
    for one in slow:
        one.close()


def test_flooded_listener_is_busy_and_not_dead(make_broker):
    """All places of the broker's listener are taken, from the address that its own check comes from."""
    broker, port, ended = make_broker(), free_port(), threading.Event()
    broker.start(http=f"127.0.0.1:{port}")

    def flood() -> None:
        held: list[socket.socket] = []
        while not ended.is_set():
            try:
                held.append(socket.create_connection(("127.0.0.1", broker.port), 1))
            except OSError:
                time.sleep(0.01)
            while len(held) > 700:
                held.pop(0).close()
        for one in held:
            one.close()

    attackers = [threading.Thread(target=flood) for _ in range(2)]
    for one in attackers:
        one.start()
    try:
        answers = []
        end = time.monotonic() + 15
        while time.monotonic() < end:
            answers.append(page(port, "/healthz"))
            time.sleep(0.1)
    finally:
        ended.set()
        for one in attackers:
            one.join()
    times = [seconds for _, _, seconds in answers]
    assert {status for status, _, _ in answers} == {200}, answers
    assert max(times) < 10 * QUICK_SECONDS and median(times) < QUICK_SECONDS, (max(times), median(times))
    broker.stop()


def test_probes_count_as_nobody_who_was_turned_away(make_broker):
    """Neither the broker's own look at its listener nor a probe that only connects."""
    broker, port = make_broker(), free_port()
    broker.start(http=f"127.0.0.1:{port}")
    for _ in range(5):
        socket.create_connection(("127.0.0.1", broker.port), 5).close()
    time.sleep(6)
    assert "tdvol_door_turned_away_total{" not in page(port, "/metrics")[1]
    with socket.create_connection(("127.0.0.1", broker.port), 5) as rude:
        rude.sendall(b"this is no TLS\r\n")
        with contextlib.suppress(ConnectionResetError):
            rude.recv(100)
    wait_for(lambda: 'tdvol_door_turned_away_total{why="Handshake"} 1' in page(port, "/metrics")[1], "who speaks and is refused counts")


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]", "*", ""])
def test_one_address_serves_both_families(make_broker, address):
    broker, port = make_broker(), free_port()
    broker.start(http=f"{address}:{port}")
    assert page(port, "/healthz")[0] == 200
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    assert page(port, "/healthz", "::1")[0] == 200


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("loss", ["removed", "renamed", "replaced by a dead socket"])
def test_lost_socket_is_made_again(start_plugin, user, loss):
    if os.geteuid() != 0 and user != "root":
        pytest.skip("only root can become another user")
    plugin = start_plugin("--role", "controller", *(["--socket-group", "12345"] if os.geteuid() == 0 else []), user=user)
    for name in ("csi.sock", "reg.sock"):
        path = plugin.dir / name
        before = path.stat()
        if loss == "renamed":
            path.rename(plugin.dir / "other")
        else:
            path.unlink()
        if loss == "replaced by a dead socket":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))
        wait_for(lambda: path.exists() and path.stat().st_ino != before.st_ino and plugin.lines("a socket was gone; it was made again"),
                 "it comes back")  # fmt: skip
        wait_for(lambda: path.stat().st_mode == before.st_mode, "it has its mode")
        assert path.stat().st_gid == before.st_gid
        plugin.wait(lambda: len(plugin.lines("a socket was gone; it was made again")) >= (1 if name == "csi.sock" else 2), "all are told")
        (plugin.dir / "other").unlink(missing_ok=True)
    assert ask(plugin.dir / "csi.sock") == "csi.tdvol.dev"
    with grpc.insecure_channel(f"unix://{plugin.dir}/reg.sock") as channel:  # kubelet's question
        info = channel.unary_unary("/pluginregistration.Registration/GetInfo")(b"", timeout=10)
    assert b"csi.tdvol.dev" in info
    assert page(plugin.port, "/healthz")[0] == 200


def test_connections_survive_the_loss_of_their_socket(plugin):
    stub = csi_pb2_grpc.IdentityStub(plugin.channel)
    stub.GetPluginInfo(csi.GetPluginInfoRequest(), timeout=10, wait_for_ready=True)
    (plugin.dir / "csi.sock").unlink()
    for _ in range(30):
        assert stub.GetPluginInfo(csi.GetPluginInfoRequest(), timeout=10).name == "csi.tdvol.dev"
        time.sleep(0.1)
    assert ask(plugin.dir / "csi.sock") == "csi.tdvol.dev"


def test_foreign_file_at_the_path_stays_and_is_told(plugin):
    path = plugin.dir / "csi.sock"
    path.unlink()
    path.write_text("mine")
    wait_for(lambda: page(plugin.port, "/healthz")[0] == 503, "it is told")
    text = page(plugin.port, "/healthz")[1]
    assert f"socket {path} is gone and cannot be made again: " in text and "is not a socket: remove it" in text
    time.sleep(3)
    assert path.read_text() == "mine"
    assert len(plugin.lines("clients cannot reach the plugin")) == 1  # once, not at each look
    path.unlink()
    wait_for(lambda: page(plugin.port, "/healthz")[0] == 200, "it is well again")
    assert ask(path) == "csi.tdvol.dev"


def test_socket_of_another_process_stays_and_is_told(plugin):
    path = plugin.dir / "csi.sock"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        inode = path.stat().st_ino
        wait_for(lambda: page(plugin.port, "/healthz")[0] == 503, "it is told")
        assert "another process serves socket" in page(plugin.port, "/healthz")[1]
        assert path.stat().st_ino == inode


def test_stopped_plugin_leaves_no_socket(start_plugin):
    plugin = start_plugin("--role", "controller", "--mount-root", "/")
    (plugin.dir / "csi.sock").unlink()
    wait_for(lambda: (plugin.dir / "csi.sock").exists(), "it comes back")
    assert stat.S_ISSOCK((plugin.dir / "csi.sock").stat().st_mode)
    plugin.stop()
    assert not (plugin.dir / "reg.sock").exists()
    assert not (plugin.dir / "csi.sock").exists()
