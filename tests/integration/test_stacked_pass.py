# SPDX-License-Identifier: Apache-2.0
"""What goes through a stacked plugin as it is, and what does not."""

import fake_driver
import grpc
import harness
import pytest
import stacked
from fake_upstream import unknown_field
from harness import CALL_SECONDS, GIB, MIB, csi, raises

Code = grpc.StatusCode
NEWER = unknown_field(b"of a newer version")
CODES = [code for code in Code if code != Code.OK]


def raw(client: stacked.StackedClient, service: str, method: str, request, more: bytes = b"") -> bytes:
    """A call with bytes that our .proto file does not know; the answer is not decoded."""
    channel = client.channel if service == "Node" else client.controller_channel
    return channel.unary_unary(f"/csi.v1.{service}/{method}")(request.SerializeToString() + more, timeout=CALL_SECONDS)


def kinds(answer) -> set[str]:
    return {type(entry.rpc).Type.Name(entry.rpc.type) for entry in answer.capabilities}


def controller_can(client) -> set[str]:
    return kinds(client.controller.ControllerGetCapabilities(csi.ControllerGetCapabilitiesRequest(), timeout=CALL_SECONDS))


def test_capabilities_are_those_of_the_upstream(make_bed):
    bed = make_bed(fake_driver.Config(snapshots=False, clones=False, capacity=False, modify=False, stage=False))
    can = controller_can(bed.client)
    assert {"CREATE_DELETE_VOLUME", "PUBLISH_UNPUBLISH_VOLUME", "LIST_VOLUMES", "EXPAND_VOLUME"} <= can
    assert not can & {"CREATE_DELETE_SNAPSHOT", "LIST_SNAPSHOTS", "CLONE_VOLUME", "GET_CAPACITY", "MODIFY_VOLUME"}
    node = kinds(bed.client.node.NodeGetCapabilities(csi.NodeGetCapabilitiesRequest(), timeout=CALL_SECONDS))
    assert {"STAGE_UNSTAGE_VOLUME", "GET_VOLUME_STATS", "EXPAND_VOLUME"} <= node  # ours, whatever the upstream can
    with raises(Code.UNIMPLEMENTED):
        bed.client.snapshot(bed.client.create())


def test_everything_of_the_upstream_is_advertised(bed):
    can = controller_can(bed.client)
    for name in ("CREATE_DELETE_VOLUME", "PUBLISH_UNPUBLISH_VOLUME", "PUBLISH_READONLY", "LIST_VOLUMES", "GET_CAPACITY",
                 "CREATE_DELETE_SNAPSHOT", "LIST_SNAPSHOTS", "CLONE_VOLUME", "EXPAND_VOLUME",
                 "LIST_VOLUMES_PUBLISHED_NODES", "MODIFY_VOLUME"):  # fmt: skip
        assert name in can, name


def test_node_has_both_names_and_the_upstreams_limits(make_bed):
    bed = make_bed(fake_driver.Config(max_volumes=7, zones=("a", "b")))
    info = bed.client.node.NodeGetInfo(csi.NodeGetInfoRequest(), timeout=CALL_SECONDS)
    assert info.node_id == "node-1~up-1" and info.max_volumes_per_node == 7
    assert info.accessible_topology.segments[fake_driver.ZONE] == "a"


def test_node_of_one_name(make_bed):
    bed = make_bed(fake_driver.Config(nodes=("node-1", "node-2")))
    assert bed.client.node_id == "node-1"
    volume = bed.client.create()
    bed.client.use(volume)
    bed.client.leave(volume)


def test_topology_contexts_and_secrets_go_through(make_bed):
    """The fake refuses calls without them, and with others."""
    secrets = ("CreateVolume", "DeleteVolume", "ControllerPublishVolume", "ControllerUnpublishVolume", "NodeStageVolume")
    bed = make_bed(fake_driver.Config(zones=("a", "b"), secrets=secrets), nodes=2)
    first, second = bed.clients
    volume = second.create(zone="b")
    [listed] = first.controller.ListVolumes(csi.ListVolumesRequest(), timeout=CALL_SECONDS).entries
    assert listed.volume.accessible_topology[0].segments[fake_driver.ZONE] == "b"
    assert dict(listed.volume.volume_context)["fake/serial"] == volume.context["fake/serial"]
    first.know(volume.id, volume.context, volume.capability, volume.size)
    with raises(Code.INVALID_ARGUMENT, "another zone"):
        first.attach(first.volumes[volume.id])
    second.use(volume)
    [listed] = first.controller.ListVolumes(csi.ListVolumesRequest(), timeout=CALL_SECONDS).entries
    assert list(listed.status.published_node_ids) == [second.node_id]
    second.leave(volume)


def test_wrong_secrets_are_refused_by_the_upstream(bed):
    bed.upstream.set(secrets=("CreateVolume",))
    request = bed.client.request("secret")
    request.secrets["token"] = "guess"
    with raises(Code.UNAUTHENTICATED, fake_driver.Config().name, "wrong secrets"):
        bed.client.controller.CreateVolume(request, timeout=CALL_SECONDS)
    bed.client.create("secret")


