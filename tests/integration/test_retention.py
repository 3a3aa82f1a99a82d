# SPDX-License-Identifier: Apache-2.0
"""Volumes whose keys the broker keeps for a while after their deletion: for nodes and controllers they are deleted, and an
administrator brings them back where the disk still exists."""

import json
import shutil

import pytest
from grpc import StatusCode as Code
from harness import MIB, pattern, raises, read, write
from test_backup import ctl


@pytest.fixture
def keeper(make_broker):
    made = make_broker()
    path = made.dir / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"retention": {"seconds": 7 * 24 * 3600}}))
    made.stop()
    return made.start()


def phases(broker) -> list[str]:
    return [line.split()[2] for line in ctl(broker, "volume", "list", "--deleted").splitlines()[1:]]


def used(client, volume, do):
    if hasattr(client, "attach"):
        client.attach(volume)
    client.mount(volume)
    try:
        return do()
    finally:
        client.unmount(volume)
        if hasattr(client, "detach"):
            client.detach(volume)


def fill(client, **what):
    volume = client.create(size=16 * MIB, block=True, **what)
    used(client, volume, lambda: write(volume.file, pattern(MIB)))
    return volume


@pytest.mark.parametrize("integrity", ["aegis128", "none"])
def test_deleted_by_mistake(keeper, make_plugin, tmp_path, integrity):
    plugin = make_plugin(keeper)
    client = plugin.client
    volume = fill(client, name="claim", integrity=integrity, provisioning="thin")
    disk, copy = plugin.backing_file(volume), tmp_path / "copy"
    shutil.copyfile(disk, copy)

    client.delete(volume)
    client.delete(volume)
    assert not disk.exists()
    assert phases(keeper) == ["RETAINED"]
    shutil.copyfile(copy, disk)
    with raises(Code.NOT_FOUND, "there is no volume"):
        client.stage(volume)
    disk.unlink()
    with raises(Code.UNAVAILABLE, "tdvolctl volume undelete"):  # the id is made of the name; Kubernetes uses no name twice
        client.create(name="claim", size=16 * MIB, block=True, provisioning="thin", integrity=integrity)

    plugin.restart()
    client = plugin.client
    ctl(keeper, "volume", "undelete", volume.id)
    shutil.copyfile(copy, disk)
    client.volumes[volume.id] = volume
    assert used(client, volume, lambda: read(volume.file, MIB)) == pattern(MIB)

    shutil.copyfile(disk, copy)
    client.delete(volume)
    ctl(keeper, "volume", "delete", volume.id, "--now", "--yes")
    assert phases(keeper) == ["ERASED"]
    shutil.copyfile(copy, disk)
    with raises(Code.NOT_FOUND, "there is no volume"):
        client.stage(volume)
    disk.unlink()


def test_disk_of_another_driver_that_was_retained(keeper, make_bed):
    bed = make_bed(broker=keeper)
    volume = fill(bed.client)
    ctl(keeper, "volume", "delete", volume.id, "--yes")  # its PersistentVolume has reclaimPolicy Retain
    assert phases(keeper) == ["RETAINED"]
    with raises(Code.FAILED_PRECONDITION, "has no record of it"):
        bed.client.attach(volume)
    ctl(keeper, "volume", "undelete", volume.id)
    assert used(bed.client, volume, lambda: read(volume.file, MIB)) == pattern(MIB)
