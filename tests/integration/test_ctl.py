# SPDX-License-Identifier: Apache-2.0
"""tdvolctl csi: the CSI client for people and scripts."""

import json
import subprocess

from harness import MIB, ROOT, program


def ctl(plugin, *words, code=0):
    """Runs tdvolctl csi; returns its standard output, and error output."""
    done = subprocess.run(
        [program("tdvolctl"), "csi", *map(str, words), "--endpoint", f"unix://{plugin.socket}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout, done.stderr


def test_volume_lives_by_hand(plugin, client):
    made = json.loads(ctl(plugin, "create", "by-hand", "--size", "64Mi", "--parameter", "integrity=none", "--json")[0])
    volume_id = made["volume"]["volume_id"]
    assert made["volume"]["capacity_bytes"] == 64 * MIB
    staging, target = ROOT / "ctl/staging", ROOT / "ctl/pod/target"  # by hand: no places of kubelet
    for folder in (staging, target):
        folder.parent.mkdir(parents=True)
    ctl(plugin, "stage", volume_id, "--staging", staging, "--fs-type=ext4")
    ctl(plugin, "publish", volume_id, "--staging", staging, "--target", target)
    assert target.is_mount()
    stats = json.loads(ctl(plugin, "stats", volume_id, "--path", target, "--json")[0])
    assert {usage["unit"] for usage in stats["usage"]} == {"BYTES", "INODES"}
    assert volume_id in ctl(plugin, "list")[0]
    grown = json.loads(ctl(plugin, "expand", volume_id, "--size", "128Mi", "--path", target, "--json")[0])
    assert grown["node"]["capacity_bytes"] == 128 * MIB
    ctl(plugin, "unpublish", volume_id, "--target", target)
    ctl(plugin, "unstage", volume_id, "--staging", staging)
    ctl(plugin, "delete", volume_id)
    assert volume_id not in ctl(plugin, "list")[0]
    staging.rmdir()
    target.parent.rmdir()
    staging.parent.rmdir()


def test_refusal_of_the_plugin_has_its_code(plugin, client):
    shown, said = ctl(plugin, "get", "nothing", "--json", code=1)
    assert json.loads(shown)["code"] == "NOT_FOUND" and "NOT_FOUND: ControllerGetVolume" in said


def test_wrong_usage_is_told_from_refusal(plugin, client):
    assert "64Mo" in ctl(plugin, "create", "x", "--size", "64Mo", code=2)[1]
    assert "staging" in ctl(plugin, "stage", "x", code=2)[1]


def test_every_group_of_commands_has_a_help():
    def run(*words):
        return subprocess.run([program("tdvolctl"), *words], capture_output=True, text=True, check=False)

    for group in ("broker", "volume", "quote", "policy", "collateral", "csi"):
        for flag in ("--help", "-h"):
            shown = run(group, flag)
            assert shown.returncode == 0 and group in shown.stdout and not shown.stderr
        assert run(group).returncode == 2
        assert run(group, "no-such").returncode == 2
    of_all = [line for line in run("--help").stdout.splitlines() if line.startswith("  volume")]
    of_group = [line for line in run("volume", "--help").stdout.splitlines() if line.startswith("  ")]
    assert of_group == of_all and len(of_all) > 5
    assert "no such command: volume no-such" in run("volume", "no-such").stderr
    assert "no such command: volumes" in run("volumes", "list").stderr
