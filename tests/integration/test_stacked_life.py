# SPDX-License-Identifier: Apache-2.0
"""The life of volumes over another CSI driver's disks: what the pod sees, and what that driver gets to see."""

import hashlib
import os
import stat

import fake_driver
import grpc
import harness
import machine
import pytest
from harness import GIB, MIB, Mode, csi, keybroker, pattern, raises, read, write

Code = grpc.StatusCode
DATA = pattern(MIB + 4096)
ODD = 3 * 4096  # sizes that no upstream has
USES = {"ext4": {"fs": "ext4"}, "xfs": {"fs": "xfs"}, "block": {"block": True}}
INTEGRITIES = {"aegis128": keybroker.INTEGRITY_AEGIS128, "none": keybroker.INTEGRITY_NONE,
               "hmac-sha256": keybroker.INTEGRITY_HMAC_SHA256}  # fmt: skip


def check(volume, data=DATA):
    harness.drop_caches()
    assert read(volume.file, len(data)) == data


def device_bytes(path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("integrity", ["aegis128", "none"])
def test_life_of_a_volume(bed, broker, integrity, use):
    client, upstream = bed.client, bed.upstream
    size = harness.SIZES["" if use == "block" else use] + ODD
    volume = client.create(size=size, integrity=integrity, **USES[use])
    assert volume.size == size
    record = broker.record(volume.id)
    assert record.phase == keybroker.PHASE_NEW and record.spec.integrity == INTEGRITIES[integrity]
    assert record.spec.size_bytes == size and record.spec.backing == keybroker.BACKING_DEVICE
    assert not record.spec.location and record.spec.needs_publication and not record.published_nodes
    [call] = upstream.calls("CreateVolume")
    assert call.message.capacity_range == csi.CapacityRange(required_bytes=record.spec.device_bytes)
    assert upstream.state.volumes[volume.id]["size"] >= record.spec.device_bytes > size

    client.use(volume)
    assert broker.record(volume.id).phase == keybroker.PHASE_READY
    if use == "block":
        assert stat.S_ISBLK(os.stat(volume.target).st_mode) and device_bytes(volume.target) == size
    else:
        assert machine.mount_of(volume.target)["type"] == use
        usage = {usage.unit: usage for usage in client.stats(volume).usage}
        assert usage[csi.VolumeUsage.BYTES].total <= size
    write(volume.file, DATA)
    check(volume)
    assert DATA[:4096] not in upstream.file(volume.id).read_bytes()
    client.leave(volume)
    assert not bed.left() and not broker.record(volume.id).published_nodes

    client.use(volume)
    check(volume)
    client.leave(volume)
    client.delete(volume)
    assert not upstream.state.volumes
    with raises(Code.NOT_FOUND):
        if broker.record(volume.id).phase == keybroker.PHASE_ERASED:
            client.attach(volume)


@pytest.mark.parametrize("switches", [{"stage": False}, {"mknod": True}, {"attach": False}, {"garbage": True},
                                      {"stage": False, "attach": False}, {"device": "scsi"}],
                         ids=lambda switches: "-".join(switches))  # fmt: skip
def test_upstreams_of_every_kind(make_bed, switches):
    bed = make_bed(fake_driver.Config(**switches))
    client = bed.client
    for block in (False, True):
        volume = client.create(block=block)
        client.use(volume)
        write(volume.file, DATA)
        client.leave(volume)
        assert not bed.left()
        client.use(volume)
        check(volume)
        client.leave(volume)
        client.delete(volume)


def test_upstream_that_attaches_nothing_must_be_declared(make_bed):
    """What it says of itself takes the protection by publications from no volume."""
    bed = make_bed(fake_driver.Config(attach=False), attaches=True)
    with raises(Code.FAILED_PRECONDITION, "--publication=off"):
        bed.client.create()
    assert not bed.left() and not bed.upstream.calls("CreateVolume")


def test_one_process_with_both_roles(make_bed):
    bed = make_bed(roles=False)
    volume = bed.client.create()
    bed.client.use(volume)
    write(volume.file, DATA)
    bed.client.leave(volume)
    assert not bed.left()


@pytest.mark.parametrize("integrity", INTEGRITIES)
def test_sizes_are_those_that_were_asked_for(bed, broker, integrity):
    """Although the upstream rounds up to whole GiB, and has a minimum of two."""
    client = bed.client
    bed.upstream.set(round_bytes=GIB, minimum_bytes=2 * GIB)
    for size in (16 * MIB, 100 * MIB + ODD, GIB, GIB + 1):
        rounded = -(-size // 4096) * 4096
        volume = client.create(size=size, integrity=integrity, block=True)
        assert volume.size == rounded
        assert bed.upstream.state.volumes[volume.id]["size"] % GIB == 0
        listed = {entry.volume.volume_id: entry for entry in client.controller.ListVolumes(csi.ListVolumesRequest()).entries}
        assert listed[volume.id].volume.capacity_bytes == rounded
        client.use(volume)
        assert device_bytes(volume.target) == rounded
        write(volume.target, DATA[:4096], offset=rounded - 4096)
        assert read(volume.target, 4096, rounded - 4096) == DATA[:4096]
        client.leave(volume)
        client.delete(volume)


def test_limits_are_those_of_the_pod(bed):
    """The upstream's rounding is not the pod's."""
    client = bed.client
    bed.upstream.set(round_bytes=GIB)
    volume = client.create("limited", 64 * MIB, limit=64 * MIB)
    assert volume.size == 64 * MIB and client.create("limited", 64 * MIB, limit=64 * MIB).id == volume.id
    with raises(Code.ALREADY_EXISTS):
        client.create("limited", 128 * MIB)
    with raises(Code.OUT_OF_RANGE):
        client.create(size=128 * MIB, limit=64 * MIB)
    with raises(Code.OUT_OF_RANGE):
        client.create(size=64 * MIB + 1, limit=64 * MIB + 2)
    for request in bed.upstream.calls("CreateVolume"):
        assert not request.message.capacity_range.limit_bytes


def test_each_call_may_be_repeated(bed):
    client = bed.client
    volume = client.create("repeated")
    assert client.create("repeated").id == volume.id
    for step in (client.attach, client.stage, client.publish, client.publish, client.stage, client.attach):
        step(volume)
    write(volume.file, DATA)
    snapshot = client.snapshot(volume, "repeated")
    assert client.snapshot(volume, "repeated").snapshot_id == snapshot.snapshot_id
    for step in (client.unpublish, client.unstage, client.detach):
        step(volume)
        step(volume)
    for _ in range(2):
        client.delete_snapshot(snapshot.snapshot_id)
        client.delete(volume)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("integrity", ["aegis128", "none"])
def test_snapshot_is_restored_also_larger(bed, integrity, use):
    client = bed.client
    size = harness.SIZES["" if use == "block" else use] + ODD
    source = client.create(size=size, integrity=integrity, **USES[use])
    client.use(source)
    write(source.file, DATA)
    blocks = 0 if use == "block" else os.statvfs(source.target).f_blocks
    client.leave(source)
    snapshot = client.snapshot(source)
    assert snapshot.ready_to_use and snapshot.source_volume_id == source.id and snapshot.size_bytes == size
    [listed] = client.controller.ListSnapshots(csi.ListSnapshotsRequest()).entries
    assert listed.snapshot == snapshot
    for larger in (0, 64 * MIB):
        restored = client.create(size=size + larger, integrity=integrity, snapshot=snapshot.snapshot_id, **USES[use])
        assert restored.size == size + larger
        client.use(restored)
        check(restored)
        if use == "block":
            assert device_bytes(restored.target) == size + larger
        elif larger:
            shown = os.statvfs(restored.target)
            assert (shown.f_blocks - blocks) * shown.f_frsize > larger - 8 * MIB
        client.leave(restored)
        client.use(restored)
        check(restored)
        client.leave(restored)
    options = {"integrity": integrity, "snapshot": snapshot.snapshot_id} | USES[use]
    with raises(Code.OUT_OF_RANGE):
        client.create(size=size - MIB, limit=size - 4096, **options)
    assert client.create(size=size - MIB, **options).size == size  # at least what was asked for
    other = "none" if integrity == "aegis128" else "aegis128"
    with raises(Code.INVALID_ARGUMENT):
        client.create(size=size, integrity=other, snapshot=snapshot.snapshot_id, **USES[use])


def test_clone_is_independent_of_its_source(bed):
    client = bed.client
    source = client.create()
    client.use(source)
    write(source.file, DATA)
    client.leave(source)
    clone = client.create(volume=source.id)
    client.use(clone)
    client.use(source)
    write(source.file, pattern(len(DATA), seed=2))
    check(clone)
    client.leave(source)
    client.delete(source)
    check(clone)


def test_snapshot_of_a_volume_in_use(bed):
    """The upstream copies the disk at one moment, as after a power cut."""
    client = bed.client
    source = client.create()
    client.use(source)
    write(source.file, DATA)
    snapshot = client.snapshot(source)
    restored = client.create(snapshot=snapshot.snapshot_id)
    client.use(restored)
    check(restored)


@pytest.mark.parametrize("node_expand", [True, False], ids=["node", "controller"])
@pytest.mark.parametrize(("integrity", "block"), [("aegis128", False), ("aegis128", True), ("none", False), ("none", True)])
def test_volume_grows_in_use(make_bed, integrity, block, node_expand):
    bed = make_bed(fake_driver.Config(node_expand=node_expand))
    client = bed.client
    volume = client.create(integrity=integrity, block=block)
    client.use(volume)
    write(volume.file, DATA)
    for size in (96 * MIB + ODD, 160 * MIB):
        assert client.expand(volume, size) == size
        if block:
            assert device_bytes(volume.target) == size
        else:
            shown = os.statvfs(volume.target)
            assert shown.f_blocks * shown.f_frsize > size - 16 * MIB
        check(volume)
    client.leave(volume)
    assert client.expand(volume, 192 * MIB) == 192 * MIB  # when it is used by nobody
    client.use(volume)
    check(volume)
    if block:
        assert client.expand(volume, 192 * MIB) == 192 * MIB
        assert device_bytes(volume.target) == 192 * MIB


def test_growth_without_a_capability_is_one_of_a_block_volume(bed):
    """The caller may omit it; the upstream would then look for a file system on our ciphertext."""
    client = bed.client
    volume = client.create()
    client.use(volume)
    request = csi.ControllerExpandVolumeRequest(volume_id=volume.id)
    request.capacity_range.required_bytes = 96 * MIB
    client.controller.ControllerExpandVolume(request, timeout=harness.CALL_SECONDS)
    client.grow_at_node(volume, 96 * MIB)
    [call] = bed.upstream.calls("NodeExpandVolume")
    assert call.message.volume_capability.HasField("block")


def test_readers_at_two_nodes_leave_the_disk_as_it_is(make_bed):
    bed = make_bed(nodes=2)
    first, second = bed.clients
    volume = first.create()
    first.use(volume)
    write(volume.file, DATA)
    first.leave(volume)
    file = bed.upstream.file(volume.id)
    before = hashlib.sha256(file.read_bytes()).digest()
    volume.capability = harness.capability("ext4", mode=Mode.MULTI_NODE_READER_ONLY)
    other = bed.moved(volume)
    first.attach(volume, read_only=True)
    second.attach(other, read_only=True)
    # One after the other, because this kernel has room for one stack of a volume.
    for client, its in ((first, volume), (second, other)):
        client.mount(its, readonly=True)
        check(its)
        with pytest.raises(OSError, match="Read-only"):
            write(its.target / "more", b"x")
        client.unmount(its)
    writer = harness.capability("ext4")
    with raises(Code.FAILED_PRECONDITION):
        volume.capability = writer
        first.attach(volume)
    volume.capability = other.capability
    first.leave(volume)
    second.leave(other)
    assert hashlib.sha256(file.read_bytes()).digest() == before
    volume.capability = writer
    first.use(volume)
    check(volume)


def test_id_is_used_again_after_deletion(bed, broker):
    """The upstream names its volumes as the PVs are named, and so do some drivers."""
    client = bed.client
    volume = client.create("again", block=True)
    client.use(volume)
    write(volume.target, DATA)
    client.leave(volume)
    first = broker.record(volume.id).record_id
    client.delete(volume)
    volume = client.create("again", block=True)
    assert broker.record(volume.id).record_id != first
    client.use(volume)
    assert read(volume.target, len(DATA)) == bytes(len(DATA))
    write(volume.target, DATA)
    client.leave(volume)
