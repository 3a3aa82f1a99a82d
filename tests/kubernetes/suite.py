# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' suite for CSI drivers, "External Storage", as a program, and the images of its pods, below .cache."""

import hashlib
import pathlib
import re
import subprocess

import build
import oci
from programs import BIN, CACHE, KUBERNETES

SUITE = pathlib.Path(__file__).resolve().parent / "external-storage"
PROGRAM, GINKGO, AGNHOST, CRICTL = BIN / "external.test", BIN / "ginkgo", BIN / "agnhost", BIN / "crictl"
CRI_TOOLS = "sigs.k8s.io/cri-tools/cmd/crictl@v1.37.0"  # some tests stop containers by it
FOLDER = CACHE / "external-storage"
REGISTRY = "registry.k8s.io/e2e-test-images"
# Of these images the tests use the shell and programs of a distribution, nothing else: they are the nodes' Debian.
DISTRIBUTIONS = ("glibc-dns-testing", "nginx")
TOOLS = ("k8s.io/kubernetes/test/images/agnhost", "github.com/onsi/ginkgo/v2/ginkgo")


def sources() -> dict[str, str]:
    imports = "".join(f'import _ "{name}"\n' for name in TOOLS)
    return {"tools.go": f"//go:build tools\n\npackage external\n\n{imports}", "external_test.go": (SUITE / "external_test.go").read_text()}


def build_programs() -> None:
    """They are built when they are missing, or when the test changed."""
    if not CRICTL.exists():
        build.go("install", "-ldflags=-s -w", CRI_TOOLS, folder=BIN, GOBIN=str(BIN), GOFLAGS="-buildvcs=false")
    wanted = sources()
    is_same = all((FOLDER / name).exists() and (FOLDER / name).read_text() == text for name, text in wanted.items())
    if is_same and all(path.exists() for path in (PROGRAM, GINKGO, AGNHOST)):
        return
    for path in (PROGRAM, GINKGO, AGNHOST):
        path.unlink(missing_ok=True)
    build.make_module(FOLDER, wanted)
    flags = f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES}"
    build.go("build", "-o", AGNHOST, flags, TOOLS[0], folder=FOLDER)
    build.go("build", "-o", GINKGO, flags, TOOLS[1], folder=FOLDER)
    build.go("test", "-c", "-o", PROGRAM, flags, ".", folder=FOLDER)


def image_names(program: str) -> list[str]:
    """Names of an image of Kubernetes' tests, one for each version that they use."""
    listed = subprocess.run([PROGRAM, "--list-images"], check=True, capture_output=True, text=True).stdout.split()
    return sorted(name for name in listed if name.startswith(f"{REGISTRY}/{program}:"))


def write_images() -> pathlib.Path:
    """The images in one archive, named after what is in it."""
    base = build.debian()
    distribution, agnhost, shell = base.read_bytes(), oci.layer({"agnhost": AGNHOST.read_bytes()}), build.busybox()
    images = {"busybox": ("/bin/sh", shell), "agnhost": ("/agnhost", distribution, agnhost)}
    images |= {program: ("/bin/sh", distribution) for program in DISTRIBUTIONS}
    names = {name: program for program in images for name in image_names(program)}
    parts = [base.name, *(hashlib.sha256(layer).hexdigest() for layer in (agnhost, shell)), *names]
    path = build.archive_of("external-images", parts)
    if path.exists():
        return path
    archive = oci.Archive()
    for name, program in names.items():
        archive.add(name, *images[program])
    return build.write_archive(archive, path)
