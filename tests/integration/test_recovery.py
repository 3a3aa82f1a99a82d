# SPDX-License-Identifier: Apache-2.0
"""Volumes that are recovered without the broker: with tdvolctl, and with the commands of docs/recovery.md alone."""

import base64
import contextlib
import hashlib
import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import termios

import harness
import machine
import old_volumes
import pytest
from grpc import StatusCode as Code
from harness import MIB, pattern, raises, read, write

DATA = pattern(5 * MIB + 12288)
DOCUMENT = pathlib.Path(__file__).parents[2] / "docs/recovery.md"
BLOCKS = dict(re.findall(r"<!-- by hand: ([a-z ]+) -->\n```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL))
MODES = ["aegis128", "hmac-sha256", "none"]
PASSPHRASE = "correct horse"


def run(*words, **arguments) -> str:
    done = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, timeout=300, **arguments)
    return done.stdout


def make_certificate(folder: pathlib.Path, name: str, *key: str) -> None:
    """name.key and name.crt, as the document says, but without a passphrase."""
    run("openssl", "req", "-x509", "-newkey", *key, "-days", 30, "-subj", f"/CN={name}", "-nodes",
        "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")  # fmt: skip
    (folder / f"{name}.key").chmod(0o600)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """owner, other and ec: certificates and their keys; locked.key has a passphrase."""
    folder = tmp_path_factory.mktemp("keys")
    make_certificate(folder, "owner", "rsa:4096")
    make_certificate(folder, "other", "rsa:3072")
    make_certificate(folder, "ec", "ec", "-pkeyopt", "ec_paramgen_curve:P-384")
    run("openssl", "pkey", "-aes-256-cbc", "-passout", f"pass:{PASSPHRASE}", "-in", folder / "owner.key", "-out", folder / "locked.key")
    (folder / "locked.key").chmod(0o600)
    yield folder
    shutil.rmtree(folder)


class CertifiedBroker(harness.Broker):
    """Its policy names a recovery certificate."""

    def certify(self, certificate: pathlib.Path | None) -> None:
        path = self.dir / "policy.json"
        policy = json.loads(path.read_text())
        policy.pop("recovery", None)
        if certificate:
            policy["recovery"] = {"certificate": certificate.read_text()}
        path.write_text(json.dumps(policy))


@pytest.fixture
def certified(leaves_nothing, keys):
    """certified(certificate) starts a broker whose policy names it."""
    made = []

    def make(certificate: str = "owner") -> CertifiedBroker:
        made.append(CertifiedBroker("recovery-broker"))
        made[-1].certify(keys / f"{certificate}.crt")
        return made[-1].start()

    yield make
    for one in made:
        one.close()


@pytest.fixture
def lost(certified, make_plugin, tmp_path):
    """lost(...) makes a volume with DATA, and copies its disk. The copies are all that the tests below have."""

    def make(integrity: str, *, certificate: str = "owner", fs: str = "ext4", closed: bool = True, grow: int = 0) -> pathlib.Path:
        broker = certified(certificate)
        plugin = make_plugin(broker, "recovery-plugin")
        volume = plugin.client.create(size=96 * MIB if fs == "ext4" else None, integrity=integrity, fs=fs)
        plugin.client.mount(volume)
        write(volume.file, DATA)
        if grow:
            plugin.client.expand(volume, grow)
        if closed:
            plugin.client.unmount(volume)
        else:
            os.sync()
        disk = tmp_path / "disk"
        run("cp", "--sparse=always", plugin.backing_file(volume), disk)
        record = broker.record(volume.id)
        (tmp_path / "digest").write_text(record.header_digests[0].hex())
        if not closed:
            plugin.client.unmount(volume)
        plugin.client.delete(volume)
        broker.stop()
        return disk

    return make


def der_of(certificate: pathlib.Path) -> bytes:
    text = "".join(line for line in certificate.read_text().splitlines() if not line.startswith("-"))
    return base64.b64decode(text)


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- tdvolctl recover ---


def recover(*options, **arguments) -> subprocess.CompletedProcess:
    words = [harness.program("tdvolctl"), "recover", *[str(option) for option in options]]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL, **arguments)


@contextlib.contextmanager
def recovered(disk: pathlib.Path, key: pathlib.Path, *options, name: str = "volume", **arguments):
    """The folder with the volume's files."""
    done = recover("--device", disk, "--key", key, *options, **arguments)
    assert done.returncode == 0, done.stderr
    mounted = disk.parent / "mnt"
    mounted.mkdir(exist_ok=True)
    try:
        mode = [] if "--write" in options else ["-o", "ro"]
        run("mount", *mode, f"/dev/mapper/tdvolrecover-{name}", mounted)
        try:
            yield mounted
        finally:
            run("umount", mounted)
    finally:
        closed = recover("--close", name)
        assert closed.returncode == 0, closed.stderr


