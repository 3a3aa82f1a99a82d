# SPDX-License-Identifier: Apache-2.0
"""A local folder on a disk of its own: what happens when it is full, or not there."""

import contextlib
import os
import pathlib
import subprocess

import grpc
import pytest
from harness import CALL_SECONDS, MIB, ROOT, csi, raises

Code = grpc.StatusCode
DISK = 400 * MIB


@contextlib.contextmanager
def disk(fs: str, size: int = DISK):
    """A folder for backing files on a new file system."""
    image, folder = ROOT / "disk.img", ROOT / "disk"
    image.touch()
    os.truncate(image, size)
    folder.mkdir()
    options = {"ext4": ["-q", "-F", "-m", "0"], "xfs": ["-q", "-f", "-m", "rmapbt=1"]}[fs]
    try:
        subprocess.run([f"mkfs.{fs}", *options, image], check=True)
        subprocess.run(["mount", "-o", "loop", image, folder], check=True)
        volumes = folder / "volumes"
        volumes.mkdir(mode=0o700)
        yield volumes
    finally:
        subprocess.run(["umount", "-d", folder], check=True)
        folder.rmdir()
        image.unlink()


def free(folder: pathlib.Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_what_fails_for_space_takes_none(make_plugin, fs):
    with disk(fs) as folder:
        plugin = make_plugin(volumes=folder)
        client = plugin.client
        volume = client.create(size=220 * MIB, integrity="none", block=True)
        client.mount(volume)
        with volume.file.open("r+b", buffering=0) as device:
            for _ in range(200):
                device.write(os.urandom(MIB))
            os.fsync(device.fileno())
        before, names = free(folder), sorted(os.listdir(folder))
        with raises(Code.RESOURCE_EXHAUSTED):
            client.create(size=300 * MIB, integrity="none")
        with raises(Code.RESOURCE_EXHAUSTED):
            client.create(size=600 * MIB, integrity="none", block=True, volume=volume.id)
        if fs == "ext4":  # XFS shares the extents
            with raises(Code.RESOURCE_EXHAUSTED):
                client.snapshot(volume)
        with raises(Code.RESOURCE_EXHAUSTED):
            client.expand(volume, 600 * MIB)
        assert sorted(os.listdir(folder)) == names
        assert free(folder) >= before - MIB  # the file system's own maps
        client.take_down()
        plugin.stop()


@pytest.mark.parametrize("integrity", ["hmac-sha256", "none"])
@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_reported_capacity_can_be_had(make_plugin, fs, integrity):
    with disk(fs) as folder:
        plugin = make_plugin(volumes=folder)
        client = plugin.client
        request = csi.GetCapacityRequest(parameters={"integrity": integrity})
        answer = client.controller.GetCapacity(request, timeout=CALL_SECONDS)
        assert answer.available_capacity == answer.maximum_volume_size.value > 0.9 * free(folder)
        volume = client.create(size=answer.maximum_volume_size.value, integrity=integrity)
        client.mount(volume)
        assert client.controller.GetCapacity(request, timeout=CALL_SECONDS).available_capacity < 2 * MIB
        client.take_down()
        plugin.stop()


def test_missing_disk_is_noticed(make_plugin):
    with disk("ext4") as folder:
        plugin = make_plugin(volumes=folder)
        client = plugin.client
        request = csi.GetCapacityRequest(parameters={"integrity": "none"})
        volume = client.create(integrity="none")
        beside = folder.with_name("away")
        folder.rename(beside)  # what a boot without the disk shows: a folder, but an empty one
        folder.mkdir(mode=0o700)
        with raises(Code.RESOURCE_EXHAUSTED, "mount the disk", volume.id):
            client.create(integrity="none")
        with raises(Code.RESOURCE_EXHAUSTED, "mount the disk"):
            client.create(integrity="none", volume=volume.id)
        with raises(Code.FAILED_PRECONDITION, "mount the disk"):
            client.delete(volume)
        assert client.controller.GetCapacity(request, timeout=CALL_SECONDS).available_capacity == 0
        assert not list(folder.iterdir())
        folder.rmdir()
        beside.rename(folder)
        client.create(integrity="none")
        client.take_down()
        assert not list(folder.iterdir())
        plugin.stop()
