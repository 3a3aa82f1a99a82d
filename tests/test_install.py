#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that "meson install" installs exactly the expected files, and that they work.

    test_install.py BUILD_FOLDER PREFIX
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

WANTED = {
    "bin/tdvolctl",
    "lib/systemd/system/tdvol-broker.service",
    "lib/systemd/system/tdvol-csi.service",
    "sbin/tdvol-blockd",  # tdvol-csi looks for it in its own folder
    "sbin/tdvol-broker",
    "sbin/tdvol-csi",
    "share/bash-completion/completions/tdvolctl",
    "share/man/man1/tdvolctl.1",
    "share/man/man8/tdvol-blockd.8",
    "share/man/man8/tdvol-broker.8",
    "share/man/man8/tdvol-csi.8",
    "share/tdvol/policy.schema.json",
    "share/tdvol/tdvol-broker.logrotate",
}
COMPLETE = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tdvolctl; echo "${COMPREPLY[*]}"'


def completed(script: pathlib.Path, *words: str) -> list[str]:
    done = subprocess.run(["bash", "-c", COMPLETE, "-", script, *words], check=True, capture_output=True, text=True)
    return done.stdout.split()


def faults_in(root: pathlib.Path, prefix: str):
    found = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    yield from (f"missing: {name}" for name in sorted(WANTED - found))
    yield from (f"not expected: {name}" for name in sorted(found - WANTED))
    if found != WANTED:
        return

    page = (root / "share/man/man1/tdvolctl.1").read_text()
    for part in (".SH tdvolctl csi snapshot create\n", ".SH tdvolctl broker init\n", "\\fB\\-\\-broker\\-ca\\fR \\fIFILE\\fR\n"):
        if part not in page:
            yield f"tdvolctl.1 lacks {part.strip()}"
    script = root / "share/bash-completion/completions/tdvolctl"
    for words, wanted in (
        (["tdvolctl", "po"], ["policy"]),
        (["tdvolctl", "policy", ""], ["check", "test"]),
        (["tdvolctl", "csi", "snapshot", "d"], ["delete"]),
        (["tdvolctl", "broker", "init", "--n"], ["--name"]),
        (["tdvolctl", "csi", "create", "x", "--access-mode", "multi-node-r"], ["multi-node-reader-only"]),
        (["tdvolctl", "policy", "check", ""], []),  # a file name: the shell's own completion
    ):
        if (got := completed(script, *words)) != wanted:
            yield f"completion of {words} gives {got}, expected is {wanted}"
    for name in ("tdvol-broker", "tdvol-csi"):
        yield from faults_of_unit(root, prefix, name)
    yield from faults_of_rotation((root / "share/tdvol/tdvol-broker.logrotate").read_text())


def faults_of_unit(root: pathlib.Path, prefix: str, name: str):
    """systemd reads it, where it is installed."""
    text = (root / f"lib/systemd/system/{name}.service").read_text()
    if f"ExecStart={prefix}/sbin/{name} " not in text:
        yield f"{name}.service does not start the installed program"
    if not shutil.which("systemd-analyze"):
        return
    with tempfile.TemporaryDirectory() as folder:
        unit = pathlib.Path(folder) / f"{name}.service"
        unit.write_text(text.replace(f"{prefix}/sbin/", f"{root}/sbin/"))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
        yield from (f"systemd: {line}" for line in done.stderr.splitlines() if f"{name}.service" in line)


def faults_of_rotation(text: str):
    """logrotate reads it; where logrotate is missing, only that SIGHUP follows a rename, not a copy."""
    if not ("nocopytruncate" in text and "nocreate" in text and "systemctl reload tdvol-broker.service" in text):
        yield "tdvol-broker.logrotate does not rename the file and reload the broker"
    if not shutil.which("logrotate"):
        return
    with tempfile.NamedTemporaryFile("w") as file, tempfile.NamedTemporaryFile() as state:
        file.write(text)
        file.flush()
        done = subprocess.run(["logrotate", "-d", "-s", state.name, file.name], capture_output=True, text=True)
        if done.returncode or "error:" in done.stderr:
            yield f"logrotate: {done.stderr}"


def main() -> int:
    build, prefix = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["meson", "install", "-C", build, "--no-rebuild", "--destdir", folder],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        faults = list(faults_in(pathlib.Path(folder + prefix), prefix)) if done.returncode == 0 else [done.stdout]
    print("\n".join(faults) if faults else "no fault")
    return 1 if faults else 0


sys.exit(main())
