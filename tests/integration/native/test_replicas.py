# SPDX-License-Identifier: Apache-2.0
"""Several brokers over one etcd cluster."""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import brokers
import clusters
import grpc
import hosts
import pytest
from brokers import CALL_SECONDS, DRIVER, Node, create, keybroker

pytestmark = pytest.mark.skipif(
    not clusters.ETCD or not shutil.which("etcdctl"), reason="etcd is not installed: apt-get install etcd-server etcd-client"
)
FAILOVER_SECONDS = 12  # at most; the bench measures it


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    cluster = clusters.Cluster(tmp_path_factory.mktemp("etcd") / "cluster")
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(servers):
    """Three members, all running and empty."""
    for member in servers.members:
        if member.process.poll() is not None:
            member.start()
    servers.wait()
    servers.etcdctl("del", "--prefix", "")
    return servers


@pytest.fixture
def replicas(cluster, make_broker):
    """Three brokers. At the end each has a whole audit chain."""
    group = clusters.Replicas(cluster, make_broker).start_all()
    yield group
    for one in group.all:
        one.audit()


def closed(stub, node: Node, volume_id: str) -> bytes:
    """Makes a READY volume; returns its secret."""
    create(stub, volume_id)
    opened = node.open(stub, volume_id)
    node.change(stub, node.ready(stub, opened.record), keybroker.CHANGE_CLOSED)
    return node.secret(opened)


def record_of(stub, volume_id: str) -> keybroker.Record:
    return stub.GetRecord(keybroker.GetRecordRequest(driver=DRIVER, volume_id=volume_id), timeout=CALL_SECONDS).record


def code_of(action) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        action()
    return caught.value.code(), caught.value.details()


def eventually(action, seconds: float = FAILOVER_SECONDS):
    """Repeats what is UNAVAILABLE, as a node does."""
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED) or time.monotonic() > end:
                raise
            time.sleep(0.05)


def releases(one) -> list[dict]:
    """The lines of the audit log about keys that were given out."""
    return [line for line in one.audit() if line.get("method") == "OpenVolume" and line["code"] == "OK"]


def is_ready(one) -> bool:
    return brokers.page(one.http, "/readyz") == "ok\n"


def wait_for_log(one, text: str) -> None:
    end = time.monotonic() + 30
    while text not in one.log.read_text():
        assert time.monotonic() < end, text
        brokers.page(one.http, "/readyz")
        time.sleep(0.2)


