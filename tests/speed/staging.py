# SPDX-License-Identifier: Apache-2.0
"""Measures in the test kernel how long an existing volume takes to be ready, one and 32 at once."""

import concurrent.futures
import pathlib
import statistics
import time

import peers
from disk import limit_loops, run

NAMES = ("stage_ratio", "stage_s", "stage_constellation_s", "stage_vs_constellation", "stage32_s",
         "stage32_constellation_s", "stage32_vs_constellation", "stage_slow_s", "stage8_slow_s", "kernel_kib_64mib", "kernel_kib_4gib")  # fmt: skip
ROUNDS = 15
MANY = 32
FEW = 8
SLOW_BYTES_PER_S = 2_000_000
MIB = 1 << 20


def seconds(action) -> float:
    """Returns how long action() takes."""
    start = time.monotonic()
    action()
    return time.monotonic() - start


def at_once(action, things) -> float:
    """Seconds until action(thing) has ended for all of them, each in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(len(things)) as pool:
        return seconds(lambda: list(pool.map(action, things)))


def free_kib() -> int:
    with open("/proc/meminfo") as lines:
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])


def ours(client, size: int = 64 * MIB):
    """A volume that was used before."""
    volume = client.create(size=size, provisioning="thin")
    client.stage(volume)
    client.unstage(volume)
    return volume


def theirs(peer: str, folder: pathlib.Path, name: str) -> peers.Device:
    device = peers.Device(peer, folder, 96 * MIB, name)
    device.format()
    device.open()
    device.make_filesystem()
    device.close()
    return device


def one(client, folder: pathlib.Path) -> dict[str, float]:
    """Ours, the bare stack and Constellation's, in alternation."""
    volume = ours(client)
    bare, constellation = theirs("bare-aegis128", folder, "bare"), theirs("constellation", folder, "constellation")
    taken = {"ours": [], "bare": [], "constellation": []}
    for number in range(ROUNDS):
        taken["ours"].append(seconds(lambda: client.stage(volume)))
        client.unstage(volume)
        taken["bare"].append(seconds(bare.stage))
        bare.unstage()
        if number % 5 == 0:
            taken["constellation"].append(seconds(constellation.stage))
            constellation.unstage()
    client.delete(volume)
    for device in (bare, constellation):
        device.remove()
    median = {name: statistics.median(times) for name, times in taken.items()}
    return {"stage_ratio": median["ours"] / median["bare"], "stage_s": median["ours"],
            "stage_constellation_s": median["constellation"],
            "stage_vs_constellation": median["constellation"] / median["ours"]}  # fmt: skip


def many_of_constellation(folder: pathlib.Path) -> float:
    """32 at once: they stand one after the other behind one lock. All are copies of one device."""
    first = theirs("constellation", folder, "constellation")
    devices = [first.copy(folder, f"constellation-{number}") for number in range(MANY)]
    taken = at_once(lambda device: device.stage(), devices)
    for device in devices:
        device.unstage()
    for device in (first, *devices):
        device.remove()
    return taken


def many(client, folder: pathlib.Path) -> dict[str, float]:
    volumes = [ours(client) for _ in range(MANY)]
    taken = []
    for _ in range(3):
        taken.append(at_once(client.stage, volumes))
        at_once(client.unstage, volumes)
    for volume in volumes:
        client.delete(volume)
    constellation = many_of_constellation(folder)
    return {"stage32_s": statistics.median(taken), "stage32_constellation_s": constellation,
            "stage32_vs_constellation": constellation / statistics.median(taken)}  # fmt: skip


def slow(client) -> dict[str, float]:
    """One and eight at once, each on a disk that is so slow that the disk decides."""
    volumes = [ours(client) for _ in range(FEW)]
    limit_loops(SLOW_BYTES_PER_S)
    one = []
    for volume in volumes[:3]:
        one.append(seconds(lambda volume=volume: client.stage(volume)))
        client.unstage(volume)
    all_of_them = at_once(client.stage, volumes)
    limit_loops(0)
    for volume in volumes:
        client.unstage(volume)
        client.delete(volume)
    return {"stage_slow_s": statistics.median(one), "stage8_slow_s": all_of_them}


def kernel_kib(client, size: int) -> float:
    """What one staged volume takes of the kernel's memory."""
    volumes = [ours(client, size) for _ in range(FEW)]
    run("sync")
    before = free_kib()
    for volume in volumes:
        client.stage(volume)
    taken = (before - free_kib()) / FEW
    for volume in volumes:
        client.unstage(volume)
        client.delete(volume)
    return taken


def measure(client, folder: pathlib.Path, wanted: list[str]) -> dict[str, float]:
    figures = {}
    if {"stage_ratio", "stage_s", "stage_constellation_s", "stage_vs_constellation"} & set(wanted):
        figures |= one(client, folder)
    if any(name.startswith("stage32") for name in wanted):
        figures |= many(client, folder)
    if {"stage_slow_s", "stage8_slow_s"} & set(wanted):
        figures |= slow(client)
    for name, size in (("kernel_kib_64mib", 64 * MIB), ("kernel_kib_4gib", 4096 * MIB)):
        if name in wanted:
            figures[name] = kernel_kib(client, size)
    return {name: figures[name] for name in NAMES if name in wanted}
