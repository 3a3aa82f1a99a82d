#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs pytest over the flows in namespaces of its own, as root: tests/kubernetes/run.py [PYTEST-ARGUMENT...]

Network, mounts and processes are in namespaces that end with this program, however it ends. build.py made the
programs before. Environment: TDVOL_BUILD, the build folder; TDVOL_KUBERNETES_MEM, the memory of a node (3G)."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
ENTER = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]

if __name__ == "__main__":
    has_files = any(pathlib.Path(word.partition("::")[0]).exists() for word in sys.argv[1:])
    command = [*ENTER, sys.executable, "-m", "pytest", "-c", str(HERE / "pytest.ini"), *sys.argv[1:], *([] if has_files else [str(HERE)])]
    os.environ["TDVOL_INSIDE"] = "1"
    os.execvp(command[0], command)