def test_parameters_are_sorted(bed):
    """Ours are taken out, the rest goes on."""
    client, upstream = bed.client, bed.upstream
    more = {"csi.storage.k8s.io/fstype": "ext4", "csi.storage.k8s.io/pvc/name": "claim", "label": "x", "tdvol.dev/journal": "on"}
    client.create(fs="", parameters=more)
    [call] = upstream.calls("CreateVolume")
    assert dict(call.message.parameters) == {"type": "fast", "label": "x", "csi.storage.k8s.io/pvc/name": "claim"}
    [capability] = call.message.volume_capabilities
    assert capability.HasField("block") and not capability.HasField("mount")
    upstream.forget()
    for name, value in (("tdvol.dev/nonsense", "x"), ("tdvol.dev/integrity", "weak")):
        with raises(Code.INVALID_ARGUMENT, name.split("/")[1]):
            client.create(integrity=None, parameters={name: value})
    assert not upstream.calls("CreateVolume")
    with raises(Code.INVALID_ARGUMENT, fake_driver.Config().name, "unknown parameter nonsense"):
        client.create(parameters={"nonsense": "x"})
    capacity = csi.GetCapacityRequest(parameters={"type": "fast", "tdvol.dev/integrity": "none"})
    assert client.controller.GetCapacity(capacity, timeout=CALL_SECONDS).available_capacity > 0


def test_unknown_fields_go_both_ways(bed):
    client, upstream = bed.client, bed.upstream
    upstream.set(unknown_field="of a newer version")
    request = client.request("newer")
    answer = raw(client, "Controller", "CreateVolume", request, NEWER)
    assert NEWER in upstream.calls("CreateVolume")[0].request and NEWER in answer
    made = csi.CreateVolumeResponse.FromString(answer).volume
    volume = client.know(made.volume_id, made.volume_context, request.volume_capabilities[0], made.capacity_bytes)
    publish = csi.ControllerPublishVolumeRequest(volume_id=volume.id, node_id=client.node_id, volume_context=volume.context,
                                                 volume_capability=volume.capability)  # fmt: skip
    answer = raw(client, "Controller", "ControllerPublishVolume", publish, NEWER)
    assert NEWER in upstream.calls("ControllerPublishVolume")[0].request and NEWER in answer
    volume.is_attached, volume.is_staged = True, True
    volume.publish_context = dict(csi.ControllerPublishVolumeResponse.FromString(answer).publish_context)
    volume.staging.mkdir(parents=True)
    stage = csi.NodeStageVolumeRequest(volume_id=volume.id, staging_target_path=str(volume.staging), volume_context=volume.context,
                                       volume_capability=volume.capability, publish_context=volume.publish_context)  # fmt: skip
    raw(client, "Node", "NodeStageVolume", stage, NEWER)
    assert NEWER in upstream.calls("NodeStageVolume")[0].request
    for method, message in (("ListVolumes", csi.ListVolumesRequest()), ("GetCapacity", csi.GetCapacityRequest())):
        answer = raw(client, "Controller", method, message, NEWER)
        assert NEWER in upstream.calls(method)[-1].request and NEWER in answer, method


def test_volume_is_modified(bed):
    volume = bed.client.create()
    request = csi.ControllerModifyVolumeRequest(volume_id=volume.id, mutable_parameters={"iops": "300"})
    bed.client.controller.ControllerModifyVolume(request, timeout=CALL_SECONDS)
    assert bed.upstream.state.volumes[volume.id]["mutable"] == {"iops": "300"}
    request.mutable_parameters["speed"] = "1"
    with raises(Code.INVALID_ARGUMENT, "speed"):
        bed.client.controller.ControllerModifyVolume(request, timeout=CALL_SECONDS)


def test_capacity_is_the_largest_volume_that_fits(bed):
    client = bed.client
    bed.upstream.set(total_bytes=4 * GIB)
    request = csi.GetCapacityRequest(parameters={"tdvol.dev/integrity": "aegis128"})
    free = client.controller.GetCapacity(request, timeout=CALL_SECONDS).available_capacity
    assert 3 * GIB < free < 4 * GIB
    volume = client.create(size=free)
    client.delete(volume)
    with raises(Code.RESOURCE_EXHAUSTED):
        client.create(size=free + 64 * MIB)


def test_lists_have_pages(bed):
    client = bed.client
    sizes = {client.create(f"listed-{number}", 32 * MIB + 4096 * number).id: 32 * MIB + 4096 * number for number in range(3)}
    found, token = {}, ""
    for _ in range(3):
        page = client.controller.ListVolumes(csi.ListVolumesRequest(max_entries=1, starting_token=token), timeout=CALL_SECONDS)
        [entry], token = page.entries, page.next_token
        found[entry.volume.volume_id] = entry.volume.capacity_bytes
    assert found == sizes and not token
    with raises(Code.ABORTED):
        client.controller.ListVolumes(csi.ListVolumesRequest(starting_token="nonsense"), timeout=CALL_SECONDS)


