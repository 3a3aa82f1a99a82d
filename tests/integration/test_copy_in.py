# SPDX-License-Identifier: Apache-2.0
"""tdvolctl volume copy-in: LUKS2 volumes that tdvol did not make, copied into volumes of tdvol."""

import contextlib
import dataclasses
import hashlib
import json
import mmap
import os
import pathlib
import shutil
import signal
import struct
import subprocess

import harness
import machine
import pytest
from copy_in import (
    DATA, DIRECT, HEADER, KEY, Old, check_copy, copies, copy_in, copy_in_busy, flip, loop, make_old, refused, run, sha256, signature)  # fmt: skip
from harness import MIB, pattern, read, write


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """Old volumes by kind, made when they are first asked for."""
    folder, made = tmp_path_factory.mktemp("old"), {}

    def get(kind: str) -> Old:
        if kind not in made:
            made[kind] = make_old(folder, kind)
        return made[kind]

    yield get
    shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def old(folder, templates, request):
    """A copy of an old volume: with integrity and a cheap key derivation, unless the test has another parameter."""
    template = templates(getattr(request, "param", "fast"))
    made = Old(folder / "old", folder / "key", template.sector)
    run("cp", "--sparse=always", template.file, made.file)
    run("cp", "--preserve=mode", template.key, made.key)
    return made


@pytest.fixture
def new(folder):
    """A device to copy to, all zeros."""
    file = folder / "new"
    file.touch()
    os.truncate(file, 112 * MIB)
    with loop(file) as device:
        yield pathlib.Path(device)


@pytest.mark.parametrize("old", ["integrity", "plain", "cryptsetup"], indirect=True)
def test_volume_is_copied(old, new):
    out = copies(old, new)
    assert "were written, and all was read again" in out
    check_copy(old, new)
    assert " 0 were written" in copies(old, new)  # again


def test_constellations_token_is_ignored(old, new):
    token = json.dumps({"type": "constellation-state-disk", "keyslots": [], "diskIsInitialized": True})
    with old.disk() as device:
        run("cryptsetup", "token", "import", "--token-id", "0", device, input=token)
    copies(old, new)
    check_copy(old, new)


def test_zeros_are_not_written(old, new):
    copies(old, new)
    file = pathlib.Path(f"/sys/block/{new.name}/loop/backing_file").read_text().strip()
    assert os.stat(file).st_blocks * 512 < len(DATA) + 16 * MIB


def test_dry_run_writes_nothing(old, new):
    out = copies(old, new, "--dry-run")
    assert "it is empty" in out
    assert not any(read(new, 8 * MIB))


POINTS = ("copy-in.source.bottom", "copy-in.source.mapped", "copy-in.begin.zeroed", "copy-in.begin.marked",
          "copy-in.copy.written", "copy-in.copy.written:4", "copy-in.copy.done", "copy-in.copy.verified",
          "copy-in.finish.head")  # fmt: skip


@pytest.mark.parametrize("old", ["fast", "fast-plain"], indirect=True)
def test_killed_copy_goes_on(old, new):
    before = sha256(old.file)
    with old.disk() as source:
        for point in POINTS:
            name, _, count = point.partition(":")
            rule = {"TDVOL_FAULT": f"{name}:kill" + (f":{count}" if count else "")}
            assert copy_in(source, old, new, env=rule).code == -signal.SIGKILL, point
            assert not signature(new), point
        done = copy_in(source, old, new)
        assert done.code == 0, done.err
    assert sha256(old.file) == before
    check_copy(old, new)


