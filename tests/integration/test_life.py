# SPDX-License-Identifier: Apache-2.0
"""The life of a volume, from creation to deletion, with each integrity mode and each use."""

import os
import pathlib
import stat
import subprocess
import threading
import time

import grpc
import harness
import machine
import places
import pytest
from harness import MIB, csi, keybroker, pattern, raises, read, write

INTEGRITIES = {
    "aegis128": keybroker.INTEGRITY_AEGIS128,
    "hmac-sha256": keybroker.INTEGRITY_HMAC_SHA256,
    "none": keybroker.INTEGRITY_NONE,
}
USES = {"ext4": {"fs": "ext4"}, "xfs": {"fs": "xfs"}, "block": {"block": True, "fs": ""}}
DATA = pattern(3 * MIB + 4096)


def put(volume, data=DATA):
    """Writes like a pod."""
    write(volume.file, data)


def check(volume, data=DATA):
    """Reads from the disk, not from the page cache."""
    harness.drop_caches()
    assert read(volume.file, len(data)) == data


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("integrity", INTEGRITIES)
def test_life_of_a_volume(client, plugin, broker, integrity, use):
    volume = client.create(integrity=integrity, **USES[use])
    size = harness.SIZES["" if use == "block" else use]
    assert volume.size >= size
    assert broker.record(volume.id).phase == keybroker.PHASE_NEW
    assert broker.record(volume.id).spec.integrity == INTEGRITIES[integrity]

    client.mount(volume)
    assert broker.record(volume.id).phase == keybroker.PHASE_READY
    check_exposed(client, volume, use)
    put(volume)
    check(volume)
    client.unmount(volume)
    assert not machine.mappings() and not machine.loops()
    assert not broker.record(volume.id).HasField("lease")

    client.mount(volume)
    check(volume)
    snapshot = client.snapshot(volume)
    assert snapshot.ready_to_use and snapshot.source_volume_id == volume.id
    assert snapshot.creation_time.seconds > 0
    changed = pattern(len(DATA), seed=2)
    put(volume, changed)
    client.unmount(volume)

    restored = client.create(integrity=integrity, snapshot=snapshot.snapshot_id, **USES[use])
    client.mount(restored)
    check(restored)
    put(restored, pattern(4096, seed=3))
    client.unmount(restored)
    client.mount(volume)
    check(volume, changed)
    client.unmount(volume)
    client.delete(volume)
    client.mount(restored)
    check(restored, pattern(4096, seed=3) + DATA[4096:])
    client.unmount(restored)

    client.delete(restored)
    client.delete_snapshot(snapshot.snapshot_id)
    assert not [path for path in plugin.volumes.rglob("*") if path.is_file()]
    for gone in (volume.id, restored.id, snapshot.snapshot_id):
        with raises(grpc.StatusCode.NOT_FOUND):
            if broker.record(gone).phase == keybroker.PHASE_ERASED:
                raise_not_found(broker, gone)


def raise_not_found(broker, volume_id):
    """The broker may still show an erased record, but must not give its key."""
    request = keybroker.OpenVolumeRequest(
        driver=harness.DRIVER, volume_id=volume_id, node="node-1", boot_id="x", sealing_public_key=bytes(32)
    )
    broker.stub("node").OpenVolume(request, timeout=30)


def check_exposed(client, volume, use):
    """What the pod sees: type, size, statistics."""
    stats = client.stats(volume)
    if use == "block":
        assert stat.S_ISBLK(os.stat(volume.target).st_mode)
        descriptor = os.open(volume.target, os.O_RDONLY)
        assert os.lseek(descriptor, 0, os.SEEK_END) == volume.size
        os.close(descriptor)
        assert [(usage.unit, usage.total) for usage in stats.usage] == [(csi.VolumeUsage.BYTES, volume.size)]
        return
    mount = machine.mount_of(volume.target)
    assert mount["type"] == use and "rw" in mount["options"]
    usage = {usage.unit: usage for usage in stats.usage}
    assert 0 < usage[csi.VolumeUsage.BYTES].available < usage[csi.VolumeUsage.BYTES].total <= volume.size
    assert usage[csi.VolumeUsage.INODES].total > 0


