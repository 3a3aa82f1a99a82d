# SPDX-License-Identifier: Apache-2.0
"""The upstream dies, lies, stalls and loses answers; the broker is away. After each: the repeated call succeeds, no
data is lost, and nothing is left behind."""

import dataclasses
import hashlib
import json
import signal
import time

import fake_driver
import grpc
import harness
import pytest
from harness import CALL_SECONDS, MIB, Mode, csi, keybroker, pattern, raises, read, retried, write

Code = grpc.StatusCode
DATA = pattern(MIB)
# Callers repeat their calls after these.
RETRIED = (Code.UNAVAILABLE, Code.ABORTED, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.CANCELLED, Code.FAILED_PRECONDITION)


class Life:
    """A volume's life, step by step; each step may be repeated. The upstream's method that each step calls last."""

    STEPS = (
        ("create", "CreateVolume"), ("attach", "ControllerPublishVolume"), ("first_stage", "NodeStageVolume"),
        ("stage", "NodePublishVolume"), ("expand", "ControllerExpandVolume"), ("expand_node", "NodeExpandVolume"),
        ("snapshot", "CreateSnapshot"), ("release", "NodeUnpublishVolume"), ("unstage", "NodeUnstageVolume"),
        ("detach", "ControllerUnpublishVolume"), ("restore", "CreateVolume"), ("delete_snapshot", "DeleteSnapshot"),
        ("delete", "DeleteVolume"),
    )  # fmt: skip

    def __init__(self, bed, name):
        self.bed, self.name = bed, name

    @property
    def client(self):
        return self.bed.client

    def create(self):
        self.volume = self.client.create(self.name)

    def attach(self):
        self.client.attach(self.volume)

    def first_stage(self):
        self.client.stage(self.volume)

    def stage(self):
        """Closes it and stages it again, with data in it."""
        if not self.volume.is_staged:
            self.client.stage(self.volume)
        self.client.mount(self.volume)

    def prepare_stage(self):
        self.client.publish(self.volume)
        write(self.volume.file, DATA)
        self.client.unmount(self.volume)

    def expand(self):
        self.client.expand(self.volume, 96 * MIB)

    def expand_node(self):
        self.client.expand(self.volume, 112 * MIB)

    def snapshot(self):
        self.snap = self.client.snapshot(self.volume, f"{self.name}-snapshot")

    def prepare_release(self):
        if self.volume.targets:
            self.client.unpublish(self.volume)

    def release(self):
        self.client.unstage(self.volume)

    def prepare_unstage(self):
        self.client.stage(self.volume)

    def unstage(self):
        self.client.unstage(self.volume)

    def detach(self):
        self.client.detach(self.volume)

    def restore(self):
        self.restored = self.client.create(f"{self.name}-restored", 128 * MIB, snapshot=self.snap.snapshot_id)

    def prepare_delete_snapshot(self):
        self.client.use(self.restored)
        assert read(self.restored.file, len(DATA)) == DATA
        self.client.leave(self.restored)
        self.client.delete(self.restored)

    def delete_snapshot(self):
        self.client.delete_snapshot(self.snap.snapshot_id)

    def prepare_delete(self):
        self.client.use(self.volume)
        assert read(self.volume.file, len(DATA)) == DATA
        self.client.leave(self.volume)

    def delete(self):
        self.client.delete(self.volume)

    def run(self, strike):
        """strike(step, method) does a step under a fault, and repeats it until it succeeds."""
        for name, method in self.STEPS:
            getattr(self, f"prepare_{name}", lambda: None)()
            record = self.record()
            strike(getattr(self, name), method)
            if record and record.phase == keybroker.PHASE_READY and (later := self.record()):
                assert later.record_id == record.record_id and later.key_id == record.key_id, f"{name}: made again"
                assert later.header_digests == record.header_digests or name == "stage", f"{name}: formatted again"
            print(f"{name} under a fault of {method} held", flush=True)
        assert not self.bed.left() and not self.bed.upstream.state.volumes and not self.bed.upstream.state.snapshots

    def record(self):
        volume = getattr(self, "volume", None)
        try:
            return self.bed.broker.record(volume.id) if volume else None
        except grpc.RpcError as error:
            assert error.code() == Code.NOT_FOUND
            return None


