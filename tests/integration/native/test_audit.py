# SPDX-License-Identifier: Apache-2.0
"""The audit log: somebody changes it, it is rotated, its disk is full."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time

import brokers
import grpc
import pytest
from brokers import CALL_SECONDS, DRIVER, Node, create, keybroker

LOST = "the last one that the broker's store knows, is missing"


def check(*paths, key=None) -> subprocess.CompletedProcess:
    words = ["--with-key", key] if key else []
    command = [brokers.program("tdvol-broker"), "--check-audit", *paths, *words]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def stopped(make_broker):
    """A broker that was stopped after it had released a key; the log's path and lines."""
    broker = make_broker()
    broker.http = f"127.0.0.1:{brokers.free_port()}"
    broker.path = broker.dir / "audit.jsonl"
    broker.start(http=broker.http)
    stub, node = broker.stub(), Node()
    create(stub, "v")
    node.open(stub, "v")
    create(stub, "w")
    broker.stop()
    assert check(broker.path, key=broker.dir / "master.key").returncode == 0
    return broker


def assert_told(broker, problem: str) -> None:
    """The broker starts and works, and says what is wrong in all places; after the next start it is quiet."""
    broker.start(http=broker.http)
    create(broker.stub(), "x")
    lines = [json.loads(line) for line in broker.path.read_text().splitlines()]
    restarted = [line for line in lines if line["event"] == "restarted"]
    assert len(restarted) == 1 and problem in restarted[0]["note"]
    assert problem in brokers.page(broker.http, "/readyz")
    assert "\ntdvol_audit_broken 1\n" in brokers.page(broker.http, "/metrics")
    assert '"msg":"the audit log is not what the broker wrote"' in broker.log.read_text()
    broker.stop()
    checked = check(broker.path, key=broker.dir / "master.key")
    assert checked.returncode == 0 and "found 1 times that earlier lines were changed or lost" in checked.stdout
    broker.start(http=broker.http)
    assert "\ntdvol_audit_broken 0\n" in brokers.page(broker.http, "/metrics")
    assert "warning" not in brokers.page(broker.http, "/readyz")
    broker.stop()


def test_a_log_that_was_written_anew_without_a_release_is_told(stopped):
    previous, made = "0" * 64, []
    for line in map(json.loads, stopped.path.read_text().splitlines()):
        if line.get("method") == "OpenVolume":
            continue
        line |= {"seq": len(made) + 1, "prev": previous}
        made.append(json.dumps(line, separators=(",", ":")))
        previous = hashlib.sha256(made[-1].encode()).hexdigest()
    stopped.path.write_text("\n".join(made) + "\n")
    assert check(stopped.path).returncode == 0  # the hashes are right
    checked = check(stopped.path, key=stopped.dir / "master.key")
    assert checked.returncode == 1 and "does not have the broker's MAC" in checked.stderr
    assert_told(stopped, LOST)


def test_a_changed_line_is_told(stopped):
    stopped.path.write_bytes(stopped.path.read_bytes().replace(b'"volume":"v"', b'"volume":"u"'))
    assert "the file was changed" in check(stopped.path).stderr
    assert_told(stopped, "does not have the hash of the line before it")


def test_a_log_that_was_cut_is_told(stopped):
    stopped.path.write_bytes(b"".join(stopped.path.read_bytes().splitlines(True)[:3]))
    assert_told(stopped, LOST)


def test_lines_in_another_order_are_told(stopped):
    lines = stopped.path.read_bytes().splitlines(True)
    lines[2], lines[3] = lines[3], lines[2]
    stopped.path.write_bytes(b"".join(lines))
    assert_told(stopped, "does not have the hash of the line before it")


def test_a_deleted_log_is_told(stopped):
    stopped.path.unlink()
    assert_told(stopped, LOST)


def test_a_store_that_was_put_back_knows_not_all_of_the_log(stopped):
    shutil.copytree(stopped.dir / "state", stopped.dir / "old")
    stopped.start(http=stopped.http)
    stub = stopped.stub()
    for number in range(70):
        create(stub, f"late{number}", name=f"late{number}")
    stopped.stop()
    shutil.rmtree(stopped.dir / "state")
    (stopped.dir / "old").rename(stopped.dir / "state")
    stopped.start(http=stopped.http)
    # The lines after the head have good MACs: they look like those of a crash. They say what the store has lost.
    ahead = [line for line in stopped.audit() if line["event"] == "ahead"]
    assert len(ahead) == 1 and ahead[0]["lines"] > 70
    assert "\ntdvol_audit_broken 1\n" in brokers.page(stopped.http, "/metrics")
    stopped.stop()


@pytest.mark.parametrize("moment", ["written", "synced"])
def test_a_crash_between_line_and_head_is_no_trouble(make_broker, moment):
    broker = make_broker(environment={"TDVOL_FAULT": f"broker.audit.{moment}:kill:4"})
    broker.start()
    stub = broker.stub()
    with pytest.raises(grpc.RpcError):
        for number in range(4):
            create(stub, f"v{number}", name=f"v{number}")
    assert broker.process.wait(10) == -signal.SIGKILL
    broker.environment = {}
    broker.start()
    create(broker.stub(), "after")
    broker.stop()
    assert "restarted" not in [line["event"] for line in broker.audit()]
    assert check(broker.dir / "audit.jsonl", key=broker.dir / "master.key").returncode == 0


