#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Three brokers over three etcd members, six hosts, and 100 nodes that open and close volumes while one host after the
other is killed, cut off, hangs, has a full disk, or another time.

    tests/integration/native/storm.py [ROUNDS [SEED]]

Half of the volumes have leases that are over by themselves, and some nodes fall silent while they have one: they go on
writing until it is over, by their own clock. At the end: no release without its line in an audit log, no two nodes that
have one volume at the same time, no change that was lost or put back (history.py).
Prints for each round, and at the end for each kind of fault, the seconds until all nodes were served again, during the fault
and after its end. Needs root, etcd, faketime.
  TDVOL_ETCD   the etcd program (the one in PATH)"""

import collections
import contextlib
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import brokers
import clusters
import grpc
import history
import hosts
from brokers import DRIVER, keybroker

NODES, VOLUMES = 100, 40
PAUSE_SECONDS = 0.5  # of a node between two calls, on average
LEASE_SECONDS = 30  # the shortest one
SILENT_PART = 0.02  # of the times that a node looks at a volume that it has
FAULT_SECONDS = 2.0  # how long a host stays ill
SERVED_SECONDS_MAX = 60
CHANNEL = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1),
           ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 1000),
           ("grpc.max_reconnect_backoff_ms", 500)]  # fmt: skip
ELSEWHERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAUTHENTICATED)  # keys/broker_set.c
SERVED = (grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION)
brokers.CALL_SECONDS = 4


class Client:
    """A node that opens a volume, counts, closes it, and takes the next broker when one does not serve."""

    def __init__(self, storm: "Storm", number: int):
        self.storm, self.node = storm, brokers.Node(f"n{number}", f"b{number}")
        self.volume = f"v{number % VOLUMES}"
        self.broker = number % 3
        self.served = 0.0  # when the last call that was served began
        self.opens: list[tuple[str, int]] = []
        self.had: list[history.Had] = []
        self.problem = ""
        self.random = random.Random(storm.seed * NODES + number)
        self.thread = threading.Thread(target=self.run, name=self.node.name)

    def run(self) -> None:
        try:
            while not self.storm.is_over.is_set():
                self.once()
                self.pause()
        except Exception as error:  # noqa: BLE001: the program ends with it
            self.problem = f"{self.node.name}, {self.volume}: {error!r}"

    def pause(self) -> None:
        self.storm.is_over.wait(self.random.random() * 2 * PAUSE_SECONDS)

    def ask(self, kind: str, action, expected: int | None = None):
        """The record that an action gives, at one broker after the other. None: it was refused, or nobody knows."""
        for i in range(3):
            if i > 0 and kind == "change":
                kind = "repeat"
            start = history.now()
            try:
                record = action(self.storm.stubs[self.broker])
            except grpc.RpcError as error:
                self.record(kind, start, None, expected)
                if error.code() in SERVED:
                    self.served = start
                    return None
                if error.code() not in ELSEWHERE:
                    raise
                self.storm.refusals[error.details()[:60]] += 1
                self.broker = (self.broker + 1) % 3
                continue
            self.record(kind, start, record, expected)
            self.served = start
            return record
        return None

    def record(self, kind: str, start: float, record, expected: int | None) -> None:
        end, version, content = float("inf"), None, b""
        if record:
            end, version, content = history.now(), record.version, record.SerializeToString()
        self.storm.history.add(history.Call(self.volume, kind, start, end, version, content, expected))

    def once(self) -> None:
        self.broker = self.random.randrange(3)  # or all would gather at the ones that were not ill yet
        began = history.now()
        record = self.ask("take", lambda stub: self.node.open(stub, self.volume).record)
        if not record:
            return
        assert record.lease.node == self.node.name and record.lease.contested == 0
        self.opens.append((self.volume, record.version))
        had = self.begin_to_have(began, record)
        while not self.storm.is_over.is_set():
            self.pause()
            now = self.ask("read", lambda stub: brokers.get(stub, self.volume))
            if not now:
                continue
            if now.lease.node != self.node.name:  # the close came through, its answer did not; or it was silent for too long
                return
            if record.lease.lease_ms and not had.is_closed and not self.keep(had):
                had = self.have_again(now)
                if not had:
                    return
                continue
            kind, fields = keybroker.CHANGE_CLOSED, {}
            if now.open_counter == record.open_counter:
                kind, fields = keybroker.CHANGE_OPENED, {"open_counter": now.open_counter + 1}
            else:
                had.until, had.is_closed = min(had.until, history.now()), True  # it writes no more
            self.ask("change", lambda stub, now=now, kind=kind, fields=fields: self.node.change(stub, now, kind, **fields),
                     now.version)  # fmt: skip

    def begin_to_have(self, asked: float, record) -> history.Had:
        """It has the volume from the answer on, until its lease is over. That counts from the question."""
        until = asked + record.lease.lease_ms / 1000 if record.lease.lease_ms else float("inf")
        self.had.append(history.Had(self.volume, self.node.name, history.now(), until))
        return self.had[-1]

    def keep(self, had: history.Had) -> bool:
        """Now and then the node falls silent until its lease is over. False: it is, and nothing may be written."""
        if self.random.random() < SILENT_PART:
            had.is_silent = True
            while history.now() < had.until and not self.storm.is_over.is_set():
                self.pause()
                self.ask("read", lambda stub: brokers.get(stub, self.volume))
        else:
            asked = history.now()
            if (record := self.renew()) and asked < had.until:
                had.until = max(had.until, asked + record.lease.lease_ms / 1000)
        return history.now() < had.until

    def have_again(self, now) -> history.Had | None:
        """The node asks whether it still has the volume, as one that has suspended it does."""
        while not self.storm.is_over.is_set():
            asked = history.now()
            if record := self.renew():
                return self.begin_to_have(asked, record)
            self.pause()
            now = self.ask("read", lambda stub: brokers.get(stub, self.volume)) or now
            if now.lease.node != self.node.name:
                return None
        return None

    def renew(self):
        """The record that a renewal gives, if it is a good answer."""
        record = self.ask("take", lambda stub: self.node.renew(stub, self.volume))
        return record if record and record.lease.contested == 0 else None


class Storm:
    def __init__(self, folder: pathlib.Path, seed: int):
        self.seed, self.random = seed, random.Random(seed)
        self.is_over = threading.Event()
        self.history = history.History()
        self.refusals: collections.Counter = collections.Counter()
        network = hosts.Network()
        members = [hosts.Host(10 + i, f"etcd{i}", folder, 600) for i in range(3)]
        self.hosts = [hosts.Host(20 + i, f"broker{i}", folder, 256) for i in range(3)]
        self.network = network
        self.cluster = clusters.Cluster(folder / "cluster", members)
        self.make_brokers(folder)
        self.stubs = [self.stub(one) for one in self.brokers]
        self.clients = [Client(self, i) for i in range(NODES)]

    def make_brokers(self, folder: pathlib.Path) -> None:
        pki = folder / "pki"
        names = [word for host in self.hosts for word in ("--name", host.address)]
        made = brokers.ctl("broker", "init", pki, *names)
        assert made.returncode == 0, made.stderr
        policy = json.loads((pki / "policy.json").read_text())
        (pki / "policy.json").write_text(json.dumps(policy | {"leases": {"seconds": LEASE_SECONDS}}))
        self.brokers = []
        for i, host in enumerate(self.hosts):
            shutil.copytree(pki, host.disk / "broker")
            one = brokers.Broker(host.disk / "broker", host.environment(), host)
            one.log = folder / f"broker{i}.log"
            one.replica = f"r{i}"
            self.brokers.append(one)
            self.start(one)

    def start(self, one: brokers.Broker) -> None:
        one.start(http=f"{one.host.address}:8080", **self.cluster.options(one.replica))

    def stub(self, one: brokers.Broker):
        channel = grpc.secure_channel(one.address, one.credentials(), CHANNEL)
        return brokers.keybroker_pb2_grpc.KeyBrokerStub(channel)

    # Each fault: makes a host ill, and gives what heals it.
    def kill_broker(self):
        one = self.random.choice(self.brokers)
        one.process.kill()
        one.process.wait()
        return lambda: self.start(one)

    def kill_member(self):
        member = self.random.choice(self.cluster.members)
        member.kill()
        return member.start

    def pause_member(self):
        member = self.random.choice(self.cluster.members)
        member.pause(True)
        return lambda: member.pause(False)

    def cut_host(self, chosen):
        chosen.cut(True)
        return lambda: chosen.cut(False)

    def cut_broker(self):
        return self.cut_host(self.random.choice(self.hosts))

    def cut_member(self):
        return self.cut_host(self.random.choice(self.cluster.members).host)

    def fill_broker(self):
        one = self.random.choice(self.brokers)
        one.host.fill()

        def heal():
            end = time.monotonic() + SERVED_SECONDS_MAX
            while "No space left" not in brokers.page(f"{one.host.address}:8080", "/readyz"):
                assert time.monotonic() < end, "a broker that can write no line says that it is ready"
                time.sleep(0.05)
            one.host.free()

        return heal

    def fill_member(self):
        member = self.random.choice(self.cluster.members)
        member.host.fill()

        def heal():
            member.host.free()
            if member.process.poll() is not None:
                member.start()

        return heal

    def turn_broker_clock(self):
        host = self.random.choice(self.hosts)
        host.turn_clock(self.random.choice([-86400, -3600, 3600, 2 * 86400, 400 * 86400]))
        return lambda: host.turn_clock(0)

    FAULTS = (kill_broker, kill_member, cut_broker, cut_member, fill_broker, fill_member, turn_broker_clock, pause_member)

    def wait_served(self, since: float) -> float:
        """Seconds until each node had an answer to a call that it began after that moment."""
        while waiting := [client for client in self.clients if client.served <= since]:
            took = history.now() - since
            if problems := [client.problem for client in waiting if client.problem]:
                raise AssertionError(problems)
            assert took < SERVED_SECONDS_MAX, f"{len(waiting)} nodes are not served: {self.refusals.most_common(5)}"
            time.sleep(0.02)
        return history.now() - since

    def round(self, fault) -> tuple[float, float]:
        """The seconds until all nodes were served after the fault, and after its end."""
        began = history.now()
        heal = fault(self)
        served = self.wait_served(began)
        time.sleep(max(0.0, began + FAULT_SECONDS - history.now()))
        healed = history.now()
        heal()
        self.cluster.wait()
        for one in self.brokers:
            self.wait_ready(one)
        return served, self.wait_served(healed)

    def wait_ready(self, one: brokers.Broker) -> None:
        end = time.monotonic() + SERVED_SECONDS_MAX
        while brokers.page(f"{one.host.address}:8080", "/readyz") != "ok\n":
            assert one.process.poll() is None, f"{one.replica} ended: {one.log.read_text()[-2000:]}"
            assert time.monotonic() < end, brokers.page(f"{one.host.address}:8080", "/readyz")
            time.sleep(0.05)

    def prepare(self) -> None:
        """READY volumes, closed."""
        for i in range(VOLUMES):
            client, stub = self.clients[i], self.stubs[0]
            fencing = keybroker.FENCING_SUSPEND if i % 2 else keybroker.FENCING_NONE
            brokers.create(stub, client.volume, fencing=fencing)
            opened = client.node.open(stub, client.volume)
            client.node.change(stub, client.node.ready(stub, opened.record), keybroker.CHANGE_CLOSED)

    def end(self) -> None:
        self.is_over.set()
        for client in self.clients:
            client.thread.join()
        for one in self.brokers:
            one.stop()
            self.start(one)

    def check(self) -> list[str]:
        problems = [client.problem for client in self.clients if client.problem]
        opens = {given for client in self.clients for given in client.opens}
        logged = {(line["volume"], line["version"]) for one in self.brokers for line in one.audit()
                  if line.get("method") == "OpenVolume" and line["code"] == "OK"}  # fmt: skip
        problems += [f"{volume}, version {version}: released without a line" for volume, version in sorted(opens - logged)]
        stub = self.stub(self.brokers[0])
        for volume in sorted({client.volume for client in self.clients}):
            start = history.now()
            record = brokers.get(stub, volume)
            self.history.add(history.Call(volume, "read", start, history.now(), record.version, record.SerializeToString()))
        problems += self.history.check() + history.overlaps([had for client in self.clients for had in client.had])
        for one in self.brokers:
            if "\ntdvol_store_changed 0\n" not in brokers.page(f"{one.host.address}:8080", "/metrics"):
                problems.append(f"{one.replica} found that its store had been put back")
        return problems

    def close(self) -> None:
        for one in self.brokers:
            one.close()
        self.cluster.close()


def show(times: dict[str, list[tuple[float, float]]]) -> None:
    print(f"{'fault':<20} rounds   served again: median   worst   after its end: median   worst")
    for name, pairs in sorted(times.items()):
        during, after = zip(*pairs, strict=True)
        print(f"{name:<20} {len(pairs):>6} {statistics.median(during):>19.2f} s {max(during):>6.2f} s"
              f" {statistics.median(after):>20.2f} s {max(after):>6.2f} s")  # fmt: skip


def weather(folder: pathlib.Path, rounds: int, seed: int) -> int:
    storm = Storm(folder, seed)
    with contextlib.closing(storm):
        storm.prepare()
        for client in storm.clients:
            client.thread.start()
        times = collections.defaultdict(list)
        try:
            storm.wait_served(history.now())
            for i in range(rounds):
                fault = storm.FAULTS[i % len(storm.FAULTS)]
                times[fault.__name__].append(storm.round(fault))
                print(i + 1, fault.__name__, *(f"{part:.2f} s" for part in times[fault.__name__][-1]), flush=True)
        finally:
            storm.end()
        problems = storm.check()
    show(times)
    all_times = [during for pairs in times.values() for during, _ in pairs]
    opens = sum(len(client.opens) for client in storm.clients)
    had = [one for client in storm.clients for one in client.had]
    summary = {"rounds": rounds, "served_s": round(statistics.median(all_times), 2), "served_worst_s": round(max(all_times), 2),
               "calls": len(storm.history.calls), "opens": opens, "silent": sum(one.is_silent for one in had),
               "taken": history.taken(had), "problems": problems}  # fmt: skip
    print(json.dumps(summary))
    return 1 if problems or opens < rounds * 10 else 0


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else len(Storm.FAULTS)
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    hosts.enter()
    version = subprocess.run([clusters.ETCD, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    print(f"seed {seed}, {version}", flush=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tdvol-storm."))
    status = weather(folder, rounds, seed)
    if status == 0:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"the logs are in {folder}")
    return status


if __name__ == "__main__":
    sys.exit(main())