@pytest.mark.parametrize("moment", ["before", "after"])
def test_upstream_is_killed_at_each_step(make_bed, moment):
    bed = make_bed()

    def strike(step, method):
        fault = bed.upstream.fault(method, exit=moment)
        try:
            step()
        except grpc.RpcError as error:
            assert error.code() in RETRIED, f"{method}: {error.code().name}: {error.details()}"
            assert error.code() != Code.FAILED_PRECONDITION, f"{method}: {error.details()}"
        assert not fault.exists(), f"{method} was not called"
        bed.upstream.wait_until_dead()
        bed.upstream.start()
        retried(step, codes=RETRIED, seconds=60)

    Life(bed, f"killed-{moment}").run(strike)


def test_answers_are_lost_at_each_step(make_bed):
    bed = make_bed()

    def strike(step, method):
        fault = bed.upstream.fault(method, code="DEADLINE_EXCEEDED", done=True)
        with raises(Code.DEADLINE_EXCEEDED):
            step()
        assert not fault.exists()
        retried(step, codes=RETRIED, seconds=60)

    Life(bed, "lost").run(strike)


def test_plugin_is_killed_while_the_upstream_works(make_bed):
    """kill -9 of controller and node, in the middle of each call."""
    import concurrent.futures

    bed = make_bed()

    def strike(step, method):
        fault = bed.upstream.fault(method, delay=2)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            call = pool.submit(step)
            harness.machine.wait_until(lambda: not fault.exists() or call.done(), 60, f"{method} is called")
            for plugin in bed.plugins:
                plugin.kill()
            assert call.exception(CALL_SECONDS), f"{method} had no delay"
        for plugin in bed.plugins:
            plugin.start()
        bed.reconnect()
        retried(step, codes=RETRIED, seconds=60)

    Life(bed, "plugin-killed").run(strike)


def test_broker_is_away_at_each_step(make_bed):
    """Closing needs no broker; everything else says that it is away, and works when it is back."""
    bed = make_bed()
    closing = ("NodeUnpublishVolume", "NodeUnstageVolume")

    def strike(step, method):
        bed.broker.kill()
        try:
            step()
            assert method in closing, f"{method} worked without a broker"
        except grpc.RpcError as error:
            assert method not in closing and error.code() == Code.UNAVAILABLE, f"{method}: {error.code().name}: {error.details()}"
        bed.broker.start()
        retried(step, codes=RETRIED, seconds=60)

    Life(bed, "no-broker").run(strike)


def test_upstream_is_down(make_bed):
    bed = make_bed()
    client = bed.client
    volume = client.create()
    client.use(volume)
    write(volume.file, DATA)
    other, leaving = client.create(), client.create()
    client.attach(other)
    client.attach(leaving)
    unused = client.create()
    bed.upstream.kill()
    before = bed.left()
    socket = str(bed.upstream.controller_socket)
    for _ in range(2):
        for call, arguments in (
            (client.create, ("down",)), (client.attach, (other,)), (client.detach, (leaving,)), (client.snapshot, (volume,)),
            (client.expand, (volume, 96 * MIB)), (client.delete, (unused,)),
            (client.controller.ListVolumes, (csi.ListVolumesRequest(),)),
        ):  # fmt: skip
            start = time.monotonic()
            with raises(Code.UNAVAILABLE, socket):
                call(*arguments)
            assert time.monotonic() - start < 30
        with raises(Code.UNAVAILABLE, str(bed.upstream.socket("up-1"))):
            client.stage(other)
    assert read(volume.file, len(DATA)) == DATA  # what is open goes on
    client.unpublish(volume)
    client.publish(volume)
    write(volume.file, DATA)
    assert len(bed.left()) <= len(before) + 1  # a place for the volume that kubelet tries to stage
    bed.upstream.start()
    retried(client.stage, other, codes=RETRIED, seconds=30)
    retried(client.create, "down", codes=RETRIED, seconds=30)
    client.detach(leaving)
    client.leave(other)
    client.leave(volume)
    assert not bed.left()


