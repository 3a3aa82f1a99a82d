# SPDX-License-Identifier: Apache-2.0
"""Nodes: User-mode Linux guests, joined with the control plane by a bridge."""

import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess

import build
import programs
from kube import Kubectl, is_ready
from servers import wait_until

HERE = pathlib.Path(__file__).resolve().parent
GATEWAY = "10.98.0.1"
MEMORY = os.environ.get("TDVOL_KUBERNETES_MEM", "3G")
BOOT_S = 900  # images are unpacked by one slow processor


def run(*command) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout


def make_bridge() -> None:
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", "10.96.0.1/32", "dev", "lo")  # the Service "kubernetes": there is no kube-proxy
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "address", "add", f"{GATEWAY}/24", "dev", "br0")
    run("ip", "link", "set", "br0", "up")


def link_modules() -> None:
    """modprobe looks below /lib/modules alone, as in tests/vm/run."""
    for folder in pathlib.Path("/usr/lib/uml/modules").iterdir():
        link = pathlib.Path("/lib/modules") / folder.name
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to(folder)


def preload() -> dict[str, str]:
    """What tests/vm/xstate.c is for."""
    if not re.search(r"\bamx_tile\b", pathlib.Path("/proc/cpuinfo").read_text()):
        return {}
    library = programs.CACHE / "xstate.so"
    if not library.exists():
        run("cc", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", library, programs.TREE / "tests/vm/xstate.c")
    return {"LD_PRELOAD": str(library)}


class Node:
    """A guest. number: 1 or more, its place in the network."""

    def __init__(self, lab: pathlib.Path, kubectl: Kubectl, number: int, images: list[pathlib.Path]):
        self.name, self.lab, self.kubectl = f"node-{number}", lab, kubectl
        self.address, self.tap, self.number = f"10.98.0.{10 + number}", f"tap{number}", number
        self.pods = f"10.99.{number}.0/24"
        self.folder = lab / self.name
        self.folder.mkdir()
        self.process: subprocess.Popen | None = None
        settings = {"address": self.address, "pods": self.pods, "gateway": GATEWAY, "programs": programs.CACHE,
                    "sim": build.BUILD / "tests/sim", "images": " ".join(path.name for path in images), "pause": build.PAUSE, "aggregation": "15s"}  # fmt: skip
        (self.folder / "settings").write_text("".join(f"{name}={shlex.quote(str(value))}\n" for name, value in settings.items()))
        self._make_disks()
        run("ip", "tuntap", "add", self.tap, "mode", "tap")
        run("ip", "link", "set", self.tap, "master", "br0", "up")
        run("ip", "route", "add", self.pods, "via", self.address)

    def _make_disks(self) -> None:
        for name, size, make in (("disk", "12G", ["mkfs.ext4", "-q", "-F"]), ("volumes", "24G", ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"])):
            path = self.folder / f"{name}.img"
            run("truncate", "-s", size, path)
            run(*make, path)

    def boot_id(self) -> str:
        found = self.kubectl.find("node", self.name)
        return found["status"].get("nodeInfo", {}).get("bootID", "") if found else ""

    def start(self) -> None:
        """Boots it, and waits until its kubelet has said so."""
        before = self.boot_id()
        cores = sorted(os.sched_getaffinity(0))
        kernel = [
            "taskset", "-c", cores[self.number % len(cores)], "linux.uml", f"mem={MEMORY}", "root=/dev/root", "rootfstype=hostfs",
            "rootflags=/", "ro", f"init={HERE}/guest", f"lab={self.lab}", f"node={self.name}",
            f"uml_dir={self.folder}/", "umid=vm", "con=null", "con0=null,fd:1", "quiet", "panic=-1",
            "initcall_blacklist=raid6_select_algo,init_btrfs_fs", f"vec0:transport=tap,ifname={self.tap},depth=128,gro=1",
            f"ubd0={self.folder}/disk.img", f"ubd1={self.folder}/volumes.img",
        ]  # fmt: skip
        with (self.folder / "console").open("ab") as console:
            self.process = subprocess.Popen([*map(str, kernel)], stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                                            env=os.environ | preload(), start_new_session=True)  # fmt: skip
        wait_until(lambda: self._has_started(before), BOOT_S, lambda: f"{self.name} is ready: {self.console()}", 0.5)

    def _has_started(self, before: str) -> bool:
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}: {self.console()}"
        if self.boot_id() in ("", before):
            return False
        return is_ready(self.kubectl.get("node", self.name))

    def console(self) -> str:
        return (self.folder / "console").read_text(errors="replace")[-1500:]

    def shell(self, command: str, seconds: float = 60) -> str:
        """Runs a shell command as root in the guest; returns its output, errors too."""
        with socket.create_connection((self.address, 2222), timeout=seconds) as connection:
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts).decode(errors="replace")

    def kill_kubelet(self) -> None:
        self.shell("kill -KILL $(cat /run/kubelet.pid)")

    def crash(self) -> None:
        """As when the power fails: all processes of the guest are killed, and what it had not written is lost."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """Ends it, without care for what runs in it: its disks are thrown away."""
        if self.process and self.process.poll() is None:
            self.crash()
        for image in self.folder.glob("*.img"):
            image.unlink()
        shutil.rmtree(self.folder / "vm", ignore_errors=True)