def until_ready(one, seconds: float = FAILOVER_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not is_ready(one):
        assert time.monotonic() < end, brokers.page(one.http, "/readyz")
        time.sleep(0.1)


def test_each_replica_serves_what_the_others_wrote(replicas):
    stubs = [one.stub() for one in replicas.all]
    node = Node()
    create(stubs[0], "v")
    opened = node.open(stubs[1], "v")
    ready = node.ready(stubs[2], opened.record)
    node.change(stubs[0], ready, keybroker.CHANGE_CLOSED)
    assert node.secret(node.open(stubs[2], "v", read_only=True)) == node.secret(opened)
    assert [len(releases(one)) for one in replicas.all] == [0, 1, 1]
    shown = replicas.all[0].ctl("volume", "list", "--driver", DRIVER)
    assert "v" in shown.stdout, shown.stderr


def test_what_may_remain_of_a_key_names_the_history_and_the_replica(replicas):
    first, second, _ = replicas.all
    create(first.stub(), "v")
    assert first.ctl("volume", "delete", "v", "--driver", DRIVER, "--yes").returncode == 0
    text = second.ctl("volume", "show", "v", "--driver", DRIVER).stdout
    assert re.search(r"^secret of generation 1: key destroyed .* \(audit line \d+ of \w+\)$", text, re.MULTILINE), text
    assert re.search(r"^  STORE +yes +in etcd's history, until that is compacted beyond revision \d+", text, re.MULTILINE), text


def test_a_killed_replica_is_passed_over_and_comes_back(replicas):
    first, second, third = replicas.all
    secret = closed(first.stub(), Node(), "v")
    first.process.kill()
    first.process.wait()
    node = Node()
    assert node.secret(node.open(second.stub(), "v", read_only=True)) == secret
    shown = third.ctl("volume", "show", "v", "--driver", DRIVER, "--broker", replicas.addresses)
    assert shown.returncode == 0, shown.stderr
    assert f"{first.address}: " in shown.stderr and "next broker" in shown.stderr
    replicas.start(first)
    assert node.secret(node.open(first.stub(), "v", read_only=True)) == secret


def test_the_cluster_may_lose_one_member_at_a_time(replicas):
    cluster = replicas.cluster
    closed(replicas.all[0].stub(), Node(), "v")
    for i, member in enumerate(cluster.members):
        member.kill()
        for j, one in enumerate(replicas.all):
            stub = one.stub()
            eventually(lambda stub=stub, name=f"v-{i}-{j}": create(stub, name))
        member.start()
        cluster.wait()
    assert len(cluster.keys("tdvol/record/")) == 10


def test_a_member_that_hangs_is_left(replicas):
    cluster = replicas.cluster
    stub = replicas.all[0].stub()
    for i, member in enumerate(cluster.members):
        member.pause(True)
        try:
            began = time.monotonic()
            eventually(lambda name=f"v{i}": create(stub, name))
            assert time.monotonic() - began < FAILOVER_SECONDS
        finally:
            member.pause(False)
            cluster.wait()
    assert len(cluster.keys("tdvol/record/")) == 3


def test_without_a_majority_nothing_is_released_and_it_is_said(replicas):
    cluster, one = replicas.cluster, replicas.all[0]
    stub = one.stub()
    secret = closed(stub, Node(), "v")
    for member in cluster.members[:2]:
        member.kill()
    code, text = code_of(lambda: Node().open(stub, "v", read_only=True))
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "store: etcd https://127.0.0.1:" in text
    end = time.monotonic() + 30
    while is_ready(one):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert "store" in brokers.page(one.http, "/readyz")
    for member in cluster.members[:2]:
        member.start()
    cluster.wait()
    until_ready(one)
    node = Node()
    assert node.secret(eventually(lambda: node.open(stub, "v", read_only=True))) == secret


def test_a_full_etcd_is_no_limit_of_the_caller(make_broker, tmp_path, monkeypatch):
    """Nodes must try again, and elsewhere: nothing is wrong with their volume or their disk."""
    monkeypatch.setenv("ETCD_QUOTA_BACKEND_BYTES", str(4 << 20))
    cluster = clusters.Cluster(tmp_path / "etcd", [brokers.ThisHost()])
    try:
        stub = clusters.Replicas(cluster, make_broker, 1).start_all().all[0].stub()
        create(stub, "v")
        while cluster.etcdctl("put", "other", data=b"x" * 500_000, check=False).returncode == 0:
            pass
        deletion = keybroker.DeleteRequest(driver=DRIVER, volume_id="v")
        for action in (
            lambda: create(stub, "w"), lambda: Node().open(stub, "v"),
            lambda: stub.BeginDelete(deletion, timeout=CALL_SECONDS),
        ):  # fmt: skip
            began = time.monotonic()
            code, details = code_of(action)
            assert code == grpc.StatusCode.UNAVAILABLE and "database space exceeded" in details, details
            assert time.monotonic() - began < 8  # a node waits no longer
        assert record_of(stub, "v").phase == keybroker.PHASE_NEW
    finally:
        cluster.close()


def test_of_two_nodes_at_two_replicas_one_gets_the_volume(replicas):
    nodes = [Node("n1", "b1"), Node("n2", "b2")]
    stubs = [one.stub() for one in replicas.all[:2]]
    closed(stubs[0], nodes[0], "v")

    def try_open(i: int):
        try:
            return nodes[i].open(stubs[i], "v").record
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION), error.details()
            return None

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for i in range(20):
            won = [record for record in pool.map(try_open, range(2)) if record]
            assert len(won) == 1, i
            holder = next(node for node in nodes if node.name == won[0].lease.node)
            opened = holder.change(stubs[i % 2], won[0], keybroker.CHANGE_OPENED,
                                   open_counter=won[0].open_counter + 1)  # fmt: skip
            holder.change(stubs[i % 2], opened, keybroker.CHANGE_CLOSED)