def test_volume_is_closed_while_the_upstream_is_down(make_bed):
    bed = make_bed()
    volume = bed.client.create()
    bed.client.use(volume)
    write(volume.file, DATA)
    bed.client.unpublish(volume)
    bed.upstream.kill()
    with raises(Code.UNAVAILABLE, str(bed.upstream.socket("up-1"))):
        bed.client.unstage(volume)
    assert not [entry for entry in bed.left() if entry.startswith("mapping")]  # ours is closed
    bed.upstream.start()
    retried(bed.client.unstage, volume, codes=RETRIED)
    bed.client.use(volume)
    assert read(volume.file, len(DATA)) == DATA
    bed.client.leave(volume)


def test_volume_in_use_is_staged_again_while_all_is_down(make_bed):
    """As kubelet does when it was restarted: neither upstream nor broker is asked."""
    bed = make_bed()
    volumes = [bed.client.create(), bed.client.create(block=True)]
    for volume in volumes:
        bed.client.use(volume)
    write(volumes[0].file, DATA)
    bed.upstream.forget()
    bed.upstream.kill()
    bed.broker.kill()
    for volume in volumes:
        bed.client.stage(volume)
        bed.client.publish(volume)
    assert read(volumes[0].file, len(DATA)) == DATA
    node = bed.nodes[0]
    node.kill()
    node.launch()  # it knows nothing but what the kernel and its files say
    harness.machine.wait_for_server(node.socket, node.daemon.check_running)
    bed.reconnect()
    for volume in volumes:
        bed.client.stage(volume)
    assert read(volumes[0].file, len(DATA)) == DATA
    bed.broker.start()
    bed.upstream.start()
    for volume in volumes:
        retried(bed.client.stage, volume, codes=RETRIED)
    assert not bed.upstream.calls("NodeStageVolume", "NodePublishVolume")
    for volume in volumes:
        retried(bed.client.leave, volume, codes=RETRIED)


def test_what_was_attached_in_vain_goes_when_the_volume_may_not_be_staged(bed):
    client = bed.client
    volume = client.create()
    client.attach(volume)
    bed.upstream.fault("NodePublishVolume", code="UNAVAILABLE", done=True)
    with raises(Code.UNAVAILABLE):
        client.stage(volume)
    assert bed.upstream.state.published
    client.detach(volume)
    with raises(Code.FAILED_PRECONDITION, "is not published to node"):
        client.stage(volume)
    assert not bed.left()
    client.unstage(volume)
    client.delete(volume)


def test_what_stays_attached_in_vain_is_no_final_error(bed):
    """After a final one kubelet would never unstage the volume, and the device would stay."""
    client = bed.client
    volume = client.create()
    client.attach(volume)
    bed.upstream.fault("NodePublishVolume", code="INVALID_ARGUMENT", done=True)
    bed.upstream.fault("NodeUnpublishVolume", code="UNAVAILABLE")
    with raises(Code.ABORTED, "its device is still attached to this node"):
        client.stage(volume)
    bed.upstream.heal()
    client.unstage(volume)
    client.detach(volume)
    assert not bed.left()
    client.delete(volume)


