# SPDX-License-Identifier: Apache-2.0
"""Measures what a volume over another driver's disk costs (tests/integration/fake_upstream.py): in the test kernel its
throughput beside a volume of the local backing, on this machine the controller's calls beside that driver alone."""

import contextlib
import os
import pathlib
import statistics
import tempfile
import time

from disk import Loop, fill, fio
from throughput import ROUNDS, SIZE, WORKS, ours

MIB = 1 << 20
CALLS = 30  # rounds of the controller's calls
METHODS = ("create", "publish", "unpublish", "list", "validate", "expand", "snapshot", "delete_snapshot", "delete")

NAMES = ("stacked_ratio", *(f"stacked_ratio_{work.name}" for work in WORKS if not work.sync))
CALL_NAMES = ("stacked_rpc_added_ms", *(f"stacked_rpc_added_{name}_ms" for name in METHODS))


@contextlib.contextmanager
def on_fake(plugin, upstream):
    """A stacked volume; gives its device and the disk below."""
    client = plugin.client
    volume = client.create(size=SIZE, block=True)
    client.mount(volume)
    yield volume.target, Loop(upstream.file(volume.id))
    client.unmount(volume)
    client.delete(volume)


def throughput(local, plugin, upstream) -> dict[str, float]:
    """The rounds alternate, over disks of the same kind."""
    results = {}
    with ours(local, "aegis128") as one, on_fake(plugin, upstream) as other:
        for device, _ in (one, other):
            fill(device, SIZE)
        for _ in range(ROUNDS):
            for name, (device, disk) in (("local", one), ("stacked", other)):
                for work in WORKS:
                    if not work.sync:
                        results.setdefault((name, work.name), []).append(fio(device, disk, work).mb_per_s)
    medians = {key: statistics.median(found) for key, found in results.items()}
    ratios = {work.name: medians["stacked", work.name] / medians["local", work.name] for work in WORKS if not work.sync}
    return {"stacked_ratio": statistics.geometric_mean(ratios.values())} | {
        f"stacked_ratio_{name}": ratio for name, ratio in ratios.items()
    }


class Caller:
    """One life of a volume at a controller: how long each call takes."""

    def __init__(self, csi, controller, node_id: str, capability, parameters: dict[str, str]):
        self.csi, self.controller, self.node_id = csi, controller, node_id
        self.capability, self.parameters = capability, parameters
        self.taken: dict[str, list[float]] = {}

    def _call(self, name: str, method: str, request):
        start = time.monotonic()
        answer = getattr(self.controller, method)(request, timeout=60)
        self.taken.setdefault(name, []).append(time.monotonic() - start)
        return answer

    def life(self, name: str) -> None:
        csi, size = self.csi, self.csi.CapacityRange(required_bytes=64 * MIB)
        volume = self._call("create", "CreateVolume", csi.CreateVolumeRequest(
            name=name, capacity_range=size, volume_capabilities=[self.capability], parameters=self.parameters)).volume  # fmt: skip
        names = {"volume_id": volume.volume_id}
        self._call("publish", "ControllerPublishVolume", csi.ControllerPublishVolumeRequest(
            node_id=self.node_id, volume_capability=self.capability, volume_context=volume.volume_context, **names))  # fmt: skip
        self._call("unpublish", "ControllerUnpublishVolume", csi.ControllerUnpublishVolumeRequest(node_id=self.node_id, **names))
        self._call("list", "ListVolumes", csi.ListVolumesRequest())
        self._call("validate", "ValidateVolumeCapabilities", csi.ValidateVolumeCapabilitiesRequest(
            volume_capabilities=[self.capability], volume_context=volume.volume_context, **names))  # fmt: skip
        size.required_bytes *= 2
        self._call("expand", "ControllerExpandVolume", csi.ControllerExpandVolumeRequest(capacity_range=size, **names))
        snapshot = self._call("snapshot", "CreateSnapshot", csi.CreateSnapshotRequest(
            source_volume_id=volume.volume_id, name=f"{name}-snapshot")).snapshot  # fmt: skip
        self._call("delete_snapshot", "DeleteSnapshot", csi.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id))
        self._call("delete", "DeleteVolume", csi.DeleteVolumeRequest(**names))


def latency(harness, stacked, controller, upstream) -> dict[str, float]:
    """What a call takes longer than at the upstream itself. The disks are not attached, as that takes longest."""
    block, node = harness.capability(block=True), upstream.config.nodes[0]
    with harness.grpc.insecure_channel(f"unix:{upstream.controller_socket}") as channel:
        bare = Caller(harness.csi, harness.csi_pb2_grpc.ControllerStub(channel), node, block, stacked.TYPE)
        through = Caller(harness.csi, controller.client.controller, f"node-1~{node}", block, stacked.TYPE)
        for number in range(CALLS):
            for caller in (bare, through):
                caller.life(f"round-{number}")
    added = {name: 1000 * (statistics.median(through.taken[name]) - statistics.median(bare.taken[name])) for name in METHODS}
    return {"stacked_rpc_added_ms": statistics.median(added.values())} | {
        f"stacked_rpc_added_{name}_ms": value for name, value in added.items()
    }


@contextlib.contextmanager
def output_to_errors():
    """tdvolctl prints what to do next, which is no figure."""
    shown = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(shown, 1)
        os.close(shown)


def measure_calls() -> dict[str, float]:
    """On this machine, as root, with the broker's store in memory."""
    import fake_driver
    import harness
    import stacked

    with contextlib.ExitStack() as ends, output_to_errors():
        harness.ROOT = pathlib.Path(ends.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        harness.ROOT.chmod(0o755)
        broker = harness.Broker().start()
        ends.callback(broker.close)
        upstream = stacked.Upstream(fake_driver.Config(device="none")).start()
        ends.callback(upstream.kill)
        controller = stacked.StackedPlugin(broker, "controller", upstream.controller_socket, "controller", node_id="controller",
                                           state=harness.ROOT / "state").start()  # fmt: skip
        ends.callback(controller.kill)
        return latency(harness, stacked, controller, upstream)


def measure(broker, local) -> dict[str, float]:
    """Throughput, in the test kernel. local: the plugin with the local backing."""
    import stacked

    upstream = stacked.Upstream(name="bench-upstream").start()
    plugin = stacked.AttachingPlugin(broker, "bench-stacked", upstream, state=pathlib.Path("/run/tdvol-bench-stacked"))
    try:
        plugin.start()
        figures = throughput(local, plugin, upstream)
        plugin.close()
        upstream.close()
    except BaseException:
        print(plugin.daemon_log())
        raise
    finally:
        plugin.kill()
        upstream.kill()
    return figures
