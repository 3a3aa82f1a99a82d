# SPDX-License-Identifier: Apache-2.0
"""Runs tdvolctl volume copy-in, on old volumes that cryptsetup makes."""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import signal
import subprocess

import harness
import machine
from harness import MIB, pattern, read

HEADER = 16 * MIB  # cryptsetup's and Constellation's
KEY = bytes(range(32))  # NUL and newline are in it
DATA = pattern(9 * MIB + 4096)
DIRECT = os.O_DIRECT | os.O_CLOEXEC
# As Constellation makes volumes (its csi/cryptmapper), but for the time that the key derivation takes.
CONSTELLATION = ("--cipher", "aes-xts-plain64", "--key-size", "512", "--sector-size", "4096", "--pbkdf", "argon2id",
                 "--iter-time", "100", "--pbkdf-memory", "65536", "--pbkdf-parallel", "4")  # fmt: skip
FAST = ("--key-size", "512", "--sector-size", "4096", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
KINDS = {
    "fast": (*FAST, "--integrity", "hmac-sha256"),
    "fast-plain": FAST,
    "integrity": (*CONSTELLATION, "--integrity", "hmac-sha256"),
    "plain": CONSTELLATION,
    "cryptsetup": ("--iter-time", "100", "--pbkdf-memory", "65536"),  # otherwise its defaults
}


def run(*words, **arguments) -> str:
    done = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, timeout=300, **arguments)
    return done.stdout.strip()


@contextlib.contextmanager
def loop(path: pathlib.Path, sector: int = 4096):
    """A block device over a file."""
    device = run("losetup", "--find", "--show", "--sector-size", sector, path)
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


def sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclasses.dataclass
class Old:
    """A volume of before: its disk is a file."""

    file: pathlib.Path
    key: pathlib.Path
    sector: int = 4096  # of the disk

    def disk(self):
        return loop(self.file, self.sector)

    @contextlib.contextmanager
    def opened(self, *options: str):
        """The path of the plain volume, opened with cryptsetup."""
        with self.disk() as device:
            run("cryptsetup", "open", "--key-file", self.key, *options, device, "old")
            try:
                yield pathlib.Path("/dev/mapper/old")
            finally:
                run("cryptsetup", "close", "old")

    @contextlib.contextmanager
    def mounted(self, *options: str):
        folder = self.file.parent / "mnt"
        folder.mkdir(exist_ok=True)
        with self.opened(*options) as device:
            run("mount", device, folder)
            try:
                yield folder
            finally:
                run("umount", folder)


def make_old(folder: pathlib.Path, kind: str, fs: str = "ext4", size: int = 112 * MIB, *options: str) -> Old:
    old = Old(folder / f"old-{kind}-{fs}", folder / "key")
    if kind == "cryptsetup":  # its default where the disk has sectors of 512 bytes
        old.sector, size = 512, size - 3 * 512
        options = options or ("-b", "4096")
    old.key.write_bytes(KEY)
    old.key.chmod(0o400)
    old.file.touch()
    os.truncate(old.file, size)
    with old.disk() as device:
        run("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", *KINDS[kind], device, old.key)
    with old.opened() as device:
        run(f"mkfs.{fs}", "-q", *options, device)
    with old.mounted() as mounted:
        (mounted / "data").write_bytes(DATA)
    return old


@dataclasses.dataclass
class Result:
    code: int
    out: str
    err: str


def copy_in(source, old: Old, target, *options: str, faults: harness.Faults | None = None, env=None) -> Result:
    """Runs the command; the mapping must be gone afterwards, unless it was killed."""
    done = subprocess.run(
        [harness.program("tdvolctl"), "volume", "copy-in", "--from", str(source), "--key-file", str(old.key),
         "--to", str(target), *options],
        capture_output=True, text=True, timeout=300, check=False, env=os.environ | (faults.environment if faults else {}) | (env or {}))  # fmt: skip
    if done.returncode != -signal.SIGKILL:
        assert not [name for name in machine.mappings() if name.startswith("copy-in")]
    return Result(done.returncode, done.stdout, done.stderr)


def copies(old: Old, target, *options: str, **arguments) -> str:
    """The same for a copy that must succeed, and must not change the old disk."""
    before = sha256(old.file)
    with old.disk() as source:
        done = copy_in(source, old, target, *options, **arguments)
    assert done.code == 0, done.err
    assert sha256(old.file) == before
    return done.out


def refused(old: Old, target, code: int, *words: str, options=()) -> None:
    """The same for a copy that must fail, and must write nothing."""
    before, target_before = sha256(old.file), read(pathlib.Path(target), MIB)
    with old.disk() as source:
        done = copy_in(source, old, target, *options)
    assert done.code == code, done
    for word in words:
        assert word in done.err
    assert sha256(old.file) == before
    harness.drop_caches()
    assert read(pathlib.Path(target), MIB) == target_before


def check_copy(old: Old, target) -> None:
    """Bytes are those of the old volume."""
    harness.drop_caches()
    with old.opened() as device:
        size = int(run("blockdev", "--getsize64", device))
        run("cmp", "--bytes", size, device, target)


def signature(target) -> str:
    """What blkid finds."""
    harness.drop_caches()
    return subprocess.run(["blkid", "--probe", str(target)], capture_output=True, text=True, check=False).stdout


def flip(file: pathlib.Path, at: int) -> None:
    with file.open("r+b") as disk:
        disk.seek(at)
        byte = disk.read(1)[0]
        disk.seek(at)
        disk.write(bytes([byte ^ 1]))


def copy_in_busy(source, old: Old, target) -> Result:
    done = subprocess.run(
        [harness.program("tdvolctl"), "volume", "copy-in", "--from", str(source), "--key-file", str(old.key), "--to", str(target)],
        capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


