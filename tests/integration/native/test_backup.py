# SPDX-License-Identifier: Apache-2.0
"""Backups of the broker's store, and stores made out of them."""

import json
import os
import pathlib
import re
import shutil
import threading

import brokers
import clusters
import grpc
import pytest
from brokers import CALL_SECONDS, DRIVER, Node, create, get, keybroker, refused

ALL = os.environ.get("TDVOL_BACKUP") == "all"  # each moment and each backup; otherwise some of them
NOT_RESTORED = grpc.StatusCode.FAILED_PRECONDITION
needs_etcd = pytest.mark.skipif(
    not clusters.ETCD or not shutil.which("etcdctl"), reason="etcd is not installed: apt-get install etcd-server etcd-client"
)


@pytest.fixture
def broker(make_broker):
    one = make_broker()
    allow_backups(one)
    return one.start()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    cluster = clusters.Cluster(tmp_path_factory.mktemp("etcd") / "cluster", [brokers.ThisHost()])
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(servers):
    servers.etcdctl("del", "--prefix", "")
    return servers


def allow_backups(broker) -> None:
    path = broker.dir / "policy.json"
    policy = json.loads(path.read_text())
    policy["rules"][1]["may"].append("backup")
    path.write_text(json.dumps(policy))


def back_up(broker) -> pathlib.Path:
    made = broker.ctl("broker", "backup", "--json")
    assert made.returncode == 0, made.stderr
    return pathlib.Path(json.loads(made.stdout)["path"])


def restore(backup, store: str, key, **options):
    words = [word for name, value in options.items() if name.islower() for word in (f"--{name.replace('_', '-')}", value)]
    environment = {"PATH": os.path.dirname(brokers.program("tdvol-broker"))}
    environment |= {name: value for name, value in options.items() if not name.islower()}
    return brokers.ctl("broker", "restore", backup, store, "--master-key", key, *words, env=environment)


def restore_here(broker, backup, **options):
    """Into a new store of the same broker."""
    return restore(backup, f"sqlite:{broker.dir / 'state'}", broker.dir / "master.key", **options)


def lose_store(broker) -> None:
    if broker.process:
        broker.stop()
    for name in ("broker.db", "broker.db-wal", "broker.db-shm"):
        (broker.dir / "state" / name).unlink(missing_ok=True)


def ready(stub, volume_id: str, node: Node) -> keybroker.Record:
    """A volume that is open on the node."""
    create(stub, volume_id)
    return node.ready(stub, node.open(stub, volume_id).record)


def opened(stub, node: Node, record: keybroker.Record) -> keybroker.Record:
    return node.change(stub, record, keybroker.CHANGE_OPENED, open_counter=record.open_counter + 1)


def closed(stub, node: Node, record: keybroker.Record) -> keybroker.Record:
    return node.change(stub, record, keybroker.CHANGE_CLOSED, is_closed=True)


