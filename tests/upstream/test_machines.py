# SPDX-License-Identifier: Apache-2.0
"""The test bed itself: the driver moves a disk with its data between two machines of this kernel. It needs the test
kernel and the built driver, and runs as a part of "tests/run upstream"."""

import contextlib
import os
import pathlib
import re
import threading

import driver as drivers
import grpc
import harness
import machine
import pytest
import server as servers

import csi_pb2 as csi  # harness made it importable
import csi_pb2_grpc
import disks

GIB = harness.GIB
FOLDER = pathlib.Path("/run/bed")
WRITER, READERS = harness.Mode.SINGLE_NODE_WRITER, harness.Mode.MULTI_NODE_READER_ONLY
MAY_CHANGE = re.compile(
    rf"/run/(mount|blkid|upstream-tools|upstream-by-id)|{harness.ROOT}(/[\w-]+\.log)?$|/tmp/pytest-of-root"
    rf"|{FOLDER}/(kubelet|bed$|bed/driver-n\d\.)"
)


class Node:
    """A machine with its driver; the first one's also has the controller's service."""

    def __init__(self, bed: drivers.Bed, name: str, **options):
        self.name = name
        self.folder = FOLDER / "kubelet" / name
        self.driver = bed.start(name, name=f"driver-{name}", **options)
        self.channel = grpc.insecure_channel(f"unix:{self.driver.socket}", [("grpc.default_authority", "localhost")])
        self.controller = csi_pb2_grpc.ControllerStub(self.channel)
        self.node = csi_pb2_grpc.NodeStub(self.channel)
        self.id = self.node.NodeGetInfo(csi.NodeGetInfoRequest(), timeout=60).node_id

    def stage(self, volume: str, wanted, read_only: bool = False) -> pathlib.Path:
        """Stages and publishes it; returns the path that a pod gets."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = {"staging_target_path": str(self.folder / "staging"), "volume_capability": wanted, "volume_id": volume}
        (self.folder / "staging").mkdir(exist_ok=True)
        self.node.NodeStageVolume(csi.NodeStageVolumeRequest(**paths), timeout=60)
        target = self.folder / "target"
        self.node.NodePublishVolume(
            csi.NodePublishVolumeRequest(target_path=str(target), readonly=read_only, **paths), timeout=60
        )
        return target

    def unstage(self, volume: str) -> None:
        self.node.NodeUnpublishVolume(
            csi.NodeUnpublishVolumeRequest(volume_id=volume, target_path=str(self.folder / "target")), timeout=60
        )
        self.node.NodeUnstageVolume(
            csi.NodeUnstageVolumeRequest(volume_id=volume, staging_target_path=str(self.folder / "staging")), timeout=60
        )


@pytest.fixture(scope="module")
def namespace():
    disks.prepare()
    drivers.share(FOLDER)


@pytest.fixture
def bed(namespace):
    before = machine.Snapshot.take()
    with drivers.Bed(FOLDER / "bed", {"n1": "c3-standard-4", "n2": "c3-standard-4"}) as made:
        yield made
        assert not made.cloud.disks, "the test left disks"
    left = before.surplus(machine.Snapshot.take(), MAY_CHANGE)
    assert not left, "left over:\n" + "\n".join(left)


@pytest.fixture
def nodes(bed):
    made = [Node(bed, "n1"), Node(bed, "n2", controller=False)]
    yield made
    for node in made:
        node.channel.close()


def publish(nodes, volume: str, node: Node, wanted, read_only: bool = False) -> None:
    nodes[0].controller.ControllerPublishVolume(csi.ControllerPublishVolumeRequest(
        volume_id=volume, node_id=node.id, volume_capability=wanted, readonly=read_only), timeout=120)  # fmt: skip


def unpublish(nodes, volume: str, node: Node) -> None:
    request = csi.ControllerUnpublishVolumeRequest(volume_id=volume, node_id=node.id)
    nodes[0].controller.ControllerUnpublishVolume(request, timeout=120)


@contextlib.contextmanager
def volume_of(nodes, block: bool, size: int = GIB):
    wanted = harness.capability("ext4", block, WRITER)
    request = csi.CreateVolumeRequest(name="pvc-1", volume_capabilities=[wanted], parameters={"type": "pd-balanced"})
    request.capacity_range.required_bytes = size
    made = nodes[0].controller.CreateVolume(request, timeout=60).volume
    yield made.volume_id, wanted
    nodes[0].controller.DeleteVolume(csi.DeleteVolumeRequest(volume_id=made.volume_id), timeout=60)


def code_of(call, *arguments) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code().name


@pytest.mark.parametrize("block", [False, True], ids=["mount", "block"])
def test_a_disk_moves_with_its_data_and_grows(nodes, bed, block):
    """From one machine to the other; never at both."""
    first, second = nodes
    with volume_of(nodes, block) as (volume, wanted):
        publish(nodes, volume, first, wanted)
        assert code_of(publish, nodes, volume, second, wanted) == "INVALID_ARGUMENT"
        target = first.stage(volume, wanted)
        place = target if block else target / "data"
        place.write_bytes(b"data" * 1024)
        expand = csi.ControllerExpandVolumeRequest(volume_id=volume)
        expand.capacity_range.required_bytes = 2 * GIB
        assert first.controller.ControllerExpandVolume(expand, timeout=60).capacity_bytes == 2 * GIB
        name = bed.scsi.device("n1", "pvc-1").name
        assert int(pathlib.Path(f"/sys/block/{name}/size").read_text()) * 512 == 2 * GIB
        first.unstage(volume)
        unpublish(nodes, volume, first)
        assert list(disks.BY_ID.iterdir()) == []
        publish(nodes, volume, second, wanted)
        target = second.stage(volume, wanted)
        with (target if block else target / "data").open("rb") as data:
            assert data.read(4096) == b"data" * 1024
        second.unstage(volume)
        unpublish(nodes, volume, second)


def test_a_disk_is_taken_away_in_use(nodes, bed):
    """As when a dead machine's disk is detached: its file system gets errors, and it goes."""
    first, second = nodes
    with volume_of(nodes, False) as (volume, wanted):
        publish(nodes, volume, first, wanted)
        target = first.stage(volume, wanted)
        unpublish(nodes, volume, first)
        with pytest.raises(OSError), (target / "data").open("wb", buffering=0) as file:
            for _ in range(100):
                file.write(b"x" * (1 << 20))
                os.fsync(file.fileno())
        publish(nodes, volume, second, wanted)
        second.stage(volume, wanted)
        second.unstage(volume)
        unpublish(nodes, volume, second)
        first.unstage(volume)


