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
NAMES = ("addons", "csi", "encryptionkeyrotation", "keybroker", "pluginregistration")
# "bytes record = 1;  // Record" holds an encoded message, which is the same on the wire as a message field. So
# the tests read and write it with Google's library, which proves that record/encoding.c uses protobuf.
ENCODED = re.compile(r"\bbytes (\w+ = \d+;  // (Record|VolumeSpec|Change)\b)")


def generate() -> None:
    """Generates the classes that are missing or older than their source. Call it outside the slow test kernel."""
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
