# SPDX-License-Identifier: Apache-2.0
"""tdvolctl volume adopt --key-file: volumes that cryptsetup made on a disk of the upstream are taken over in place."""

import hashlib

import harness
import old_volumes
import pytest
from grpc import StatusCode as Code
from harness import MIB, csi, pattern, raises, read, write
from old_volumes import HEADER, adopt, key_opens

DATA, MORE = pattern(3 * MIB), pattern(MIB, seed=5)
SIZE = 96 * MIB


@pytest.fixture
def make(bed, tmp_path):
    """make(fs) makes an old volume, and returns it as the client knows it."""

    def made(fs: str = "ext4", size: int = SIZE):
        below = old_volumes.make_disk(bed.upstream, size)
        old_volumes.fill(bed.upstream.file(below.volume_id), tmp_path / "point", DATA, fs)
        capability = harness.capability(fs or "ext4", not fs)
        return bed.client.know(below.volume_id, below.volume_context, capability, size - HEADER)

    return made


def content(fs: str) -> list[str]:
    return ["--fs", fs] if fs else ["--block"]


def old_file(volume):
    return volume.target if volume.is_block else volume.target / "data"


def digest(bed, volume) -> str:
    return hashlib.sha256(bed.upstream.file(volume.id).read_bytes()).hexdigest()


@pytest.mark.parametrize("fs", ["ext4", "xfs", ""])
def test_old_volume_is_taken_over(bed, broker, make, fs):
    client, size = bed.client, 340 * MIB if fs == "xfs" else SIZE
    volume = make(fs, size)
    disk = bed.upstream.file(volume.id)
    said = adopt(broker, volume.id, size, *content(fs))
    assert f"the pod gets {size - HEADER} bytes" in said
    assert key_opens(disk)
    client.use(volume)
    assert read(old_file(volume), len(DATA)) == DATA
    write(old_file(volume), MORE)
    client.leave(volume)
    assert not key_opens(disk)
    assert not broker.record(volume.id).old_key
    client.use(volume)
    assert read(old_file(volume), len(DATA)) == MORE + DATA[MIB:]
    client.leave(volume)
    client.use(volume, read_only=True)
    assert read(old_file(volume), len(DATA)) == MORE + DATA[MIB:]
    client.leave(volume)


def test_it_grows_and_is_copied_afterwards(bed, broker, make):
    client = bed.client
    volume = make()
    adopt(broker, volume.id, SIZE, "--fs", "ext4")
    refused = csi.CreateSnapshotRequest(source_volume_id=volume.id, name="too-early")
    with raises(Code.FAILED_PRECONDITION, "stage it once for writing"):
        client.controller.CreateSnapshot(refused, timeout=harness.CALL_SECONDS)
    client.use(volume)
    assert client.expand(volume, 192 * MIB) == 192 * MIB
    assert bed.upstream.file(volume.id).stat().st_size >= 192 * MIB + HEADER
    assert read(old_file(volume), len(DATA)) == DATA
    client.leave(volume)
    snapshot = client.snapshot(volume)
    client.use(volume)
    write(old_file(volume), MORE)
    client.leave(volume)
    restored = client.create(size=256 * MIB, snapshot=snapshot.snapshot_id, integrity=None)
    client.use(restored)
    assert read(old_file(restored), len(DATA)) == DATA
    client.leave(restored)


def test_wrong_key_and_wrong_size_are_corrected(bed, broker, make):
    client = bed.client
    volume = make()
    before = digest(bed, volume)
    adopt(broker, volume.id, SIZE, "--fs", "ext4", key=b"wrong")
    with raises(Code.FAILED_PRECONDITION, "the old key does not open the old header"):
        client.use(volume)
    adopt(broker, volume.id, SIZE // 2, "--fs", "ext4")
    with raises(Code.FAILED_PRECONDITION, "adopt the volume again with the size of its disk"):
        client.stage(volume)
    adopt(broker, volume.id, SIZE, "--fs", "xfs")
    with raises(Code.FAILED_PRECONDITION, "the volume was made for xfs, not ext4"):
        client.stage(volume)
    assert digest(bed, volume) == before
    adopt(broker, volume.id, SIZE, "--fs", "ext4")
    client.mount(volume)
    assert read(old_file(volume), len(DATA)) == DATA
    client.leave(volume)


def test_disk_without_the_old_header_is_not_formatted(bed, broker):
    client = bed.client
    below = old_volumes.make_disk(bed.upstream, SIZE)
    volume = client.know(below.volume_id, below.volume_context, harness.capability(), SIZE - HEADER)
    before = digest(bed, volume)
    adopt(broker, volume.id, SIZE, "--fs", "ext4")
    with raises(Code.FAILED_PRECONDITION, "it is not a LUKS2 header"):
        client.use(volume)
    assert digest(bed, volume) == before
    client.leave(volume)


def test_volume_with_integrity_is_left_to_the_copy(bed, broker, make):
    client = bed.client
    below = old_volumes.make_disk(bed.upstream, SIZE)
    disk = bed.upstream.file(below.volume_id)
    old_volumes.run("cryptsetup", "luksFormat", "--batch-mode", "--key-file=-", "--integrity=hmac-sha256",
                    "--integrity-no-wipe", *old_volumes.CONSTELLATION[:2], *old_volumes.CONSTELLATION[3:], disk,
                    stdin=old_volumes.KEY)  # fmt: skip
    volume = client.know(below.volume_id, below.volume_context, harness.capability(), SIZE - HEADER)
    before = digest(bed, volume)
    adopt(broker, volume.id, SIZE, "--fs", "ext4")
    with raises(Code.FAILED_PRECONDITION, "the volume has integrity tags", "Copy the volume instead"):
        client.use(volume)
    assert digest(bed, volume) == before and key_opens(disk)
    client.leave(volume)
