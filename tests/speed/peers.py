# SPDX-License-Identifier: Apache-2.0
"""What people use without tdvol: LUKS2 devices made and opened with cryptsetup.

Every function of a peer is a row of words for cryptsetup, so that a reader can compare them with what the
others document. Constellation v2.24 (internal/cryptsetup, csi/cryptmapper): LUKS2 with argon2id (64 MiB, 2 s),
aes-xts-plain64, with integrity hmac-sha256, sectors of 4096 bytes, a wipe of the whole device, no work queues,
and one lock in each node's plugin around all of it.
"""

import dataclasses
import pathlib
import shutil
import threading

from disk import run

BATCH = ("--batch-mode", "--type", "luks2")
BYPASS = ("--perf-no_read_workqueue", "--perf-no_write_workqueue")


@dataclasses.dataclass(frozen=True)
class Peer:
    format: tuple[str, ...]
    open: tuple[str, ...]
    has_one_lock: bool = False


PEERS = {
    # What "cryptsetup luksFormat" does when nobody says more.
    "cryptsetup": Peer((*BATCH,), ()),
    # The same cipher, key derivation and flags as tdvol, without its layers: what the layers cost.
    "bare-aegis128": Peer((*BATCH, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--sector-size", "4096",
                           "--cipher", "aegis128-random", "--key-size", "128", "--integrity", "aead"), BYPASS),
    "constellation": Peer((*BATCH, "--pbkdf", "argon2id", "--iter-time", "2000", "--pbkdf-memory", "65536",
                           "--pbkdf-parallel", "4", "--cipher", "aes-xts-plain64", "--key-size", "512",
                           "--integrity", "hmac-sha256", "--sector-size", "4096"), BYPASS, True),
}  # fmt: skip
_one_lock = threading.Lock()


class Device:
    """One LUKS2 device on a file."""

    def __init__(self, peer: str, folder: pathlib.Path, size: int, name: str = "peer"):
        self.peer_name, self.peer, self.name, self.size = peer, PEERS[peer], name, size
        self.file, self.key, self.mount = folder / f"{name}.img", folder / f"{name}.key", folder / f"{name}.mount"
        self.path = pathlib.Path("/dev/mapper") / name
        folder.mkdir(exist_ok=True)
        self.mount.mkdir()
        self.key.write_bytes(b"k" * 32)
        with self.file.open("wb") as disk:
            disk.truncate(size)

    def copy(self, folder: pathlib.Path, name: str) -> "Device":
        """Another device with the same content."""
        made = Device(self.peer_name, folder, self.size, name)
        shutil.copyfile(self.file, made.file)
        return made

    def format(self, *more: str) -> None:
        self._locked("luksFormat", *self.peer.format, *more, "--key-file", self.key, self.file)

    def make_filesystem(self) -> None:
        """ext4, without a wish to be told what is unused, as integrity has no discard."""
        run("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", self.path)

    def open(self) -> None:
        self._locked("open", *self.peer.open, "--key-file", self.key, self.file, self.name)

    def _locked(self, *words) -> None:
        if self.peer.has_one_lock:
            with _one_lock:
                run("cryptsetup", *words)
        else:
            run("cryptsetup", *words)

    def close(self) -> None:
        run("cryptsetup", "close", self.name)

    def mount_filesystem(self) -> None:
        run("mount", self.path, self.mount)

    def stage(self) -> None:
        """What a CSI driver does when a pod with an existing volume starts."""
        self.open()
        self.mount_filesystem()

    def unstage(self) -> None:
        run("umount", self.mount)
        self.close()

    def remove(self) -> None:
        self.file.unlink()
        self.key.unlink()
        self.mount.rmdir()