def test_group_of_snapshots(make_bed):
    bed = make_bed(fake_driver.Config(groups=True))
    client = bed.client
    volumes = [client.create(f"grouped-{number}") for number in range(2)]
    for volume in volumes:
        client.use(volume)
        harness.write(volume.file, volume.id.encode())
        client.leave(volume)
    request = csi.CreateVolumeGroupSnapshotRequest(name="group", source_volume_ids=[volume.id for volume in volumes])
    group = client.groups.CreateVolumeGroupSnapshot(request, timeout=CALL_SECONDS).group_snapshot
    assert client.groups.CreateVolumeGroupSnapshot(request, timeout=CALL_SECONDS).group_snapshot == group
    assert {snapshot.source_volume_id for snapshot in group.snapshots} == {volume.id for volume in volumes}
    for snapshot in group.snapshots:
        assert snapshot.size_bytes == volumes[0].size
        restored = client.create(snapshot=snapshot.snapshot_id)
        client.use(restored)
        assert harness.read(restored.file, 4096) == snapshot.source_volume_id.encode()
        client.leave(restored)
        client.delete(restored)
    ids = [snapshot.snapshot_id for snapshot in group.snapshots]
    for _ in range(2):
        client.groups.DeleteVolumeGroupSnapshot(csi.DeleteVolumeGroupSnapshotRequest(
            group_snapshot_id=group.group_snapshot_id, snapshot_ids=ids), timeout=CALL_SECONDS)  # fmt: skip


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_code_comes_with_the_upstreams_name(bed, code):
    """UNKNOWN, which no CSI driver should answer, becomes INTERNAL."""
    bed.upstream.fault("CreateVolume", code=code.name, message="the storage says why")
    with raises(Code.INTERNAL if code == Code.UNKNOWN else code, bed.upstream.config.name, "the storage says why"):
        bed.client.create("failing")
    assert not bed.upstream.state.volumes
    bed.client.create("failing")


def test_every_method_hands_errors_on(bed):
    client, upstream = bed.client, bed.upstream
    volume = client.create()

    def fails(method, call, *arguments):
        upstream.fault(method, code="OUT_OF_RANGE", message=f"why {method} fails")
        with raises(Code.OUT_OF_RANGE, upstream.config.name, f"why {method} fails"):
            call(*arguments)
        assert not list((upstream.dir / "faults").glob("*.json")), method

    fails("ControllerPublishVolume", client.attach, volume)
    client.attach(volume)
    fails("NodeStageVolume", client.stage, volume)
    fails("NodePublishVolume", client.stage, volume)
    client.mount(volume)
    fails("CreateSnapshot", client.snapshot, volume)
    fails("ControllerExpandVolume", client.expand, volume, 96 * MIB)
    fails("NodeExpandVolume", client.expand, volume, 96 * MIB)
    client.expand(volume, 96 * MIB)
    client.unpublish(volume)
    fails("NodeUnpublishVolume", client.unstage, volume)
    fails("NodeUnstageVolume", client.unstage, volume)
    client.unstage(volume)
    fails("ControllerUnpublishVolume", client.detach, volume)
    client.detach(volume)
    fails("DeleteVolume", client.delete, volume)
    fails("ListVolumes", client.controller.ListVolumes, csi.ListVolumesRequest())
    fails("GetCapacity", client.controller.GetCapacity, csi.GetCapacityRequest())


def test_volume_that_cannot_be_deleted_stays_usable(bed):
    client = bed.client
    volume = client.create()
    client.use(volume)
    harness.write(volume.file, b"data")
    client.leave(volume)
    bed.upstream.fault("DeleteVolume", code="FAILED_PRECONDITION", message="it has snapshots")
    with raises(Code.FAILED_PRECONDITION, "it has snapshots"):
        client.delete(volume)
    client.use(volume)
    assert harness.read(volume.file, 4) == b"data"


def test_volume_without_a_record(bed):
    """Made at the upstream by somebody else: nothing happens to it, and the error says what to do."""
    client = bed.client
    request = csi.CreateVolumeRequest(name="foreign", volume_capabilities=[harness.capability(block=True)])
    made = bed.upstream.call("CreateVolume", request).volume
    foreign = client.know(made.volume_id, made.volume_context, harness.capability("ext4"), 0)
    calls = (
        (client.attach, foreign), (client.expand, foreign, GIB), (client.snapshot, foreign),
        (client.controller.ValidateVolumeCapabilities, csi.ValidateVolumeCapabilitiesRequest(
            volume_id=made.volume_id, volume_context=made.volume_context, volume_capabilities=[foreign.capability])),
        (lambda: client.create(volume=made.volume_id),),
    )  # fmt: skip
    for call, *arguments in calls:
        with raises(Code.FAILED_PRECONDITION, f"tdvolctl volume adopt {made.volume_id}"):
            call(*arguments)
    assert not bed.upstream.state.attached and not bed.upstream.state.snapshots
    del client.volumes[made.volume_id]
    bed.upstream.call("DeleteVolume", csi.DeleteVolumeRequest(volume_id=made.volume_id))
    nobody = client.know("no-such-volume", {}, foreign.capability, 0)
    with raises(Code.NOT_FOUND):
        client.attach(nobody)
    client.delete(nobody)