def test_volume_in_use_is_not_attached_again_in_another_mode(bed):
    client = bed.client
    volume = client.create()
    client.use(volume)
    write(volume.file, DATA)
    calls = len(bed.upstream.calls("NodePublishVolume"))
    reader = dataclasses.replace(volume, capability=harness.capability(mode=Mode.SINGLE_NODE_READER_ONLY), targets=[])
    with raises(Code.ALREADY_EXISTS):
        client.stage(reader)
    assert len(bed.upstream.calls("NodePublishVolume")) == calls
    assert read(volume.file, len(DATA)) == DATA
    client.leave(volume)
    client.delete(volume)


def test_device_that_does_not_grow_leaves_the_record_as_it_is(bed, broker):
    client = bed.client
    volume = client.create()
    client.use(volume)
    write(volume.file, DATA)
    request = csi.ControllerExpandVolumeRequest(volume_id=volume.id, volume_capability=volume.capability)
    request.capacity_range.required_bytes = 96 * MIB
    client.controller.ControllerExpandVolume(request, timeout=CALL_SECONDS)
    before = broker.record(volume.id)
    bed.upstream.fault("NodeExpandVolume", code="UNIMPLEMENTED")  # as if the device had grown already
    with raises(Code.INTERNAL, "bytes, the volume needs"):
        client.grow_at_node(volume, 96 * MIB)
    assert broker.record(volume.id) == before
    client.grow_at_node(volume, 96 * MIB)
    assert broker.record(volume.id).spec.size_bytes >= 96 * MIB
    assert read(volume.file, len(DATA)) == DATA


def test_node_has_no_way_to_the_upstreams_socket(bed):
    """Its calls name places of ours alone; a controller's plugin has its way."""
    volume = bed.client.create()
    bed.client.use(volume)
    bed.client.leave(volume)
    assert not (bed.nodes[0].socket.parent / "upstream.sock").exists()
    assert (bed.controller.socket.parent / "upstream.sock").is_socket()
    ours = str(bed.nodes[0].upstream_dir)
    for call in bed.upstream.calls("NodeStageVolume", "NodePublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume"):
        for field in ("staging_target_path", "target_path"):
            assert getattr(call.message, field, ours).startswith(ours), call


def test_plugin_starts_before_its_upstream(make_bed):
    import pluginregistration_pb2 as registration
    import pluginregistration_pb2_grpc

    bed = make_bed()
    socket = bed.nodes[0].dir / "registration.sock"
    bed.nodes[0].options += ("--registration-socket", str(socket))
    bed.upstream.kill()
    for plugin in bed.plugins:
        plugin.kill()
        plugin.launch()
        harness.machine.wait_for_server(plugin.socket, plugin.daemon.check_running)
    bed.reconnect()
    with raises(Code.UNAVAILABLE):
        bed.client.create()
    with grpc.insecure_channel(f"unix:{socket}", [("grpc.default_authority", "localhost")]) as channel:
        ask = pluginregistration_pb2_grpc.RegistrationStub(channel).GetInfo
        with raises(Code.UNAVAILABLE):  # else kubelet asks NodeGetInfo, and never again when that fails
            ask(registration.InfoRequest(), timeout=CALL_SECONDS)
        bed.upstream.start()
        retried(ask, registration.InfoRequest(), codes=RETRIED)
    volume = retried(bed.client.create, codes=RETRIED)
    retried(bed.client.use, volume, codes=RETRIED)
    bed.client.leave(volume)


@pytest.mark.parametrize("kind", ["decoy", "file", "nothing"])
@pytest.mark.parametrize("integrity", ["aegis128", "none"])
def test_wrong_device_is_not_taken(bed, broker, integrity, kind):
    client = bed.client
    volume = client.create(integrity=integrity)
    client.use(volume)
    write(volume.file, DATA)
    client.leave(volume)
    before = broker.record(volume.id)
    digest = hashlib.sha256(bed.upstream.file(volume.id).read_bytes()).digest()
    bed.upstream.fault("NodePublishVolume", publish=kind)
    client.attach(volume)
    with pytest.raises(grpc.RpcError) as caught:
        client.stage(volume)
    assert caught.value.code() not in (Code.UNKNOWN, Code.UNAVAILABLE), caught.value.details()
    client.unstage(volume)
    assert not [entry for entry in bed.left() if not entry.startswith("attached")]
    after = broker.record(volume.id)
    assert after.phase == keybroker.PHASE_READY and after.header_digests == before.header_digests
    assert hashlib.sha256(bed.upstream.file(volume.id).read_bytes()).digest() == digest
    if kind == "decoy":
        assert not any((bed.upstream.dir / "decoy").read_bytes())
    client.mount(volume)
    assert read(volume.file, len(DATA)) == DATA
    client.leave(volume)


