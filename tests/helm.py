# SPDX-License-Identifier: Apache-2.0
"""The pinned helm, which is built from the Go proxy at the first time."""

import os
import pathlib
import shutil
import subprocess

VERSION = "v3.22.0"
PROGRAM = pathlib.Path(__file__).resolve().parents[1] / f".cache/helm@{VERSION}/helm"


class HelmMissing(Exception):
    """It could not be built; the text says why."""


def build() -> pathlib.Path:
    """Returns the program."""
    if PROGRAM.exists():
        return PROGRAM
    if not shutil.which("go"):
        raise HelmMissing("go is not installed, so helm cannot be built")
    done = subprocess.run(
        ["go", "install", f"helm.sh/helm/v3/cmd/helm@{VERSION}"], capture_output=True, text=True, cwd="/",
        env=os.environ | {"GOBIN": str(PROGRAM.parent), "GOFLAGS": "-mod=mod"},
    )  # fmt: skip
    if done.returncode:
        raise HelmMissing(f"helm {VERSION} could not be built: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    return PROGRAM