def test_what_somebody_writes_into_etcd_is_refused(replicas):
    cluster, one = replicas.cluster, replicas.all[0]
    stub = one.stub()
    closed(stub, Node(), "v")
    ((key, (old, _)),) = cluster.keys("tdvol/record/").items()
    closed(stub, Node(), "w")
    node = Node()
    assert node.open(stub, "v", read_only=True)
    put(cluster, key, old[:40] + bytes([old[40] ^ 1]) + old[41:])
    code, text = code_of(lambda: node.open(stub, "v", read_only=True))
    assert code == grpc.StatusCode.DATA_LOSS and "restore the store from a backup" in text
    put(cluster, key, old)
    assert node.open(stub, "v", read_only=True)
    assert node.open(stub, "v").record.version > 0  # a change, which is put back now
    put(cluster, key, old)
    replicas.all[1].stop()
    replicas.start(replicas.all[1])
    assert "\ntdvol_store_changed 1\n" in brokers.page(replicas.all[1].http, "/metrics")
    assert [line["event"] for line in replicas.all[1].audit()].count("store-changed") == 1


def put(cluster, key: bytes, value: bytes) -> None:
    """etcdctl takes no zero in an argument; a transaction of its text form does."""

    def quoted(text: bytes) -> bytes:
        return b'"' + b"".join(b"\\x%02x" % byte for byte in text) + b'"'

    cluster.etcdctl("txn", data=b"\n" + b"put " + quoted(key) + b" " + quoted(value) + b"\n\n\n")


def test_a_wrong_certificate_is_refused(cluster, make_broker, tmp_path):
    other = clusters.Authority(tmp_path / "other")
    other.issue("client")
    group = clusters.Replicas(cluster, make_broker, 1)
    one, options = group.all[0], cluster.options("a")
    strangers = ({"store-cert": other.folder / "client.crt", "store-key": other.folder / "client.key"},
                 {"store-ca": other.folder / "ca.crt"})  # fmt: skip
    for changed in strangers:
        group.start(one, **changed)
        assert "store: etcd https://127.0.0.1:" in brokers.page(one.http, "/readyz")
        code, text = code_of(lambda: create(one.stub(), "v"))
        assert code == grpc.StatusCode.UNAVAILABLE and "sealed" in text and "no connection" in text
        one.stop()
    assert not cluster.keys("tdvol/")
    assert "needs --store-key" in one.start_in_vain(**options | {"store-key": None})
    assert "is for a store in etcd" in one.start_in_vain(**options | {"store": None})
    mixed = one.start_in_vain(**options | {"store-key": other.folder / "client.key"})
    assert "--store-cert, --store-key" in mixed


def test_a_broker_that_starts_before_etcd_opens_by_itself(cluster, make_broker):
    for member in cluster.members:
        member.kill()
    group = clusters.Replicas(cluster, make_broker, 1)
    one = group.start(group.all[0])
    assert "sealed" in brokers.page(one.http, "/readyz")
    for member in cluster.members:
        member.start()
    cluster.wait()
    until_ready(one, 40)
    create(one.stub(), "v")
    one.stop()
    assert [line["event"] for line in one.audit()] == ["begun", "start", "call", "stop"]


def test_a_second_process_of_a_replica_stops_the_first(replicas):
    first, second = replicas.all[:2]
    create(first.stub(), "v")
    second.stop()
    replicas.start(second, replica=first.replica)
    code, text = code_of(lambda: create(first.stub(), "w"))
    assert code == grpc.StatusCode.UNAVAILABLE and "another process serves as replica r0" in text
    end = time.monotonic() + FAILOVER_SECONDS
    while is_ready(first):
        assert time.monotonic() < end
        time.sleep(0.1)
    create(second.stub(), "w")
    first.process.kill()
    first.process.wait()


def test_a_second_start_in_vain_leaves_the_first_alone(replicas):
    """As when an automation starts the unit's command once more."""
    first = replicas.all[0]
    create(first.stub(), "v")
    error = first.start_in_vain(**replicas.cluster.options("r0"))
    assert "another broker writes to it" in error
    create(first.stub(), "w")
    assert brokers.page(first.http, "/readyz") == "ok\n"


