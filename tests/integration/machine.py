# SPDX-License-Identifier: Apache-2.0
"""The objects in the kernel: shows whether a test leaves something behind."""

import dataclasses
import os
import pathlib
import re
import socket
import time


def loops() -> set[str]:
    """Loop devices with a file, and their files."""
    found = set()
    for device in pathlib.Path("/sys/block").glob("loop*"):
        try:
            found.add(f"{device.name}: {(device / 'loop/backing_file').read_text().strip()}")
        except OSError:
            pass  # it has no file
    return found


def mappings() -> set[str]:
    """Names of the device-mapper devices."""
    found = set()
    for name in pathlib.Path("/sys/block").glob("dm-*/dm/name"):
        try:
            found.add(name.read_text().strip())
        except OSError:
            pass  # it was removed meanwhile
    return found


def mounts() -> set[str]:
    """Mount points; a mount point with n mounts is there n times."""
    lines = [line.split() for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    return {f"{fields[4]} (mount {fields[0]})" for fields in lines}


def mount_of(path: pathlib.Path | str) -> dict | None:
    """The topmost mount on path, as a dictionary; None when nothing is mounted there."""
    found = None
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        fields, tail = fields.split(), tail.split()
        if fields[4] == str(path):
            found = {"options": fields[5].split(","), "type": tail[0], "source": tail[1],
                     "super": tail[2].split(","), "root": fields[3]}  # fmt: skip
    return found


def processes() -> dict[int, str]:
    """Processes that have a program: no kernel threads, no zombies."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if command := (entry / "cmdline").read_bytes():
                    found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                pass  # it ended meanwhile
    return found


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def open_files(pid: int) -> list[str]:
    """The targets of a process's descriptors."""
    folder = pathlib.Path(f"/proc/{pid}/fd")
    return [os.readlink(entry) for entry in folder.iterdir()]


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def files(*folders: str) -> set[str]:
    """Every path below the folders, except on other mounts."""
    found = set()
    for folder in folders:
        for parent, children, names in os.walk(folder):
            children[:] = [name for name in children if not os.path.ismount(os.path.join(parent, name))]
            found.update(os.path.join(parent, name) for name in children + names)
    return found


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All of this at one moment."""

    loops: set[str]
    mappings: set[str]
    mounts: set[str]
    processes: set[str]
    files: set[str]

    @staticmethod
    def take() -> "Snapshot":
        running = {f"{pid} {command}" for pid, command in processes().items()}
        return Snapshot(loops(), mappings(), mounts(), running, files("/run", "/tmp"))

    def surplus(self, now: "Snapshot", may_change: re.Pattern) -> list[str]:
        """What is new since before; new files that match may_change are not counted."""
        found = []
        for kind in ("loops", "mappings", "mounts", "processes"):
            found += [f"{kind}: {entry}" for entry in sorted(getattr(now, kind) - getattr(self, kind))]
        found += [f"files: {path}" for path in sorted(now.files - self.files) if not may_change.match(path)]
        return found


def waits_for(pid: int) -> str:
    """What a process that does not go on waits for, in the kernel."""
    folder = pathlib.Path(f"/proc/{pid}")
    stack = folder / "stack"
    return "\n".join([*(folder / "status").read_text().splitlines()[:8], stack.read_text() if stack.exists() else ""])


def wait_until(condition, seconds: float, what: str):
    """Waits for condition() to be true and returns it."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"still not true after {seconds} s: {what}")
        time.sleep(0.05)
    return result


def wait_for_server(path: pathlib.Path, check_running) -> None:
    """Waits until a gRPC server answers at a socket. A channel that is made earlier fails once and then
    waits for seconds before it tries again."""

    def speaks() -> bool:
        check_running()
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            try:
                probe.connect(str(path))
                return probe.recv(1) != b""
            except OSError:
                return False

    wait_until(speaks, 60, f"a server at {path}")