def test_second_copy_at_once_is_refused(old, new, faults):
    with old.disk() as source:
        with subprocess.Popen(
            [harness.program("tdvolctl"), "volume", "copy-in", "--from", source, "--key-file", old.key, "--to", new],
            env=os.environ | faults.environment, stderr=subprocess.DEVNULL) as first:  # fmt: skip
            faults.arm("copy-in.copy.written", "sleep")
            first_waits = lambda: not faults.is_armed()  # noqa: E731
            machine.wait_until(first_waits, 60, "the first copy is under way")
            done = copy_in_busy(source, old, new)
            first.kill()
        assert done.code == 1
        assert "in use" in done.err
        machine.wait_until(lambda: not [n for n in machine.mappings() if n.startswith("copy-in")], 10, "the mapping goes")
        assert copy_in(source, old, new).code == 0


def test_signal_ends_the_copy_cleanly(old, new):
    with old.disk() as source:
        process = subprocess.Popen(
            [harness.program("tdvolctl"), "volume", "copy-in", "--from", source, "--key-file", old.key, "--to", new],
            stderr=subprocess.PIPE, text=True)  # fmt: skip
        machine.wait_until(lambda: any(n.endswith("-crypt") for n in machine.mappings()), 60, "the volume is open")
        process.terminate()
        err = process.communicate(timeout=60)[1]
        assert process.returncode == 1
        assert "stopped" in err
        assert not [name for name in machine.mappings() if name.startswith("copy-in")]
        assert copy_in(source, old, new).code == 0
    check_copy(old, new)


def find_on_disk(old: Old, offset: int) -> int:
    """Where on the disk the block at this offset of the data lies: it is the one that changes when it is written."""
    with old.opened("--integrity-no-journal") as device:
        block = read(device, 4096, offset)
    before = old.file.read_bytes()
    with old.opened("--integrity-no-journal") as device:
        write(device, bytes(byte ^ 255 for byte in block), offset)
    after = old.file.read_bytes()
    blocks = [(at, before[at : at + 4096], after[at : at + 4096]) for at in range(HEADER, len(before), 4096)]
    changed = [at for at, a, b in blocks if a != b and sum(x != y for x, y in zip(a, b)) > 3000]  # not a block of tags
    assert len(changed) == 1
    old.file.write_bytes(before)
    return changed[0]


# The first MiB is read apart from the rest.
@pytest.mark.parametrize("offset", [20 * MIB + 8192, 8192])
def test_changed_sector_is_named(old, new, offset):
    with old.mounted():
        pass
    at = find_on_disk(old, offset)
    flip(old.file, at + 100)
    before = sha256(old.file)
    with old.disk() as source:
        done = copy_in(source, old, new)
        again = copy_in(source, old, new)
    assert done.code == again.code == 1
    assert f"the sector at offset {offset} of the data is not what was written there" in done.err
    assert not signature(new)
    assert sha256(old.file) == before
    flip(old.file, at + 100)
    copies(old, new)  # it was mended: the copy goes on
    check_copy(old, new)


def test_journal_is_replayed_but_not_on_the_disk(old, new, folder):
    block, offset = pattern(4096, seed=7), 40 * MIB
    unclean = Old(folder / "unclean", old.key)
    at = find_on_disk(old, offset)
    with old.opened() as device:
        fd = os.open(device, os.O_WRONLY | DIRECT | os.O_DSYNC)
        with contextlib.closing(os.fdopen(fd, "wb", buffering=0)):
            page = mmap.mmap(-1, 4096)
            page[:] = block
            os.pwrite(fd, page, offset)
            run("cp", "--sparse=always", old.file, unclean.file)  # as after a crash
    probe = Old(folder / "probe", old.key)
    run("cp", unclean.file, probe.file)
    with probe.opened() as device:
        assert read(device, 4096, offset) == block
    assert read(probe.file, 4096, at) != read(unclean.file, 4096, at)  # it was only in the journal
    copies(unclean, new)
    assert read(new, 4096, offset) == block
    check_copy(unclean, new)


def test_wrong_key_is_refused(old, new):
    old.key.chmod(0o600)
    old.key.write_bytes(KEY[:-1] + b"x")
    refused(old, new, 1, "the key opens none of the header's keyslots")


