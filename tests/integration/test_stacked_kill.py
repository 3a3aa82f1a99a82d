# SPDX-License-Identifier: Apache-2.0
"""test_faults.py over another driver's disks: kills a process at every fault point. A third round kills that driver
while a worker waits at the point."""

import concurrent.futures
import pathlib

import grpc
import harness
import machine
import old_volumes
import pytest
import stacked
import test_faults
from harness import MIB, read
from test_faults import DATA, OPERATIONS, RETRIED


class Unstage(OPERATIONS["Unstage"]):
    """Without the check for loop devices: the volume stays attached."""

    def check(self, client):
        assert not machine.mappings()
        client.stage(self.volume)
        client.publish(self.volume)
        harness.drop_caches()
        assert read(self.volume.file, len(DATA)) == DATA


class TakeOver(OPERATIONS["FirstStage"]):
    """NodeStage of a volume that cryptsetup made."""

    def prepare(self, client):
        size = 96 * MIB
        below = old_volumes.make_disk(client.upstream, size)
        self.disk = client.upstream.file(below.volume_id)
        folder = pathlib.Path("/tmp/old-volume")
        old_volumes.fill(self.disk, folder, DATA)
        folder.rmdir()
        old_volumes.adopt(self.broker, below.volume_id, size, "--fs", "ext4")
        self.volume = client.know(below.volume_id, below.volume_context, harness.capability(), size - old_volumes.HEADER)

    def check(self, client):
        for _ in range(2):
            client.publish(self.volume)
            harness.drop_caches()
            assert read(self.volume.target / "data", len(DATA)) == DATA
            assert not old_volumes.key_opens(self.disk)
            client.unmount(self.volume)
            client.stage(self.volume)


STACKED = OPERATIONS | {"Unstage": Unstage, "TakeOver": TakeOver}


@pytest.fixture
def upstream(leaves_nothing):
    made = stacked.Upstream().start()
    yield made
    made.close()


@pytest.fixture
def make_stacked(upstream, make_broker, faults):
    made = []

    def make(broker):
        made.append(stacked.AttachingPlugin(broker, "own-plugin", upstream, faults=faults))
        return made[-1].start()

    yield make
    for one in made:
        if one.broker.daemon is None:
            one.broker.start()
        one.close()


def strike_upstream(plugin, broker, faults, operation, point):
    """The upstream dies while a worker waits, and starts again."""
    operation.broker = broker
    operation.prepare(plugin.client)
    faults.arm(point, "sleep")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(operation.act, plugin.client)
        machine.wait_until(lambda: not faults.is_armed() or call.done(), 60, f"{point} is passed")
        if faults.disarm():
            raise call.exception() or test_faults.NotPassed(f"{point} was not passed again")
        plugin.fake.kill()
        plugin.kill()
        call.exception(harness.CALL_SECONDS)
    plugin.fake.start()
    plugin.start()
    harness.retried(operation.act, plugin.client, codes=RETRIED)
    operation.check(plugin.client)
    plugin.client.take_down()


@pytest.mark.parametrize("name", STACKED)
def test_operation_survives_kill_at_every_point(make_broker, make_stacked, faults, name):
    broker = make_broker(faults=faults)
    plugin = make_stacked(broker)
    operation = STACKED[name]()
    operation.broker = broker
    operation.prepare(plugin.client)
    faults.passed()
    operation.act(plugin.client)
    points = [point for point in faults.passed() if not test_faults.is_in_background(point)]
    operation.check(plugin.client)
    plugin.client.take_down()
    assert points, "no fault point was passed: build with -Dfaults=true"

    broken = []
    worker = [point for point in points if point.startswith("worker.")]
    rounds = [(point, "kill") for point in points] + [(point, "sleep") for point in worker] + [(point, "upstream") for point in worker]
    for point, action in rounds:
        try:
            if action == "upstream":
                strike_upstream(plugin, broker, faults, STACKED[name](), point)
            else:
                test_faults.strike_when_passed(plugin, broker, faults, STACKED[name], point, action)
            print(f"{point}:{action} held", flush=True)
        except test_faults.NotPassed as error:
            print(error, flush=True)
            plugin.client.take_down()
        except (AssertionError, grpc.RpcError, OSError, TimeoutError) as error:
            text = error.details() if isinstance(error, grpc.RpcError) else error
            broken.append(f"{point}:{action}: {type(error).__name__}: {text}")
            print(f"BROKEN {broken[-1]}", flush=True)
            assert len(broken) < test_faults.BROKEN_MAX, "\n".join(broken)
            if not plugin.fake.daemon or not plugin.fake.daemon.is_running():
                plugin.fake.restart()
            test_faults.start_over(plugin, broker)
    print(f"{name}: {len(rounds)} rounds over {len(points)} points")
    assert not broken, "\n".join(broken)
