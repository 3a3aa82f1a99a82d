# SPDX-License-Identifier: Apache-2.0
"""Measures in the test kernel how fast raw block volumes are, beside the same disk under other stacks.

All disks are files of the same size in memory, and the rounds of all stacks alternate. Every figure has beside it
what arrived at the disk below: with a disk in memory the processor is the limit, with a slow one the bytes are.
"""

import contextlib
import pathlib
import statistics

import peers
from disk import Loop, Result, Work, fill, fio, limit

MIB = 1 << 20
SIZE = 256 * MIB
OVERHEAD = 40 * MIB  # more than header, journal and tags of any stack take
CLOUD_BYTES_PER_S = 125_000_000
ROUNDS = 3

WORKS = (
    Work("seq_write", "write", "1M", "192M"),
    Work("seq_read", "read", "1M", "192M"),
    Work("rand_write", "randwrite", "4k", "24M"),
    Work("rand_read", "randread", "4k", "24M"),
    Work("sync_write", "randwrite", "4k", "1M", depth=1, sync=True),
)
# Names of StorageClass parameters, or of a peer.
OURS = {
    "none": {"integrity": "none"},
    "aegis128": {"integrity": "aegis128"},
    "aegis128-no-journal": {"integrity": "aegis128", "journal": "off", "acceptLossAfterCrash": "true"},
    "hmac-sha256": {"integrity": "hmac-sha256"},
}
STACKS = ("cryptsetup", "none", "aegis128", "bare-aegis128", "aegis128-no-journal", "hmac-sha256", "constellation")
FRESH = "aegis128-first-writes"  # a new volume: nothing of it was written before

NAMES = (
    "layers_ratio",
    *(f"layers_ratio_{work.name}" for work in WORKS if not work.sync),
    *(f"{prefix}{work.name}_{stack.replace('-', '_')}_{figure}" for prefix in ("", "cloud_") for work in WORKS
      for stack in (*STACKS, FRESH) for figure in ("mb_s", "bytes_below", "requests_below")
      if stack != FRESH or (not prefix and work.name in ("seq_write", "rand_write"))),
)  # fmt: skip

Table = dict[tuple[str, str], Result]  # by stack and work


@contextlib.contextmanager
def ours(plugin, stack: str):
    """A tdvol volume; gives its device and the disk below."""
    volume = plugin.client.create(size=SIZE, block=True, provisioning="thin", **OURS[stack])
    plugin.client.mount(volume)
    yield volume.target, Loop(plugin.backing_file(volume))
    plugin.client.unmount(volume)
    plugin.client.delete(volume)


@contextlib.contextmanager
def theirs(folder: pathlib.Path, stack: str):
    device = peers.Device(stack, folder, SIZE + OVERHEAD, stack)
    device.format("--integrity-no-wipe") if "--integrity" in device.peer.format else device.format()
    device.open()
    yield device.path, Loop(device.file)
    device.close()
    device.remove()


def medians(results: dict[tuple[str, str], list[Result]]) -> Table:
    def median(found: list[Result], field: str) -> float:
        return statistics.median(getattr(result, field) for result in found)

    return {key: Result(median(found, "mb_per_s"), median(found, "bytes_below"), median(found, "requests_below"))
            for key, found in results.items()}  # fmt: skip


def steady(plugin, folder: pathlib.Path) -> tuple[Table, Table]:
    """The table of a disk in memory, and the table of the same disk with a cloud's limit."""
    fast, slow = {}, {}
    with contextlib.ExitStack() as stack:
        devices = {name: stack.enter_context(ours(plugin, name) if name in OURS else theirs(folder, name)) for name in STACKS}
        for path, _ in devices.values():
            fill(path, SIZE)
        for rate, results in ((0, fast), (CLOUD_BYTES_PER_S, slow)):
            for _ in range(ROUNDS):
                for name, (path, disk) in devices.items():
                    limit(disk.folder, rate)
                    for work in WORKS:
                        results.setdefault((name, work.name), []).append(fio(path, disk, work))
                    limit(disk.folder, 0)
    return medians(fast), medians(slow)


def first_writes(plugin) -> Table:
    """The first writes to a new volume, whose blocks are filled with zeros before."""
    results = {}
    for _ in range(ROUNDS):
        for work in WORKS:
            if work.name in ("seq_write", "rand_write"):
                with ours(plugin, "aegis128") as (path, disk):
                    results.setdefault((FRESH, work.name), []).append(fio(path, disk, work))
    return medians(results)


def layers_ratios(table: Table) -> dict[str, float]:
    """tdvol's layers against the bare dm-crypt mapping of the same kind: for each kind of access, and in all
    (the geometric mean)."""
    works = [work.name for work in WORKS if not work.sync]
    ratios = {name: table["aegis128", name].mb_per_s / table["bare-aegis128", name].mb_per_s for name in works}
    return {"layers_ratio": statistics.geometric_mean(ratios.values())} | {
        f"layers_ratio_{name}": ratio for name, ratio in ratios.items()
    }


def flat(prefix: str, table: Table) -> dict[str, float]:
    """Names for --json: seq_write_aegis128_mb_s and so on."""
    figures = {}
    for (stack, work), result in table.items():
        name = f"{prefix}{work}_{stack.replace('-', '_')}"
        figures |= {f"{name}_mb_s": result.mb_per_s, f"{name}_bytes_below": result.bytes_below,
                    f"{name}_requests_below": result.requests_below}  # fmt: skip
    return figures


def measure(plugin, folder: pathlib.Path) -> dict[str, float]:
    fast, slow = steady(plugin, folder)
    return layers_ratios(fast) | flat("", fast | first_writes(plugin)) | flat("cloud_", slow)
