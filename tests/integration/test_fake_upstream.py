# SPDX-License-Identifier: Apache-2.0
"""The fake upstream driver itself: csi-sanity's view of it would be too kind, so the tests of the stacked plugin are
only as good as this."""

import contextlib
import os
import pathlib

import fake_driver
import fake_upstream
import grpc
import harness
import machine
import pytest
import stacked
from harness import GIB, MIB, csi, csi_pb2_grpc, raises

Code = grpc.StatusCode
FOLDER = harness.ROOT / "fake"


class Direct:
    """Calls the fake like a good stacked plugin: block volumes, in the right order."""

    def __init__(self, upstream: stacked.Upstream, node: str = "up-1"):
        self.upstream, self.name = upstream, node
        self.channel = grpc.insecure_channel(f"unix:{upstream.socket(node)}", [("grpc.enable_retries", 0)])
        self.controller = csi_pb2_grpc.ControllerStub(self.channel)
        self.node = csi_pb2_grpc.NodeStub(self.channel)
        self.capability = harness.capability(block=True)
        self.stage_path, self.target = FOLDER / node / "stage", FOLDER / node / "device"
        self.stage_path.mkdir(parents=True, exist_ok=True)

    def create(self, name="one", size=8 * MIB, **fields):
        request = csi.CreateVolumeRequest(name=name, volume_capabilities=[self.capability], **fields)
        request.capacity_range.required_bytes = size
        return self.controller.CreateVolume(request, timeout=60).volume

    def attach(self, volume, **fields):
        request = csi.ControllerPublishVolumeRequest(
            volume_id=volume.volume_id, node_id=self.name, volume_capability=self.capability,
            volume_context=volume.volume_context)  # fmt: skip
        request.MergeFrom(csi.ControllerPublishVolumeRequest(**fields))
        return dict(self.controller.ControllerPublishVolume(request, timeout=60).publish_context)

    def detach(self, volume, node_id=None):
        request = csi.ControllerUnpublishVolumeRequest(volume_id=volume.volume_id, node_id=self.name if node_id is None else node_id)
        self.controller.ControllerUnpublishVolume(request, timeout=60)

    def stage(self, volume, context):
        request = csi.NodeStageVolumeRequest(
            volume_id=volume.volume_id, staging_target_path=str(self.stage_path), volume_capability=self.capability,
            volume_context=volume.volume_context, publish_context=context)  # fmt: skip
        self.node.NodeStageVolume(request, timeout=60)

    def publish(self, volume, context):
        request = csi.NodePublishVolumeRequest(
            volume_id=volume.volume_id, staging_target_path=str(self.stage_path), target_path=str(self.target),
            volume_capability=self.capability, volume_context=volume.volume_context, publish_context=context)  # fmt: skip
        self.node.NodePublishVolume(request, timeout=60)

    def unpublish(self, volume):
        request = csi.NodeUnpublishVolumeRequest(volume_id=volume.volume_id, target_path=str(self.target))
        self.node.NodeUnpublishVolume(request, timeout=60)

    def unstage(self, volume):
        request = csi.NodeUnstageVolumeRequest(volume_id=volume.volume_id, staging_target_path=str(self.stage_path))
        self.node.NodeUnstageVolume(request, timeout=60)

    def delete(self, volume):
        self.controller.DeleteVolume(csi.DeleteVolumeRequest(volume_id=volume.volume_id), timeout=60)

    def device_bytes(self) -> int:
        with open(self.target, "rb") as device:
            return device.seek(0, os.SEEK_END)


@pytest.fixture
def make_upstream(leaves_nothing):
    made = []

    @contextlib.contextmanager
    def make(**switches):
        upstream = stacked.Upstream(fake_driver.Config(**switches), "fake-upstream").start()
        made.append(upstream)
        yield upstream
        upstream.close()

    yield make
    for upstream in made:
        upstream.kill()
        stacked.shutil.rmtree(upstream.dir, ignore_errors=True)
    stacked.shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.mark.parametrize("switches", [{}, {"stage": False}, {"mknod": True}, {"device": "scsi"}, {"attach": False}],
                         ids=lambda switches: next(iter(switches), "usual"))  # fmt: skip
