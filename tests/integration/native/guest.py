# SPDX-License-Identifier: Apache-2.0
"""A Trust Domain's side of attestation, simulated: configfs-tsm and the firmware's event log."""

import json
import os
import pathlib
import subprocess

import pytest
import stubs

SIMULATOR = stubs.BUILD / "tests/sim/tdvol-sim"


def simulator(*arguments) -> str:
    return subprocess.run(
        [SIMULATOR, *map(str, arguments)], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def need() -> None:
    """Skips where it cannot be mounted."""
    if not SIMULATOR.exists():
        pytest.skip("no tdvol-sim: built with -Dsimulator=true only")
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("needs root and /dev/fuse")


class Guest:
    """What a TD has in its file system; `td` describes it as tdvol-sim wants it."""

    def __init__(self, folder: pathlib.Path, td: dict | None = None, latency_ms: int = 0):
        need()
        self.pki, self.root = folder / "pki", folder / "tsm"
        self.description, self.log = folder / "td.json", folder / "CCEL"
        self.root.mkdir()
        self.description.write_text(json.dumps(td or {}))
        simulator("pki", self.pki)
        if td and "events" in td:
            simulator("ccel", "--td", self.description, "--out", self.log)
        self.process = subprocess.Popen(
            [SIMULATOR, "tsm", self.root, "--pki", self.pki, "--td", self.description,
             "--latency-ms", str(latency_ms)], stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout.readline().startswith("mounted on")

    def fault(self, name: str) -> None:
        """NAME or NAME=COUNT, until the next."""
        (self.root / ".control").write_text(name)

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if path.is_dir())

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=20) == 0
        self.process.stdout.close()
        assert not os.path.ismount(self.root)