def test_readers_at_two_machines(nodes, bed):
    with volume_of(nodes, True) as (volume, _):
        wanted = harness.capability("", True, READERS)
        for node in nodes:
            publish(nodes, volume, node, wanted, read_only=True)
        for node in nodes:
            target = node.stage(volume, wanted, read_only=True)
            with pytest.raises(OSError):
                target.write_bytes(b"data")
        for node in nodes:
            node.unstage(volume)
            unpublish(nodes, volume, node)


def test_a_lost_answer(nodes, bed):
    """The disk is attached although the driver does not know; the repeated call succeeds."""
    with volume_of(nodes, True) as (volume, wanted):
        fault = bed.servers["n1"].add_fault(servers.Fault("instances.attachDisk", lose_answer=True))
        caller = threading.Thread(target=code_of, args=(publish, nodes, volume, nodes[0], wanted))
        caller.start()
        assert fault.reached.wait(60)
        caller.join()
        assert (disks.BY_ID / "google-pvc-1").exists()
        machine.wait_until(lambda: published(nodes, volume, wanted), 30, "the driver's pause after an error is over")
        unpublish(nodes, volume, nodes[0])


def published(nodes, volume: str, wanted) -> bool:
    with contextlib.suppress(grpc.RpcError):
        publish(nodes, volume, nodes[0], wanted)
        return True
    return False
