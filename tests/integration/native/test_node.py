# SPDX-License-Identifier: Apache-2.0
"""tdvol-csi in a simulated Trust Domain, with real brokers: how a node gets a session and keeps it.

There is no device-mapper here, so nothing is staged. The node's storage health shows whether the broker serves it.
"""

import contextlib
import json
import pathlib
import re
import signal
import subprocess
import time
import urllib.request

import grpc
import pytest
import sims
import stubs
import tds
from brokers import free_port

import csi_pb2 as csi  # noqa: E402
import csi_pb2_grpc  # noqa: E402

pytestmark = sims.needs_sim
SECONDS = 40
NODE = "n1"


class Plugin:
    """One start of the plugin: one key."""

    def __init__(self, folder: pathlib.Path, tsm: pathlib.Path, addresses: list[str], ca: pathlib.Path, *options,
                 event_log: pathlib.Path | None = None, user: str = "root"):  # fmt: skip
        self.dir = folder
        self.port = free_port()
        self.log = folder.parent / f"{folder.name}.log"
        for name in ("volumes", "state", "pods"):
            (folder / name).mkdir(parents=True)
        command = [
            stubs.BUILD / "csi/tdvol-csi", "--node-id", NODE, "--endpoint", f"unix://{folder}/csi.sock", "--user", user,
            "--broker", ",".join(addresses), "--broker-ca", ca, "--tsm-root", tsm, "--event-log", event_log or folder / "none",
            "--local-dir", folder / "volumes", "--state-dir", folder / "state", "--free-mount-root", folder / "pods",
            "--http", f"127.0.0.1:{self.port}", "--log-format", "json", *options,
        ]  # fmt: skip
        with self.log.open("wb") as output:
            self.process = subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL, stderr=output)
        self.channel = grpc.insecure_channel(f"unix://{folder}/csi.sock")
        self.node = csi_pb2_grpc.NodeStub(self.channel)

    def lines(self, message: str) -> list[dict]:
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in found if line["msg"] == message]

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as answer:
            return answer.read().decode()

    def problems(self) -> list[tuple[str, str]]:
        """Reasons and messages about the broker in the node's storage health."""
        answer = self.node.NodeGetStorageHealth(csi.NodeGetStorageHealthRequest(), timeout=20, wait_for_ready=True)
        found = [(one.reason, one.message) for one in answer.backend_health]
        return [one for one in found if one[0] != "KernelIncomplete"]

    def wait(self, condition, what: str) -> None:
        end = time.monotonic() + SECONDS
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"{what}: {self.problems()}, {self.lines('not attested')}"
            time.sleep(0.1)

    def wait_ready(self) -> None:
        self.wait(lambda: not self.problems(), "it is served")

    def wait_refused(self, word: str) -> None:
        self.wait(lambda: self.problems() and word in self.problems()[0][1], f"the node is refused for {word}")
        assert self.problems()[0][0] == "KeyRefused"

    def attestations(self) -> dict[str, int]:
        found = re.findall(r'tdvol_attestations_total\{result="(\w+)"\} (\d+)', self.metrics())
        return {word: int(count) for word, count in found}

    def stop(self) -> None:
        self.channel.close()
        if self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(SECONDS) == 0, self.log.read_text()


@pytest.fixture
def token(tmp_path, cluster):
    path = tmp_path / "token"
    path.write_bytes(cluster.token(NODE))
    return path


@pytest.fixture
def start_plugin(tmp_path, tsm):
    with contextlib.ExitStack() as stack:

        def start(name: str, addresses: list[str], ca: pathlib.Path, *options) -> Plugin:
            plugin = Plugin(tmp_path / name, tsm.root, addresses, ca, *options)
            stack.callback(plugin.stop)
            return plugin

        yield start


def start_node(start_plugin, broker, *options, name: str = "plugin") -> Plugin:
    return start_plugin(name, [broker.address], broker.dir / "ca.crt", *options)


def test_node_is_ready_by_its_quote_and_its_token(start, start_plugin, token):
    broker = start()
    plugin = start_node(start_plugin, broker, "--owner-token", token)
    plugin.wait_ready()
    session = plugin.lines("attested")[-1]
    assert (session["broker"], session["tenant"], session["rule"]) == (broker.address, "default", "nodes")
    assert plugin.attestations() == {"ok": 1}
    left = re.search(r'tdvol_session_seconds\{broker="[^"]+"\} (\d+)', plugin.metrics())
    assert int(left[1]) > 0


def test_restarted_broker_gets_a_new_quote_by_itself(start, start_plugin, token, pki, facts):
    broker = start()
    plugin = start_node(start_plugin, broker, "--owner-token", token)
    plugin.wait_ready()
    broker.stop()
    broker.start(test_root=pki / "root.der", collateral_dir=facts)
    plugin.wait(lambda: not plugin.problems() and plugin.attestations() == {"ok": 2}, "it attests again")


def test_node_without_owner_is_refused_and_says_why(start, start_plugin, token):
    broker = start()
    plugin = start_node(start_plugin, broker)
    plugin.wait_refused("OwnerMissing")
    assert plugin.lines("not attested")[-1]["reason"] == "OwnerMissing"
    time.sleep(3)
    assert plugin.attestations() == {"OwnerMissing": 1}  # it does not try all the time