@pytest.mark.parametrize("integrity", MODES)
def test_volume_opens_without_the_broker(lost, keys, integrity):
    disk = lost(integrity)
    before = digest(disk)
    with recovered(disk, keys / "owner.key", "--cert", keys / "owner.crt") as mounted:
        assert read(mounted / "data", len(DATA)) == DATA
    assert digest(disk) == before


@pytest.mark.parametrize("integrity", MODES)
def test_volume_that_was_in_use_and_has_grown_opens(lost, keys, integrity):
    disk = lost(integrity, certificate="ec", closed=False, grow=200 * MIB)
    before = digest(disk)
    with recovered(disk, keys / "ec.key") as mounted:
        assert read(mounted / "data", len(DATA)) == DATA
        assert os.statvfs(mounted).f_blocks * os.statvfs(mounted).f_frsize > 150 * MIB
    assert digest(disk) == before


def test_it_says_which_key_is_needed_and_what_it_cannot_know(lost, keys):
    disk = lost("aegis128")
    said = recover("--device", disk)
    assert said.returncode == 0
    assert said.stdout.count(hashlib.sha256(der_of(keys / "owner.crt")).hexdigest()) == 2  # of both headers
    assert (disk.parent / "digest").read_text() in said.stdout
    said = recover("--device", disk, "--key", keys / "owner.key", "--name", "a.b_1")
    assert "/dev/mapper/tdvolrecover-a.b_1 is open read-only" in said.stdout
    assert "Not checked, because only the broker's record can tell" in said.stdout
    again = recover("--device", disk, "--key", keys / "owner.key", "--name", "a.b_1")
    assert again.returncode == 1
    assert recover("--close", "a.b_1").returncode == 0
    assert recover("--close", "a.b_1").returncode == 1


def test_another_key_opens_nothing(lost, keys):
    disk = lost("hmac-sha256")
    before = digest(disk)
    for options, why in (
        (("--key", keys / "other.key"), "the recovery key does not open"),
        (("--key", keys / "ec.key"), "the recovery key does not open"),
        (("--key", keys / "owner.key", "--cert", keys / "other.crt"), "for another certificate"),
        (("--key", keys / "owner.key", "--header-sha256", "00" * 32), "has not the digest"),
        (("--key", keys / "owner.crt"), "closed to group and others|not a private key|mode"),
    ):
        done = recover("--device", disk, *options)
        assert done.returncode in (1, 2)
        assert re.search(why, done.stderr), done.stderr
    assert digest(disk) == before


def test_passphrase_comes_from_a_descriptor(lost, keys):
    disk = lost("none")
    reader, writer = os.pipe()
    os.write(writer, f"{PASSPHRASE}\nmore".encode())
    os.close(writer)
    with recovered(disk, keys / "locked.key", "--passphrase-fd", reader, pass_fds=[reader]) as mounted:
        assert read(mounted / "data", len(DATA)) == DATA
    os.close(reader)
    reader, writer = os.pipe()
    os.write(writer, b"wrong\n")
    os.close(writer)
    done = recover("--device", disk, "--key", keys / "locked.key", "--passphrase-fd", reader, pass_fds=[reader])
    os.close(reader)
    assert done.returncode == 2
    assert "passphrase is another one" in done.stderr


