# SPDX-License-Identifier: Apache-2.0
"""Somebody writes to the broker's store, without the master key."""

import contextlib
import json
import sqlite3

import brokers
import grpc
import pytest
from brokers import CALL_SECONDS, DRIVER, Node, create, keybroker


@contextlib.contextmanager
def database(broker):
    """The database of a broker that is stopped."""
    with contextlib.closing(sqlite3.connect(broker.dir / "state/broker.db")) as db:
        yield db
        db.commit()


def rules(*pairs) -> str:
    return json.dumps({"version": 1, "rules": [
        {"name": name, "match": {"certificate.cn": name}, "tenant": tenant, "may": ["create", "open", "delete"],
         "without_attestation": True, "volumes": ["*"], "nodes": ["*"]} for name, tenant in pairs]})  # fmt: skip


def closed(stub, node: Node, volume_id: str) -> bytes:
    """Makes a READY volume; returns its secret."""
    create(stub, volume_id)
    opened = node.open(stub, volume_id)
    node.change(stub, node.ready(stub, opened.record), keybroker.CHANGE_CLOSED)
    return node.secret(opened)


def is_refused(action) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        action()
    assert caught.value.code() == grpc.StatusCode.DATA_LOSS, caught.value.details()
    assert "restore the store from a backup" in caught.value.details()
    return caught.value.details()


@pytest.fixture
def two_tenants(make_broker):
    """A running broker; the clients "node" and "admin" are two tenants with one volume each."""
    broker = make_broker()
    (broker.dir / "policy.json").write_text(rules(("node", "victim"), ("admin", "mallory")))
    broker.http = f"127.0.0.1:{brokers.free_port()}"
    broker.start(http=broker.http)
    broker.secret = closed(broker.stub("node"), Node(), "v")
    closed(broker.stub("admin"), Node("e", "b2"), "mine")
    broker.stop()
    return broker


def metrics(broker) -> str:
    return brokers.page(broker.http, "/metrics")


def store_events(broker) -> list[dict]:
    return [line for line in broker.audit() if line["event"] == "store-changed"]


def test_a_record_that_points_at_another_tenants_key_gets_nothing(two_tenants):
    broker = two_tenants
    with database(broker) as db:
        (key,) = db.execute("SELECT key_id FROM record WHERE tenant = 'victim'").fetchone()
        old, packed = db.execute("SELECT key_id, packed FROM record WHERE tenant = 'mallory'").fetchone()
        assert packed.count(old) == 1
        db.execute("UPDATE record SET key_id = ?, packed = ? WHERE tenant = 'mallory'", (key, packed.replace(old, key)))
    broker.start(http=broker.http)
    text = is_refused(lambda: Node("e", "b2").open(broker.stub("admin"), "mine", read_only=True))
    assert "record of volume mine" in text and key.hex() not in text
    assert len(store_events(broker)) == 1 and "volume mine" in store_events(broker)[0]["first"]
    assert "\ntdvol_store_changed 1\n" in metrics(broker)
    assert "\ntdvol_store_refused_total 2\n" in metrics(broker)  # at the start, and by the call
    node = Node()
    assert node.secret(node.open(broker.stub("node"), "v")) == broker.secret  # all others work


def test_another_tenants_wrapped_key_opens_for_no_other_record(two_tenants):
    broker = two_tenants
    with database(broker) as db:
        (key,) = db.execute("SELECT key_id FROM record WHERE tenant = 'victim'").fetchone()
        (mine,) = db.execute("SELECT key_id FROM record WHERE tenant = 'mallory'").fetchone()
        (wrapped,) = db.execute("SELECT wrapped FROM key WHERE key_id = ?", (key,)).fetchone()
        db.execute("UPDATE key SET wrapped = ? WHERE key_id = ?", (wrapped, mine))
    broker.start(http=broker.http)
    text = is_refused(lambda: Node("e", "b2").open(broker.stub("admin"), "mine", read_only=True))
    assert "key of volume mine" in text
    assert "\ntdvol_store_refused_total 1\n" in metrics(broker)


def test_a_record_under_another_tenants_name_is_refused(two_tenants):
    broker = two_tenants
    with database(broker) as db:
        db.execute("UPDATE record SET tenant = 'mallory' WHERE tenant = 'victim'")
    broker.start()
    is_refused(lambda: Node("e", "b2").open(broker.stub("admin"), "v", read_only=True))
    request = keybroker.ListRecordsRequest(driver=DRIVER)
    names = [r.volume_id for r in broker.stub("admin").ListRecords(request, timeout=CALL_SECONDS).records]
    assert "v" not in names  # a list leaves it out, and shows all others


def test_an_old_record_that_is_put_back_is_told_once(two_tenants):
    broker = two_tenants
    with database(broker) as db:
        db.execute("CREATE TABLE old AS SELECT * FROM record WHERE volume_id = 'v'")
    broker.start()
    node = Node()
    node.open(broker.stub("node"), "v")  # takes the lease
    broker.stop()
    with database(broker) as db:
        db.execute("DELETE FROM record WHERE volume_id = 'v'")
        db.execute("INSERT INTO record SELECT * FROM old")
        db.execute("DROP TABLE old")
    broker.start(http=broker.http)
    assert len(store_events(broker)) == 1
    assert "\ntdvol_store_changed 1\n" in metrics(broker)
    assert '"msg":"the store was changed by something else than this broker"' in broker.log.read_text()
    node.open(broker.stub("node"), "v")
    broker.stop()
    broker.start(http=broker.http)
    assert len(store_events(broker)) == 1 and "\ntdvol_store_changed 0\n" in metrics(broker)
