# SPDX-License-Identifier: Apache-2.0
"""tdvolctl against a real broker: init, status, and the records of volumes."""

import json
import stat

import pytest
from brokers import DRIVER, Node, create, ctl, get, keybroker


def test_init_makes_private_files_and_says_what_is_next(tmp_path):
    made = ctl("broker", "init", tmp_path / "b", "--name", "broker.example", "--name", "192.0.2.7")
    assert made.returncode == 0, made.stderr
    for part in ("master.key", "tdvol-broker --dir", "tdvolctl broker status"):
        assert part in made.stdout
    for path in (tmp_path / "b").rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert {path.name for path in (tmp_path / "b").iterdir()} == {
        "broker.crt", "broker.key", "ca.crt", "ca.key", "clients", "master.key", "policy.json",
    }  # fmt: skip


@pytest.mark.parametrize("arguments, part", [
    ([], "exactly one DIR"), (["a", "b"], "exactly one DIR"), (["a", "--nam", "x"], "name"),
])  # fmt: skip
def test_init_tells_wrong_usage(arguments, part):
    ended = ctl("broker", "init", *arguments)
    assert ended.returncode == 2 and part in ended.stderr


def test_init_touches_nothing_that_is_there(tmp_path):
    (tmp_path / "precious").write_text("x")
    ended = ctl("broker", "init", tmp_path)
    assert ended.returncode == 1 and "not empty" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("name", ["", "a b", "*.example", "a/b", "x" * 300])
def test_init_with_a_bad_name_can_be_tried_again(tmp_path, name):
    ended = ctl("broker", "init", tmp_path / "b", "--name", name)
    assert ended.returncode != 0
    assert ctl("broker", "init", tmp_path / "b").returncode == 0


def test_status(broker):
    told = broker.ctl("broker", "status")
    assert told.returncode == 0 and "state    open" in told.stdout
    assert json.loads(broker.ctl("broker", "status", "--json").stdout)["state"] == "BROKER_STATE_OPEN"
    broker.stop()
    broker.start(master_key=None)
    assert "sealed" in broker.ctl("broker", "status").stdout


def test_list_and_show(broker):
    stub, node = broker.stub(), Node()
    create(stub, "v1")
    create(stub, "v2", name="pvc-2")
    node.ready(stub, node.open(stub, "v2").record)
    lines = broker.ctl("volume", "list").stdout.splitlines()
    assert [line.split()[:5] for line in lines[1:]] == [
        ["v1", "VOLUME", "NEW", "1Gi", "AEGIS128"], ["v2", "VOLUME", "READY", "1Gi", "AEGIS128"],
    ]  # fmt: skip
    shown = broker.ctl("volume", "show", "v2").stdout
    assert "open on        n1 since 20" in shown
    assert json.loads(broker.ctl("volume", "show", "v2", "--json").stdout)["volume_id"] == "v2"
    missing = broker.ctl("volume", "show", "v3")
    assert missing.returncode == 1 and "NOT_FOUND" in missing.stderr


def test_release_lets_another_node_open(broker):
    stub = broker.stub()
    create(stub, "v")
    lost = Node("n1")
    lost.ready(stub, lost.open(stub, "v").record)
    released = broker.ctl("volume", "release", "v")
    assert released.returncode == 0, released.stderr
    assert Node("n2").open(stub, "v").record.lease.node == "n2"


def test_delete_asks_for_the_id_again(broker):
    create(broker.stub(), "v")
    for typed in ("", "w\n", "V\n"):
        ended = broker.ctl("volume", "delete", "v", input=typed)
        assert ended.returncode == 1 and "nothing was changed" in ended.stderr
    assert broker.ctl("volume", "delete", "v", input="v\n").returncode == 0
    create(broker.stub(), "w")
    assert broker.ctl("volume", "delete", "w", "--yes").returncode == 0
    assert len(broker.ctl("volume", "list").stdout.splitlines()) == 1


