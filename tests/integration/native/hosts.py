# SPDX-License-Identifier: Apache-2.0
"""Several hosts on this machine: each has its network namespace, its address, a small disk and a clock that can be turned.

They live in namespaces of one process and vanish with it; enter() makes those. They need root."""

import os
import pathlib
import subprocess
import sys

INSIDE = "TDVOL_TEST_HOSTS"
FAKETIME = pathlib.Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
MIB = 1024 * 1024


def enter() -> None:
    """Starts this program again in its own mount and network namespaces, unless it runs in them already."""
    if os.environ.get(INSIDE) == "1":
        return
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--net", "--propagation", "private", sys.executable, *sys.argv])


def another_clock() -> dict[str, str]:
    """The environment of a program with its own wall clock; monotonic time goes on. Libfaketime's fix for waits on monotonic
    time would have these return at once, for ever."""
    return {"LD_PRELOAD": str(FAKETIME), "DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0"}


def forget_clocks() -> None:
    """Libfaketime has shared memory by the pid of its process. What a killed one left would end the next one of that pid."""
    for path in pathlib.Path("/dev/shm").glob("*faketime_s[eh]m_*"):
        if not pathlib.Path("/proc", path.name.rpartition("_")[2]).exists():
            path.unlink(missing_ok=True)


def run(*command) -> None:
    subprocess.run([*map(str, command)], check=True)


class Network:
    """A bridge that joins the hosts and this process."""

    def __init__(self):
        run("mount", "-t", "tmpfs", "none", "/run")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "br0", "type", "bridge")
        run("ip", "address", "add", "10.77.0.1/24", "dev", "br0")
        run("ip", "link", "set", "br0", "up")


class Host:
    """Its processes are started with command() and environment()."""

    def __init__(self, number: int, name: str, folder: pathlib.Path, disk_mib: int):
        self.name, self.address = name, f"10.77.0.{number}"
        self.disk = folder / name
        self.disk.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={disk_mib}m,mode=700", "none", self.disk)
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", f"to-{name}", "master", "br0", "up")
        for words in (["address", "add", f"{self.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            run("ip", "-n", name, *words)
        self.clock = self.disk / "clock"
        self.turn_clock(0)

    def command(self, words: list) -> list:
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *words]

    def environment(self) -> dict[str, str]:
        """For a program whose clock turn_clock turns, within a second, while it runs."""
        return another_clock() | {"FAKETIME_TIMESTAMP_FILE": str(self.clock), "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_RESET": "1"}

    def turn_clock(self, seconds: int) -> None:
        new = self.clock.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self.clock)

    def cut(self, is_cut: bool) -> None:
        """Packets are lost on the way; no connection is told."""
        run("ip", "link", "set", f"to-{self.name}", "down" if is_cut else "up")

    def fill(self) -> None:
        with (self.disk / "filler").open("wb", buffering=0) as filler:
            for size in (MIB, 4096):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError:
                    pass

    def free(self) -> None:
        (self.disk / "filler").unlink()