def test_key_comes_over_stdin(old, new):
    with old.disk() as source:
        done = subprocess.run(
            [harness.program("tdvolctl"), "volume", "copy-in", "--from", source, "--key-file", "-", "--to", new],
            input=KEY, capture_output=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_key_that_others_can_read_is_refused(old, new):
    old.key.chmod(0o644)
    refused(old, new, 1, "chmod")


def test_target_that_is_too_small_is_refused(old, folder):
    file = folder / "small"
    file.write_bytes(bytes(64 * MIB))
    with loop(file) as device:
        refused(old, device, 1, "make the new volume larger")


def test_target_with_other_content_is_refused(old, new):
    write(new, pattern(MIB))
    refused(old, new, 1, "bytes of an unknown kind", "--overwrite")
    run("mkfs.ext4", "-q", "-F", new)
    refused(old, new, 1, "holds ext4")
    copies(old, new, "--overwrite")
    check_copy(old, new)


def test_another_copy_that_was_begun_is_refused(old, new, templates):
    with old.disk() as source:
        assert copy_in(source, old, new, env={"TDVOL_FAULT": "copy-in.copy.done:kill"}).code == -signal.SIGKILL
    other = templates("fast-plain")
    refused(other, new, 1, "--overwrite")


def test_copy_that_was_used_is_not_overwritten(old, new):
    copies(old, new)
    write(new, pattern(4096, seed=3), 50 * MIB)
    refused(old, new, 1, "was used since")
    assert read(new, 4096, 50 * MIB) == pattern(4096, seed=3)
    copies(old, new, "--overwrite")
    check_copy(old, new)


def test_target_in_use_is_refused(old, new, folder):
    run("mkfs.ext4", "-q", new)
    mount = folder / "there"
    mount.mkdir()
    run("mount", "-o", "ro,noload", new, mount)
    try:
        refused(old, new, 1, "is in use")
    finally:
        run("umount", mount)


def test_old_volume_in_use_is_refused(old, new):
    """Its mapping is open: what it writes while it is copied would make a copy of two states."""
    with old.opened():
        source = run("losetup", "--noheadings", "--output", "NAME", "--associated", old.file)
        done = copy_in(source, old, new)
    assert done.code == 1
    assert "is in use: unmount the old volume, and close its mapping" in done.err
    assert not any(read(new, MIB))
    copies(old, new)


@pytest.mark.parametrize("old", ["fast-plain"], indirect=True)
def test_old_volume_that_changes_under_the_copy_is_noticed(old, new, faults):
    """Another node has the disk, too, and changes what was read first."""
    with old.disk() as source:
        with subprocess.Popen(
            [harness.program("tdvolctl"), "volume", "copy-in", "--from", source, "--key-file", old.key, "--to", new],
            env=os.environ | faults.environment, stderr=subprocess.PIPE, text=True) as copying:  # fmt: skip
            machine.wait_until(lambda: "copy-in.copy.written" in faults.passed(), 60, "the head is read")
            copying.send_signal(signal.SIGSTOP)
            flip(old.file, HEADER + 64 * 1024)
            harness.drop_caches()
            assert "copy-in.copy.verified" not in faults.passed()
            copying.send_signal(signal.SIGCONT)
            err = copying.communicate(timeout=120)[1]
        assert copying.returncode == 1
        assert "was changed while it was copied" in err
        assert not signature(new)
        assert copy_in(source, old, new).code == 0
    check_copy(old, new)


def test_data_behind_zeros_is_not_overwritten(old, new):
    """A program that uses the volume raw may leave its first MiB alone."""
    write(new, pattern(4096, seed=5), 60 * MIB)
    refused(old, new, 1, "holds data behind a first MiB of zeros", "--overwrite")
    refused(old, new, 1, "holds data behind a first MiB of zeros")  # a Job is started again
    assert read(new, 4096, 60 * MIB) == pattern(4096, seed=5)
    with old.disk() as source:
        assert "--overwrite is needed" in copy_in(source, old, new, "--dry-run").out
    copies(old, new, "--overwrite")
    check_copy(old, new)


def test_raw_volume_that_begins_with_zeros_is_copied_once(old, new):
    with old.opened() as device:
        write(device, bytes(2 * MIB))
        write(device, pattern(4096, seed=6), 70 * MIB)
    copies(old, new)
    check_copy(old, new)
    assert " 0 were written" in copies(old, new)
    write(new, pattern(4096, seed=7), 71 * MIB)
    refused(old, new, 1, "was used since")
    assert read(new, 4096, 71 * MIB) == pattern(4096, seed=7)


def test_signal_ends_a_key_derivation_at_once(folder, new):
    """Nothing has to be removed then."""
    old = Old(folder / "slow", folder / "slow-key")
    old.key.write_bytes(KEY)
    old.key.chmod(0o400)
    old.file.touch()
    os.truncate(old.file, 112 * MIB)
    with old.disk() as source:
        run("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--key-size", "512", "--pbkdf", "pbkdf2",
            "--pbkdf-force-iterations", "100000000", source, old.key)  # fmt: skip
        with subprocess.Popen(
            [harness.program("tdvolctl"), "volume", "copy-in", "--from", source, "--key-file", old.key, "--to", new],
        ) as process:  # fmt: skip
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)  # it is deriving
            process.terminate()
            assert process.wait(5) == -signal.SIGTERM


