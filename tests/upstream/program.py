# SPDX-License-Identifier: Apache-2.0
"""The program of Google's persistent disk driver, unmodified, and how it is built."""

import os
import pathlib

TREE = pathlib.Path(__file__).resolve().parents[2]
DRIVER = "pd.csi.storage.gke.io"
VERSION = "v1.28.1"
NAME = "gce-pd-csi-driver"
MODULE = f"sigs.k8s.io/gcp-compute-persistent-disk-csi-driver/cmd/{NAME}@{VERSION}"


def path() -> pathlib.Path:
    """Where it is, or will be once it is built."""
    return pathlib.Path(os.environ.get("TDVOL_UPSTREAM_DRIVER", TREE / f".cache/upstream/{NAME}@{VERSION}/{NAME}"))


# The driver does not start without its version, so it is set at link time.
BUILD = ["go", "install", "-ldflags", f"-s -w -X main.version={VERSION}", MODULE]