def test_a_disk_that_tdvol_did_not_make_is_adopted(broker):
    blank = ["volume", "adopt", "vol-1", "--driver", DRIVER, "--blank"]
    done = broker.ctl(*blank, "--size", "10Gi", "--fs", "ext4", "--integrity", "none")
    assert done.returncode == 0, done.stderr
    assert "formats it" in done.stdout and "at least 1" in done.stdout
    shown = broker.ctl("volume", "show", "vol-1").stdout
    for line in ("phase          NEW", "size           10Gi", "integrity      NONE", "content        ext4",
                 "published      to no node", "name           vol-1"):  # fmt: skip
        assert line in shown
    assert "ALREADY_EXISTS" in broker.ctl(*blank, "--size", "10Gi", "--block").stderr

    stub = broker.stub()
    create(stub, "v")
    node = Node("n1")
    like = ["volume", "adopt", "snap-1", "--driver", DRIVER, "--like", "v", "--kind", "snapshot"]
    assert "never been written" in broker.ctl(*like).stderr
    node.ready(stub, node.open(stub, "v").record)
    done = broker.ctl(*like, "--name", "backup")
    assert done.returncode == 0, done.stderr
    shown = broker.ctl("volume", "show", "snap-1").stdout
    for line in ("kind           SNAPSHOT", "phase          READY", "copy of        v", "name           backup"):
        assert line in shown