def test_disk_is_not_copied_onto_itself(old):
    with old.disk() as source:
        done = copy_in(source, old, source)
    assert done.code == 2
    assert "same disk" in done.err


def rewrite_header(old: Old, change) -> None:
    """Changes the JSON of both copies of the header, with good checksums: an attacker can."""
    with old.file.open("r+b") as disk:
        for at in (0, 16384):
            disk.seek(at)
            area = bytearray(disk.read(16384))
            document = json.loads(area[4096:].split(b"\0", 1)[0])
            change(document)
            area[4096:] = json.dumps(document).encode().ljust(12288, b"\0")
            area[448:512] = bytes(64)
            area[448:480] = hashlib.sha256(area).digest()
            disk.seek(at)
            disk.write(area)


ARGON2 = {"type": "argon2id", "time": 4, "memory": 65536, "cpus": 1, "salt": "AAAA"}
HOSTILE = {
    "null cipher of a keyslot": (lambda d: d["keyslots"]["0"]["area"].update(encryption="cipher_null-ecb"), "cipher_null-ecb"),
    "null cipher of the data": (lambda d: d["segments"]["0"].update(encryption="cipher_null-ecb"), "cipher_null-ecb"),
    "driver of the kernel": (lambda d: d["segments"]["0"].update(encryption="capi:xts(aes)-plain64"), "only aes-xts-plain64"),
    "memory": (lambda d: d["keyslots"]["0"].update(kdf=ARGON2 | {"memory": 1 << 30}), "too much memory or time"),
    "passes": (lambda d: d["keyslots"]["0"].update(kdf=ARGON2 | {"time": 1 << 30}), "too much memory or time"),
    "iterations": (lambda d: d["keyslots"]["0"]["kdf"].update(iterations=1 << 40), "too much time"),
    "area": (lambda d: d["keyslots"]["0"]["area"].update(offset="16777216"), "outside of its area"),
    "reencryption": (lambda d: d["config"].update(requirements={"mandatory": ["online-reencrypt-v2"]}), "reencryption"),
    "segment flags": (lambda d: d["segments"]["0"].update(flags=["backup-final"]), "expected members"),
    "offset": (lambda d: d["segments"]["0"].update(offset="4096"), "impossible offset"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header_is_refused(old, new, case):
    change, word = HOSTILE[case]
    rewrite_header(old, change)
    refused(old, new, 1, "this volume cannot be copied", word)


def test_integrity_that_was_taken_away_shows_as_noise(old, new):
    """Without integrity the header is a valid one, but the key is too long for it."""
    rewrite_header(old, lambda d: d["segments"]["0"].pop("integrity"))
    refused(old, new, 1, "key of an unknown size")


@pytest.mark.parametrize("flag", [1, 2, 4, 16])
def test_hostile_integrity_superblock_is_refused(old, new, flag):
    with old.file.open("r+b") as disk:
        disk.seek(HEADER + 24)
        flags = struct.unpack("<I", disk.read(4))[0]
        disk.seek(HEADER + 24)
        disk.write(struct.pack("<I", flags | flag))
    refused(old, new, 1, "superblock has unknown parameters")


def as_block(client, volume):
    """The same volume as a PersistentVolume with volumeMode Block shows it."""
    return dataclasses.replace(
        volume, capability=harness.capability(block=True), staging=client.kubelet.staging(volume.id, "pv-copy-in", True),
        target=client.kubelet.target("pod-copy-in", "pv-copy-in", True), targets=[], is_staged=False)  # fmt: skip


def check_moved(mount: pathlib.Path, size: int) -> None:
    assert (mount / "data").read_bytes() == DATA
    stats = os.statvfs(mount)
    assert stats.f_blocks * stats.f_frsize > 0.8 * size  # it has grown to the size of the new volume


@pytest.mark.parametrize("old, integrity", [("integrity", "aegis128"), ("plain", "hmac-sha256")], indirect=["old"])
def test_volume_moves_into_a_claim(client, old, integrity):
    volume = client.create(size=192 * MIB, integrity=integrity)
    raw = as_block(client, volume)
    client.mount(raw)
    copies(old, raw.file)
    check_copy(old, raw.file)
    client.unmount(raw)
    client.mount(volume)
    check_moved(volume.target, volume.size)
    client.unmount(volume)
    client.mount(volume)
    check_moved(volume.target, volume.size)


def test_volume_with_noise_needs_a_word(client, old):
    volume = client.create(size=128 * MIB, integrity="none")
    raw = as_block(client, volume)
    client.mount(raw)
    refused(old, raw.file, 1, "bytes of an unknown kind")
    copies(old, raw.file, "--overwrite")
    client.unmount(raw)
    client.mount(volume)
    check_moved(volume.target, volume.size)


def test_half_a_copy_is_never_formatted_nor_mounted(client, old):
    volume = client.create(size=128 * MIB)
    raw = as_block(client, volume)
    client.mount(raw)
    with old.disk() as source:
        assert copy_in(source, old, raw.file, env={"TDVOL_FAULT": "copy-in.copy.done:kill"}).code == -signal.SIGKILL
    client.unmount(raw)
    for _ in range(2):
        with pytest.raises(Exception):
            client.mount(volume)
    client.mount(raw)
    copies(old, raw.file)
    client.unmount(raw)
    client.mount(volume)
    check_moved(volume.target, volume.size)


def test_xfs_moves_into_a_claim(client, folder):
    old = make_old(folder, "fast-plain", "xfs", 400 * MIB)
    volume = client.create(size=512 * MIB, fs="xfs")
    raw = as_block(client, volume)
    client.mount(raw)
    copies(old, raw.file)
    client.unmount(raw)
    client.mount(volume)
    check_moved(volume.target, volume.size)


def test_volume_moves_into_another_drivers_claim(bed, old):
    client = bed.client
    volume = client.create(size=192 * MIB)
    raw = as_block(client, volume)
    client.use(raw)
    copies(old, raw.file)
    client.leave(raw)
    client.use(volume)
    check_moved(volume.target, volume.size)
    client.leave(volume)


def test_sectors_that_a_file_system_cannot_have_are_refused(folder, new):
    old = make_old(folder, "cryptsetup", "ext4", 112 * MIB, "-b", "1024")
    refused(old, new, 1, "ext4 with blocks of 1024 bytes")