def test_life_of_a_device(make_upstream, switches):
    with make_upstream(**switches) as upstream:
        direct = Direct(upstream)
        volume = direct.create(parameters={"type": "fast"}, size=3 * MIB - 1)
        assert volume.capacity_bytes == 3 * MIB and direct.create(parameters={"type": "fast"}, size=3 * MIB - 1) == volume
        context = direct.attach(volume) if upstream.config.attach else {}
        for _ in range(2):
            if upstream.config.stage:
                direct.stage(volume, context)
            direct.publish(volume, context)
        with open(direct.target, "wb", buffering=0) as device:
            device.write(b"data" * 1024)
            os.fsync(device.fileno())
        expand = csi.ControllerExpandVolumeRequest(volume_id=volume.volume_id)
        expand.capacity_range.required_bytes = 16 * MIB
        assert direct.controller.ControllerExpandVolume(expand, timeout=60).node_expansion_required
        assert direct.device_bytes() == 3 * MIB
        grow = csi.NodeExpandVolumeRequest(volume_id=volume.volume_id, volume_path=str(direct.target),
                                           volume_capability=direct.capability)  # fmt: skip
        direct.node.NodeExpandVolume(grow, timeout=60)
        assert direct.device_bytes() == 16 * MIB
        if upstream.config.stage:
            with raises(Code.FAILED_PRECONDITION, "still published"):
                direct.unstage(volume)
        for _ in range(2):
            direct.unpublish(volume)
            if upstream.config.stage:
                direct.unstage(volume)
        assert not direct.target.exists()
        if upstream.config.attach:
            with raises(Code.FAILED_PRECONDITION, "attached"):
                direct.delete(volume)
            direct.detach(volume)
        assert upstream.file(volume.volume_id).read_bytes()[:4096] == b"data" * 1024
        for _ in range(2):
            direct.delete(volume)


def test_it_refuses_what_drivers_refuse(make_upstream):
    with make_upstream(minimum_bytes=4 * MIB, secrets=("DeleteVolume",), max_volumes=1) as upstream:
        direct, other = Direct(upstream), Direct(upstream, "up-2")
        for fields, code in (
            ({"parameters": {"tdvol.dev/integrity": "none"}}, Code.INVALID_ARGUMENT),
            ({"parameters": {"csi.storage.k8s.io/fstype": "ext4"}}, Code.INVALID_ARGUMENT),
            ({"parameters": {"type": "warm"}}, Code.INVALID_ARGUMENT),
            ({"name": ""}, Code.INVALID_ARGUMENT),
            ({"accessibility_requirements": csi.TopologyRequirement()}, Code.INVALID_ARGUMENT),
            ({"volume_content_source": csi.VolumeContentSource()}, Code.INVALID_ARGUMENT),
        ):
            with raises(code):
                direct.create(**fields)
        volume = direct.create()
        assert direct.create(size=6 * MIB) == volume  # it is large enough
        with raises(Code.ALREADY_EXISTS):
            direct.create(size=64 * MIB)
        small = direct.create("small", 1)
        assert small.capacity_bytes == 4 * MIB
        direct.capability = harness.capability("ext4")
        with raises(Code.INVALID_ARGUMENT, "block"):
            direct.create("mount")
        direct.capability = harness.capability(block=True)
        with raises(Code.FAILED_PRECONDITION, "not attached"):
            direct.stage(volume, {})
        with raises(Code.INVALID_ARGUMENT, "context"):
            direct.attach(volume, volume_context={"more": "x"})
        with raises(Code.NOT_FOUND):
            direct.attach(volume, node_id="node-1~up-1")
        context = direct.attach(volume)
        with raises(Code.FAILED_PRECONDITION, "up-1"):
            other.attach(volume)
        with raises(Code.ALREADY_EXISTS):
            direct.attach(volume, readonly=True)
        with raises(Code.RESOURCE_EXHAUSTED):
            direct.attach(small)
        with raises(Code.FAILED_PRECONDITION, "not attached to up-2"):
            other.stage(volume, context)
        with raises(Code.INVALID_ARGUMENT, "publish context"):
            direct.stage(volume, {})
        with raises(Code.FAILED_PRECONDITION, "not staged"):
            direct.publish(volume, context)
        direct.detach(volume, "")
        with raises(Code.INVALID_ARGUMENT, "secrets"):
            direct.delete(volume)
        upstream.set(secrets=())
        direct.delete(volume)
        direct.delete(small)


