# SPDX-License-Identifier: Apache-2.0
"""Which libraries the programs of an image need, and whether they are in it."""

import re
import subprocess
import tarfile
import tempfile

from imaging import layer

LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64")


def libraries_of(content: bytes) -> list[str]:
    """The names of the libraries that an ELF file is linked with."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        done = subprocess.run(["readelf", "-dW", file.name], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"})
    return re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", done.stdout)


def faults(entries: dict[str, layer.Entry]):
    """Libraries that programs or other libraries need, but that are missing."""
    known = {}
    for path, entry in sorted(entries.items()):
        if entry.kind != tarfile.REGTYPE or entry.data[:4] != b"\x7fELF":
            continue
        for name in libraries_of(entry.data):
            if name not in known:
                known[name] = any(layer.resolve(entries, f"{folder}/{name}") for folder in LIBRARY_FOLDERS)
            if not known[name]:
                yield f"{path} needs {name}, which no package of the image has: see deploy/packages.txt and FOR_SCRIPTS"
