# SPDX-License-Identifier: Apache-2.0
"""Debian's prometheus and promtool. If they are not installed, the package is unpacked into .cache."""

import pathlib
import shutil
import subprocess

CACHE = pathlib.Path(__file__).resolve().parents[1] / ".cache/promtool"


class PrometheusMissing(Exception):
    """The package could not be fetched."""


def program(name: str) -> str:
    """The path of "prometheus" or "promtool"."""
    if found := shutil.which(name):
        return found
    path = CACHE / "usr/bin" / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        for command in (["apt-get", "download", "prometheus"], ["sh", "-c", "dpkg-deb -x prometheus_*.deb ."]):
            if shutil.which(command[0]) is None or subprocess.run(command, cwd=CACHE, capture_output=True).returncode:
                raise PrometheusMissing("the package prometheus cannot be fetched")
    return str(path)