def test_device_that_is_too_small_is_not_formatted(bed, broker):
    volume = bed.client.create(size=256 * MIB)
    bed.upstream.fault("NodePublishVolume", publish="decoy")
    bed.client.attach(volume)
    with pytest.raises(grpc.RpcError):
        bed.client.stage(volume)
    bed.client.unstage(volume)
    assert not any((bed.upstream.dir / "decoy").read_bytes())
    bed.client.mount(volume)
    bed.client.leave(volume)


def test_device_vanishes_in_use(make_bed):
    """And comes back under another number: a new attachment of the same volume."""
    bed = make_bed(fake_driver.Config(device="scsi"))
    client = bed.client
    volume = client.create()
    client.use(volume)
    write(volume.file, DATA)
    block = csi.ControllerUnpublishVolumeRequest(volume_id=volume.id, node_id="up-1")
    bed.upstream.call("ControllerUnpublishVolume", block)
    with pytest.raises(OSError):
        for number in range(200):
            write(volume.target / f"more-{number}", DATA)
    client.leave(volume)
    assert not bed.left()
    client.use(volume)
    assert read(volume.file, len(DATA)) == DATA
    client.leave(volume)


def test_flood_of_an_answer_is_an_error(make_bed):
    """gRPC limits messages to 4 MiB; a large one below that passes."""
    bed = make_bed()
    client = bed.client
    bed.upstream.fault("CreateVolume", flood=64 * MIB)
    with pytest.raises(grpc.RpcError) as caught:
        client.create("flooded")
    assert caught.value.code() in (Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.UNAVAILABLE)
    client.create("flooded")
    for plugin in bed.plugins:
        plugin.daemon.check_running()


@pytest.mark.parametrize("method", ["CreateVolume", "ControllerPublishVolume", "NodeStageVolume", "NodePublishVolume"])
def test_slow_upstream_does_not_outlast_the_deadline(bed, method):
    """The answer comes before the caller's deadline; the volume is busy until the upstream is done."""
    client = bed.client
    volume = None if method == "CreateVolume" else client.create("slow")
    if method.startswith("Node"):
        client.attach(volume)
        volume.staging.mkdir(parents=True, exist_ok=True)
    bed.upstream.fault(method, delay=6)
    start = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        if method == "CreateVolume":
            client.controller.CreateVolume(client.request("slow"), timeout=3)
        elif method == "ControllerPublishVolume":
            volume.is_attached = True
            client.controller.ControllerPublishVolume(csi.ControllerPublishVolumeRequest(
                volume_id=volume.id, node_id=client.node_id, volume_capability=volume.capability,
                volume_context=volume.context), timeout=3)  # fmt: skip
        else:
            client.stage(volume, timeout=3)
    assert time.monotonic() - start < 4 and caught.value.code() in (Code.DEADLINE_EXCEEDED, Code.ABORTED, Code.UNAVAILABLE)
    volume = volume or retried(client.create, "slow", codes=RETRIED)
    retried(client.attach, volume, codes=RETRIED)
    retried(client.stage, volume, codes=RETRIED)
    client.leave(volume)
    assert not bed.left()


