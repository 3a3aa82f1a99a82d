# SPDX-License-Identifier: Apache-2.0
"""What tdvolctl says of a destroyed secret, against a real broker over SQLite; and whether it is true of the files that
it speaks of. Over etcd: test_replicas.py."""

import json
import re
import sqlite3
import time

from brokers import Node, create, keybroker


def delete(broker, volume_id: str) -> None:
    done = broker.ctl("volume", "delete", volume_id, "--yes")
    assert done.returncode == 0, done.stderr


def shown(broker, volume_id: str, *more: str) -> str:
    done = broker.ctl("volume", "show", volume_id, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def described(broker, volume_id: str) -> dict:
    return json.loads(shown(broker, volume_id, "--json"))


def allow(broker, *may: str) -> None:
    """The admin's certificate may do this alone."""
    path = broker.dir / "policy.json"
    policy = json.loads(path.read_text())
    policy["rules"][-1]["may"] = [*may]
    path.write_text(json.dumps(policy))
    broker.stop()
    broker.start()


def line_of(text: str, place: str) -> str:
    return re.search(rf"^  {place} .*$", text, re.MULTILINE)[0]


def test_show_tells_when_a_key_was_destroyed_and_by_which_line(broker):
    create(broker.stub(), "v")
    delete(broker, "v")
    text = shown(broker, "v")
    assert "phase          ERASED" in text and "secret         destroyed" in text
    found = re.search(r"^secret of generation 1: key destroyed at (\S+), by (\S+) \(audit line (\d+)\)$", text, re.MULTILINE)
    assert found and found[2] == "admin"
    line = broker.audit()[int(found[3]) - 1]
    assert line["method"] == "FinishDelete" and line["volume"] == "v" and line["seq"] == int(found[3])
    assert line["destroyed"].endswith("/1") and line["destroyed"][:32] in text
    for place, state in (("STORE", "no"), ("FILES", "not known"), ("BACKUPS", "no"), ("RECOVERY", "no"),
                         ("COPIES", "not known"), ("NODES", "not known")):  # fmt: skip
        assert re.match(rf"  {place} +{state}  ", line_of(text, place)), text


def test_json_has_the_same(broker):
    create(broker.stub(), "v")
    delete(broker, "v")
    record = described(broker, "v")
    assert record["phase"] == "PHASE_ERASED" and len(record["destroyed"]) == 1
    lost = record["destroyed"][0]
    assert lost["by"] == "admin" and lost["generation"] == 1 and abs(int(lost["destroyed_ms"]) / 1000 - time.time()) < 60
    places = {row["place"]: row["state"] for row in lost["remains"]}
    assert len(places) == 6 and places["REMAINS_PLACE_STORE"] == "REMAINS_STATE_NONE"


def test_a_backup_from_before_is_named_and_one_from_after_is_not(broker):
    allow(broker, "admin", "backup")
    create(broker.stub(), "early")
    create(broker.stub(), "late")
    assert broker.ctl("volume", "delete", "early", "--yes").returncode == 0
    assert broker.ctl("broker", "backup").returncode == 0
    delete(broker, "late")
    assert "no backup was made before that" in line_of(shown(broker, "early"), "BACKUPS")
    line = line_of(shown(broker, "late"), "BACKUPS")
    assert re.match(r"  BACKUPS +yes", line) and "the last of them at 20" in line and "master key of its time" in line
    create(broker.stub(), "younger")
    delete(broker, "younger")
    assert "is older than the secret" in line_of(shown(broker, "younger"), "BACKUPS")


def test_a_rotated_volume_tells_of_its_former_secret(broker):
    stub, node = broker.stub(), Node()
    create(stub, "v")
    record = node.ready(stub, node.open(stub, "v").record)
    assert broker.ctl("volume", "rotate", "v").returncode == 0
    answer = node.open(stub, "v")
    record = node.change(stub, answer.record, keybroker.CHANGE_NEXT_HEADER, header_digest=b"\x02" * 32)
    record.rotation.secret = answer.record.rotation.secret
    rotated = node.change(stub, record, keybroker.CHANGE_ROTATED, header_digest=b"\x02" * 32)
    assert rotated.generation == 2 and not rotated.destroyed  # nodes see none of it
    text = shown(broker, "v")
    assert "secret         generation 2" in text
    assert re.search(r"^secret of generation 1: key destroyed at \S+, by node", text, re.MULTILINE), text
    assert "which a new secret does not change" in text


def wrapped_keys(broker) -> list[bytes]:
    broker.stop()
    with sqlite3.connect(broker.dir / "state" / "broker.db") as database:
        keys = [row[0] for row in database.execute("SELECT wrapped FROM key")]
    database.close()
    broker.start()
    return keys


def holders(broker, needle: bytes) -> list[str]:
    return [path.name for path in (broker.dir / "state").glob("broker.db*") if needle in path.read_bytes()]


def test_no_file_has_any_of_it_also_when_the_broker_is_killed_then(broker):
    stub = broker.stub()
    for name in ("a", "b"):
        create(stub, name, name=name)
    keys = wrapped_keys(broker)
    assert len(keys) == 2 and all(holders(broker, key) for key in keys)
    delete(broker, "a")
    broker.process.kill()
    broker.process.wait()
    left = [key for key in keys if any(holders(broker, key[at : at + 12]) for at in range(0, 48, 12))]
    assert len(left) == 1  # that of b
    broker.start()
    assert re.match(r"  STORE +no ", line_of(shown(broker, "a"), "STORE"))


def test_deleted_volumes_have_a_list_of_their_own(broker):
    create(broker.stub(), "gone")
    create(broker.stub(), "there", name="there")
    delete(broker, "gone")
    lines = broker.ctl("volume", "list", "--deleted").stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["gone", "VOLUME", "ERASED"]]
    lines = broker.ctl("volume", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["there"]
    missing = broker.ctl("volume", "show", "never")
    assert missing.returncode == 1 and "NOT_FOUND" in missing.stderr
