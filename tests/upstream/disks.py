# SPDX-License-Identifier: Apache-2.0
"""Attaches files as real SCSI disks: a loop device over the file, and the kernel's SCSI target (tcm_loop) over that.

A disk shows the vendor, model and serial number of Google's persistent disks, and has the link in /dev/disk/by-id
that udev would make. It needs root and Linux's target core in configfs; no other program may use that.

The driver compares serial numbers with two programs of its own image. prepare() puts ours in their place, in a mount
namespace of the calling process, so this machine's own files stay as they are.
"""

import contextlib
import ctypes
import itertools
import os
import pathlib
import subprocess
import time

CONFIG = pathlib.Path("/sys/kernel/config")
MODULES = ("loop", "sd_mod", "target_core_mod", "target_core_iblock", "tcm_loop")
BY_ID = pathlib.Path("/dev/disk/by-id")
TOOLS = pathlib.Path("/usr/lib/udev_containerized")
SECONDS = 30  # for a disk to come or to go
VENDOR, MODEL = "Google", "PersistentDisk"
LUNS = 256
CLONE_NEWNS = 0x00020000
# The driver wants scsi_id to print "0Google  PersistentDisk  SERIAL". That is designator type 0 of page 0x83, which
# the kernel's target does not have: it sends an NAA designator, and the serial number on page 0x80. So this asks the
# disk for page 0x80 and prints it in that form.
SCSI_ID = """#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
for word; do
    case $word in
        --device=/dev/sd*) disk=/sys/block/${word#--device=/dev/}/device ;;
        --page=0x83 | --whitelisted) ;;
        *) echo "scsi_id: unknown argument $word" >&2; exit 1 ;;
    esac
done
{ IFS= read -r vendor <"$disk/vendor" && IFS= read -r model <"$disk/model"; } || exit 1
serial=$(tail -c +5 "$disk/vpd_pg80" | tr -d '\\0') || exit 1
printf '0%-8s%-16s%s\\n' "$vendor" "$model" "$serial"
"""
NVME_ID = """#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
echo "google_nvme_id: there is no NVMe disk: $*" >&2
exit 1
"""
TOOL_FILES = {"scsi_id": SCSI_ID, "google_nvme_id": NVME_ID}  # below TOOLS


def run(*command) -> str:
    """Runs a program; its failure is an error that holds what it said."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def prepare() -> None:
    """A mount namespace with the driver's tools, an empty BY_ID, and the target core's modules."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))
    run("mount", "--make-rprivate", "/")
    run("modprobe", "-a", *MODULES)
    tools = pathlib.Path("/run/upstream-tools")
    folder = tools / TOOLS.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in TOOL_FILES.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    run("mount", "-t", "overlay", "-o", f"ro,lowerdir={tools}:{TOOLS.parent}", "overlay", TOOLS.parent)
    BY_ID.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", BY_ID)


class Disks:
    """The SCSI disks of all machines of a cloud.

    Each machine has a SCSI host and a folder for its links. The first has BY_ID itself; a test that runs the node
    driver of another one mounts that folder over BY_ID, in the driver's mount namespace.
    """

    def __init__(self, instances: list[str], config: pathlib.Path = CONFIG):
        """config: where configfs is mounted."""
        self.by_id = {name: BY_ID if name == instances[0] else pathlib.Path(f"/run/upstream-by-id/{name}") for name in instances}
        self._numbers = itertools.count(1)
        self._hosts = {name: Host(number, config / "target") for number, name in enumerate(instances)}
        self._disks: dict[tuple[str, str], ScsiDisk] = {}
        for folder in self.by_id.values():
            folder.mkdir(parents=True, exist_ok=True)

    def attach(self, instance: str, device_name: str, file: pathlib.Path, read_only: bool) -> None:
        host = self._hosts[instance]
        number = next(number for number in self._numbers if not host.unit(number).exists())
        disk = ScsiDisk(host, number, device_name, file, read_only)
        self._disks[instance, device_name] = disk
        link = self.by_id[instance] / f"google-{device_name}"
        draft = link.with_name(f".{link.name[:200]}")
        draft.symlink_to(f"../../{disk.name}" if link.parent == BY_ID else f"/dev/{disk.name}")
        draft.rename(link)

    def detach(self, instance: str, device_name: str) -> None:
        """Also if it is mounted: then its users get errors."""
        disk = self._disks.pop((instance, device_name))
        (self.by_id[instance] / f"google-{device_name}").unlink(missing_ok=True)
        disk.remove()

    def resize(self, instance: str, device_name: str) -> None:
        self._disks[instance, device_name].rescan()

    def still(self):
        """The machines are of the kernel that copies, so they cannot be stopped."""
        return contextlib.nullcontext()

    def device(self, instance: str, device_name: str) -> pathlib.Path:
        """/dev/sdX of an attached disk."""
        return pathlib.Path("/dev") / self._disks[instance, device_name].name

    def close(self) -> None:
        for instance, device_name in list(self._disks):
            self.detach(instance, device_name)
        for host in self._hosts.values():
            host.remove()
        for folder in self.by_id.values():
            if folder != BY_ID:
                folder.rmdir()