def test_calls_of_one_volume_do_not_meet_in_the_upstream(bed):
    """A busy volume is ABORTED; other volumes go on."""
    import concurrent.futures

    client = bed.client
    one, two = client.create("one"), client.create("two")
    fault = bed.upstream.fault("ControllerPublishVolume", delay=3)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.attach, one)
        harness.machine.wait_until(lambda: not fault.exists(), 30, "the upstream works")
        start = time.monotonic()
        client.use(two)
        assert time.monotonic() - start < 60
        with raises(Code.ABORTED):
            client.detach(one)
        client.attach(one)  # it waits: nodes that read one volume come at the same time
        assert slow.done()
        slow.result()
    one.is_attached = True
    client.leave(one)
    client.leave(two)


@pytest.mark.parametrize("mode", [Mode.MULTI_NODE_MULTI_WRITER, Mode.MULTI_NODE_SINGLE_WRITER])
def test_several_writers_need_a_volume_without_integrity(bed, mode):
    bed.upstream.set(multi_attach=True)
    with raises(Code.INVALID_ARGUMENT):
        bed.client.create(block=True, mode=mode)
    assert not bed.upstream.state.volumes


def set_policy(broker, text: str) -> None:
    """The broker reads its policy again."""
    log = broker.daemon.log
    count = log.read_text().count("policy changed")
    (broker.dir / "policy.json").write_text(text)
    broker.daemon.process.send_signal(signal.SIGHUP)
    harness.machine.wait_until(lambda: log.read_text().count("policy changed") > count, 30, "the policy is read")


def test_nothing_is_left_of_what_the_broker_refuses(make_bed, make_broker):
    """The upstream made the disk before the broker refused its record."""
    broker = make_broker()
    bed = make_bed(broker=broker)
    policy = (broker.dir / "policy.json").read_text()
    assert '"create", ' in policy
    set_policy(broker, policy.replace('"create", ', ""))
    with raises(Code.PERMISSION_DENIED):
        bed.client.create("refused")
    assert [call.method for call in bed.upstream.calls("CreateVolume", "DeleteVolume")] == ["CreateVolume", "DeleteVolume"]
    assert not bed.upstream.state.volumes
    set_policy(broker, policy)
    bed.client.delete(bed.client.create("refused"))
    assert not bed.left()


def test_nothing_is_left_of_what_the_tenant_has_no_room_for(make_bed, make_broker):
    """Else everybody at the limit leaves a disk behind with each claim that is given up."""
    broker = make_broker()
    bed = make_bed(broker=broker)
    client = bed.client
    volume = client.create("fits")
    policy = json.loads((broker.dir / "policy.json").read_text())
    for rule in policy["rules"]:
        rule["limits"] = {"records": 1}
    set_policy(broker, json.dumps(policy))
    with raises(Code.RESOURCE_EXHAUSTED, "its rule allows no more"):
        client.create("one-too-many")
    with raises(Code.RESOURCE_EXHAUSTED, "its rule allows no more"):
        client.snapshot(volume, "one-too-many")
    assert list(bed.upstream.state.volumes) == [volume.id] and not bed.upstream.state.snapshots
    client.delete(volume)
    client.delete(client.create("one-too-many"))
    assert not bed.left()


def test_volume_of_which_the_record_is_erased_is_deleted_already(bed, broker):
    """As after a FinishDelete whose answer got lost. The upstream is not believed: it may be slow, or say yes to any id."""
    client = bed.client
    volume = client.create("erased")
    request = keybroker.DeleteRequest(driver=client.plugin.driver, volume_id=volume.id)
    broker.stub().BeginDelete(request, timeout=CALL_SECONDS)
    broker.stub().FinishDelete(request, timeout=CALL_SECONDS)
    bed.upstream.forget()
    client.delete(volume)
    assert not bed.upstream.calls("DeleteVolume", "ValidateVolumeCapabilities")
    bed.upstream.call("DeleteVolume", csi.DeleteVolumeRequest(volume_id=volume.id))
