# SPDX-License-Identifier: Apache-2.0
"""Volumes get another secret: marked with tdvolctl, made by the node that opens them for writing next."""

import json
import os
import subprocess

import harness  # isort: skip, it generates the messages
import addons_pb2
import addons_pb2_grpc
import encryptionkeyrotation_pb2
import encryptionkeyrotation_pb2_grpc
import pytest
from grpc import StatusCode as Code
from harness import DRIVER, MIB, pattern, raises, read, write

DATA = pattern(3 * MIB + 4096)
POINTS = ["worker.rotate.begin", "worker.rotate.record", "worker.format.header-b", "worker.format.header-a", "worker.rotate.state",
          "worker.rotate.confirm", "worker.rotate.confirmed", "worker.open.state", "broker.ChangeRecord.before-commit",
          "broker.ChangeRecord.after-commit", "broker.ChangeRecord.before-commit 2", "broker.ChangeRecord.after-commit 2"]  # fmt: skip


@pytest.fixture
def rotating(faults):
    made = harness.Broker("rotation-broker", faults)
    yield made.start()
    made.close()


@pytest.fixture
def rotated(rotating, make_plugin, faults):
    return make_plugin(rotating, "rotation-plugin", faults=faults)


def ctl(broker, *words) -> str:
    clients = broker.dir / "clients"
    options = ["--broker", broker.address, "--broker-ca", broker.dir / "ca.crt", "--client-cert", clients / "admin.crt",
               "--client-key", clients / "admin.key"]  # fmt: skip
    command = [harness.program("tdvolctl"), "volume", *words, *options]
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def filled(plugin, **parameters):
    volume = plugin.client.create(size=64 * MIB, **parameters)
    plugin.client.mount(volume)
    write(volume.file, DATA)
    return volume


def assert_rotated(broker, plugin, volume, generation: int = 2) -> None:
    record = broker.record(volume.id)
    assert record.generation == generation and not record.HasField("rotation") and len(record.header_digests) == 1
    assert f"generation {generation}\n" in ctl(broker, "show", volume.id)
    assert read(volume.file, len(DATA)) == DATA
    for _ in range(2):  # a clean close counts, and its disk opens again
        plugin.client.unmount(volume)
        assert broker.record(volume.id).is_closed
        plugin.client.mount(volume)
        assert read(volume.file, len(DATA)) == DATA


@pytest.mark.parametrize("integrity", ["aegis128", "hmac-sha256", "none"])
def test_the_next_stage_makes_the_header_anew(rotating, rotated, integrity):
    volume = filled(rotated, integrity=integrity)
    before = rotating.record(volume.id)
    ctl(rotating, "rotate", volume.id)
    rotated.client.unmount(volume)  # it was open: it is closed with the former secret
    assert rotating.record(volume.id).is_closed
    rotated.client.mount(volume)
    after = rotating.record(volume.id)
    assert after.key_id != before.key_id and after.header_digests != before.header_digests
    assert_rotated(rotating, rotated, volume)
    lines = [json.loads(line) for line in rotating.audit()]
    assert [line["decision"] for line in lines if line.get("method") == "RotateKey"] == ["allow"]


def test_the_former_header_and_secret_are_refused(rotating, rotated, tmp_path):
    volume = filled(rotated)
    rotated.client.unmount(volume)
    disk = rotated.backing_file(volume)
    with disk.open("rb") as file:
        former = file.read(4 * MIB)
    ctl(rotating, "rotate", "--all", "--driver", DRIVER)
    rotated.client.mount(volume)
    assert_rotated(rotating, rotated, volume)
    rotated.client.unmount(volume)
    with disk.open("r+b") as file:
        now = file.read(4 * MIB)
        file.seek(0)
        file.write(former)
    with raises(Code.DATA_LOSS, "header"):
        rotated.client.mount(volume)
    with disk.open("r+b") as file:
        file.write(now)
    rotated.client.mount(volume)
    assert read(volume.file, len(DATA)) == DATA


def test_snapshots_and_clones_open_before_and_after(rotating, rotated):
    volume = filled(rotated)
    before = rotated.client.snapshot(volume, "before")
    ctl(rotating, "rotate", volume.id)
    marked = rotated.client.snapshot(volume, "marked")
    rotated.client.unmount(volume)
    rotated.client.mount(volume)
    after = rotated.client.snapshot(volume, "after")
    assert_rotated(rotating, rotated, volume)
    for snapshot, generation in ((before, 1), (marked, 1), (after, 2)):
        assert rotating.record(snapshot.snapshot_id).generation == generation
        restored = rotated.client.create(size=64 * MIB, snapshot=snapshot.snapshot_id)
        rotated.client.mount(restored)
        assert read(restored.file, len(DATA)) == DATA
        ctl(rotating, "rotate", restored.id)  # each of the lineage has its own
        rotated.client.unmount(restored)
        rotated.client.mount(restored)
        assert_rotated(rotating, rotated, restored, generation + 1)


