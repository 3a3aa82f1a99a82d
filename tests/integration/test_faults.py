# SPDX-License-Identifier: Apache-2.0
"""Kills a process at every fault point that an operation passes, then retries the operation.

A first run of the operation finds its points. For each point, the process that passes it is killed. If that
process is a worker, a second round kills the front while the worker waits at the point. The retry must
succeed, no synced data may be lost, and no volume that was READY may be formatted again.
"""

import concurrent.futures
import contextlib
import itertools
import os
import signal
import time

import grpc
import harness
import machine
import pytest
from harness import MIB, keybroker, pattern, read, write

DATA = pattern(MIB)
SUSPENDED = ("worker.copy.suspended",)
# A call may answer these codes when a process it needs was killed. Callers retry after each of them.
RETRIED = (
    grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)  # fmt: skip
# After so many broken rounds the others are left out: each may wait for minutes, and the kernel's time would be over before
# anything of the first one is shown.
BROKEN_MAX = 4
# How often a round is tried: not each life of a volume passes each point.
TRIES = 3
numbers = itertools.count(1)


class NotPassed(AssertionError):
    """The operation ended and did not pass the point of the fault."""


class Create:
    """CreateVolume of a new name."""

    def prepare(self, client):
        self.name = f"volume-{next(numbers)}"

    def act(self, client):
        self.volume = client.create(self.name)

    def check(self, client):
        client.mount(self.volume)
        write(self.volume.file, DATA)
        client.unmount(self.volume)


class FirstStage:
    """NodeStage of a volume that was never formatted."""

    def prepare(self, client):
        self.volume = client.create()

    def act(self, client):
        client.stage(self.volume)

    def check(self, client):
        client.publish(self.volume)
        write(self.volume.file, DATA)
        client.unmount(self.volume)
        client.mount(self.volume)
        assert read(self.volume.file, len(DATA)) == DATA


class LaterStage(FirstStage):
    """NodeStage of a volume with data."""

    def prepare(self, client):
        super().prepare(client)
        client.mount(self.volume)
        write(self.volume.file, DATA)
        client.unmount(self.volume)

    def check(self, client):
        client.publish(self.volume)
        harness.drop_caches()
        assert read(self.volume.file, len(DATA)) == DATA


class Unstage(LaterStage):
    """NodeUnstage of a volume with data."""

    def prepare(self, client):
        super().prepare(client)
        client.stage(self.volume)

    def act(self, client):
        client.unstage(self.volume)

    def check(self, client):
        assert not machine.mappings() and not machine.loops()
        client.stage(self.volume)
        super().check(client)


class Snapshot(LaterStage):
    """CreateSnapshot of a volume in use."""

    def prepare(self, client):
        super().prepare(client)
        client.mount(self.volume)
        self.name = f"snapshot-{next(numbers)}"

    def act(self, client):
        self.snapshot = client.snapshot(self.volume, self.name)

    def check(self, client):
        write(self.volume.file, pattern(4096, seed=7))  # works only if nothing is suspended any more
        restored = client.create(snapshot=self.snapshot.snapshot_id)
        client.mount(restored)
        assert read(restored.file, len(DATA)) == DATA


class Delete(LaterStage):
    """DeleteVolume of a volume with data."""

    def act(self, client):
        client.delete(self.volume)

    def check(self, client):
        pass


class Grow(LaterStage):
    """ControllerExpandVolume and NodeExpandVolume of a volume in use."""

    def prepare(self, client):
        super().prepare(client)
        client.mount(self.volume)

    def act(self, client):
        assert client.expand(self.volume, 96 * MIB) == 96 * MIB

    def check(self, client):
        shown = os.statvfs(self.volume.target)
        assert shown.f_blocks * shown.f_frsize > 80 * MIB
        client.unmount(self.volume)
        client.stage(self.volume)
        super().check(client)


class LargerCopy(LaterStage):
    """CreateVolume from a volume, into a larger claim, and its first stage."""

    def prepare(self, client):
        super().prepare(client)
        self.source, self.volume, self.name = self.volume, None, f"copy-{next(numbers)}"

    def act(self, client):
        self.volume = client.create(self.name, volume=self.source.id, size=96 * MIB)
        client.stage(self.volume)

    def check(self, client):
        super().check(client)
        shown = os.statvfs(self.volume.target)
        assert shown.f_blocks * shown.f_frsize > 80 * MIB