@pytest.mark.parametrize("integrity", INTEGRITIES)
def test_backing_file_holds_no_plaintext(client, plugin, integrity):
    word = b"the quick brown fox jumps over the lazy dog. "
    volume = client.create(integrity=integrity)
    client.mount(volume)
    write(volume.file, word * 20000)
    client.unmount(volume)
    assert word not in plugin.backing_file(volume).read_bytes()


def test_published_read_only_refuses_writes(client):
    volume = client.create()
    client.mount(volume)
    put(volume)
    client.unpublish(volume)
    client.publish(volume, readonly=True)
    check(volume)
    with pytest.raises(OSError, match="Read-only"):
        write(volume.target / "other", b"x")


def test_each_call_may_be_repeated(client):
    volume = client.create("repeated")
    assert client.create("repeated").id == volume.id
    for _ in range(3):
        client.stage(volume)
    for _ in range(3):
        client.publish(volume)
    put(volume)
    mounts = [entry for entry in machine.mounts() if entry.startswith(str(volume.target))]
    assert len(mounts) == 1
    snapshot = client.snapshot(volume, "repeated")
    assert client.snapshot(volume, "repeated").snapshot_id == snapshot.snapshot_id
    for _ in range(3):
        client.unpublish(volume)
    for _ in range(3):
        client.unstage(volume)
    for _ in range(3):
        client.delete_snapshot(snapshot.snapshot_id)
    for _ in range(3):
        client.delete(volume)


def test_folder_of_kubelet_may_be_a_link(make_plugin):
    link = pathlib.Path("/run/kubelet-link")
    link.symlink_to(harness.ROOT)
    try:
        plugin = make_plugin(mount_root=link / "own-plugin")
        client = plugin.client
        client.kubelet = places.Kubelet(link / "own-plugin", plugin.driver)
        volume = client.create()
        client.mount(volume)
        put(volume)
        client.stage(volume)
        client.publish(volume)
        check(volume)
        client.unmount(volume)
        assert not machine.mappings()
        client.delete(volume)
    finally:
        link.unlink()


def test_clone_is_independent_of_its_source(client):
    source = client.create()
    client.mount(source)
    put(source)
    clone = client.create(volume=source.id)
    put(source, pattern(len(DATA), seed=2))
    client.mount(clone)
    check(clone)
    client.unmount(source)
    client.delete(source)
    check(clone)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("integrity", INTEGRITIES)
def test_copies_into_a_larger_claim(client, integrity, use):
    source = client.create(integrity=integrity, provisioning="thin", **USES[use])
    client.mount(source)
    put(source)
    snapshot = client.snapshot(source).snapshot_id
    size = source.size + 64 * MIB
    for origin in ({"snapshot": snapshot}, {"volume": source.id}):
        copy = client.create(size=size, integrity=integrity, **origin, **USES[use])
        assert copy.size == size
        client.mount(copy)
        check(copy)
        check_exposed(client, copy, use)
        client.unmount(copy)
        client.mount(copy)
        check(copy)
    check(source)


class Writer:
    """Writes all the time, and remembers the data that is certainly on the disk."""

    def __init__(self, folder):
        self.folder, self.flushed, self.failure = folder, 0, None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stopping.is_set():
                (self.folder / "busy").write_bytes(os.urandom(MIB))
                write(self.folder / f"flushed-{self.flushed}", str(self.flushed).encode())
                self.flushed += 1
        except OSError as failure:
            self.failure = failure

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


@pytest.mark.parametrize("use", ["ext4", "xfs"])
def test_snapshot_under_write_load_is_clean(client, use):
    volume = client.create(**USES[use])
    client.mount(volume)
    with Writer(volume.target) as writer:
        while writer.flushed < 3 and not writer.failure:
            time.sleep(0.05)
        before = writer.flushed
        snapshot = client.snapshot(volume)
        after = writer.flushed + 1
    assert writer.failure is None and writer.flushed >= before
    client.unmount(volume)

    restored = client.create(snapshot=snapshot.snapshot_id, **USES[use])
    client.mount(restored)
    harness.drop_caches()
    names = {entry.name for entry in restored.target.iterdir()}
    assert {f"flushed-{n}" for n in range(before)} <= names
    assert not any(f"flushed-{n}" in names for n in range(after + 1, writer.flushed))
    for n in range(before):
        assert read(restored.target / f"flushed-{n}", 64) == str(n).encode()
    for name in names - {"lost+found"}:  # every block must authenticate
        (restored.target / name).read_bytes()


