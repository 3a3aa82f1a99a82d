# SPDX-License-Identifier: Apache-2.0
"""The keys of a store: another wrapping key, another master key, while brokers are killed and serve."""

import contextlib
import secrets
import shutil
import threading
import time

import brokers
import clusters
import grpc
import pytest
from brokers import DRIVER, Node, create, keybroker, status

needs_etcd = pytest.mark.skipif(
    not clusters.ETCD or not shutil.which("etcdctl"), reason="etcd is not installed: apt-get install etcd-server etcd-client"
)
VOLUMES = 5
END_SECONDS = 40
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)
# Where a broker is killed, and how often it passes that point before.
POINTS = [
    ("broker.keyring.before-put", 1), ("store.{}.ring-put", 1), ("broker.keyring.after-put", 1), ("broker.rewrap.key", 1),
    ("broker.rewrap.key", 3), ("broker.rewrap.record", 1), ("broker.rewrap.walked", 1), ("broker.keyring.before-put", 2),
    ("store.{}.ring-put", 2), ("broker.keyring.after-put", 2),
]  # fmt: skip


def new_key(one, name: str = "new.key"):
    path = one.dir / name
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32) + "\n")
    return path


def fill(one) -> dict[str, bytes]:
    """READY volumes and their secrets; v0 has a next secret, and v1 a copy with the same one."""
    stub, node, known = one.stub(), Node(), {}
    for i in range(VOLUMES):
        create(stub, f"v{i}", name=f"v{i}")
        opened = node.open(stub, f"v{i}")
        node.change(stub, node.ready(stub, opened.record), keybroker.CHANGE_CLOSED)
        known[f"v{i}"] = node.secret(opened)
    rotated = one.ctl("volume", "rotate", "v0", "--driver", DRIVER)
    assert rotated.returncode == 0, rotated.stderr
    source = brokers.get(stub, "v1")
    stub.CopyRecord(
        keybroker.CopyRecordRequest(driver=DRIVER, volume_id="a-copy", source_volume_id="v1", kind=keybroker.KIND_VOLUME,
                                    name="a-copy", source_version=source.version), timeout=20)  # fmt: skip
    known["a-copy"] = known["v1"]
    return known


def assert_opens(one, known: dict[str, bytes]) -> None:
    stub, node = one.stub(), Node()
    for volume, secret in known.items():
        opened = node.open(stub, volume, read_only=volume != "v0")
        assert node.secret(opened) == secret, volume
        if volume == "v0":  # its next secret opens as well, for who may write
            assert len(opened.record.rotation.secret) == 80
            node.change(stub, opened.record, keybroker.CHANGE_CLOSED)


def until_ended(one, generation: int) -> None:
    stub, end = one.stub(), time.monotonic() + END_SECONDS
    while True:
        with contextlib.suppress(grpc.RpcError):
            now = status(stub)
            if now.wrapping_generation == generation and not now.wrapping_anew:
                return
        assert time.monotonic() < end, (now, one.log.read_text()[-2000:])
        time.sleep(0.1)


def change_master(one, **started) -> None:
    """To the key that the broker was started with."""
    done = one.ctl("broker", "rotate-master")
    assert done.returncode == 0 and "no broker needs the former master key" in done.stdout, done
    assert "wrapping generation" in one.ctl("broker", "status").stdout


def test_all_secrets_are_wrapped_with_a_new_key(broker):
    known = fill(broker)
    before = status(broker.stub())
    done = broker.ctl("broker", "rotate-wrapping")
    assert done.returncode == 0 and "all secrets are wrapped with generation 2" in done.stdout, done
    assert_opens(broker, known)
    after = status(broker.stub())
    assert (before.wrapping_generation, after.wrapping_generation, after.wrapping_anew) == (1, 2, False)
    assert before.master_key == after.master_key
    events = [line["event"] for line in broker.audit()]
    assert events.count("keys-rotate") == 1 and events.count("wrapped-anew") == 1
    broker.stop()
    broker.start()
    assert_opens(broker, known)


def test_the_master_key_is_replaced(broker):
    old, new = broker.dir / "master.key", new_key(broker)
    known = fill(broker)
    refused = broker.ctl("broker", "rotate-master")
    assert refused.returncode == 1 and "--old-master-key first" in refused.stderr
    broker.stop()
    assert "another master key" in broker.start_in_vain(master_key=new)
    broker.start(master_key=new, old_master_key=old, http=f"127.0.0.1:{(port := brokers.free_port())}")
    page = brokers.page(f"127.0.0.1:{port}", "/readyz")
    assert page.startswith("ok\n") and "the master key is being changed" in page
    assert "tdvol_old_master_key 1" in brokers.page(f"127.0.0.1:{port}", "/metrics")
    assert "rotate-master" in broker.ctl("broker", "rotate-wrapping").stderr
    broker.stop()
    broker.start()  # until rotate-master each of both keys opens it
    broker.stop()
    broker.start(master_key=new, old_master_key=old)
    change_master(broker)
    assert_opens(broker, known)
    broker.stop()
    assert "another master key" in broker.start_in_vain()
    old.unlink()
    broker.start(master_key=new)
    assert_opens(broker, known)
    assert not status(broker.stub()).has_old_master_key
    create(broker.stub(), "later", name="later")


def test_tenants_administrators_do_not_change_the_keys_of_all(broker):
    refused = broker.ctl("broker", "rotate-wrapping", client="node")
    assert refused.returncode == 1 and "PERMISSION_DENIED" in refused.stderr
    assert status(broker.stub()).wrapping_generation == 1


