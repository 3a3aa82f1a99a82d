# SPDX-License-Identifier: Apache-2.0
"""A disk in memory, which counts what arrives at it and can be as slow as a cloud's; and fio."""

import dataclasses
import json
import pathlib
import subprocess

CGROUP = pathlib.Path("/run/bench-blkio")
SECTOR_BYTES = 512


def run(*command, **options) -> str:
    """Runs a program whose output matters only when it fails; returns its standard output."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, **options)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")
    return done.stdout


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a disk was asked to do."""

    bytes: int
    requests: int

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        return Traffic(self.bytes - earlier.bytes, self.requests - earlier.requests)


def limit(device: pathlib.Path, bytes_per_s: int) -> None:
    """Slows reads and writes of a block device in /sys/block down, each to this rate; 0: no limit. In the root
    group of the first version of cgroups it holds for the kernel's own threads, too."""
    if not CGROUP.exists():
        CGROUP.mkdir()
        run("mount", "-t", "cgroup", "-o", "blkio", "none", CGROUP)
    number = (device / "dev").read_text().strip()
    for way in ("read", "write"):
        (CGROUP / f"blkio.throttle.{way}_bps_device").write_text(f"{number} {bytes_per_s}\n")


def limit_loops(bytes_per_s: int) -> None:
    """The same for all loop devices that the kernel has made, also for those without a file."""
    for device in pathlib.Path("/sys/block").glob("loop*"):
        limit(device, bytes_per_s)


class Loop:
    """A loop device, found by its file."""

    def __init__(self, file: pathlib.Path):
        listed = run("losetup", "--noheadings", "--output", "NAME", "--associated", file).split()
        self.path = pathlib.Path(listed[0])
        self.folder = pathlib.Path("/sys/block") / self.path.name

    def traffic(self) -> dict[str, Traffic]:
        """Since the device exists (kernel: Documentation/block/stat.rst)."""
        fields = [int(word) for word in (self.folder / "stat").read_text().split()]
        return {"read": Traffic(fields[2] * SECTOR_BYTES, fields[0]), "write": Traffic(fields[6] * SECTOR_BYTES, fields[4])}


@dataclasses.dataclass(frozen=True)
class Work:
    """One kind of access. sync: flush after each write, as databases do."""

    name: str
    pattern: str  # fio's "rw"
    block: str
    size: str
    depth: int = 16
    sync: bool = False

    @property
    def way(self) -> str:
        return "read" if "read" in self.pattern else "write"


@dataclasses.dataclass(frozen=True)
class Result:
    """bytes_below, requests_below: what arrived at the disk for each byte and request of the user."""

    mb_per_s: float
    bytes_below: float
    requests_below: float


def settle() -> None:
    """Has every dm-integrity journal written to its place, so that what it still holds is counted for the work
    that wrote it."""
    for name in pathlib.Path("/sys/block").glob("dm-*/dm/name"):
        device = name.read_text().strip()
        if device.endswith("_dif"):
            run("dmsetup", "suspend", "--nolockfs", device)
            run("dmsetup", "resume", device)


def fill(device: pathlib.Path | str, size: int) -> None:
    """Writes zeros everywhere once: the steady state of a device that was used for some time."""
    run("dd", "if=/dev/zero", f"of={device}", "bs=1M", f"count={size >> 20}", "oflag=direct", "conv=fsync")


def fio(device: pathlib.Path | str, disk: Loop, work: Work) -> Result:
    """Does the work once. Writes end with a flush, and its time counts."""
    settle()
    before = disk.traffic()[work.way]
    report = run("fio", "--name=bench", f"--filename={device}", "--direct=1", "--ioengine=libaio", f"--iodepth={work.depth}",
                 f"--rw={work.pattern}", f"--bs={work.block}", f"--size={work.size}", "--randrepeat=1", "--end_fsync=1",
                 f"--fsync={int(work.sync)}", "--output-format=json")  # fmt: skip
    settle()
    below = disk.traffic()[work.way] - before
    found = json.loads(report)["jobs"][0][work.way]
    return Result(found["bw_bytes"] / 1e6, below.bytes / found["io_bytes"], below.requests / found["total_ios"])
