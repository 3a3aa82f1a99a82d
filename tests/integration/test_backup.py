# SPDX-License-Identifier: Apache-2.0
"""Volumes after the broker's store was restored from a backup: no data is formatted over, none is rolled back."""

import json
import os
import shutil
import subprocess

import harness
import pytest
from grpc import StatusCode as Code
from harness import MIB, pattern, raises, read, write


@pytest.fixture
def saved(make_broker):
    made = make_broker()
    path = made.dir / "policy.json"
    policy = json.loads(path.read_text())
    policy["rules"][-1]["may"].append("backup")
    path.write_text(json.dumps(policy))
    made.stop()
    return made.start()


def tdvolctl(*words, **environment) -> str:
    command = [str(word) for word in (harness.program("tdvolctl"), *words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | environment)  # noqa: PLW1510
    assert done.returncode == 0, done.stderr
    return done.stdout


def ctl(broker, *words) -> str:
    clients = broker.dir / "clients"
    return tdvolctl(*words, "--broker", broker.address, "--broker-ca", broker.dir / "ca.crt", "--client-cert",
                    clients / "admin.crt", "--client-key", clients / "admin.key")  # fmt: skip


def restore(broker, backup) -> None:
    path = f"{os.path.dirname(harness.program('tdvol-broker'))}:{os.environ['PATH']}"
    tdvolctl("broker", "restore", backup, f"sqlite:{broker.dir / 'state'}", "--master-key", broker.dir / "master.key", PATH=path)


@pytest.mark.parametrize("integrity", ["aegis128", "none"])
def test_nothing_is_formatted_over_and_nothing_rolled_back(saved, make_plugin, tmp_path, integrity):
    broker, plugin = saved, make_plugin(saved)
    client = plugin.client
    used, new, in_use = (client.create(integrity=integrity, size=16 * MIB, block=True, provisioning="thin") for _ in range(3))
    client.mount(used)
    client.unmount(used)
    older = tmp_path / "older"
    shutil.copyfile(plugin.backing_file(used), older)  # before the last close that the backup knows
    client.mount(used)
    write(used.file, pattern(MIB, seed=1))
    client.unmount(used)
    client.mount(in_use)
    backup = json.loads(ctl(broker, "broker", "backup", "--json"))["path"]
    shutil.copyfile(backup, tmp_path / "backup")
    for seed in (2, 3):
        client.mount(used)
        write(used.file, pattern(MIB, seed=seed))
        client.unmount(used)
    client.mount(new)  # formatted after the backup
    write(new.file, pattern(MIB, seed=4))
    client.unmount(new)

    broker.stop()
    newest = broker.dir / "newest"
    (broker.dir / "state").rename(newest)
    restore(broker, tmp_path / "backup")
    broker.start()
    for volume in (used, new):
        with raises(Code.FAILED_PRECONDITION, "tdvolctl volume adopt --restored"):
            harness.retried(client.stage, volume)
    folder = plugin.backing_file(used).parent
    disks = {path.name for path in folder.iterdir()}
    with raises(Code.UNAVAILABLE, "restored from a backup"):  # another code would have the disk deleted
        client.create(integrity=integrity, size=16 * MIB, block=True, provisioning="thin")
    (made,) = {path.name for path in folder.iterdir()} - disks
    (folder / made).unlink()
    write(in_use.file, pattern(MIB, seed=5))
    client.unmount(in_use)  # needs no broker
    ctl(broker, "volume", "adopt", "--restored", "--all", "--yes")
    client.mount(in_use)
    assert read(in_use.file, MIB) == pattern(MIB, seed=5)
    client.unmount(in_use)

    disk = plugin.backing_file(used)
    shutil.copyfile(disk, tmp_path / "disk")
    shutil.copyfile(older, disk)
    with raises(Code.DATA_LOSS, "old state"):
        client.stage(used)
    shutil.copyfile(tmp_path / "disk", disk)
    client.mount(used)
    assert read(used.file, MIB) == pattern(MIB, seed=3)
    client.unmount(used)
    client.mount(used)
    client.unmount(used)
    shutil.copyfile(tmp_path / "disk", disk)  # from then on, only the newest
    with raises(Code.DATA_LOSS, "old state"):
        client.stage(used)

    ctl(broker, "volume", "adopt", "--restored", new.id)  # an administrator's mistake
    with raises(Code.FAILED_PRECONDITION, "docs/recovery.md"):
        client.stage(new)
    broker.stop()
    shutil.rmtree(broker.dir / "state")
    newest.rename(broker.dir / "state")
    broker.start()
    harness.retried(client.mount, new)
    assert read(new.file, MIB) == pattern(MIB, seed=4)
    client.unmount(new)
