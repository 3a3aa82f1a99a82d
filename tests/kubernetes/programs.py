# SPDX-License-Identifier: Apache-2.0
"""Where the programs of Kubernetes are, or will be once build.py has built them."""

import os
import pathlib

TREE = pathlib.Path(__file__).resolve().parents[2]
KUBERNETES = "v1.37.2"
CACHE = pathlib.Path(os.environ.get("TDVOL_KUBERNETES", TREE / f".cache/kubernetes@{KUBERNETES}"))
BIN = CACHE / "bin"
API = ("kube-apiserver", "kubectl")  # what a test of the API server needs
CLUSTER = (*API, "kube-controller-manager", "kube-scheduler", "kubelet")


def has_api() -> bool:
    return all((BIN / name).exists() for name in API)