@pytest.mark.parametrize(
    ("integrity", "use"), [("aegis128", "ext4"), ("aegis128", "xfs"), ("hmac-sha256", "ext4"), ("none", "ext4")]
)
def test_volume_grows_under_load(client, integrity, use):
    volume = client.create(integrity=integrity, provisioning="thin", **USES[use])
    client.mount(volume)
    put(volume)
    size = volume.size
    for _ in range(3):  # growths in a row
        size += 64 * MIB
        before = os.statvfs(volume.target)
        with Writer(volume.target) as writer:
            assert client.expand(volume, size) == size
        assert writer.failure is None
        after = os.statvfs(volume.target)
        assert after.f_blocks * after.f_frsize > before.f_blocks * before.f_frsize + 48 * MIB
        check(volume)
    for path in volume.target.glob("flushed-*"):
        path.unlink()
    client.unmount(volume)
    client.mount(volume)
    check(volume)
    put(volume, pattern(100 * MIB, seed=4))
    check(volume, pattern(100 * MIB, seed=4))


@pytest.mark.parametrize("integrity", ["aegis128", "hmac-sha256"])
def test_block_volume_grows_and_its_new_end_reads_as_zeros(client, integrity):
    volume = client.create(integrity=integrity, block=True, size=16 * MIB + 4096, provisioning="thin")
    client.mount(volume)
    write(volume.target, DATA)
    assert client.expand(volume, 48 * MIB) == 48 * MIB
    assert read(volume.target, len(DATA)) == DATA
    for offset in range(4 * MIB, 48 * MIB, MIB):
        assert read(volume.target, MIB, offset) == bytes(MIB), offset
    write(volume.target, DATA, offset=44 * MIB)
    client.unmount(volume)
    client.mount(volume)
    assert read(volume.target, len(DATA), 44 * MIB) == DATA
    assert read(volume.target, MIB, 42 * MIB) == bytes(MIB)


def table(layer: str) -> list[str]:
    """The words of the table of the only volume's layer."""
    [name] = [name for name in machine.mappings() if name.endswith(layer)]
    command = ["dmsetup", "table", name]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.split()


@pytest.mark.parametrize("integrity", ["aegis128", "hmac-sha256"])
def test_volume_without_journal_stays_so_when_it_grows(client, integrity):
    parameters = {"journal": "off", "acceptLossAfterCrash": "true"}
    volume = client.create(integrity=integrity, **parameters)
    client.mount(volume)
    put(volume)
    assert table("-crypt_dif")[6] == "D"  # direct writes, where others have J
    assert client.expand(volume, volume.size + 32 * MIB) == volume.size + 32 * MIB
    assert table("-crypt_dif")[6] == "D"
    check(volume)
    client.unmount(volume)
    client.mount(volume)
    assert table("-crypt_dif")[6] == "D"
    check(volume)
    with raises(grpc.StatusCode.INVALID_ARGUMENT, "journal"):
        client.create(integrity=integrity, volume=volume.id)
    copy = client.create(integrity=integrity, volume=volume.id, size=volume.size + 32 * MIB, **parameters)
    client.unmount(volume)
    client.mount(copy)
    assert table("-crypt_dif")[6] == "D"
    check(copy)


@pytest.mark.parametrize(
    ("integrity", "workqueue", "is_used"),
    [("aegis128", "auto", False), ("none", "auto", False), ("hmac-sha256", "auto", True), ("aegis128", "on", True),
     ("none", "on", True), ("hmac-sha256", "off", False)],
)  # fmt: skip
def test_workqueue_follows_the_storage_class(client, integrity, workqueue, is_used):
    volume = client.create(integrity=integrity, workqueue=workqueue)
    client.mount(volume)
    bypassed = {"no_read_workqueue", "no_write_workqueue"} & set(table("-crypt"))
    assert len(bypassed) == (0 if is_used else 2)
    put(volume)
    check(volume)
    client.unmount(volume)
    copy = client.create(integrity=integrity, workqueue="off" if is_used else "on", volume=volume.id)
    client.mount(copy)
    bypassed = {"no_read_workqueue", "no_write_workqueue"} & set(table("-crypt"))
    assert len(bypassed) == (2 if is_used else 0)
    check(copy)