def test_faults_happen_at_their_call(make_upstream):
    with make_upstream() as upstream:
        direct = Direct(upstream)
        fault = upstream.fault("CreateVolume", skip=1, code="RESOURCE_EXHAUSTED", message="full")
        first = direct.create("first")
        with raises(Code.RESOURCE_EXHAUSTED, "full"):
            direct.create("second")
        assert not fault.exists() and len(upstream.state.volumes) == 1
        upstream.fault("CreateVolume", code="DEADLINE_EXCEEDED", done=True)
        with raises(Code.DEADLINE_EXCEEDED):
            direct.create("second")
        assert len(upstream.state.volumes) == 2
        for moment, count in (("before", 2), ("after", 3)):
            upstream.fault("CreateVolume", exit=moment)
            with raises(Code.UNAVAILABLE):
                direct.create("third")
            upstream.wait_until_dead()
            assert len(upstream.state.volumes) == count
            upstream.start()
            direct = Direct(upstream)
        assert direct.create("first").volume_context == first.volume_context
        upstream.fault("ListVolumes", flood=5 * MIB)
        with raises(Code.RESOURCE_EXHAUSTED):
            direct.controller.ListVolumes(csi.ListVolumesRequest(), timeout=60)
        upstream.set(unknown_field="later")
        answer = direct.controller.ListVolumes(csi.ListVolumesRequest(), timeout=60)
        assert fake_upstream.unknown_field(b"later") in answer.SerializeToString()
        context = direct.attach(first)
        direct.stage(first, context)
        for kind, check in (("nothing", lambda: not direct.target.exists()), ("file", direct.target.is_file),
                            ("decoy", lambda: direct.device_bytes() == 64 * MIB)):  # fmt: skip
            upstream.fault("NodePublishVolume", publish=kind)
            direct.publish(first, context)
            assert check(), kind
            direct.unpublish(first)
        direct.publish(first, context)
        assert direct.device_bytes() == 8 * MIB
        direct.unpublish(first)
        direct.unstage(first)
        direct.detach(first)
        assert [call.code for call in upstream.calls("NodePublishVolume")] == ["OK"] * 4
        assert upstream.calls("ControllerPublishVolume")[0].message.node_id == "up-1"
        for name in list(upstream.state.volumes):
            direct.delete(csi.Volume(volume_id=name))


def test_a_detached_disk_is_gone(make_upstream):
    with make_upstream(device="scsi") as upstream:
        direct, other = Direct(upstream), Direct(upstream, "up-2")
        volume = direct.create()
        context = direct.attach(volume)
        direct.stage(volume, context)
        direct.publish(volume, context)
        descriptor = os.open(direct.target, os.O_RDWR)
        direct.detach(volume)
        with pytest.raises(OSError):
            os.pwrite(descriptor, b"x" * 4096, 0)
            os.fsync(descriptor)
        os.close(descriptor)
        context = other.attach(volume)
        other.stage(volume, context)
        other.publish(volume, context)
        other.unpublish(volume)
        other.unstage(volume)
        other.detach(volume)
        direct.unpublish(volume)
        direct.unstage(volume)
        direct.delete(volume)


def test_snapshots_groups_and_capacity(make_upstream):
    with make_upstream(groups=True, total_bytes=GIB) as upstream:
        direct = Direct(upstream)
        volume, other = direct.create("one"), direct.create("two")
        snapshot = direct.controller.CreateSnapshot(
            csi.CreateSnapshotRequest(source_volume_id=volume.volume_id, name="s"), timeout=60).snapshot  # fmt: skip
        assert snapshot.size_bytes == 8 * MIB
        source = csi.VolumeContentSource()
        source.snapshot.snapshot_id = snapshot.snapshot_id
        with raises(Code.OUT_OF_RANGE):
            direct.create("three", 4 * MIB, volume_content_source=source)
        copy = direct.create("three", 16 * MIB, volume_content_source=source)
        assert copy.content_source == source
        groups = csi_pb2_grpc.GroupControllerStub(direct.channel)
        group = groups.CreateVolumeGroupSnapshot(csi.CreateVolumeGroupSnapshotRequest(
            name="g", source_volume_ids=[volume.volume_id, other.volume_id]), timeout=60).group_snapshot  # fmt: skip
        assert len(group.snapshots) == 2
        capacity = direct.controller.GetCapacity(csi.GetCapacityRequest(), timeout=60)
        assert capacity.available_capacity == GIB - 32 * MIB
        listed = direct.controller.ListSnapshots(csi.ListSnapshotsRequest(max_entries=2), timeout=60)
        assert len(listed.entries) == 2 and listed.next_token == "2"
        groups.DeleteVolumeGroupSnapshot(csi.DeleteVolumeGroupSnapshotRequest(
            group_snapshot_id=group.group_snapshot_id, snapshot_ids=[one.snapshot_id for one in group.snapshots]), timeout=60)  # fmt: skip
        direct.controller.DeleteSnapshot(csi.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id), timeout=60)
        for one in (volume, other, copy):
            direct.delete(one)
        assert not list(pathlib.Path(upstream.dir / "disks").iterdir()) and not machine.loops()