def test_a_volume_with_an_old_key_is_adopted(broker, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(bytes(range(256)) * 2)
    adopt = ["volume", "adopt", "vol-1", "--driver", DRIVER, "--disk-size", "10Gi", "--fs", "xfs", "--no-attach",
             "--key-file"]  # fmt: skip
    key.chmod(0o640)
    assert "chmod" in broker.ctl(*adopt, key).stderr
    key.chmod(0o600)
    done = broker.ctl(*adopt, key, "--sector-size", "512")
    assert done.returncode == 0, done.stderr
    assert f"the pod gets {10 * 2**30 - 2**24} bytes" in done.stdout
    again = broker.ctl(*adopt, "-", input="typed")  # replaces the first
    assert again.returncode == 0, again.stderr
    shown = broker.ctl("volume", "show", "vol-1", "--json").stdout
    record = json.loads(shown)
    assert record["spec"]["taken_over"] and record["spec"]["sector_bytes"] == 4096
    assert not record.get("old_key")
    too_long = broker.ctl(*adopt, "-", input="x" * 513)
    assert "1 to 512 bytes" in too_long.stderr
    answer = Node("n1").open(broker.stub(), "vol-1")
    assert len(answer.record.old_key) == 542
    assert "ABORTED: volume vol-1 is being formatted by node n1" in broker.ctl(*adopt, key).stderr


@pytest.mark.parametrize("words, why", [
    ([], "one of --like, --blank and --key-file"),
    (["--blank", "--like", "v"], "one of --like, --blank and --key-file"),
    (["--blank", "--key-file", "-"], "one of --like, --blank and --key-file"),
    (["--key-file", "-", "--size", "1Gi", "--block"], "go with --blank"),
    (["--key-file", "-", "--disk-size", "1Gi", "--integrity", "hmac-sha256", "--block"], "go with --blank"),
    (["--key-file", "-", "--block"], "--disk-size is missing"),
    (["--key-file", "-", "--disk-size", "16Mi", "--block"], "16 MiB are the old header"),
    (["--key-file", "-", "--disk-size", "1Gi"], "one of --fs and --block"),
    (["--key-file", "-", "--disk-size", "1Gi", "--block"], "--key-file: the input has nothing, not 1 to 512 bytes"),
    (["--key-file", "/nowhere", "--disk-size", "1Gi", "--block"], "--key-file: open /nowhere"),
    (["--blank", "--size", "1Gi", "--disk-size", "1Gi", "--block"], "go with --key-file"),
    (["--like", "v", "--size", "1Gi"], "go with --blank"),
    (["--like", "v", "--no-attach"], "go with --blank"),
    (["--blank", "--fs", "ext4"], "--size is missing"),
    (["--blank", "--size", "1Gi"], "one of --fs and --block"),
    (["--blank", "--size", "1Gi", "--fs", "ext4", "--block"], "one of --fs and --block"),
    (["--blank", "--size", "1Gi", "--fs", "ntfs"], "fs_type"),
    (["--blank", "--size", "1Gb", "--block"], "--size"),
    (["--blank", "--size", "1Ki", "--block"], "size"),
    (["--blank", "--size", "1Gi", "--block", "--kind", "snapshot"], "snapshot is not blank"),
])  # fmt: skip
def test_an_adoption_that_makes_no_sense_says_why(broker, words, why):
    ended = broker.ctl("volume", "adopt", "vol-2", "--driver", DRIVER, *words)
    assert ended.returncode != 0 and why in ended.stderr
    assert "NOT_FOUND" in broker.ctl("volume", "show", "vol-2").stderr


def test_one_id_of_two_drivers_needs_the_driver(broker):
    from brokers import CALL_SECONDS, keybroker, spec

    for driver in ("one", "two"):
        request = keybroker.CreateRecordRequest(driver=driver, volume_id="v", spec=spec())
        broker.stub().CreateRecord(request, timeout=CALL_SECONDS)
    assert "choose one with --driver" in broker.ctl("volume", "show", "v").stderr
    assert "driver         two" in broker.ctl("volume", "show", "v", "--driver", "two").stdout
    assert DRIVER not in broker.ctl("volume", "list").stdout


def test_a_nodes_certificate_may_not_list_all(broker):
    ended = broker.ctl("volume", "list", client="node")
    assert ended.returncode == 1 and "PERMISSION_DENIED" in ended.stderr


def test_what_is_missing_is_named(broker):
    ended = ctl("volume", "list", "--broker", broker.address)
    assert ended.returncode == 2 and "TDVOL_BROKER_CA" in ended.stderr
    broker.stop()
    ended = broker.ctl("broker", "status")
    assert ended.returncode == 1 and "UNAVAILABLE" in ended.stderr
    broker.start()


@pytest.mark.parametrize("words", [
    [], ["--help"], ["broker", "init", "--help"], ["broker", "status", "--help"], ["volume", "list", "--help"],
    ["volume", "show", "--help"], ["volume", "delete", "--help"], ["volume", "release", "--help"],
    ["volume", "adopt", "--help"],
])  # fmt: skip
def test_help_is_there(words):
    ended = ctl(*words)
    assert ended.returncode == (0 if words else 2) and "Usage" in ended.stdout


def test_an_unknown_command_is_refused():
    ended = ctl("volume", "destroy")
    assert ended.returncode == 2 and "volume destroy" in ended.stderr


def allow(broker, *may: str) -> None:
    """The admin's certificate may do this alone."""
    path = broker.dir / "policy.json"
    policy = json.loads(path.read_text())
    policy["rules"][-1]["may"] = [*may]
    path.write_text(json.dumps(policy))
    broker.stop()
    broker.start()


def test_rotation_is_refused_without_the_permission(broker):
    allow(broker, "admin")
    stub, node = broker.stub(), Node()
    create(stub, "v")
    node.ready(stub, node.open(stub, "v").record)
    ended = broker.ctl("volume", "rotate", "v")
    assert ended.returncode == 1 and "PERMISSION_DENIED" in ended.stderr
    assert "secret         generation 1\n" in broker.ctl("volume", "show", "v").stdout


def test_a_volume_is_marked_for_another_secret(broker):
    stub, node = broker.stub(), Node()
    create(stub, "v")
    ended = broker.ctl("volume", "rotate", "v")
    assert ended.returncode == 1 and "no header yet" in ended.stderr
    node.ready(stub, node.open(stub, "v").record)
    for text in ("v: generation 1 is to become 2", "to become 2: by the node"):  # the second call changes nothing
        done = broker.ctl("volume", "rotate", "v")
        assert done.returncode == 0 and text in done.stdout, done
    shown = broker.ctl("volume", "show", "v").stdout
    assert "secret         generation 1, to become 2: by the node that writes it" in shown
    record = node.open(stub, "v").record
    assert len(record.rotation.secret) == 80 and not get(stub, "v").rotation.secret
    node.change(stub, record, keybroker.CHANGE_NEXT_HEADER, header_digest=b"\x02" * 32)
    assert "a node has begun" in broker.ctl("volume", "show", "v").stdout


def test_all_volumes_are_marked_and_a_repetition_goes_on(broker):
    allow(broker, "rotate")  # and not admin: the driver must be named
    stub, node = broker.stub(), Node()
    for name in ("a", "b", "new"):
        create(stub, name, name=name)
    for name in ("a", "b"):
        node.ready(stub, node.open(stub, name).record)
    assert broker.ctl("volume", "rotate", "--all").returncode == 1
    assert broker.ctl("volume", "rotate", "a", "--all", "--driver", DRIVER).returncode == 2
    assert broker.ctl("volume", "rotate", "a", "--up-to", 1, "--driver", DRIVER).returncode == 1
    assert broker.ctl("volume", "rotate", "a", "--driver", DRIVER).returncode == 0
    for marked, already in ((1, 1), (0, 2)):
        done = broker.ctl("volume", "rotate", "--all", "--driver", DRIVER, "--up-to", 1)
        assert done.returncode == 0, done.stderr
        assert f"{marked} volumes marked, {already} were marked already, 0 failed" in done.stdout
    assert not get(stub, "new").HasField("rotation")