def test_token_of_another_cluster_is_refused(start, start_plugin, token):
    token.write_bytes(tds.Cluster().token(NODE))
    plugin = start_node(start_plugin, start(), "--owner-token", token)
    plugin.wait_refused("TokenSignature")


@pytest.fixture
def measured(make_broker, make_tsm, pki, facts, tmp_path):
    """A TD with an event log that replays, and a broker that wants the log: (tsm, log, broker)."""
    description, log = tmp_path / "measured.json", tmp_path / "measured.ccel"
    events = [("rtmr1", 1, "kernel"), ("rtmr2", 1, "command line"), ("rtmr3", 6, "cluster prod")]
    description.write_text(json.dumps({"events": [dict(zip(("register", "type", "text"), event)) for event in events]}))
    registers = json.loads(sims.sim("ccel", "--td", description, "--out", log))
    broker = make_broker()
    image = {"mrtd": tds.IMAGE["mrtd"], "rtmr1": [registers["rtmr1"]], "rtmr2": [registers["rtmr2"]]}
    rule = tds.rule("nodes", "default", {"rtmr3_event": "cluster prod"},
                    td={"images": ["image-1"], "event_log": True})  # fmt: skip
    tds.write_policy(broker, rule, images={"image-1": image})
    broker.start(test_root=pki / "root.der", collateral_dir=facts)
    return make_tsm("--td", description), log, broker


def run_in(tmp_path, tsm, broker, log) -> Plugin:
    return Plugin(tmp_path / "own", tsm.root, [broker.address], broker.dir / "ca.crt", event_log=log)


def test_event_log_that_fits_is_sent(measured, tmp_path):
    tsm, log, broker = measured
    plugin = run_in(tmp_path, tsm, broker, log)
    try:
        plugin.wait_ready()
        assert not plugin.lines("the event log is not sent")
    finally:
        plugin.stop()


def test_event_log_that_does_not_fit_is_kept_back(measured, tmp_path, start, token):
    """A wrong log matters only to a broker that wants the log."""
    tsm, log, broker = measured
    changed = bytearray(log.read_bytes())
    changed[changed.rindex(b"cluster prod") - 5] ^= 1  # in the digest before the text
    log.write_bytes(changed)
    plugin = run_in(tmp_path, tsm, broker, log)
    try:
        plugin.wait_refused("EventLogMissing")
        assert plugin.lines("the event log is not sent")[-1]["reason"] == "EventLogMismatch"
    finally:
        plugin.stop()


def test_node_needs_no_event_log_where_no_rule_wants_it(start, tmp_path, tsm, token):
    broker, log = start(), tmp_path / "noise"
    log.write_bytes(b"no log at all")
    plugin = Plugin(tmp_path / "own", tsm.root, [broker.address], broker.dir / "ca.crt", "--owner-token", token, event_log=log)
    try:
        plugin.wait_ready()
        assert plugin.lines("the event log is not sent")[-1]["reason"] == "EventLogMalformed"
    finally:
        plugin.stop()


def test_owner_who_signs_later_makes_it_ready(start, start_plugin, tmp_path, owner):
    broker = start()
    request, signed = tmp_path / "owner.csr", tmp_path / "owner.crt"
    plugin = start_node(start_plugin, broker, "--owner-request", request, "--owner-certificate", signed)
    plugin.wait_refused("OwnerMissing")
    asked = tds.x509.load_pem_x509_csr(request.read_bytes())
    assert asked.is_signature_valid

    class Key:  # as much as certify() needs
        public_key = staticmethod(asked.public_key)

    signed.write_bytes(owner.certify(Key))
    plugin.wait_ready()
    assert plugin.lines("attested")[-1]["tenant"] == "other"


def test_second_broker_serves_while_the_first_is_down(start, start_plugin, token):
    broker = start()
    free = f"127.0.0.1:{free_port()}"
    plugin = start_plugin("plugin", [free, broker.address], broker.dir / "ca.crt", "--owner-token", token)
    plugin.wait_ready()
    assert plugin.lines("attested")[-1]["broker"] == broker.address


def test_busy_quoting_is_waited_for(start, start_plugin, token, tsm):
    tsm.fault("busy=2")
    plugin = start_node(start_plugin, start(), "--owner-token", token)
    plugin.wait_ready()


def test_hung_configfs_does_not_keep_it_from_serving(start, tmp_path, tsm, token):
    broker = start()
    tsm.process.send_signal(signal.SIGSTOP)
    plugin = Plugin(tmp_path / "plugin", tsm.root, [broker.address], broker.dir / "ca.crt", "--owner-token", token)
    try:
        plugin.wait(lambda: plugin.lines("ready"), "it serves")  # a worker has looked at the kernel by then
    finally:
        tsm.process.send_signal(signal.SIGCONT)
        plugin.stop()


def test_stopping_does_not_wait_for_a_slow_quote(start, tmp_path, make_tsm, token):
    tsm, broker = make_tsm("--latency-ms", "20000"), start()
    plugin = Plugin(tmp_path / "plugin", tsm.root, [broker.address], broker.dir / "ca.crt", "--owner-token", token)
    plugin.wait(lambda: plugin.lines("ready"), "it serves")
    time.sleep(1)
    before = time.monotonic()
    plugin.stop()
    assert time.monotonic() - before < 10
