# SPDX-License-Identifier: Apache-2.0
"""The broker as a process: who may talk to it, and what it refuses to start with."""

import json
import os
import signal
import socket
import ssl
import subprocess

import grpc
import harness
import machine
import pytest
from harness import keybroker, raises


def status(stub):
    return stub.GetStatus(keybroker.GetStatusRequest(), timeout=30)


def run_again(broker, *changed):
    """Starts a second process with some arguments replaced and returns how it ended."""
    command = [str(part) for part in broker.command()]
    for name, value in changed:
        command[command.index(name) + 1] = str(value)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_known_client_is_answered(broker):
    assert status(broker.stub("admin")).state == keybroker.BROKER_STATE_OPEN
    assert status(broker.stub("node")).version


def test_client_without_certificate_is_refused(broker):
    credentials = grpc.ssl_channel_credentials((broker.dir / "ca.crt").read_bytes())
    with grpc.secure_channel(broker.address, credentials) as channel, pytest.raises(grpc.RpcError) as error:
        status(harness.keybroker_pb2_grpc.KeyBrokerStub(channel))
    assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)


def test_client_of_another_authority_is_refused(broker, make_broker):
    other = make_broker()
    credentials = grpc.ssl_channel_credentials(
        (broker.dir / "ca.crt").read_bytes(),
        (other.dir / "clients/node.key").read_bytes(),
        (other.dir / "clients/node.crt").read_bytes(),
    )
    with grpc.secure_channel(broker.address, credentials) as channel, pytest.raises(grpc.RpcError) as error:
        status(harness.keybroker_pb2_grpc.KeyBrokerStub(channel))
    assert error.value.code() in (
        grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED,
    )  # fmt: skip


def test_node_may_not_do_what_admins_may(broker):
    request = keybroker.ReleaseLeaseRequest(driver=harness.DRIVER, volume_id="v" + "a" * 26)
    with raises(grpc.StatusCode.PERMISSION_DENIED):
        broker.stub("node").ReleaseLease(request, timeout=30)


def connect(broker, version):
    """A TLS connection of one version with the node's certificate."""
    context = ssl.create_default_context(cafile=str(broker.dir / "ca.crt"))
    context.load_cert_chain(broker.dir / "clients/node.crt", broker.dir / "clients/node.key")
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("localhost", broker.port), 30) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as tls:
            return tls.version()


def test_only_tls_1_3_is_spoken(broker):
    assert connect(broker, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(broker, ssl.TLSVersion.TLSv1_2)


def test_second_broker_on_one_store_is_refused(broker):
    ended = run_again(broker, ("--listen", "127.0.0.1:0"))
    assert ended.returncode != 0
    assert "broker" in ended.stderr or "lock" in ended.stderr, ended.stderr
    assert status(broker.stub()).state == keybroker.BROKER_STATE_OPEN


def test_readable_master_key_is_refused(make_broker):
    broker = make_broker()
    broker.stop()
    os.chmod(broker.dir / "master.key", 0o644)
    ended = run_again(broker)
    assert ended.returncode != 0 and "master.key" in ended.stderr, ended.stderr


def test_other_master_key_is_refused(make_broker):
    broker = make_broker()
    request = keybroker.CreateRecordRequest(driver=harness.DRIVER, volume_id="v" + "a" * 26)
    with pytest.raises(grpc.RpcError):
        broker.stub("node").CreateRecord(request, timeout=30)  # a spec is missing
    broker.stop()
    (broker.dir / "master.key").write_text("00" * 32 + "\n")
    ended = run_again(broker, ("--listen", "127.0.0.1:0"))
    assert ended.returncode != 0 and "master" in ended.stderr, ended.stderr


@pytest.mark.parametrize("text", ["", "{", '{"version": 99}', '{"rules": 1}', '{"version": 1, "version": 1}'])
def test_bad_policy_is_refused(make_broker, text):
    broker = make_broker()
    broker.stop()
    (broker.dir / "policy.json").write_text(text)
    ended = run_again(broker)
    assert ended.returncode != 0 and "policy" in ended.stderr, ended.stderr


def test_bad_policy_on_sighup_changes_nothing(make_broker):
    broker = make_broker()
    before = status(broker.stub()).policy_hash
    good = (broker.dir / "policy.json").read_text()
    (broker.dir / "policy.json").write_text(good[:-3])
    broker.daemon.process.send_signal(signal.SIGHUP)
    assert status(broker.stub()).policy_hash == before
    (broker.dir / "policy.json").write_text(good + "\n")
    broker.daemon.process.send_signal(signal.SIGHUP)
    machine.wait_until(lambda: status(broker.stub()).policy_hash != before, 10, "the new policy")


def test_each_decision_is_in_the_audit_log(broker):
    with pytest.raises(grpc.RpcError):
        broker.record("v" + "b" * 26)
    last = json.loads(broker.audit()[-1])
    assert "v" + "b" * 26 in json.dumps(last)
    checked = subprocess.run(
        [harness.program("tdvol-broker"), "--check-audit", broker.dir / "audit.jsonl"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_sealed_broker_answers_unavailable(make_broker):
    broker = make_broker()
    broker.stop()
    command = broker.command()
    at = command.index("--master-key")
    broker.command = lambda: command[:at] + command[at + 2 :]
    broker.start()
    assert status(broker.stub()).state == keybroker.BROKER_STATE_SEALED
    with raises(grpc.StatusCode.UNAVAILABLE):
        broker.record("v" + "a" * 26)
