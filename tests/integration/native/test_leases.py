# SPDX-License-Identifier: Apache-2.0
"""Two nodes want volumes whose leases are over by themselves, from three brokers over one etcd.

A lease has 30 seconds at least, so all volumes go through their fates at the same time."""

import json
import time

import clusters
import grpc
import pytest
from brokers import DRIVER, Node, create, keybroker, refused
from test_replicas import cluster, eventually, pytestmark, record_of, servers, until_ready  # noqa: F401: fixtures

LEASE_SECONDS = 30
WAIT_SECONDS = LEASE_SECONDS + LEASE_SECONDS / 16 + 5  # broker/leasing.c


@pytest.fixture
def replicas(cluster, make_broker):  # noqa: F811
    group = clusters.Replicas(cluster, make_broker)
    for one in group.all:
        path = one.dir / "policy.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"leases": {"seconds": LEASE_SECONDS}}))
    group.start_all()
    yield group
    for one in group.all:
        one.audit()


class Fate:
    """A volume that n1 has, and n2 wants, at one broker or at several."""

    def __init__(self, name: str, stub):
        self.name, self.first, self.second = name, Node("n1", "b1"), Node("n2", "b2")
        create(stub, name, fencing=keybroker.FENCING_SUSPEND)
        opened = self.first.open(stub, name).record
        self.first.change(stub, self.first.ready(stub, opened), keybroker.CHANGE_CLOSED)
        self.good = time.monotonic()  # before the question whose answer was good
        assert self.first.open(stub, name).record.lease.lease_ms == LEASE_SECONDS * 1000
        self.seen: dict[object, float] = {}  # when a broker has seen the mark that is there now
        self.taken = 0.0

    def renew(self, stub) -> None:
        asked = time.monotonic()
        record = self.first.renew(stub, self.name)
        assert record.lease.contested == 0 and record.lease.node == "n1"
        self.good = asked
        self.seen = {}

    def want(self, stub, one) -> None:
        """n2 asks one broker. It gets the volume when this one has seen the mark for long enough, and not before."""
        if self.taken:
            return
        asked = time.monotonic()
        try:
            record = self.second.open(stub, self.name).record
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.ABORTED, error.details()
            assert dict(error.trailing_metadata()).get("tdvol-reason") == "LeaseHeld"
            assert asked - self.seen.setdefault(one, time.monotonic()) < WAIT_SECONDS + 1
            return
        self.taken = time.monotonic()
        assert record.lease.node == "n2" and record.lease.contested == 0
        assert self.taken - self.good > LEASE_SECONDS
        assert self.taken - self.seen[one] >= WAIT_SECONDS - 1  # seen is after the mark was made


def test_each_volume_goes_to_the_other_node_when_its_lease_is_over_and_not_before(replicas):
    stubs = [one.stub() for one in replicas.all]
    silent, renewed, late, moved = (Fate(name, stubs[0]) for name in ("silent", "renewed", "late", "moved"))
    began = time.monotonic()

    def elapsed() -> float:
        return time.monotonic() - began

    is_late, is_killed = False, False
    while not (silent.taken and late.taken and moved.taken):
        assert elapsed() < 3 * WAIT_SECONDS, [vars(fate) for fate in (silent, late, moved)]
        silent.want(stubs[1], 1)
        renewed.want(stubs[2], 2)
        renewed.renew(stubs[0])  # each time: the mark does not live
        late.want(stubs[2], 2)
        if not is_late and elapsed() > 20:
            late.renew(stubs[1])  # n1 was cut off, and came back in time
            is_late = True
        if not is_killed and elapsed() > 15:
            replicas.all[1].process.kill()  # what it has seen is gone with it
            replicas.all[1].process.wait()
            silent.seen = {}
            is_killed = True
            replicas.start(replicas.all[1])
            until_ready(replicas.all[1])
            stubs[1] = replicas.all[1].stub()
        moved.want(stubs[0] if elapsed() < 10 else stubs[2], 0 if elapsed() < 10 else 2)
        time.sleep(0.3)
    assert not renewed.taken and record_of(stubs[0], "renewed").lease.node == "n1"
    for fate in (silent, late, moved):
        for stub in stubs:
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "not open on this boot"):
                eventually(lambda fate=fate, stub=stub: fate.first.renew(stub, fate.name))
        assert fate.second.renew(stubs[0], fate.name).lease.node == "n2"


def test_administrator_does_not_wait(replicas):
    stubs = [one.stub() for one in replicas.all]
    fate = Fate("v", stubs[0])
    fate.want(stubs[1], 1)
    replicas.all[0].stub("admin").ReleaseLease(keybroker.ReleaseLeaseRequest(driver=DRIVER, volume_id="v"))
    assert fate.second.open(stubs[1], "v").record.lease.node == "n2"
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "not open on this boot"):
        fate.first.renew(stubs[2], "v")
