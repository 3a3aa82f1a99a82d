# SPDX-License-Identifier: Apache-2.0
"""What the suites of tests/run are made of: programs that must be there, commands whose output goes to a log, builds."""

import importlib.util
import os
import pathlib
import shutil
import subprocess

from builds import BUILD, TREE

LOGS = BUILD / "test-logs"


class BuildError(Exception):
    """The tree does not build: no test of this suite can run."""


class Missing(Exception):
    """A program is not installed: this suite is skipped, and the last lines say so."""


def need(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"{program} is not installed")


def need_modules(*modules: str) -> None:
    for module in modules:
        if not importlib.util.find_spec(module):
            raise Missing(f"the Python module {module} is not installed")


def run(log: pathlib.Path, command: list[str], **environment: str) -> int:
    """Runs command with its output appended to log; returns its exit code."""
    with log.open("ab") as output:
        output.write(f"$ {' '.join(map(str, command))}\n".encode())
        output.flush()
        return subprocess.run(
            command, cwd=TREE, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=os.environ | environment,
        ).returncode  # fmt: skip


def build(log: pathlib.Path, folder: pathlib.Path, options: list[str], *targets: str, **environment: str) -> None:
    """Brings one build folder up to date: the named targets, or all that are built by default."""
    need("meson", "ninja", "protoc-c", environment.get("CC", "cc"))
    step = "configure" if (folder / "build.ninja").exists() else "setup"
    if run(log, ["meson", step, folder, "-Dwerror=true", *options], **environment):
        raise BuildError(f"meson {step} {folder.name}")
    if run(log, ["ninja", "-C", folder, *targets]):
        raise BuildError(f"ninja -C {folder.name}")


def go_install(log: pathlib.Path, target: pathlib.Path, command: list[str]) -> None:
    """Builds a Go program in its folder if it is missing."""
    if target.exists():
        return
    need("go")
    # Modules need a newer Go, which Debian's Go fetches only with GOTOOLCHAIN=auto.
    if run(log, command, GOBIN=str(target.parent), GOFLAGS="-mod=mod", GOTOOLCHAIN=os.environ.get("GOTOOLCHAIN", "auto")):
        raise BuildError(f"go install {target.name}")
