# SPDX-License-Identifier: Apache-2.0
"""Keys of deleted volumes that the policy keeps for a while: brought back, ended, or destroyed by the broker when their
time is over. Over SQLite; over etcd: test_replicas.py."""

import json
import re
import time

import brokers
import grpc
import hosts
import pytest
from brokers import CALL_SECONDS, DRIVER, Node, create, keybroker, refused
from test_backup import allow_backups, back_up, lose_store, restore_here

WEEK = 7 * 24 * 3600
PATIENCE_SECONDS = 120  # a step of 30 s, two periods of 20 s, and a busy machine


def keep(broker, seconds: int) -> None:
    path = broker.dir / "policy.json"
    policy = json.loads(path.read_text())
    path.write_text(json.dumps(policy | {"retention": {"seconds": seconds}}))


@pytest.fixture
def keeper(make_broker):
    """A broker that keeps keys for a week. At the end it must stop cleanly with a whole audit chain."""
    one = make_broker("keeper")
    keep(one, WEEK)
    allow_backups(one)
    one.start()
    yield one
    one.stop()
    one.audit()


def filled(broker, volume_id: str) -> bytes:
    """A volume with data that no node has open; its secret."""
    stub, node = broker.stub(), Node()
    create(stub, volume_id, name=volume_id)
    opened = node.open(stub, volume_id)
    node.change(stub, node.ready(stub, opened.record), keybroker.CHANGE_CLOSED)
    return node.secret(opened)