OPERATIONS = {cls.__name__: cls for cls in (Create, FirstStage, LaterStage, Unstage, Grow, LargerCopy, Snapshot, Delete)}


def format_of(broker, operation):
    """The facts that must not change after a volume is READY."""
    volume = getattr(operation, "volume", None)
    if volume is None:
        return None
    try:
        record = broker.record(volume.id)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return None
    return (record.record_id, record.key_id, list(record.header_digests)) if record.phase == keybroker.PHASE_READY else None


def strike(plugin, broker, faults, operation, point, action):
    """One operation with a fault at one point, and its retry."""
    operation.broker = broker
    operation.prepare(plugin.client)
    faults.arm(point, action)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(operation.act, plugin.client)
        machine.wait_until(lambda: not faults.is_armed() or call.done(), 60, f"{point} is passed")
        reached = not faults.disarm()
        if action == "sleep" and reached:
            plugin.daemon.kill()
            if point in SUSPENDED:
                end_helpers(plugin)
            plugin.kill()
        error = call.exception(harness.CALL_SECONDS)
    if not reached:
        raise error or NotPassed(f"{point} was not passed again")
    assert error is None or isinstance(error, grpc.RpcError), error
    victim = {"broker": broker, "front": plugin}.get(point.split(".")[0])
    if victim:
        machine.wait_until(lambda: not victim.daemon.is_running(), 10, f"{victim.name} is killed")
    if victim is broker:
        broker.kill()
        broker.start()
    before = format_of(broker, operation)
    if not plugin.daemon or not plugin.daemon.is_running():
        plugin.kill()
        plugin.start()
    harness.retried(operation.act, plugin.client, codes=RETRIED)
    after = format_of(broker, operation)
    assert before is None or after is None or before == after, "formatted again"
    if victim is broker:  # the plugin tries again only in intervals
        harness.retried(plugin.client.controller.ListVolumes, harness.csi.ListVolumesRequest())
    operation.check(plugin.client)
    plugin.client.take_down()


def strike_when_passed(plugin, broker, faults, make_operation, point, action):
    """One round, repeated until the operation passes the point."""
    for _ in range(TRIES - 1):
        try:
            return strike(plugin, broker, faults, make_operation(), point, action)
        except NotPassed:
            plugin.client.take_down()
    return strike(plugin, broker, faults, make_operation(), point, action)


def end_helpers(plugin):
    """Kills all helpers. A worker that a fault point holds while devices are suspended does not end with its
    parents and would stay for ever."""
    for pid in plugin.helpers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_in_background(point):
    """The watcher runs at any time."""
    return point.startswith("front.Watch.")


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_survives_kill_at_every_point(make_broker, make_plugin, faults, name):
    broker = make_broker(faults=faults)
    plugin = make_plugin(broker, faults=faults)

    operation = OPERATIONS[name]()
    operation.broker = broker
    operation.prepare(plugin.client)
    faults.passed()
    operation.act(plugin.client)
    points = [point for point in faults.passed() if not is_in_background(point)]
    operation.check(plugin.client)
    plugin.client.take_down()
    assert points, "no fault point was passed: build with -Dfaults=true"

    broken = []
    rounds = [(point, "kill") for point in points]
    rounds += [(point, "sleep") for point in points if point.startswith("worker.")]
    for point, action in rounds:
        try:
            strike_when_passed(plugin, broker, faults, OPERATIONS[name], point, action)
            print(f"{point}:{action} held", flush=True)
        except (AssertionError, grpc.RpcError, OSError, TimeoutError) as error:
            text = error.details() if isinstance(error, grpc.RpcError) else error
            broken.append(f"{point}:{action}: {type(error).__name__}: {text}")
            print(f"BROKEN {broken[-1]}", flush=True)
            assert len(broken) < BROKEN_MAX, "\n".join(broken)
            start_over(plugin, broker)
    print(f"{name}: {len(rounds)} rounds over {len(points)} points")
    assert not broken, "\n".join(broken)


def start_over(plugin, broker):
    """Cleans up after a failed round, so that the next one starts from nothing."""
    if broker.daemon is None or not broker.daemon.is_running():
        broker.daemon = None
        broker.start()
    plugin.restart()
    try:
        plugin.client.take_down()
    except grpc.RpcError as error:
        print(f"take down: {error.details()}")
        plugin.client.volumes.clear()
        plugin.client.snapshots.clear()
