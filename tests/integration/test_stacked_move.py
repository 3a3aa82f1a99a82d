# SPDX-License-Identifier: Apache-2.0
"""Volumes move between two nodes of one controller, and are never open at both.

Both nodes are in this kernel, which has room for one stack of a volume. So a node that died is cleaned up by the test,
as its power would have been cut.
"""

import contextlib
import pathlib
import subprocess

import fake_driver
import grpc
import harness
import machine
import pytest
from harness import CALL_SECONDS, MIB, csi, keybroker, pattern, raises, read, write

Code = grpc.StatusCode
DATA = pattern(MIB)
REFUSED = (Code.FAILED_PRECONDITION, Code.PERMISSION_DENIED, Code.NOT_FOUND)
SETTLE_SECONDS = 60


@contextlib.contextmanager
def refused():
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() in REFUSED, f"{caught.value.code().name}: {caught.value.details()}"


def try_to_stage(client, volume) -> None:
    """It must be refused. Kubelet would unstage it then, but in this kernel that is the other node's stack."""
    with refused():
        client.stage(volume)
    volume.is_staged = False
    client.kubelet.prune(volume.staging)


def cut_power(bed, number: int) -> None:
    """The end of a node: its processes, mounts and mappings are gone. Its files in the upstream's folder are not."""
    node, client = bed.nodes[number], bed.clients[number]
    node.kill()
    for mount in sorted((mount.split()[0] for mount in machine.mounts() if mount.startswith(f"{node.dir}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)

    def are_gone() -> bool:
        """From the top down: each round removes what nothing uses any more."""
        names = [name for name in machine.mappings() if name.startswith("tdvol-")]
        for name in names:
            subprocess.run(["dmsetup", "remove", name], check=False, capture_output=True, timeout=SETTLE_SECONDS)
        return not names

    machine.wait_until(are_gone, SETTLE_SECONDS, "the node's mappings are gone")
    for volume in client.volumes.values():
        volume.targets.clear()
    state = bed.upstream.state
    targets = [target for targets in state.published.values() for target, name in targets.items() if name == f"up-{number + 1}"]
    assert not [target for target in targets if pathlib.Path(target).is_block_device()]


def test_volume_moves_by_its_id_alone(make_bed):
    bed = make_bed(nodes=2)
    first, second = bed.clients
    for block in (False, True):
        volume = first.create(block=block)
        first.use(volume)
        write(volume.file, DATA)
        other = bed.moved(volume)
        with raises(Code.FAILED_PRECONDITION, first.node_id):
            second.attach(other)
        first.leave(volume)
        second.use(other)
        assert read(other.file, len(DATA)) == DATA
        write(other.file, pattern(MIB, seed=2))
        try_to_stage(first, volume)
        second.leave(other)
        first.use(volume)
        assert read(volume.file, len(DATA)) == pattern(MIB, seed=2)
        first.leave(volume)
        assert not bed.left()


def test_dead_node_is_fenced_off(make_bed, make_broker):
    """ControllerUnpublish without NodeUnstage. The lease of the dead node goes with its publication."""
    broker = make_broker()
    bed = make_bed(broker=broker, nodes=2)
    first, second = bed.clients
    volume = first.create()
    first.use(volume)
    write(volume.file, DATA)
    other = bed.moved(volume)
    assert broker.record(volume.id).lease.node == "node-1"
    cut_power(bed, 0)
    first.detach(volume, "node-1~up-1")
    assert not broker.record(volume.id).HasField("lease")
    second.use(other)
    assert read(other.file, len(DATA)) == DATA
    write(other.file, pattern(MIB, seed=2))
    assert broker.record(volume.id).lease.node == "node-2"

    # The node is back, with a new boot in truth, and tries to open what it had.
    bed.nodes[0].start()
    bed.reconnect()
    first, second = bed.clients
    try_to_stage(first, volume)
    assert read(other.file, len(DATA)) == pattern(MIB, seed=2)
    second.leave(other)
    first.unstage(volume)  # what kubelet does for a volume that it finds after a reboot
    assert not bed.left()


def test_node_left_behind_lets_go(make_bed, make_broker):
    """It lives, and its disk is taken away: a forced detach of the cloud's, or the out-of-service taint."""
    broker = make_broker()
    bed = make_bed(fake_driver.Config(device="scsi"), broker=broker, nodes=2)
    first, second = bed.clients
    volume = first.create()
    first.use(volume)
    write(volume.file, DATA)
    other = bed.moved(volume)
    first.detach(volume)
    assert not broker.record(volume.id).HasField("lease") and not broker.record(volume.id).published_nodes
    with pytest.raises(OSError):
        for number in range(200):
            write(volume.target / f"more-{number}", DATA)
    with refused():
        first.stage(volume)
    first.unpublish(volume)
    first.unstage(volume)
    assert not [entry for entry in bed.left() if "up-1" not in entry]
    second.use(other)
    assert read(other.file, len(DATA)) == DATA
    try_to_stage(first, volume)
    second.leave(other)


def test_node_without_a_publication_gets_no_key(make_bed, make_broker):
    """Also if the upstream attached the disk there: the broker decides."""
    broker = make_broker()
    bed = make_bed(fake_driver.Config(multi_attach=True), broker=broker, nodes=2)
    first, second = bed.clients
    volume = first.create()
    first.attach(volume)
    other = bed.moved(volume)
    request = csi.ControllerPublishVolumeRequest(volume_id=volume.id, node_id="up-2", volume_context=volume.context,
                                                 volume_capability=harness.capability(block=True))  # fmt: skip
    other.publish_context = dict(bed.upstream.call("ControllerPublishVolume", request).publish_context)
    with refused():
        second.stage(other)
    second.unstage(other)
    assert broker.record(volume.id).phase == keybroker.PHASE_NEW
    bed.upstream.call("ControllerUnpublishVolume", csi.ControllerUnpublishVolumeRequest(volume_id=volume.id, node_id="up-2"))
    first.mount(volume)
    first.leave(volume)


def test_second_attachment_is_refused_before_the_upstream_is_asked(make_bed):
    """A second writer would be let in by an upstream with multi-attach."""
    bed = make_bed(fake_driver.Config(multi_attach=True), nodes=2)
    first, second = bed.clients
    volume = first.create()
    first.attach(volume)
    other = bed.moved(volume)
    bed.upstream.forget()
    for read_only in (False, True):
        with raises(Code.FAILED_PRECONDITION, first.node_id):
            second.attach(other, read_only=read_only)
    assert not bed.upstream.calls("ControllerPublishVolume")
    first.detach(volume)
    second.attach(other)
    second.detach(other)


def test_late_unpublish_does_not_take_a_later_publication(make_bed, make_broker):
    """The attacher's first call is still under way when its second one and the next publish are done."""
    broker = make_broker()
    bed = make_bed(broker=broker, nodes=2)
    first, second = bed.clients
    volume = first.create()
    other = bed.moved(volume)
    first.attach(volume)
    for _ in range(3):  # repeated calls for the old node
        first.detach(volume)
    second.attach(other)
    first.detach(volume)
    assert broker.record(volume.id).published_nodes == f"w:{second.node_id}"
    second.mount(other)
    first.detach(volume)
    write(other.file, DATA)
    second.leave(other)


def test_lost_answers_of_publish_and_unpublish(make_bed, make_broker):
    broker = make_broker()
    bed = make_bed(broker=broker, nodes=2)
    first, second = bed.clients
    volume = first.create()
    other = bed.moved(volume)
    bed.upstream.fault("ControllerPublishVolume", code="DEADLINE_EXCEEDED", done=True)
    with raises(Code.DEADLINE_EXCEEDED):
        first.attach(volume)
    assert bed.upstream.state.attached[volume.id].keys() == {"up-1"}
    with pytest.raises(grpc.RpcError):  # the upstream has it at the first node
        second.attach(other)
    first.detach(volume)  # as the attacher does it for a publication that it gave up
    assert not bed.upstream.state.attached and not broker.record(volume.id).published_nodes
    second.attach(other)
    bed.upstream.fault("ControllerUnpublishVolume", code="DEADLINE_EXCEEDED", done=True)
    with raises(Code.DEADLINE_EXCEEDED):
        second.detach(other)
    with raises(Code.FAILED_PRECONDITION):  # still published, as far as is known
        first.attach(volume)
    second.detach(other)
    first.attach(volume)
    first.detach(volume)


def test_unpublish_from_every_node(make_bed, make_broker):
    """An empty node id."""
    broker = make_broker()
    bed = make_bed(broker=broker)
    volume = bed.client.create()
    bed.client.attach(volume)
    bed.client.detach(volume, "")
    assert not bed.upstream.state.attached and not broker.record(volume.id).published_nodes
    request = csi.ControllerUnpublishVolumeRequest(volume_id="no-such-volume", node_id="node-1~up-1")
    bed.client.controller.ControllerUnpublishVolume(request, timeout=CALL_SECONDS)


def test_lease_of_a_rebooted_node_goes_when_the_volume_is_unstaged(make_bed, make_broker):
    """Where nothing is attached, only the lease keeps other nodes away. The node knows nothing of the volume any more."""
    broker = make_broker()
    bed = make_bed(fake_driver.Config(attach=False), broker=broker, nodes=2)
    first, second = bed.clients
    volume = second.create()
    second.use(volume)
    write(volume.file, DATA)
    cut_power(bed, 1)
    for file in bed.nodes[1].state.iterdir():
        file.unlink()
    bed.nodes[1].boot_id.write_text("00000000-0000-4000-8000-000000000002\n")
    bed.nodes[1].start()
    bed.reconnect()
    first, second = bed.clients
    assert broker.record(volume.id).lease.node == "node-2"
    second.unstage(volume)
    assert not broker.record(volume.id).HasField("lease")
    other = bed.moved(volume, 0)
    first.use(other)
    assert read(other.file, len(DATA)) == DATA
    first.leave(other)


def test_node_that_was_rebooted_opens_its_volume_again(make_bed):
    """Still published, but with another boot id than its lease has: kubelet stages again."""
    bed = make_bed(nodes=2)
    second = bed.clients[1]
    volume = second.create()
    second.use(volume)
    write(volume.file, DATA)
    cut_power(bed, 1)
    bed.nodes[1].boot_id.write_text("00000000-0000-4000-8000-000000000001\n")
    bed.nodes[1].start()
    bed.reconnect()
    second = bed.clients[1]
    try:
        second.mount(volume)
    except grpc.RpcError as error:  # the lease of the earlier boot: taken over, or told by name
        pytest.fail(f"{error.code().name}: {error.details()}")
    assert read(volume.file, len(DATA)) == DATA
    second.leave(volume)