def at_terminal(answer: str, *words) -> tuple[str, int]:
    """Runs a program that asks at its terminal; what was seen there, and the exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(words[0], [str(word) for word in words])
    seen = ""
    with contextlib.suppress(OSError):  # the terminal is gone when the program is
        while more := os.read(terminal, 4096).decode():
            asked, seen = "Passphrase" in seen, seen + more
            if "Passphrase" in seen and not asked:
                machine.wait_until(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, 10, "the terminal does not echo")
                os.write(terminal, f"{answer}\n".encode())
    os.close(terminal)
    return seen, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_passphrase_is_asked_for_at_the_terminal(lost, keys):
    disk = lost("aegis128")
    words = [harness.program("tdvolctl"), "recover", "--device", disk, "--key", keys / "locked.key"]
    seen, code = at_terminal("wrong", *words)
    assert code == 2 and "its passphrase is another one" in seen, seen
    seen, code = at_terminal(PASSPHRASE, *words)
    assert code == 0 and "Passphrase of the recovery key: " in seen, seen
    assert PASSPHRASE not in seen
    assert recover("--close", "volume").returncode == 0


def test_second_header_serves_and_none_does_not(lost, keys):
    disk = lost("aegis128")
    expected = (disk.parent / "digest").read_text()
    write(disk, bytes(16384))
    with recovered(disk, keys / "owner.key", "--header-sha256", expected) as mounted:
        assert read(mounted / "data", len(DATA)) == DATA
    write(disk, bytes(16384), offset=2 * MIB)
    done = recover("--device", disk, "--key", keys / "owner.key")
    assert done.returncode == 1
    assert "no header that tdvol writes" in done.stderr


def test_disk_itself_is_opened_for_writing_when_asked(lost, keys):
    disk = lost("aegis128")
    with recovered(disk, keys / "owner.key", "--write") as mounted:
        write(mounted / "more", DATA)
    with recovered(disk, keys / "owner.key") as mounted:
        assert read(mounted / "more", len(DATA)) == DATA


def test_volume_of_a_policy_without_a_certificate_has_no_token(client, plugin, keys, tmp_path):
    volume = client.create(size=64 * MIB)
    client.mount(volume)
    client.unmount(volume)
    disk = tmp_path / "disk"
    run("cp", "--sparse=always", plugin.backing_file(volume), disk)
    done = recover("--device", disk, "--key", keys / "owner.key")
    assert done.returncode == 1
    assert "the policy named no certificate" in done.stderr


def test_what_a_killed_command_left_is_removed():
    run("dmsetup", "create", "tdvolrecover-x-crypt", "--table", "0 8 zero")
    run("dmsetup", "create", "tdvolrecover-y", "--table", "0 8 zero")
    assert recover("--close", "x").returncode == 1  # there was no device
    assert not pathlib.Path("/dev/mapper/tdvolrecover-x-crypt").exists()
    assert recover("--close", "y").returncode == 0


def test_wrong_words_are_named(tmp_path):
    nothing = tmp_path / "nothing"
    nothing.write_bytes(bytes(8 * MIB))
    for options, code, why in (
        ((), 2, "give --device PATH"),
        (("--close", "a", "--write"), 2, "--close NAME alone"),
        (("--device", nothing, "--write"), 2, "--key is missing"),
        (("--close", "../x"), 2, "a name has"),
        (("--close", "x" * 20), 2, "a name has"),
        (("--close", "x"), 1, "there is no device"),
        (("--device", nothing), 1, "no header of tdvol"),
        (("--device", tmp_path / "missing"), 1, "missing"),
    ):
        done = recover(*options)
        assert done.returncode == code, done.stderr
        assert why in done.stderr


# --- by hand ---


def by_hand(disk: pathlib.Path, key: pathlib.Path, kind: str, check: str, *, mounted: bool = True, skip: int = 0) -> str:
    """Runs the commands of the document, and between mount and close the check. All lines are the document's, but for
    the names of disk, key and mount point."""
    folder = disk.parent / "by-hand"
    folder.mkdir()
    device = run("losetup", "--find", "--show", "--read-only", "--sector-size", 4096, disk).strip()
    end = BLOCKS["close"] if mounted else BLOCKS["close"].removeprefix("umount /mnt\n")
    steps = [*(BLOCKS[name] for name in ("overlay", "passphrase", "open", kind)), BLOCKS["mount"] if mounted else "", check, end]
    script = "\n".join(steps).replace("DISK=/dev/sdX KEY=recovery.key", f"DISK={device} KEY={key}").replace("/mnt", str(folder / "mnt"))
    assert f"DISK={device}" in script
    (folder / "mnt").mkdir()
    try:
        return run("sh", "-eu", "-c", script.replace("skip=0", f"skip={skip}"), cwd=folder)
    finally:
        run("losetup", "--detach", device)
        shutil.rmtree(folder)


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
@pytest.mark.parametrize("integrity", MODES)
def test_documented_commands_open_each_mode(lost, keys, integrity, fs):
    disk = lost(integrity, fs=fs)
    before = digest(disk)
    said = by_hand(disk, keys / "owner.key", "none" if integrity == "none" else "integrity", "sha256sum mnt/data")
    assert hashlib.sha256(DATA).hexdigest() in said
    assert digest(disk) == before


@pytest.mark.parametrize("integrity", MODES)
def test_documented_commands_open_what_was_in_use(lost, keys, integrity):
    disk = lost(integrity, certificate="ec", closed=False)
    said = by_hand(disk, keys / "ec.key", "none" if integrity == "none" else "integrity", "sha256sum mnt/data", skip=1)
    assert hashlib.sha256(DATA).hexdigest() in said


def test_volume_that_was_taken_over_opens_in_both_ways(certified, make_bed, keys, tmp_path):
    broker = certified()
    bed = make_bed(broker=broker)
    below = old_volumes.make_disk(bed.upstream, 96 * MIB)
    old_volumes.fill(bed.upstream.file(below.volume_id), tmp_path / "point", DATA)
    volume = bed.client.know(below.volume_id, below.volume_context, harness.capability(), 80 * MIB)
    old_volumes.adopt(broker, volume.id, 96 * MIB, "--fs", "ext4")
    bed.client.use(volume)
    bed.client.leave(volume)
    assert broker.record(volume.id).recovery_sha256
    disk = tmp_path / "disk"
    run("cp", "--sparse=always", bed.upstream.file(volume.id), disk)
    said = by_hand(disk, keys / "owner.key", "taken over", "sha256sum mnt/data")
    assert hashlib.sha256(DATA).hexdigest() in said
    with recovered(disk, keys / "owner.key") as mounted:
        assert read(mounted / "data", len(DATA)) == DATA


def test_snapshots_and_restores_have_the_token_of_their_source(certified, make_plugin, keys, tmp_path):
    broker = certified("ec")
    plugin = make_plugin(broker, "recovery-plugin")
    client = plugin.client
    volume = client.create(size=64 * MIB)
    client.mount(volume)
    write(volume.file, DATA)
    client.unmount(volume)
    snapshot = client.snapshot(volume)
    broker.certify(keys / "other.crt")  # counts for new volumes alone
    broker.stop()
    broker.start()
    restored = client.create(size=128 * MIB, snapshot=snapshot.snapshot_id)
    client.mount(restored)
    assert read(restored.file, len(DATA)) == DATA
    write(restored.file.parent / "more", DATA)
    client.unmount(restored)
    assert broker.record(restored.id).recovery_sha256 == broker.record(volume.id).recovery_sha256
    disk = tmp_path / "disk"
    run("cp", "--sparse=always", plugin.backing_file(restored), disk)
    with recovered(disk, keys / "ec.key") as mounted:
        assert read(mounted / "more", len(DATA)) == DATA


def tdvolctl(broker, *words) -> str:
    clients = broker.dir / "clients"
    return run(harness.program("tdvolctl"), *words, "--broker", broker.address, "--broker-ca", broker.dir / "ca.crt",
               "--client-cert", clients / "admin.crt", "--client-key", clients / "admin.key")  # fmt: skip


def test_administrator_sees_the_certificate_and_what_erasure_means(certified, make_plugin, keys):
    broker = certified("ec")
    plugin = make_plugin(broker, "recovery-plugin")
    volume = plugin.client.create(size=64 * MIB)
    plugin.client.mount(volume)
    plugin.client.unmount(volume)
    shown = tdvolctl(broker, "volume", "show", volume.id)
    assert hashlib.sha256(der_of(keys / "ec.crt")).hexdigest() in shown
    assert broker.record(volume.id).header_digests[0].hex() in shown
    assert "still opens with the recovery key" in tdvolctl(broker, "volume", "delete", volume.id, "--yes")


def test_header_is_the_one_on_record(certified, make_plugin, keys):
    """The host puts the header of a volume without a token, or with another one, in the place of a header with one."""
    broker = certified("ec")
    plugin = make_plugin(broker, "recovery-plugin")
    first, second = plugin.client.create(size=64 * MIB), plugin.client.create(size=64 * MIB)
    plugin.client.mount(first)
    plugin.client.unmount(first)
    broker.certify(None)
    broker.stop()
    broker.start()
    plugin.client.mount(second)
    plugin.client.unmount(second)
    assert broker.record(first.id).recovery_sha256 == hashlib.sha256(der_of(keys / "ec.crt")).digest()
    assert not broker.record(second.id).recovery_sha256
    header = read(plugin.backing_file(second), 2 * MIB)
    own = read(plugin.backing_file(first), 4 * MIB)
    write(plugin.backing_file(first), header + header)
    with raises(Code.DATA_LOSS, "the key broker's record knows neither copy"):
        plugin.client.stage(first)
    write(plugin.backing_file(first), own)
    plugin.client.mount(first)
    plugin.client.unmount(first)


def test_documented_commands_open_a_volume_of_two_groups(certified, make_plugin, keys, tmp_path):
    """What was written to the second group of a thin volume, behind 64 GiB; the rest was never initialised."""
    broker = certified("ec")
    plugin = make_plugin(broker, "recovery-plugin")
    volume = plugin.client.create(size=70 << 30, block=True, provisioning="thin")
    plugin.client.mount(volume)
    write(volume.target, DATA[: 4 * MIB], offset=69 << 30)
    plugin.client.unmount(volume)
    disk = tmp_path / "disk"
    run("cp", "--sparse=always", plugin.backing_file(volume), disk)
    check = "dd if=/dev/mapper/recovery-volume bs=1M skip=$((69 << 10)) count=4 | sha256sum; dd if=/dev/mapper/recovery-volume bs=1M count=1 | cmp -n 1048576 - /dev/zero"
    said = by_hand(disk, keys / "ec.key", "integrity", check, mounted=False)
    assert hashlib.sha256(DATA[: 4 * MIB]).hexdigest() in said