@pytest.mark.parametrize("integrity", ["aegis128", "hmac-sha256", "none"])
def test_a_volume_in_use_is_rotated_when_kubelet_asks_for_statistics(rotating, rotated, integrity):
    volume = filled(rotated, integrity=integrity)
    ctl(rotating, "rotate", volume.id)
    with volume.file.open("r+b") as file:
        file.write(DATA[:4096])
        assert rotated.client.stats(volume).usage
        assert rotating.record(volume.id).generation == 2
        file.write(DATA[4096:8192])
        os.fsync(file.fileno())
    harness.drop_caches()
    assert_rotated(rotating, rotated, volume)


def test_a_volume_that_is_read_is_rotated_when_it_is_written_next(rotating, rotated):
    volume = filled(rotated)
    rotated.client.unmount(volume)
    volume.capability.access_mode.mode = harness.Mode.SINGLE_NODE_READER_ONLY
    rotated.client.mount(volume)
    ctl(rotating, "rotate", volume.id)
    assert rotated.client.stats(volume).usage
    assert rotating.record(volume.id).generation == 1
    assert read(volume.file, len(DATA)) == DATA
    rotated.client.unmount(volume)
    volume.capability.access_mode.mode = harness.Mode.SINGLE_NODE_WRITER
    rotated.client.mount(volume)
    assert_rotated(rotating, rotated, volume)


@pytest.mark.parametrize("point", [*(point for point in POINTS if "open" not in point), "worker.rotate.save", "worker.rotate.state 2"])
def test_a_kill_while_it_is_in_use_is_not_noticed(rotating, rotated, faults, point):
    volume = filled(rotated)
    ctl(rotating, "rotate", volume.id)
    rotating.stop()
    rotating.start()
    point, _, count = point.partition(" ")
    faults.arm(point, f"kill:{count or 1}")
    assert harness.retried(rotated.client.stats, volume).usage
    assert not faults.disarm(), "the point was not passed"
    if point.startswith("broker."):
        rotating.kill()
        rotating.start()
    assert read(volume.file, len(DATA)) == DATA
    write(volume.file, DATA)
    harness.retried(rotated.client.unmount, volume)
    assert rotating.record(volume.id).is_closed  # by whichever secret
    harness.retried(rotated.client.mount, volume)
    assert_rotated(rotating, rotated, volume)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_moment_leaves_one_secret(rotating, rotated, faults, point):
    volume = filled(rotated)
    rotated.client.unmount(volume)
    ctl(rotating, "rotate", volume.id)
    rotating.stop()
    rotating.start()
    point, _, count = point.partition(" ")  # of the broker, the second change is the last of the rotation
    faults.arm(point, f"kill:{count or 1}")
    with pytest.raises(Exception):  # noqa: B017, PT011: what is lost depends on who is killed
        rotated.client.mount(volume)
    assert not faults.disarm(), "the point was not passed"
    if point.startswith("broker."):
        rotating.kill()
        rotating.start()
    harness.retried(rotated.client.mount, volume)
    assert_rotated(rotating, rotated, volume)


def test_a_node_rotates_what_it_has_open_when_csi_addons_asks(rotating, rotated):
    identity = addons_pb2_grpc.IdentityStub(rotated.client.channel)
    rotation = encryptionkeyrotation_pb2_grpc.EncryptionKeyRotationControllerStub(rotated.client.channel)
    assert identity.GetIdentity(addons_pb2.GetIdentityRequest(), timeout=30).name == DRIVER
    kinds = [one.WhichOneof("type") for one in identity.GetCapabilities(addons_pb2.GetCapabilitiesRequest(), timeout=30).capabilities]
    assert kinds == ["service", "encryption_key_rotation"]
    identity.Probe(addons_pb2.ProbeRequest(), timeout=30)
    volume = filled(rotated)
    rotation.EncryptionKeyRotate(encryptionkeyrotation_pb2.EncryptionKeyRotateRequest(volume_id=volume.id), timeout=120)
    assert_rotated(rotating, rotated, volume)
    rotated.client.unmount(volume)
    with raises(Code.FAILED_PRECONDITION):
        rotation.EncryptionKeyRotate(encryptionkeyrotation_pb2.EncryptionKeyRotateRequest(volume_id=volume.id), timeout=30)
