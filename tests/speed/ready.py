# SPDX-License-Identifier: Apache-2.0
"""Measures in the test kernel how long a new volume takes to be ready: from its creation until one byte is on it."""

import os
import pathlib
import shutil
import statistics
import time

import peers

GIB = 1 << 30
ROUNDS = 5
# Integrity, size in GiB, and whether it is raw block: then no mkfs is in it.
OURS = {
    "first_byte_1gib_s": ("aegis128", 1, False),
    "first_byte_4gib_s": ("aegis128", 4, False),
    "first_byte_16gib_s": ("aegis128", 16, False),
    "first_byte_1tib_s": ("aegis128", 1024, False),
    "first_byte_none_s": ("none", 1, False),
    "first_byte_none_1tib_s": ("none", 1024, False),
    "first_byte_hmac_1gib_s": ("hmac-sha256", 1, False),
    "first_device_1gib_s": ("aegis128", 1, True),
    "first_device_1tib_s": ("aegis128", 1024, True),
}
# Constellation wipes each byte, so once is enough, and 1 TiB would take hours.
THEIRS = {
    "first_byte_cryptsetup_1gib_s": ("cryptsetup", 1, 3),
    "first_byte_constellation_1gib_s": ("constellation", 1, 1),
    "first_byte_constellation_4gib_s": ("constellation", 4, 1),
    "first_byte_constellation_16gib_s": ("constellation", 16, 1),
}
NAMES = (*OURS, *THEIRS)


def write_one_block(path: pathlib.Path) -> None:
    import harness  # it needs the messages, which tests/bench generates first

    harness.write(path, bytes(4096))


def ours(client, integrity: str, gib: int, block: bool) -> float:
    start = time.monotonic()
    volume = client.create(size=gib * GIB, integrity=integrity, block=block, provisioning="thin")
    client.mount(volume)
    write_one_block(volume.file)
    taken = time.monotonic() - start
    client.unmount(volume)
    client.delete(volume)
    return taken


def theirs(peer: str, gib: int, folder: pathlib.Path) -> float:
    start = time.monotonic()
    device = peers.Device(peer, folder, gib * GIB, "first")
    device.format()
    device.open()
    device.make_filesystem()
    device.mount_filesystem()
    write_one_block(device.mount / "data")
    taken = time.monotonic() - start
    device.unstage()
    device.remove()
    return taken


def measure(client, wanted: list[str]) -> dict[str, float]:
    """Medians; the kinds are measured in alternation."""
    folder = pathlib.Path(os.environ["TDVOL_VM_SCRATCH"]) / "peers"  # memory is too small for what they write
    taken = {name: [] for name in wanted if name in NAMES}
    for number in range(ROUNDS):
        for name, times in taken.items():
            if name in OURS:
                times.append(ours(client, *OURS[name]))
            elif number < THEIRS[name][2]:
                times.append(theirs(*THEIRS[name][:2], folder))
    shutil.rmtree(folder, ignore_errors=True)
    return {name: statistics.median(times) for name, times in taken.items()}
