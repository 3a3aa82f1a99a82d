# SPDX-License-Identifier: Apache-2.0
"""The error tables of the CSI specification, for the calls that are implemented."""

import concurrent.futures
import os
import time

import grpc
import pytest
from harness import CALL_SECONDS, GIB, MIB, Mode, capability, csi, raises, retried

Code = grpc.StatusCode
UNKNOWN = "v" + "a" * 26  # well-formed, but never created
CAPABILITY = capability()
CONTROL = {"name": "bad\x01name"}


def create_request(**fields):
    """A CreateVolume request that would succeed, with some fields replaced."""
    fields = {"name": "errors", "volume_capabilities": [CAPABILITY], "parameters": {"integrity": "none"}} | fields
    return csi.CreateVolumeRequest(**fields)


def source(kind, identifier):
    made = csi.VolumeContentSource()
    if kind == "snapshot":
        made.snapshot.snapshot_id = identifier
    else:
        made.volume.volume_id = identifier
    return made


MULTI = capability(mode=Mode.MULTI_NODE_MULTI_WRITER)
CASES = {
    # CreateVolume
    "create without name": ("CreateVolume", create_request(name=""), Code.INVALID_ARGUMENT, "name"),
    "create without capability": (
        "CreateVolume", create_request(volume_capabilities=[]), Code.INVALID_ARGUMENT, "capabilit"),
    "create with empty capability": (
        "CreateVolume", create_request(volume_capabilities=[csi.VolumeCapability()]), Code.INVALID_ARGUMENT, ""),
    "create with control character": ("CreateVolume", create_request(**CONTROL), Code.INVALID_ARGUMENT, "name"),
    "create with name too long": ("CreateVolume", create_request(name="x" * 129), Code.INVALID_ARGUMENT, "name"),
    "create with unknown parameter": (
        "CreateVolume", create_request(parameters={"colour": "red"}), Code.INVALID_ARGUMENT, "colour"),
    "create with unknown integrity": (
        "CreateVolume", create_request(parameters={"integrity": "crc32"}), Code.INVALID_ARGUMENT, "crc32"),
    "create with unknown file system": (
        "CreateVolume", create_request(volume_capabilities=[capability("zfs")]), Code.INVALID_ARGUMENT, "zfs"),
    "create with discard on authenticated volume": (
        "CreateVolume", create_request(parameters={"integrity": "aegis128", "discard": "on"}),
        Code.INVALID_ARGUMENT, "discard"),
    "create with negative size": (
        "CreateVolume", create_request(capacity_range=csi.CapacityRange(required_bytes=-1)),
        Code.INVALID_ARGUMENT, ""),
    "create with limit below required": (
        "CreateVolume", create_request(capacity_range=csi.CapacityRange(required_bytes=2 * GIB, limit_bytes=GIB)),
        Code.OUT_OF_RANGE, "limit"),
    "create beyond 64 TiB": (
        "CreateVolume", create_request(capacity_range=csi.CapacityRange(required_bytes=1 << 50)),
        Code.OUT_OF_RANGE, ""),
    "create too small for its file system": (
        "CreateVolume",
        create_request(volume_capabilities=[capability("xfs")],
                       capacity_range=csi.CapacityRange(required_bytes=300 * MIB - 4096)),
        Code.OUT_OF_RANGE, "at least 300 MiB"),
    "create more than the free space": (
        "CreateVolume", create_request(capacity_range=csi.CapacityRange(required_bytes=1 << 43)),
        Code.RESOURCE_EXHAUSTED, ""),
    "create for writers on several nodes": (
        "CreateVolume", create_request(volume_capabilities=[MULTI]), Code.INVALID_ARGUMENT, ""),
    "create for readers without data": (
        "CreateVolume",
        create_request(volume_capabilities=[capability(mode=Mode.MULTI_NODE_READER_ONLY)]),
        Code.INVALID_ARGUMENT, "data source"),
    "create with mutable parameters": (
        "CreateVolume", create_request(mutable_parameters={"a": "b"}), Code.INVALID_ARGUMENT, ""),
    "create from unknown snapshot": (
        "CreateVolume", create_request(volume_content_source=source("snapshot", "s" + "a" * 26)),
        Code.NOT_FOUND, ""),
    "create from unknown volume": (
        "CreateVolume", create_request(volume_content_source=source("volume", UNKNOWN)), Code.NOT_FOUND, ""),
    # DeleteVolume
    "delete without id": ("DeleteVolume", csi.DeleteVolumeRequest(), Code.INVALID_ARGUMENT, "volume"),
    "delete unknown": ("DeleteVolume", csi.DeleteVolumeRequest(volume_id=UNKNOWN), Code.OK, ""),
    "delete malformed id": ("DeleteVolume", csi.DeleteVolumeRequest(volume_id="../../etc"), Code.OK, ""),
    # ValidateVolumeCapabilities
    "validate without id": (
        "ValidateVolumeCapabilities", csi.ValidateVolumeCapabilitiesRequest(volume_capabilities=[CAPABILITY]),
        Code.INVALID_ARGUMENT, ""),
    "validate unknown": (
        "ValidateVolumeCapabilities",
        csi.ValidateVolumeCapabilitiesRequest(volume_id=UNKNOWN, volume_capabilities=[CAPABILITY]),
        Code.NOT_FOUND, ""),
    # lists
    "list volumes with bad token": (
        "ListVolumes", csi.ListVolumesRequest(starting_token="invalid-token"), Code.ABORTED, ""),
    "list volumes with negative maximum": (
        "ListVolumes", csi.ListVolumesRequest(max_entries=-1), Code.INVALID_ARGUMENT, ""),
    "list snapshots with bad token": (
        "ListSnapshots", csi.ListSnapshotsRequest(starting_token="invalid-token"), Code.ABORTED, ""),
    "list snapshots of unknown volume": (
        "ListSnapshots", csi.ListSnapshotsRequest(source_volume_id=UNKNOWN), Code.OK, ""),
    "list unknown snapshot": ("ListSnapshots", csi.ListSnapshotsRequest(snapshot_id="none"), Code.OK, ""),
    # snapshots
    "snapshot without name": (
        "CreateSnapshot", csi.CreateSnapshotRequest(source_volume_id=UNKNOWN), Code.INVALID_ARGUMENT, "name"),
    "snapshot without source": ("CreateSnapshot", csi.CreateSnapshotRequest(name="x"), Code.INVALID_ARGUMENT, ""),
    "snapshot of unknown volume": (
        "CreateSnapshot", csi.CreateSnapshotRequest(name="x", source_volume_id=UNKNOWN), Code.NOT_FOUND, ""),
    "delete snapshot without id": ("DeleteSnapshot", csi.DeleteSnapshotRequest(), Code.INVALID_ARGUMENT, ""),
    "delete unknown snapshot": ("DeleteSnapshot", csi.DeleteSnapshotRequest(snapshot_id="x"), Code.OK, ""),
    # expansion
    "expand without id": (
        "ControllerExpandVolume",
        csi.ControllerExpandVolumeRequest(capacity_range=csi.CapacityRange(required_bytes=GIB)),
        Code.INVALID_ARGUMENT, ""),
    "expand without size": (
        "ControllerExpandVolume", csi.ControllerExpandVolumeRequest(volume_id=UNKNOWN), Code.INVALID_ARGUMENT, ""),
    "expand unknown": (
        "ControllerExpandVolume",
        csi.ControllerExpandVolumeRequest(volume_id=UNKNOWN, capacity_range=csi.CapacityRange(required_bytes=GIB)),
        Code.NOT_FOUND, ""),
    # single volumes
    "get unknown volume": (
        "ControllerGetVolume", csi.ControllerGetVolumeRequest(volume_id=UNKNOWN), Code.NOT_FOUND, ""),
    "get health of unknown volume": (
        "ControllerGetVolumeHealth", csi.ControllerGetVolumeHealthRequest(volume_id=UNKNOWN), Code.NOT_FOUND, ""),
    # node
    "stage without id": (
        "NodeStageVolume",
        csi.NodeStageVolumeRequest(staging_target_path="/run/test/x", volume_capability=CAPABILITY),
        Code.INVALID_ARGUMENT, ""),
    "stage without path": (
        "NodeStageVolume", csi.NodeStageVolumeRequest(volume_id=UNKNOWN, volume_capability=CAPABILITY),
        Code.INVALID_ARGUMENT, ""),
    "stage without capability": (
        "NodeStageVolume", csi.NodeStageVolumeRequest(volume_id=UNKNOWN, staging_target_path="/run/test/x"),
        Code.INVALID_ARGUMENT, ""),
    "stage unknown": (
        "NodeStageVolume",
        csi.NodeStageVolumeRequest(
            volume_id=UNKNOWN, staging_target_path="/run/test", volume_capability=CAPABILITY),
        Code.NOT_FOUND, ""),
    "unstage without path": (
        "NodeUnstageVolume", csi.NodeUnstageVolumeRequest(volume_id=UNKNOWN), Code.INVALID_ARGUMENT, ""),
    "unstage unknown": (
        "NodeUnstageVolume", csi.NodeUnstageVolumeRequest(volume_id=UNKNOWN, staging_target_path="/run/test"),
        Code.OK, ""),
    "publish without target": (
        "NodePublishVolume",
        csi.NodePublishVolumeRequest(
            volume_id=UNKNOWN, staging_target_path="/run/test/x", volume_capability=CAPABILITY),
        Code.INVALID_ARGUMENT, ""),
    "unpublish without target": (
        "NodeUnpublishVolume", csi.NodeUnpublishVolumeRequest(volume_id=UNKNOWN), Code.INVALID_ARGUMENT, ""),
    "stats without path": (
        "NodeGetVolumeStats", csi.NodeGetVolumeStatsRequest(volume_id=UNKNOWN), Code.INVALID_ARGUMENT, ""),
    "stats of unknown": (
        "NodeGetVolumeStats", csi.NodeGetVolumeStatsRequest(volume_id=UNKNOWN, volume_path="some/path"),
        Code.NOT_FOUND, ""),
    "expand unknown on node": (
        "NodeExpandVolume", csi.NodeExpandVolumeRequest(volume_id=UNKNOWN, volume_path="some/path"),
        Code.NOT_FOUND, ""),
    # not served
    "attach": ("ControllerPublishVolume", csi.ControllerPublishVolumeRequest(), Code.UNIMPLEMENTED, ""),
    "modify": ("ControllerModifyVolume", csi.ControllerModifyVolumeRequest(), Code.UNIMPLEMENTED, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_error_table(client, case):
    method, request, code, word = CASES[case]
    stub = client.node if method.startswith("Node") else client.controller
    call = getattr(stub, method)
    if code == Code.OK:
        call(request, timeout=CALL_SECONDS)
        return
    with raises(code, *filter(None, [word])):
        call(request, timeout=CALL_SECONDS)


def test_same_name_with_other_size_exists_already(client):
    client.create("taken", 64 * MIB)
    with raises(Code.ALREADY_EXISTS):
        client.create("taken", 128 * MIB)
    with raises(Code.ALREADY_EXISTS):
        client.create("taken", 64 * MIB, integrity="none")


def test_same_snapshot_name_with_other_source_exists_already(client):
    first, second = client.create(), client.create()
    client.mount(first)
    client.mount(second)
    client.snapshot(first, "taken")
    with raises(Code.ALREADY_EXISTS):
        client.snapshot(second, "taken")


def test_staged_volume_is_not_deleted(client):
    volume = client.create()
    client.mount(volume)
    with raises(Code.FAILED_PRECONDITION):
        client.delete(volume)
    (volume.target / "still").write_text("usable")


def test_deletion_waits_for_the_unstage_of_the_last_pod(client):
    volume = client.create()
    client.mount(volume)
    (volume.target / "some").write_bytes(os.urandom(8 * MIB))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(client.delete, volume)
        time.sleep(1)
        retried(client.unmount, volume)  # the deletion's first try may be under way
        deletion.result()


def test_restore_smaller_than_its_snapshot_is_refused(client):
    volume = client.create(size=128 * MIB)
    client.mount(volume)
    snapshot = client.snapshot(volume)
    with raises(Code.OUT_OF_RANGE):
        client.create(size=64 * MIB, limit=64 * MIB, snapshot=snapshot.snapshot_id)


def test_stage_with_other_capability_is_refused(client):
    volume = client.create()
    client.stage(volume)
    staged_as = volume.capability
    volume.capability = capability(block=True)
    with pytest.raises(grpc.RpcError) as error:
        client.stage(volume)
    assert error.value.code() in (Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT)
    volume.capability = staged_as


def test_publish_before_stage_is_refused(client):
    volume = client.create()
    with raises(Code.FAILED_PRECONDITION):
        client.publish(volume)


def test_publish_again_read_only_exists_already(client):
    volume = client.create()
    client.mount(volume)
    with raises(Code.ALREADY_EXISTS):
        client.publish(volume, readonly=True)


def test_single_writer_has_one_target(client):
    volume = client.create(mode=Mode.SINGLE_NODE_SINGLE_WRITER)
    client.mount(volume)
    other = client.kubelet.target("other", "pv", block=False)
    with raises(Code.FAILED_PRECONDITION):
        client.publish(volume, other)


def test_several_writers_of_one_node_have_several_targets(client):
    volume = client.create(mode=Mode.SINGLE_NODE_MULTI_WRITER)
    client.mount(volume)
    other = client.kubelet.target("second", "pv", block=False)
    client.publish(volume, other)
    (volume.target / "a").write_text("seen by both")
    assert (other / "a").read_text() == "seen by both"


def test_paths_outside_the_allowed_folders_are_refused(client):
    volume = client.create()
    another = str(client.kubelet.staging("another volume", "pv", block=False))
    for path in ("/etc/tdvol-test", f"{client.kubelet.folder}/../../../etc/tdvol-test", f"{client.kubelet.folder}/pki", another):
        request = csi.NodeStageVolumeRequest(
            volume_id=volume.id, staging_target_path=path, volume_capability=volume.capability,
            volume_context=volume.context,
        )  # fmt: skip
        with raises(Code.INVALID_ARGUMENT):
            client.node.NodeStageVolume(request, timeout=CALL_SECONDS)


def test_concurrent_calls_for_one_volume_are_safe(client):
    volume = client.create()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.stage, volume) for _ in range(8)]
    codes = {call.exception().code() if call.exception() else Code.OK for call in calls}
    assert Code.OK in codes and codes <= {Code.OK, Code.ABORTED}
    client.stage(volume)


def test_lists_come_in_pages(client):
    made = {client.create(size=16 * MIB, provisioning="thin").id for _ in range(5)}
    seen, token = [], ""
    while True:
        page = client.controller.ListVolumes(
            csi.ListVolumesRequest(max_entries=2, starting_token=token), timeout=CALL_SECONDS
        )
        assert len(page.entries) <= 2
        seen += [entry.volume.volume_id for entry in page.entries]
        token = page.next_token
        if not token:
            break
    assert len(seen) == len(set(seen)) and made <= set(seen)


@pytest.mark.parametrize("fs, size", [("ext4", 8 * MIB), ("xfs", 300 * MIB)])
@pytest.mark.parametrize("integrity", ["hmac-sha256", "none"])
def test_smallest_volume_of_a_file_system_can_be_used(client, integrity, fs, size):
    volume = client.create(size=size, integrity=integrity, fs=fs)
    client.mount(volume)
    (volume.target / "some").write_text("data")