@pytest.mark.skipif(not hosts.FAKETIME.exists(), reason="faketime is not installed: apt-get install faketime")
@pytest.mark.parametrize("offset", ["+20m", "-20m"])
def test_a_replica_with_another_time_gives_no_format_to_a_second_node(cluster, make_broker, offset):
    group = clusters.Replicas(cluster, make_broker, 2)
    right, wrong = group.all
    wrong.environment = hosts.another_clock() | {"FAKETIME": offset}
    first, second = group.start(right, format_deadline_s=2), group.start(wrong, format_deadline_s=2)
    for one, other, name in ((first, second, "v"), (second, first, "w")):
        create(first.stub(), name)
        assert Node("n1", "b1").open(one.stub(), name).record.format.attempt == 1
        began = time.monotonic()
        code, text = code_of(lambda other=other, name=name: Node("n2", "b2").open(other.stub(), name))
        assert code == grpc.StatusCode.ABORTED and "is being formatted by node n1" in text
        while code_of_open(other, name) == grpc.StatusCode.ABORTED:
            time.sleep(0.1)
        assert time.monotonic() - began >= 2


def code_of_open(one, volume_id: str):
    try:
        assert Node("n2", "b2").open(one.stub(), volume_id).record.format.attempt == 2
    except grpc.RpcError as error:
        return error.code()
    return None


def test_another_master_key_is_refused_and_takes_no_name(replicas, make_broker):
    stranger = make_broker("stranger")
    error = stranger.start_in_vain(**replicas.cluster.options("r0"))
    assert "another master key" in error
    create(replicas.all[0].stub(), "v")


def test_a_replica_that_is_cut_off_from_etcd_lets_nodes_go_on(cluster, make_broker):
    group = clusters.Replicas(cluster, make_broker, 2)
    relays = [clusters.Relay(member.port) for member in cluster.members]
    spec = "etcd:" + ",".join(f"https://127.0.0.1:{relay.port}" for relay in relays)
    first, second = group.start(group.all[0], store=spec), group.start(group.all[1])
    secret = closed(first.stub(), Node(), "v")
    for relay in relays:
        relay.is_cut = True
    for i in range(3):
        began = time.monotonic()
        code, _ = code_of(lambda: Node().open(first.stub(), "v", read_only=True))
        took = time.monotonic() - began
        assert code == grpc.StatusCode.UNAVAILABLE
        assert took < (7.5 if i == 0 else 4), i  # a node waits 8 seconds
    node = Node()
    assert node.secret(node.open(second.stub(), "v", read_only=True)) == secret
    for relay in relays:
        relay.is_cut = False
    assert node.secret(eventually(lambda: node.open(first.stub(), "v", read_only=True))) == secret
    until_ready(first)
    for one in group.all:
        one.stop()
    for relay in relays:
        relay.close()
    assert len(releases(first)) >= 2


def test_changed_certificates_for_etcd_are_used(cluster, make_broker, tmp_path):
    pki = cluster.authority.folder
    kept = {path.name: path.read_bytes() for path in pki.iterdir()}
    group = clusters.Replicas(cluster, make_broker, 1)
    one = group.start(group.all[0])
    try:
        (pki / "client.crt").write_text("rubbish")
        wait_for_log(one, "changed certificate files for etcd are not used")
        create(one.stub(), "v1")
        new = clusters.Authority(tmp_path / "new")
        for name in ("server", "client"):
            new.issue(name)
        for path in new.folder.iterdir():
            (pki / path.name).write_bytes(path.read_bytes())
        for member in cluster.members:
            member.kill()
            member.start()
        cluster.wait()
        eventually(lambda: create(one.stub(), "v2"), 20)
        one.stop()
    finally:
        for name, content in kept.items():
            (pki / name).write_bytes(content)
        for member in cluster.members:
            member.kill()
            member.start()
        cluster.wait()


def migrate(broker, cluster, **options) -> "brokers.subprocess.CompletedProcess":
    pki = cluster.authority.folder
    flags = {"master-key": broker.dir / "master.key", "store-ca": pki / "ca.crt", "store-cert": pki / "client.crt",
             "store-key": pki / "client.key", "replica": "r0"}  # fmt: skip
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    folder = os.path.dirname(brokers.program("tdvol-broker"))
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"} | options
    return brokers.ctl("broker", "migrate", f"sqlite:{broker.dir / 'state'}", cluster.spec, *words, env=environment)