def do(broker, *words: str) -> str:
    done = broker.ctl("volume", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def described(broker, volume_id: str) -> dict:
    return json.loads(do(broker, "show", volume_id, "--json"))


def step(broker, method: str, volume_id: str, client: str = "admin"):
    return getattr(broker.stub(client), method)(
        keybroker.DeleteRequest(driver=DRIVER, volume_id=volume_id), timeout=CALL_SECONDS
    )


def reads(broker, volume_id: str) -> tuple[bytes, bytes]:
    node = Node("n2")
    answer = node.open(broker.stub(), volume_id)
    return node.secret(answer), answer.record.record_id


def wait_erased(broker, volume_id: str) -> dict:
    end = time.monotonic() + PATIENCE_SECONDS
    while (record := described(broker, volume_id))["phase"] != "PHASE_ERASED":
        assert time.monotonic() < end, record
        time.sleep(0.5)
    return record


def test_a_deleted_volume_is_gone_for_its_controller_and_comes_back(keeper):
    secret = filled(keeper, "v")
    told = do(keeper, "delete", "v", "--yes")
    assert "its key is kept" in told and "tdvolctl volume undelete v" in told
    stub = keeper.stub()
    for call in (stub.GetRecord, stub.BeginDelete, stub.FinishDelete):
        request = keybroker.GetRecordRequest if call is stub.GetRecord else keybroker.DeleteRequest
        with refused(grpc.StatusCode.NOT_FOUND):
            call(request(driver=DRIVER, volume_id="v"), timeout=CALL_SECONDS)
    with refused(grpc.StatusCode.NOT_FOUND):
        Node().open(stub, "v")
    with refused(grpc.StatusCode.UNAVAILABLE, "its key is kept for a while"):
        create(stub, "v", name="v")
    text = do(keeper, "show", "v")
    assert "phase          RETAINED" in text and re.search(r"^deleted        20\S+, by admin$", text, re.MULTILINE)
    assert re.search(r"^key is kept    for 6 d 23 h more at least|^key is kept    for 7 d 0 h more", text, re.MULTILINE), text
    assert [line.split()[:3] for line in do(keeper, "list", "--deleted").splitlines()[1:]] == [["v", "VOLUME", "RETAINED"]]
    assert len(do(keeper, "list").splitlines()) == 1
    keeper.stop()
    keeper.start()
    assert "opens again" in do(keeper, "undelete", "v")
    assert "nothing was changed" in do(keeper, "undelete", "v")
    assert reads(keeper, "v")[0] == secret
    methods = [line["method"] for line in keeper.audit() if line.get("code") == "OK" and line["event"] == "call"]
    assert methods.count("UndeleteRecord") == 2 and "destroyed" not in json.dumps(keeper.audit())


def test_an_administrator_ends_the_wait(keeper):
    filled(keeper, "v")
    do(keeper, "delete", "v", "--yes")
    assert keeper.ctl("volume", "delete", "v", "--yes").returncode == 1  # it is gone
    assert "v is erased" in do(keeper, "delete", "v", "--yes", "--now")
    assert described(keeper, "v")["destroyed"][0]["by"] == "admin"
    ended = keeper.ctl("volume", "undelete", "v")
    assert ended.returncode == 1 and "nothing can bring it back" in ended.stderr
    filled(keeper, "w")
    assert "w is erased" in do(keeper, "delete", "w", "--yes", "--now")
    assert described(keeper, "w")["phase"] == "PHASE_ERASED"
    create(keeper.stub(), "v", name="v")


def test_a_volume_without_data_is_erased_at_once(keeper):
    create(keeper.stub(), "v")
    do(keeper, "delete", "v", "--yes")
    assert described(keeper, "v")["phase"] == "PHASE_ERASED"


def test_nodes_and_controllers_bring_nothing_back(keeper):
    filled(keeper, "v")
    do(keeper, "delete", "v", "--yes")
    for method in ("UndeleteRecord", "EraseRecord"):
        with refused(grpc.StatusCode.PERMISSION_DENIED):
            step(keeper, method, "v", "node")
    assert described(keeper, "v")["phase"] == "PHASE_RETAINED"


@pytest.mark.parametrize("moment", ["before-commit", "after-commit"])
@pytest.mark.parametrize("method", ["FinishDelete", "UndeleteRecord", "EraseRecord"])
def test_a_broker_that_is_killed_then_leaves_one_outcome(make_broker, method, moment):
    broker = make_broker("killed")
    keep(broker, WEEK)
    broker.start()
    secret = filled(broker, "v")
    if method != "FinishDelete":
        do(broker, "delete", "v", "--yes")
    else:
        step(broker, "BeginDelete", "v")
    broker.stop()
    broker.environment = {"TDVOL_FAULT": f"broker.{method}.{moment}:kill"}
    broker.start()
    with pytest.raises(grpc.RpcError):
        step(broker, method, "v")
    broker.process.wait(timeout=30)
    broker.environment = {}
    broker.start()
    before = {"FinishDelete": "DELETING", "UndeleteRecord": "RETAINED", "EraseRecord": "RETAINED"}[method]
    after = {"FinishDelete": "RETAINED", "UndeleteRecord": "READY", "EraseRecord": "ERASED"}[method]
    phase = described(broker, "v")["phase"]
    assert phase == f"PHASE_{before if moment == 'before-commit' else after}"
    if moment == "before-commit":
        step(broker, method, "v")
    assert described(broker, "v")["phase"] == f"PHASE_{after}"
    if after == "RETAINED":
        do(broker, "undelete", "v")
    if after != "ERASED":
        assert reads(broker, "v")[0] == secret
    else:
        with refused(grpc.StatusCode.NOT_FOUND):
            reads(broker, "v")


@pytest.mark.parametrize("moment", ["before-commit", "after-commit", "never"])
def test_a_key_whose_time_is_over_is_destroyed_once(make_broker, moment):
    broker = make_broker("sweeping", {} if moment == "never" else {"TDVOL_FAULT": f"broker.retention.{moment}:kill"})
    keep(broker, 1)
    http = f"127.0.0.1:{brokers.free_port()}"
    broker.start(http=http)
    filled(broker, "v")
    do(broker, "delete", "v", "--yes")
    if moment == "never":
        end = time.monotonic() + 10
        while "tdvol_retained_records 1" not in brokers.page(http, "/metrics"):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert not re.search(r"^tdvol_retained_oldest_timestamp_seconds 0$", brokers.page(http, "/metrics"), re.MULTILINE)
    else:
        broker.process.wait(timeout=PATIENCE_SECONDS)
        broker.environment = {}
        broker.start()
    record = wait_erased(broker, "v")
    assert len(record["destroyed"]) == 1
    lost = record["destroyed"][0]
    assert lost["by"] == "end of retention, deleted by admin"
    line = next(line for line in broker.audit() if line["seq"] == int(lost["audit_seq"]))
    assert line["event"] == "retention-over" and line["volume"] == "v" and line["destroyed"].endswith("/1")
    with refused(grpc.StatusCode.NOT_FOUND):
        reads(broker, "v")
    create(broker.stub(), "v", name="v")


@pytest.mark.skipif(not hosts.FAKETIME.exists(), reason="faketime is not installed: apt-get install faketime")
def test_a_broker_whose_clock_is_far_ahead_destroys_nothing(keeper):
    secret = filled(keeper, "v")
    do(keeper, "delete", "v", "--yes")
    keeper.stop()
    keeper.environment = hosts.another_clock() | {"FAKETIME": "+60d"}
    keeper.start()
    time.sleep(25)  # more than a period
    keeper.stop()
    keeper.environment = {}
    keeper.start()
    do(keeper, "undelete", "v")
    assert reads(keeper, "v")[0] == secret


def test_a_kept_key_goes_through_a_backup_and_waits_for_an_administrator(keeper):
    secret = filled(keeper, "v")
    do(keeper, "delete", "v", "--yes")
    backup = back_up(keeper)
    do(keeper, "undelete", "v")  # the store loses that
    lose_store(keeper)
    restored = restore_here(keeper, backup)
    assert restored.returncode == 0, restored.stderr
    keeper.start()
    assert described(keeper, "v")["phase"] == "PHASE_RETAINED"
    ended = keeper.ctl("volume", "undelete", "v")
    assert ended.returncode == 1 and "adopt --restored v" in ended.stderr
    done = keeper.ctl("volume", "adopt", "--restored", "--all", "--yes")
    assert done.returncode == 0 and "1 adopted, 0 failed" in done.stdout, done
    do(keeper, "undelete", "v")
    assert reads(keeper, "v")[0] == secret