def wait_for_line(path, event: str) -> dict:
    for _ in range(200):
        if path.exists():
            for line in path.read_text().splitlines():
                if json.loads(line)["event"] == event:
                    return json.loads(line)
        time.sleep(0.05)
    raise AssertionError(path.read_text() if path.exists() else "no file")


def test_the_log_is_rotated_on_sighup_and_the_chain_goes_on(stopped):
    broker, old = stopped, stopped.dir / "audit.jsonl.1"
    broker.start(http=broker.http)
    broker.path.rename(old)
    create(broker.stub(), "x")
    broker.process.send_signal(signal.SIGHUP)
    first = wait_for_line(broker.path, "rotated")
    create(broker.stub(), "y")
    last = old.read_bytes().splitlines()[-1]
    assert first["prev"] == hashlib.sha256(last).hexdigest() and first["seq"] == json.loads(last)["seq"] + 1
    assert '"volume":"x"' in old.read_text() and '"volume":"y"' in broker.path.read_text()
    broker.stop()
    key = broker.dir / "master.key"
    for paths in ([old, broker.path], [broker.path], [old]):
        assert check(*paths, key=key).returncode == 0, paths
    broker.start(http=broker.http)
    assert "warning" not in brokers.page(broker.http, "/readyz")
    broker.stop()
    old.write_bytes(b"".join(old.read_bytes().splitlines(True)[:-1]))
    assert check(old, broker.path, key=key).returncode == 1


def test_reads_and_probes_write_no_line_and_denials_do(broker):
    stub = broker.stub()
    create(stub, "v")
    before = len(broker.audit())
    for _ in range(20):
        stub.GetStatus(keybroker.GetStatusRequest(), timeout=CALL_SECONDS)
        stub.GetRecord(keybroker.GetRecordRequest(driver=DRIVER, volume_id="v"), timeout=CALL_SECONDS)
        stub.ListRecords(keybroker.ListRecordsRequest(driver=DRIVER), timeout=CALL_SECONDS)
        with pytest.raises(grpc.RpcError):
            stub.GetRecord(keybroker.GetRecordRequest(driver=DRIVER, volume_id="w"), timeout=CALL_SECONDS)
    assert len(broker.audit()) == before
    with pytest.raises(grpc.RpcError):
        stub.ListRecords(keybroker.ListRecordsRequest(), timeout=CALL_SECONDS)  # of all drivers: for admins
    assert broker.audit()[-1]["decision"] == "deny" and len(broker.audit()) == before + 1


def test_a_flood_of_refusals_is_counted_and_hides_no_release(make_broker):
    broker = make_broker()
    http = f"127.0.0.1:{brokers.free_port()}"
    broker.start(http=http)
    stub, node = broker.stub(), Node()
    create(stub, "v")
    for _ in range(300):
        with pytest.raises(grpc.RpcError):
            stub.ListRecords(keybroker.ListRecordsRequest(), timeout=CALL_SECONDS)
    node.open(stub, "v")
    lines = broker.audit()
    denials = [line for line in lines if line.get("decision") == "deny"]
    assert 20 <= len(denials) < 200
    assert lines[-1]["method"] == "OpenVolume" and lines[-1]["code"] == "OK"
    page = brokers.page(http, "/metrics")
    assert f"\ntdvol_audit_unwritten_refusals_total {300 - len(denials)}\n" in page
    broker.stop()


def test_with_a_full_disk_reads_go_on_and_releases_fail(make_broker):
    """A limit on the size of files, as on a full disk."""
    broker = make_broker()
    command = broker.command
    broker.command = lambda **changed: ["env", "--ignore-signal=XFSZ", *command(**changed)]
    broker.start()
    stub, node = broker.stub(), Node()
    create(stub, "v")
    size = (broker.dir / "audit.jsonl").stat().st_size
    resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
    assert stub.GetRecord(keybroker.GetRecordRequest(driver=DRIVER, volume_id="v"), timeout=CALL_SECONDS).record
    stub.GetStatus(keybroker.GetStatusRequest(), timeout=CALL_SECONDS)
    for action in (lambda: node.open(stub, "v"), lambda: create(stub, "w")):
        with pytest.raises(grpc.RpcError) as caught:
            action()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE and "audit log" in caught.value.details()
    resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert node.secret(node.open(stub, "v"))
    broker.stop()
    assert check(broker.dir / "audit.jsonl", key=broker.dir / "master.key").returncode == 0


def test_an_audit_key_is_needed_once_and_checks_the_log(make_broker):
    broker = make_broker()
    key = broker.dir / "audit.key"
    key.write_text(os.urandom(32).hex())
    key.chmod(0o600)
    broker.start(audit_key=key)
    create(broker.stub(), "v")
    broker.stop()
    broker.start()
    create(broker.stub(), "w")
    broker.stop()
    path = broker.dir / "audit.jsonl"
    assert check(path, key=key).returncode == 0
    assert check(path, key=broker.dir / "master.key").returncode == 1
    assert "openssl rand" in check(path, key=broker.dir / "policy.json").stderr or check(path, key=path).returncode == 1