def test_a_store_moves_into_etcd_although_the_migration_is_killed(cluster, make_broker):
    broker = make_broker().start()
    stub = broker.stub()
    secrets = {f"v{i}": closed(stub, Node(), f"v{i}") for i in range(5)}
    refused = migrate(broker, cluster)
    assert refused.returncode == 1 and "another broker already uses the store" in refused.stderr
    broker.stop()
    moments = [f"record:kill:{i}" for i in (1, 2)] + ["copied:kill", "source-closed:kill"]
    for moment in moments:
        killed = migrate(broker, cluster, TDVOL_FAULT=f"broker.migrate.{moment}")
        assert killed.returncode == -9, (moment, killed.stderr)
        error = broker.start_in_vain(**cluster.options("r0"))
        assert "migration into etcd has not ended" in error, moment
        if moment != moments[-1]:  # the old store is the one in use
            broker.start()
            volume_id = moment.replace(":", "-")
            secrets[volume_id] = closed(broker.stub(), Node(), volume_id)
            broker.stop()
    assert "was migrated" in broker.start_in_vain()
    done = migrate(broker, cluster)
    assert done.returncode == 0, done.stderr
    assert f"{len(secrets)} records are in etcd:https://" in done.stdout
    assert "was migrated" in broker.start_in_vain()
    broker.start(**cluster.options("r0"))
    for volume_id, secret in secrets.items():
        node = Node()
        assert node.secret(node.open(broker.stub(), volume_id, read_only=True)) == secret
    broker.stop()
    events = [line["event"] for line in broker.audit()]  # one chain over both stores
    assert "restarted" not in events and "store-changed" not in events


def keep_keys(broker, seconds: int) -> None:
    path = broker.dir / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"retention": {"seconds": seconds}}))


def described(broker, volume_id: str) -> dict:
    shown = broker.ctl("volume", "show", volume_id, "--driver", DRIVER, "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def test_a_kept_key_moves_into_etcd_and_comes_back(cluster, make_broker):
    broker = make_broker()
    keep_keys(broker, 3600)
    broker.start()
    secret = closed(broker.stub(), Node(), "v")
    assert broker.ctl("volume", "delete", "v", "--yes").returncode == 0
    broker.stop()
    done = migrate(broker, cluster)
    assert done.returncode == 0, done.stderr
    broker.start(**cluster.options("r0"))
    assert described(broker, "v")["phase"] == "PHASE_RETAINED"
    assert broker.ctl("volume", "undelete", "v", "--driver", DRIVER).returncode == 0
    node = Node()
    assert node.secret(node.open(broker.stub(), "v")) == secret


def test_of_three_replicas_one_destroys_a_kept_key(cluster, make_broker):
    """One of them is killed in the middle, and comes back."""
    group = clusters.Replicas(cluster, make_broker)
    for one in group.all:
        keep_keys(one, 1)
    group.all[2].environment = {"TDVOL_FAULT": "broker.retention.before-commit:kill"}
    group.start_all()
    first = group.all[0]
    names = [f"v{i}" for i in range(5)]
    for name in names:
        closed(first.stub(), Node(), name)
        assert first.ctl("volume", "delete", name, "--driver", DRIVER, "--yes").returncode == 0
    end = time.monotonic() + 120
    while any(described(first, name)["phase"] != "PHASE_ERASED" for name in names):
        assert time.monotonic() < end
        time.sleep(1)
    lines = [line for one in group.all for line in one.audit() if line["event"] == "retention-over"]
    for name in names:
        (lost,) = described(first, name)["destroyed"]
        told = [line for line in lines if line["volume"] == name and line["seq"] == int(lost["audit_seq"])]
        assert told and lost["by"] == "end of retention, deleted by admin"
        assert code_of(lambda name=name: Node().open(first.stub(), name))[0] == grpc.StatusCode.NOT_FOUND


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of networks and disks need root")
@pytest.mark.skipif(not hosts.FAKETIME.exists() or not shutil.which("ip"),
                    reason="faketime or ip is not installed: apt-get install faketime iproute2")  # fmt: skip
def test_a_storm_of_faults_loses_no_change_and_makes_no_second_writer():
    """The short form of tests/run replicas: one round of each fault."""
    command = [sys.executable, pathlib.Path(__file__).with_name("storm.py")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