def adopt(broker, *words):
    done = broker.ctl("volume", "adopt", "--restored", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_backup_is_made_while_the_broker_serves(broker):
    stub, node = broker.stub(), Node()
    stopped = threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        i = 0
        while not stopped.is_set():
            try:
                ready(broker.stub(), f"v{i}", Node(f"n{i}"))
            except grpc.RpcError as error:
                failures.append(error)
            i += 1

    ready(stub, "first", node)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        paths = [back_up(broker) for _ in range(3)]
    finally:
        stopped.set()
        thread.join()
    assert not failures
    assert len(set(paths)) == 3
    for path in paths:
        assert path.parent == broker.dir / "state" / "backups" and path.stat().st_mode & 0o7777 == 0o600
    assert sorted(path.parent.iterdir()) == sorted(paths)
    events = [line for line in broker.audit() if line["event"] == "backup"]
    assert [line["path"] for line in events] == [str(path) for path in paths]
    assert [line["backup_mac"] for line in events] == [path.read_bytes()[-32:].hex() for path in paths]
    starts = [line for line in broker.audit() if line.get("method") == "Backup"]
    assert [line["cn"] for line in starts] == ["admin"] * 3
    lose_store(broker)
    for path in paths:  # each is a whole store
        assert restore_here(broker, path).returncode == 0
        lose_store(broker)


def test_backup_takes_a_permission_and_room(broker):
    denied = broker.ctl("broker", "backup", client="node")
    assert denied.returncode == 1 and "PERMISSION_DENIED" in denied.stderr
    (broker.dir / "state" / "backups").write_text("no folder")
    failed = broker.ctl("broker", "backup")
    assert failed.returncode == 1 and "no backup was made" in failed.stderr and "backups" in failed.stderr
    assert create(broker.stub(), "v").phase == keybroker.PHASE_NEW
    (broker.dir / "state" / "backups").unlink()
    assert back_up(broker).exists()


def test_store_comes_back_and_waits_for_its_administrator(broker):
    stub, node = broker.stub(), Node()
    record = closed(stub, node, opened(stub, node, ready(stub, "v", node)))
    secret = node.secret(node.open(stub, "v"))
    create(stub, "new")
    backup = back_up(broker)
    lose_store(broker)
    done = restore_here(broker, backup)
    assert done.returncode == 0, done.stderr
    assert "2 records" in done.stdout and "tdvolctl volume adopt --restored" in done.stdout
    broker.start()
    stub = broker.stub()
    with refused(NOT_RESTORED, "tdvolctl volume adopt --restored v"):
        node.open(stub, "v")
    with refused(NOT_RESTORED, "adopt --restored new"):
        node.open(stub, "new")  # it may hold data since
    with refused(grpc.StatusCode.UNAVAILABLE, "adopt --restored --all"):
        create(stub, "another")  # there may be a disk of that id
    assert "restored 20" in broker.ctl("broker", "status").stdout
    assert "not adopted" in broker.ctl("volume", "show", "v").stdout
    said = adopt(broker, "--all", "--yes")
    assert "1 adopted, 0 failed" in said and "new held no data" in said
    assert "restored" not in broker.ctl("broker", "status").stdout
    answer = node.open(stub, "v")
    assert node.secret(answer) == secret
    now = answer.record
    assert now.restored.counter_low == record.open_counter == 1 and now.open_counter > 1 << 60
    assert now.version > 1 << 60 and now.is_closed and not now.clean_hash
    now = opened(stub, node, now)
    assert not now.HasField("restored")
    with refused(NOT_RESTORED, "adopt --restored new"):
        node.open(stub, "new")
    assert "formats it" in adopt(broker, "new")
    assert node.open(stub, "new").record.phase == keybroker.PHASE_FORMATTING
    create(stub, "another")


def test_what_was_said_before_the_restore_counts_no_more(broker):
    """A node, or who listened to it, has answers and proofs from the time that was lost."""
    stub, node = broker.stub(), Node()
    ready(stub, "v", node)
    backup = back_up(broker)
    record = get(stub, "v")
    now = opened(stub, node, record)
    late = [
        node.change_request(now, keybroker.CHANGE_CLOSED, is_closed=True, clean_hash=b"\x05" * 32),
        node.change_request(record, keybroker.CHANGE_OPENED, open_counter=1),
        node.change_request(now, keybroker.CHANGE_OPENED, open_counter=2),
    ]
    lose_store(broker)
    assert restore_here(broker, backup).returncode == 0
    broker.start()
    stub = broker.stub()
    for is_adopted in (False, True):
        if is_adopted:
            adopt(broker, "v")
            node.open(stub, "v")
        before = get(stub, "v")
        for request in late:
            with pytest.raises(grpc.RpcError):
                stub.ChangeRecord(request, timeout=CALL_SECONDS)
        assert get(stub, "v") == before
    now = opened(stub, node, get(stub, "v"))
    for request in late:  # it has the same opening again: the first one's close is not this one's
        with pytest.raises(grpc.RpcError):
            stub.ChangeRecord(request, timeout=CALL_SECONDS)
    assert get(stub, "v") == now


def test_another_node_may_have_it_now(broker):
    """The lease in the backup is of a node that gave it back since."""
    stub, first, second = broker.stub(), Node("n1", "b1"), Node("n2", "b2")
    ready(stub, "v", first)
    backup = back_up(broker)
    closed(stub, first, opened(stub, first, get(stub, "v")))
    second.open(stub, "v")
    lose_store(broker)
    assert restore_here(broker, backup).returncode == 0
    broker.start()
    stub = broker.stub()
    for node in (first, second):
        with refused(NOT_RESTORED):
            node.open(stub, "v")
    assert not get(stub, "v").HasField("lease")


def test_what_was_erased_stays_closed_and_can_be_erased_again(broker):
    stub, node = broker.stub(), Node()
    record = ready(stub, "v", node)
    closed(stub, node, opened(stub, node, record))
    backup = back_up(broker)
    assert broker.ctl("volume", "delete", "v", "--yes").returncode == 0
    lose_store(broker)
    assert restore_here(broker, backup).returncode == 0
    broker.start()
    stub = broker.stub()
    with refused(NOT_RESTORED):
        node.open(stub, "v")
    request = keybroker.DeleteRequest(driver=DRIVER, volume_id="v")
    with refused(NOT_RESTORED):
        stub.BeginDelete(request, timeout=CALL_SECONDS)  # a node does not know either
    assert broker.ctl("volume", "delete", "v", "--yes").returncode == 0
    assert "0 adopted" in adopt(broker, "--all", "--yes")
    with refused(grpc.StatusCode.NOT_FOUND):
        node.open(stub, "v")


def test_killed_restore_goes_on(broker):
    stub, node = broker.stub(), Node()
    for i in range(3):
        ready(stub, f"v{i}", node)
    backup, other = back_up(broker), back_up(broker)
    lose_store(broker)
    for moment in ("begun", "record", "written") if ALL else ("record",):
        killed = restore_here(broker, backup, TDVOL_FAULT=f"broker.restore.{moment}:kill")
        assert killed.returncode == -9, (moment, killed.stderr)
        assert "not all of it is there" in broker.start_in_vain()
    wrong = restore_here(broker, other)
    assert wrong.returncode == 1 and "another backup is being restored" in wrong.stderr
    killed = restore_here(broker, backup, TDVOL_FAULT="broker.restore.ended:kill")
    assert killed.returncode == -9, killed.stderr
    again = restore_here(broker, backup)
    assert again.returncode == 1 and "was restored into the store already" in again.stderr
    broker.start()
    stub = broker.stub()
    assert "3 adopted" in adopt(broker, "--all", "--yes")
    assert {get(stub, f"v{i}").phase for i in range(3)} == {keybroker.PHASE_READY}
    node.open(stub, "v1")


def test_broker_killed_at_its_backup_leaves_none_or_a_whole_one(broker):
    ready(broker.stub(), "v", Node())
    broker.stop()
    folder = broker.dir / "state" / "backups"
    for moment, number in (("written", 0), ("named", 1)):
        broker.environment["TDVOL_FAULT"] = f"broker.backup.{moment}:kill"
        broker.start()
        broker.ctl("broker", "backup")
        assert broker.process.wait(30) == -9
        assert len(list(folder.glob("*.backup"))) == number and (folder / "partial").exists()
    del broker.environment["TDVOL_FAULT"]
    broker.start()
    back_up(broker)
    assert not (folder / "partial").exists()
    lose_store(broker)
    made = list(folder.iterdir())
    assert len(made) == 2
    for path in made:
        assert restore_here(broker, path).returncode == 0
        lose_store(broker)


def rotate_wrapping(one) -> None:
    done = one.ctl("broker", "rotate-wrapping")
    assert done.returncode == 0, done.stderr


def assert_comes_back(broker, backup, secret: bytes, key, **started) -> None:
    """Restored with this key, and started with these: volume v has its secret."""
    lose_store(broker)
    done = restore(backup, f"sqlite:{broker.dir / 'state'}", key)
    assert done.returncode == 0, done.stderr
    broker.start(**started)
    adopt(broker, "v")
    node = Node()
    answer = node.open(broker.stub(), "v")
    assert node.secret(answer) == secret


def test_keys_that_change_before_and_after_a_backup(broker):
    node, key = Node(), broker.dir / "master.key"
    create(broker.stub(), "v")
    answer = node.open(broker.stub(), "v")
    secret = node.secret(answer)
    node.ready(broker.stub(), answer.record)
    backups = [back_up(broker)]  # without a ring
    for _ in range(2):
        rotate_wrapping(broker)
        backups.append(back_up(broker))
    for backup in backups if ALL else (backups[0], backups[2]):
        assert_comes_back(broker, backup, secret, key)
    rotate_wrapping(broker)  # the last one has the newest keys, and they change again
    assert_comes_back(broker, back_up(broker), secret, key)
    lose_store(broker)
    killed = restore_here(broker, backups[1], TDVOL_FAULT="broker.restore.keys:kill")
    assert killed.returncode == -9, killed.stderr
    other = restore_here(broker, backups[2])
    assert other.returncode == 1 and "other keys than the backup" in other.stderr
    assert restore_here(broker, backups[1]).returncode == 0


def test_backup_while_the_master_key_changes(broker):
    node, old, new = Node(), broker.dir / "master.key", broker.dir / "new.key"
    create(broker.stub(), "v")
    answer = node.open(broker.stub(), "v")
    secret = node.secret(answer)
    node.ready(broker.stub(), answer.record)
    before = back_up(broker)
    new.touch(mode=0o600)
    new.write_text("ab" * 32 + "\n")
    broker.stop()
    broker.start(master_key=new, old_master_key=old)
    during = back_up(broker)
    broker.stop()
    broker.start()  # it knows the former key alone, and goes on
    during_of_former = back_up(broker)
    assert_comes_back(broker, during_of_former, secret, old, master_key=new, old_master_key=old)
    assert_comes_back(broker, during, secret, new, master_key=new)
    broker.stop()
    broker.start(master_key=new, old_master_key=old)
    done = broker.ctl("broker", "rotate-master")
    assert done.returncode == 0, done.stderr
    after = back_up(broker)
    shown = re.search(r"^master +([0-9a-f]{16})", broker.ctl("broker", "status").stdout, re.M)[1]
    assert_comes_back(broker, after, secret, new, master_key=new)
    lose_store(broker)
    wrong = restore_here(broker, after)
    assert wrong.returncode == 1 and f"another master key, {shown}, not" in wrong.stderr
    assert_comes_back(broker, before, secret, old, master_key=new, old_master_key=old)


def test_what_is_no_good_backup_is_refused_before_anything_is_made(broker, tmp_path):
    ready(broker.stub(), "v", Node())
    backup = back_up(broker)
    lose_store(broker)
    good = backup.read_bytes()
    bad, other = tmp_path / "bad", tmp_path / "other.key"
    other.touch(mode=0o600)
    other.write_text("ab" * 32)
    for content, why in [
        (good[:-1], "changed or cut"), (good[:100], "changed or cut"), (good + b"\0", "changed or cut"), (b"", "no backup"),
        (good[:200] + bytes([good[200] ^ 1]) + good[201:], "changed or cut"), (b"x" + good[1:], "no backup"),
    ]:  # fmt: skip
        bad.write_bytes(content)
        failed = restore_here(broker, bad)
        assert failed.returncode == 1 and why in failed.stderr, (why, failed.stderr)
    failed = restore(backup, f"sqlite:{broker.dir / 'state'}", other)
    assert failed.returncode == 1 and "another master key" in failed.stderr
    assert restore_here(broker, tmp_path / "missing").returncode == 1
    assert not (broker.dir / "state" / "broker.db").exists()
    assert restore_here(broker, backup).returncode == 0


def test_no_store_is_written_over(broker):
    ready(broker.stub(), "v", Node())
    backup = back_up(broker)
    in_use = restore_here(broker, backup)
    assert in_use.returncode == 1 and "another broker already uses the store" in in_use.stderr
    broker.stop()
    kept = restore_here(broker, backup)
    assert kept.returncode == 1 and "the store is not empty" in kept.stderr
    broker.start()
    assert get(broker.stub(), "v").phase == keybroker.PHASE_READY
    lose_store(broker)
    broker.start()  # it makes an empty one: which has an audit log, at least
    broker.stop()
    kept = restore_here(broker, backup)
    assert kept.returncode == 1 and "the store is not empty" in kept.stderr


def test_audit_log_goes_on_and_shows_that_the_store_is_older(broker):
    stub, node = broker.stub(), Node()
    ready(stub, "v", node)
    backup = back_up(broker)
    opened(stub, node, get(stub, "v"))
    lose_store(broker)
    assert restore_here(broker, backup).returncode == 0
    broker.start()
    lines = broker.audit()
    assert "ahead" in [line["event"] for line in lines] and "begun" not in [line["event"] for line in lines[1:]]
    restored = [line for line in lines if line["event"] == "restored"]
    assert len(restored) == 1
    broker.stop()
    broker.start()
    assert len([line for line in broker.audit() if line["event"] == "restored"]) == 1


@needs_etcd
def test_store_moves_from_etcd_into_etcd_although_it_is_killed(cluster, make_broker):
    group = clusters.Replicas(cluster, make_broker, 2)
    for one in group.all:
        allow_backups(one)
    first, second = group.start_all().all
    node = Node()
    for i in range(20):  # more than one question for keys
        create(first.stub(), f"v{i}")
    secret = node.secret(node.open(second.stub(), "v7"))
    node.ready(second.stub(), get(first.stub(), "v7"))
    rotate_wrapping(first)
    backup, key = back_up(second), first.dir / "master.key"
    for one in group.all:
        one.stop()
    options = {name.replace("-", "_"): value for name, value in cluster.options("r1").items() if name != "store"}
    kept = restore(backup, cluster.spec, key, **options)
    assert kept.returncode == 1 and "already holds a broker's store" in kept.stderr
    cluster.etcdctl("del", "--prefix", "")
    for moment in ("keys", "begun", "record", "written", "ended") if ALL else ("keys", "written"):
        killed = restore(backup, cluster.spec, key, TDVOL_FAULT=f"broker.restore.{moment}:kill", **options)
        assert killed.returncode == -9, (moment, killed.stderr)
        assert "or a restore: run it again" in first.start_in_vain(**cluster.options("r0"))
    done = restore(backup, cluster.spec, key, **options)
    assert done.returncode == 0, done.stderr
    assert "The broker r1 made the backup" in done.stdout
    group.start_all()
    with refused(NOT_RESTORED):
        node.open(first.stub(), "v7")
    assert "1 adopted" in adopt(first, "--all", "--yes")
    assert node.secret(node.open(second.stub(), "v7")) == secret
    assert "begun" not in [line["event"] for line in second.audit()[1:]]


@needs_etcd
def test_backup_of_sqlite_is_restored_into_etcd(broker, cluster):
    node = Node()
    ready(broker.stub(), "v", node)
    backup = back_up(broker)
    broker.stop()
    options = {name.replace("-", "_"): value for name, value in cluster.options("r0").items() if name != "store"}
    done = restore(backup, cluster.spec, broker.dir / "master.key", **options)
    assert done.returncode == 0, done.stderr
    broker.start(**cluster.options("r0"))
    adopt(broker, "v")
    node.open(broker.stub(), "v")
