# SPDX-License-Identifier: Apache-2.0
"""Python classes for the .proto files, generated into the build folder."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

TREE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TDVOL_BUILD", TREE / "build"))
FOLDER = BUILD / "python"
NAMES = ("csi", "keybroker", "pluginregistration")
# "bytes record = 1;  // Record": encoded messages. On the wire there is no difference, so that the tests
# read and write them with Google's library: what record/encoding.c makes and takes must be protobuf.
ENCODED = re.compile(r"\bbytes (\w+ = \d+;  // (Record|VolumeSpec|Change)\b)")


def generate() -> None:
    """Generates what is missing or older than its source. Call it outside the slow test kernel."""
    stale = [
        name
        for name in NAMES
        if not (FOLDER / f"{name}_pb2_grpc.py").exists()
        or (FOLDER / f"{name}_pb2_grpc.py").stat().st_mtime < (TREE / f"proto/{name}.proto").stat().st_mtime
    ]
    if not stale:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    typed = FOLDER / "proto"
    typed.mkdir(exist_ok=True)
    for name in stale:
        text = (TREE / f"proto/{name}.proto").read_text()
        (typed / f"{name}.proto").write_text(ENCODED.sub(r"\2 \1", text))
    well_known = pathlib.Path(importlib.util.find_spec("grpc_tools").origin).parent / "_proto"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{typed}", f"-I{well_known}", "-I/usr/include",
         f"--python_out={FOLDER}", f"--grpc_python_out={FOLDER}", *(f"{name}.proto" for name in stale)],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    generate()