@pytest.mark.parametrize("at", range(len(POINTS)))
def test_a_broker_that_is_killed_goes_on_where_it_was(make_broker, at):
    point, times = POINTS[at]
    broker = make_broker()
    known = fill(broker.start())
    broker.stop()
    broker.environment = {"TDVOL_FAULT": f"{point.format('sqlite')}:kill:{times}"}
    broker.start()
    with contextlib.suppress(grpc.RpcError):
        broker.stub("admin").RotateWrapping(keybroker.RotateWrappingRequest(), timeout=10)
    broker.process.wait(20)
    broker.environment = {}
    broker.start()
    assert_opens(broker, known)
    if status(broker.stub()).wrapping_generation == 1:  # it was killed before anything was stored
        assert at == 0
        broker.stub("admin").RotateWrapping(keybroker.RotateWrappingRequest(), timeout=10)
    until_ended(broker, 2)
    assert_opens(broker, known)
    broker.stop()
    broker.audit()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_broker_that_is_killed_while_it_takes_the_new_master_key(make_broker, at):
    broker = make_broker()
    known = fill(broker.start())
    broker.stop()
    options = {"master_key": new_key(broker), "old_master_key": broker.dir / "master.key"}
    broker.environment = {"TDVOL_FAULT": f"{POINTS[at][0].format('sqlite')}:kill:1"}
    with pytest.raises(AssertionError):
        broker.start(**options)
    broker.environment = {}
    for changed in ({}, options):  # the former key alone still opens it; then it goes on
        broker.start(**changed)
        assert_opens(broker, known)
        if changed:
            change_master(broker)
        broker.stop()
    broker.start(master_key=options["master_key"])
    assert_opens(broker, known)
    broker.stop()


# --- several brokers over etcd ---


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    cluster = clusters.Cluster(tmp_path_factory.mktemp("etcd") / "cluster")
    yield cluster
    cluster.close()


@pytest.fixture
def replicas(servers, make_broker):
    servers.etcdctl("del", "--prefix", "")
    group = clusters.Replicas(servers, make_broker).start_all()
    yield group
    for one in group.all:
        one.audit()


class Load:
    """A node that makes and opens volumes, and has some get other secrets, at one replica after the other."""

    def __init__(self, group: clusters.Replicas):
        self.group, self.known, self.failed, self.ends = group, {}, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        n = 0
        while not self.ends.is_set():
            n += 1
            try:
                self.one(self.group.all[n % len(self.group.all)], f"load-{n}")
            except grpc.RpcError as error:
                if error.code() not in PASSING and "connect" not in error.details():
                    self.failed.append((error.code(), error.details()))

    def one(self, broker, volume: str) -> None:
        stub, node = broker.stub(), Node()
        create(stub, volume, name=volume)
        opened = node.open(stub, volume)
        self.known[volume] = node.secret(opened)
        node.change(stub, node.ready(stub, opened.record), keybroker.CHANGE_CLOSED)
        broker.ctl("volume", "rotate", volume, "--driver", DRIVER)

    def __enter__(self) -> "Load":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ends.set()
        self.thread.join()


def assert_one_secret_each(one, known: dict[str, bytes]) -> None:
    stub, node = one.stub(), Node("n9")
    for volume, secret in known.items():
        assert node.secret(node.open(stub, volume, read_only=True)) == secret, volume


@needs_etcd
def test_replicas_wrap_anew_under_load_and_one_takes_over(replicas):
    first, second, third = replicas.all
    known = fill(second)
    first.stop()
    first.environment = {"TDVOL_FAULT": "broker.rewrap.key:kill:2"}
    replicas.start(first)
    with Load(replicas) as load:
        first.stub("admin").RotateWrapping(keybroker.RotateWrappingRequest(), timeout=10)
        first.process.wait(20)
        until_ended(second, 2)  # another one takes over
    assert not load.failed, load.failed
    assert len(load.known) > 3
    first.environment = {}
    replicas.start(first)
    for one in replicas.all:
        assert_one_secret_each(one, known | load.known)
        assert status(one.stub()).wrapping_generation == 2
    assert [line["event"] for line in first.audit()].count("keys-rotate") == 1


@needs_etcd
def test_replicas_change_the_master_key_one_after_the_other(replicas):
    first, second, third = replicas.all
    known = fill(first)
    new, old = new_key(first), first.dir / "master.key"
    with Load(replicas) as load:
        for one in (first, second):
            one.stop()
            replicas.start(one, master_key=new, old_master_key=old)
        change_master(first)
        until_ended(second, 2)
    assert not [failure for failure in load.failed if "master key" not in failure[1]], load.failed
    stub = third.stub()  # it was forgotten: it has the former key alone, says so, and changes nothing
    with brokers.refused(grpc.StatusCode.UNAVAILABLE, "another broker has changed the store's keys"):
        create(stub, "w", name="w")
    assert "changed the store's keys" in brokers.page(third.http, "/readyz")
    third.process.kill()
    third.process.wait()
    replicas.start(third, master_key=new)
    for one in replicas.all:
        assert_one_secret_each(one, known | load.known)


@needs_etcd
@pytest.mark.parametrize("at", [1, 2, 5, 6, 8, 9])
def test_a_replica_that_is_killed_leaves_a_store_that_opens(replicas, at):
    first, second, _ = replicas.all
    known = fill(second)
    first.stop()
    first.environment = {"TDVOL_FAULT": f"{POINTS[at][0].format('etcd')}:kill:{POINTS[at][1]}"}
    replicas.start(first)
    with contextlib.suppress(grpc.RpcError):
        first.stub("admin").RotateWrapping(keybroker.RotateWrappingRequest(), timeout=10)
    first.process.wait(20)
    assert_one_secret_each(second, known)
    first.environment = {}
    replicas.start(first)
    until_ended(first, 2)
    for one in replicas.all:
        assert_one_secret_each(one, known)