class Host:
    """A SCSI host of tcm_loop. target: its folder in configfs."""

    def __init__(self, number: int, target: pathlib.Path = CONFIG / "target"):
        self.core = target / "core"
        self.folder = target / f"loopback/naa.60014050000000{number:02x}"
        self.group = self.folder / "tpgt_1"
        self.core.mkdir(parents=True, exist_ok=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir()
        self.group.mkdir()
        (self.group / "nexus").write_text(f"naa.60014051000000{number:02x}")
        self.address = (self.group / "address").read_text().strip()  # HOST:CHANNEL:TARGET

    def unit(self, number: int) -> pathlib.Path:
        """The folder of a disk; LUNS numbers are used again and again."""
        return self.group / f"lun/lun_{number % LUNS}"

    def remove(self) -> None:
        (self.group / "nexus").write_text("NULL")
        self.group.rmdir()
        self.folder.rmdir()


class ScsiDisk:
    """One disk at a host."""

    def __init__(self, host: Host, number: int, serial: str, file: pathlib.Path, read_only: bool):
        self.loop = run("losetup", "--find", "--show", *(["--read-only"] if read_only else []), file)
        self.store = host.core / f"iblock_{number}" / "disk"
        self.lun = host.unit(number)
        self.device = pathlib.Path(f"/sys/bus/scsi/devices/{host.address}:{number % LUNS}")
        with contextlib.ExitStack() as undo:
            undo.callback(self.remove)
            self.store.mkdir(parents=True)
            (self.store / "wwn/vendor_id").write_text(VENDOR)
            (self.store / "wwn/product_id").write_text(MODEL)
            (self.store / "wwn/vpd_unit_serial").write_text(serial)
            (self.store / "control").write_text(f"udev_path={self.loop},readonly={int(read_only)}")
            (self.store / "enable").write_text("1")
            with contextlib.suppress(OSError):  # Google's disks take discards; the file system below may not
                (self.store / "attrib/emulate_tpu").write_text("1")
            self.lun.mkdir()
            (self.lun / "store").symlink_to(self.store)  # the disk appears
            end = time.monotonic() + SECONDS
            while not (found := self._block()) or not os.path.exists(f"/dev/{found}"):
                if time.monotonic() > end:
                    raise TimeoutError(f"no disk appeared at {self.device}")
                time.sleep(0.01)
            self.name = found
            undo.pop_all()

    def _block(self) -> str:
        with contextlib.suppress(OSError):
            return next((entry.name for entry in (self.device / "block").iterdir()), "")
        return ""

    def rescan(self) -> None:
        """The file is longer."""
        run("losetup", "--set-capacity", self.loop)
        (self.device / "rescan").write_text("1")

    def remove(self) -> None:
        link = self.lun / "store"
        if link.is_symlink():
            link.unlink()  # the disk goes
        if self.lun.exists():
            self.lun.rmdir()
        if self.store.exists():
            self.store.rmdir()
        if self.store.parent.exists():
            self.store.parent.rmdir()
        run("losetup", "--detach", self.loop)
