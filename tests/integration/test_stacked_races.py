# SPDX-License-Identifier: Apache-2.0
"""Two controllers work on one volume at once, as when a leader is late and its successor has begun. Every order of
their steps: reading the record, the upstream's work, writing the record.

Whatever the order: at no moment may two nodes open the volume for writing, and no node may while the upstream still
has it attached to one that could before.
"""

import concurrent.futures
import itertools
import pathlib

import fake_driver
import grpc
import harness
import machine
import pytest
import stacked
from harness import csi

Code = grpc.StatusCode
A, B = "node-1~up-1", "node-2~up-2"
PUBLISH, UNPUBLISH = "ControllerPublishVolume", "ControllerUnpublishVolume"
# What each controller does, and the nodes that have the volume at the start.
PAIRS = {
    "two-nodes-want-it": ((PUBLISH, A), (PUBLISH, B), []),
    "it-moves": ((UNPUBLISH, A), (PUBLISH, B), [A]),
    "late-unpublish": ((UNPUBLISH, A), (PUBLISH, A), [A]),
    "unpublished-twice": ((UNPUBLISH, A), (UNPUBLISH, A), [A]),
    "published-twice": ((PUBLISH, A), (PUBLISH, A), []),
    "unpublished-everywhere": ((UNPUBLISH, ""), (PUBLISH, B), [A]),
}
STEPS = 3
ORDERS = sorted(set(itertools.permutations([0] * STEPS + [1] * STEPS)))
SECONDS = 60


class Controller:
    """One of the two, and its call, which stops before and after the upstream's work."""

    def __init__(self, plugin: stacked.StackedPlugin, upstream: stacked.Upstream, number: int):
        self.stub, self.upstream, self.number = plugin.client.controller, upstream, number
        self.pool = concurrent.futures.ThreadPoolExecutor(1)

    def call(self, volume, method: str, node_id: str):
        if method == PUBLISH:
            request = csi.ControllerPublishVolumeRequest(
                volume_id=volume.id, node_id=node_id, volume_capability=volume.capability, volume_context=volume.context)  # fmt: skip
        else:
            request = csi.ControllerUnpublishVolumeRequest(volume_id=volume.id, node_id=node_id)
        return getattr(self.stub, method)(request, timeout=SECONDS)

    def begin(self, volume, method: str, node_id: str, folder: pathlib.Path) -> None:
        self.gates = [folder / f"{self.number}-{moment}" for moment in ("before", "after")]
        self.method = method
        self.work = lambda: self.call(volume, method, node_id)
        self.step, self.running = 0, None

    def go(self) -> None:
        """The next step. A call that ended early has no more steps."""
        if self.step == 0:
            rule = self.upstream.fault(self.method, gates=[str(gate) for gate in self.gates])
            self.running = self.pool.submit(self.work)
        else:
            self.gates[self.step - 1].touch()
        self.step += 1
        if self.step < STEPS:
            reached = self.gates[self.step - 1].with_name(f"{self.gates[self.step - 1].name}.reached")
            machine.wait_until(lambda: reached.exists() or self.running.done(), SECONDS, f"step {self.step}")
        else:
            self.running.exception(SECONDS)
        if self.step == 1:
            rule.unlink(missing_ok=True)  # it did not get to the upstream

    @property
    def outcome(self) -> str:
        error = self.running.exception(SECONDS)
        if error and not isinstance(error, grpc.RpcError):
            raise error
        return error.code().name if error else "OK"


@pytest.fixture
def race(make_broker):
    broker = make_broker()
    upstream = stacked.Upstream(fake_driver.Config(device="none", multi_attach=True, serial=False)).start()
    plugins = [stacked.StackedPlugin(broker, f"controller-{number}", upstream.controller_socket, "controller",
                                     node_id=f"controller-{number}", state=pathlib.Path(f"/run/tdvol-controller-{number}"))
               for number in range(2)]  # fmt: skip
    for plugin in plugins:
        plugin.start()
    client = stacked.StackedClient(plugins[0], plugins[0], upstream)
    yield broker, upstream, [Controller(plugin, upstream, number) for number, plugin in enumerate(plugins)], client
    client.close()
    for plugin in plugins:
        plugin.close()
    upstream.close()


@pytest.mark.parametrize("pair", PAIRS)
def test_every_order_of_two_controllers(race, tmp_path, pair):
    broker, upstream, controllers, client = race
    *actions, first = PAIRS[pair]
    outcomes: dict[tuple[str, ...], int] = {}
    for number, order in enumerate(ORDERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        volume = client.create(f"{pair}-{number}", block=True)
        for node_id in first:
            controllers[0].call(volume, PUBLISH, node_id)
        for controller, action in zip(controllers, actions):
            controller.begin(volume, *action, folder)
        for index in order:
            controller = controllers[index]
            controller.go()
            nodes = [item for item in broker.record(volume.id).published_nodes.split() if item.startswith("w:")]
            where = f"order {order}, step {controller.step} of {index}: {nodes}"
            assert len(nodes) <= 1, f"{where}: two nodes may write"
            attached = set(upstream.state.attached.get(volume.id, {}))
            if nodes == [f"w:{B}"] and first == [A]:
                assert "up-1" not in attached, f"{where}: the other one still has the disk"
        results = tuple(controller.outcome for controller in controllers)
        outcomes[results] = outcomes.get(results, 0) + 1
        assert set(results) <= {"OK", "ABORTED", "FAILED_PRECONDITION", "UNAVAILABLE"}, f"order {order}: {results}"
        if pair == "two-nodes-want-it":
            assert results.count("OK") == 1, f"order {order}: {results}"
        # Repeated calls put everything right: it can be given to the second node, and be deleted.
        for node_id in (A, B, ""):
            harness.retried(controllers[1].call, volume, UNPUBLISH, node_id)
        assert not upstream.state.attached and not broker.record(volume.id).published_nodes, f"order {order}"
        controllers[0].call(volume, PUBLISH, B)
        assert broker.record(volume.id).published_nodes == f"w:{B}"
        controllers[0].call(volume, UNPUBLISH, B)
        client.delete(volume)
    print(f"{pair}: {len(ORDERS)} orders: {outcomes}")
