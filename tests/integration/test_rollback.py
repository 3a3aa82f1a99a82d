# SPDX-License-Identifier: Apache-2.0
"""A host that puts an old copy of a disk back, and kubelet, which tries again and again."""

import shutil

import grpc
import harness
import pytest
from harness import MIB, pattern, raises, read, write

INTEGRITIES = ("aegis128", "hmac-sha256", "none")


@pytest.mark.parametrize("integrity", INTEGRITIES)
def test_copy_from_before_the_close_stays_refused(client, plugin, integrity):
    volume = client.create(integrity=integrity, size=16 * MIB, block=True, provisioning="thin")
    disk, copy = plugin.backing_file(volume), plugin.dir / "copy"
    client.mount(volume)
    write(volume.file, pattern(MIB, seed=1))
    shutil.copyfile(disk, copy)
    write(volume.file, pattern(MIB, seed=2))
    client.unmount(volume)
    newest = disk.read_bytes()
    disk.write_bytes(copy.read_bytes())
    copy.unlink()
    for _ in range(3):  # kubelet does not give up
        with raises(grpc.StatusCode.DATA_LOSS, "old state"):
            client.stage(volume)
    disk.write_bytes(newest)
    client.mount(volume)
    assert read(volume.file, MIB) == pattern(MIB, seed=2)


@pytest.mark.parametrize("integrity", INTEGRITIES)
def test_snapshot_of_a_closed_volume_cannot_be_exchanged_for_an_older_copy(client, plugin, integrity):
    volume = client.create(integrity=integrity, size=16 * MIB, block=True, provisioning="thin")
    client.mount(volume)
    old = plugin.backing_file(volume).read_bytes()
    write(volume.file, pattern(MIB, seed=1))
    client.unmount(volume)
    snapshot = client.snapshot(volume).snapshot_id
    disk = plugin.backing_file(snapshot)
    newest = disk.read_bytes()
    disk.write_bytes(old)
    bad = client.create(integrity=integrity, size=16 * MIB, block=True, provisioning="thin", snapshot=snapshot)
    with raises(grpc.StatusCode.DATA_LOSS, "old state"):
        client.stage(bad)
    disk.write_bytes(newest)
    good = client.create(integrity=integrity, size=32 * MIB, block=True, provisioning="thin", snapshot=snapshot)
    client.mount(good)
    assert read(good.file, MIB) == pattern(MIB, seed=1)


def test_stage_that_fails_for_another_reason_opens_no_way_for_an_old_copy(client, plugin):
    volume = client.create(integrity="none", size=16 * MIB, block=True, provisioning="thin")
    disk = plugin.backing_file(volume)
    client.mount(volume)
    old = disk.read_bytes()
    client.unmount(volume)
    newest = disk.read_bytes()
    disk.write_bytes(bytes(4 * MIB) + newest[4 * MIB :])  # both headers are gone
    with raises(grpc.StatusCode.DATA_LOSS):
        client.stage(volume)
    disk.write_bytes(old)
    with raises(grpc.StatusCode.DATA_LOSS, "old state"):
        client.stage(volume)
    disk.write_bytes(newest)
    client.mount(volume)


def _put_back(broker, store) -> None:
    """The broker goes on with this copy of its store."""
    broker.stop()
    shutil.rmtree(broker.dir / "state")
    shutil.copytree(store, broker.dir / "state")
    broker.start()


@pytest.mark.parametrize("integrity", INTEGRITIES)
def test_store_from_before_the_format_has_nothing_formatted_over(make_broker, make_plugin, tmp_path, integrity):
    broker = make_broker()
    client = make_plugin(broker).client
    volume = client.create(integrity=integrity, size=16 * MIB, block=True, provisioning="thin")
    broker.stop()
    shutil.copytree(broker.dir / "state", tmp_path / "old")
    broker.start()
    harness.retried(client.mount, volume)
    write(volume.file, pattern(MIB, seed=1))
    client.unmount(volume)
    broker.stop()
    shutil.copytree(broker.dir / "state", tmp_path / "newest")
    broker.start()
    _put_back(broker, tmp_path / "old")
    for _ in range(3):  # kubelet does not give up: the second attempt finds what looks like a first one
        with raises(grpc.StatusCode.FAILED_PRECONDITION, "docs/recovery.md"):
            harness.retried(client.stage, volume)
    _put_back(broker, tmp_path / "newest")
    harness.retried(client.mount, volume)
    assert read(volume.file, MIB) == pattern(MIB, seed=1)
