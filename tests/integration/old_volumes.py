# SPDX-License-Identifier: Apache-2.0
"""Volumes that cryptsetup made on a disk of the upstream, as Constellation makes them."""

import itertools
import pathlib
import subprocess

import harness
from harness import MIB, csi, write

KEY = bytes([1, 0, 10, 255]) + bytes(range(28))  # 32 raw bytes, as Constellation's key service makes them
CONSTELLATION = [
    "--type=luks2", "--cipher=aes-xts-plain64", "--key-size=512", "--sector-size=4096", "--pbkdf=argon2id",
    "--pbkdf-memory=65536", "--pbkdf-parallel=4", "--pbkdf-force-iterations=4",
]  # fmt: skip
HEADER = 16 * MIB
_names = itertools.count(1)


def run(*command, stdin: bytes | None = None) -> None:
    subprocess.run(list(map(str, command)), input=stdin, check=True, timeout=300, capture_output=True)


def key_opens(disk: pathlib.Path, key: bytes = KEY) -> bool:
    command = ["cryptsetup", "open", "--test-passphrase", "--key-file=-", disk]
    return subprocess.run(command, input=key, check=False, timeout=300, capture_output=True).returncode == 0


def make_disk(upstream, size: int = 96 * MIB):
    """A volume that only the upstream knows."""
    request = csi.CreateVolumeRequest(name=f"old-{next(_names)}", volume_capabilities=[harness.capability(block=True)])
    request.capacity_range.required_bytes = size
    return upstream.call("CreateVolume", request).volume


def fill(disk: pathlib.Path, point: pathlib.Path, data: bytes, fs: str = "ext4", options=CONSTELLATION) -> None:
    """Encrypts the disk and puts a file "data" onto it; fs "": the data is the content of the volume."""
    run("cryptsetup", "luksFormat", "--batch-mode", "--key-file=-", *options, disk, stdin=KEY)
    run("cryptsetup", "open", "--key-file=-", disk, "old-volume", stdin=KEY)
    try:
        device = pathlib.Path("/dev/mapper/old-volume")
        if not fs:
            write(device, data)
            return
        run(f"mkfs.{fs}", "-q", device)
        point.mkdir(exist_ok=True)
        run("mount", "-t", fs, device, point)
        write(point / "data", data)
        run("umount", point)
    finally:
        run("cryptsetup", "close", "old-volume")


def adopt(broker, volume_id: str, disk_size: int, *options: str, key: bytes = KEY) -> str:
    clients = broker.dir / "clients"
    return subprocess.run(
        [harness.program("tdvolctl"), "volume", "adopt", volume_id, "--driver", harness.DRIVER, "--key-file", "-",
         "--disk-size", str(disk_size), *options, "--broker", broker.address, "--broker-ca", broker.dir / "ca.crt",
         "--client-cert", clients / "admin.crt", "--client-key", clients / "admin.key"],
        input=key, check=True, timeout=60, capture_output=True).stdout.decode()  # fmt: skip
