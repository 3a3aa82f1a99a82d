# SPDX-License-Identifier: Apache-2.0
"""Brokers over etcd: releases per second, how long a failure is felt, and stores with many records."""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import releases

SIZED = tuple(f"{kind}_{what}" for kind in ("store", "etcd") for what in ("list", "open", "change"))
NAMES = ("releases_etcd_per_s", "releases_one_etcd_per_s", "session_etcd_s", "failover_s", "failover_worst_s",
         *(f"{name}_ratio" for name in SIZED), *(f"{name}_ms" for name in SIZED))  # fmt: skip
TARGETS = ("tests/speed/store",)
FEW, MANY = 1000, 100_000
ROUNDS = 9
SIZE_ROUNDS, SETTLE_SECONDS = 5, 20
WORKERS = 16  # a call waits for etcd, not for the processor
TRY_SECONDS = 8  # keys/broker_set.c
RENAMED = {"releases_per_s": "releases_etcd_per_s", "releases_one_per_s": "releases_one_etcd_per_s",
           "session_s": "session_etcd_s"}  # fmt: skip


def modules(build: pathlib.Path):
    """Those of the tests without device-mapper."""
    os.environ["TDVOL_BUILD"] = str(build)
    sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "integration/native")]
    import brokers
    import clusters

    return brokers, clusters


def measure_releases(build: pathlib.Path, clusters, folder: pathlib.Path) -> dict[str, float]:
    cluster = clusters.Cluster(folder / "releases")
    try:
        figures = releases.measure(build, cluster.options("bench") | {"workers": WORKERS})
    finally:
        cluster.close()
    return {RENAMED[name]: value for name, value in figures.items()}


class Client:
    """Asks the brokers as a node does: the one that answered last, then the next ones."""

    def __init__(self, brokers, group):
        self.brokers, self.group, self.in_use, self.n = brokers, group, 0, 0

    @property
    def serving(self):
        return self.group.all[self.in_use]

    def change(self) -> None:
        import grpc

        while True:
            one = self.serving
            try:
                self.n += 1
                request = self.brokers.keybroker.CreateRecordRequest(
                    driver=self.brokers.DRIVER, volume_id=f"v{self.n}", spec=self.brokers.spec()
                )
                one.stub().CreateRecord(request, timeout=TRY_SECONDS)
                return
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                self.in_use = (self.in_use + 1) % len(self.group.all)


def leader_of(cluster):
    by_url = {member.url: member for member in cluster.members}
    for answer in json.loads(cluster.etcdctl("endpoint", "status", "-w", "json").stdout):
        if answer["Status"]["leader"] == answer["Status"]["header"]["member_id"]:
            return by_url[answer["Endpoint"]]
    raise RuntimeError("etcd has no leader")


def time_of_failure(cluster, group, client: Client, kind: int) -> float:
    broker, leader = client.serving, leader_of(cluster)
    began = time.monotonic()
    if kind == 0:
        broker.process.kill()
    elif kind == 1:
        leader.process.kill()
    else:
        leader.process.send_signal(signal.SIGSTOP)
    client.change()
    took = time.monotonic() - began
    if kind == 0:
        broker.process.wait()
        group.start(broker)
    elif kind == 1:
        leader.process.wait()
        leader.start()
    else:
        leader.process.send_signal(signal.SIGCONT)
    cluster.wait()
    return took


def measure_failover(brokers, clusters, folder: pathlib.Path) -> dict[str, float]:
    cluster = clusters.Cluster(folder / "failover")
    group = clusters.Replicas(cluster, lambda name: brokers.Broker(folder / name))
    try:
        group.start_all()
        client = Client(brokers, group)
        client.change()
        times = []
        for i in range(ROUNDS):
            times.append(time_of_failure(cluster, group, client, i % 3))
            time.sleep(1)
        print("failover:", " ".join(f"{seconds:.2f}" for seconds in times), file=sys.stderr)
    finally:
        for one in group.all:
            one.close()
        cluster.close()
    return {"failover_s": statistics.median(times), "failover_worst_s": max(times)}


def measure_store(build: pathlib.Path, n: int, arguments: list) -> dict[str, float]:
    """Fills the store up to n records at the first call."""
    done = subprocess.run([build / "tests/speed/store", str(n), *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}


def measure_sizes(build: pathlib.Path, brokers, clusters, folder: pathlib.Path) -> dict[str, float]:
    """Stores with few and with many records, in turns, because the machine may have others to serve."""
    figures, made, stores = {}, [], {}
    try:
        for n in (FEW, MANY):
            made.append(clusters.Cluster(folder / f"etcd-{n}", [brokers.ThisHost()]))
            pki = made[-1].authority.folder
            stores["store", n] = [f"sqlite:{folder}/sqlite-{n}"]
            stores["etcd", n] = [made[-1].spec, pki / "ca.crt", pki / "client.crt", pki / "client.key"]
        for (_, n), arguments in stores.items():
            measure_store(build, n, arguments)
        time.sleep(SETTLE_SECONDS)
        rounds = [{key: measure_store(build, key[1], arguments) for key, arguments in stores.items()}
                  for _ in range(SIZE_ROUNDS)]  # fmt: skip
    finally:
        for cluster in made:
            cluster.close()
    for kind in ("store", "etcd"):
        for what in ("list", "open", "change"):
            few, many = (statistics.median(one[kind, n][what] for one in rounds) for n in (FEW, MANY))
            figures |= {f"{kind}_{what}_ms": many, f"{kind}_{what}_ratio": many / few}
    return figures


def measure(build: pathlib.Path, wanted: set[str]) -> dict[str, float]:
    brokers, clusters = modules(build)
    if not clusters.ETCD:
        print("tests/bench: etcd is not installed: its figures are left out", file=sys.stderr)
        return {}
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if set(RENAMED.values()) & wanted:
            figures |= measure_releases(build, clusters, folder)
        if {"failover_s", "failover_worst_s"} & wanted:
            figures |= measure_failover(brokers, clusters, folder)
        if {f"{name}_{end}" for name in SIZED for end in ("ratio", "ms")} & wanted:
            figures |= measure_sizes(build, brokers, clusters, folder)
    return figures
