#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the programs of a Kubernetes cluster from the Go proxy, and the images of its pods, below .cache.

    tests/kubernetes/build.py [api]       api: only what a test of the API server needs

What is there is not built again. From nothing it takes 40 minutes, and 16 GB of Go's caches. Sidecars have
the versions that deploy/chart names, and so has Google's driver for persistent disks, which gets the two tools of
tests/upstream/disks.py. The images hold the programs of the build folder TDVOL_BUILD (build).
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import yaml

import oci
from programs import API, BIN, CACHE, CLUSTER, KUBERNETES, TREE

sys.path += [str(TREE / "tests"), str(TREE / "deploy"), str(TREE / "tests/upstream")]
import disks  # noqa: E402
import helm  # noqa: E402
import program as upstream  # noqa: E402
from imaging import lock  # noqa: E402

BUILD = pathlib.Path(os.environ.get("TDVOL_BUILD", TREE / "build"))
VALUES = yaml.safe_load((TREE / "deploy/chart/values.yaml").read_text())
STACKED = yaml.safe_load((TREE / "deploy/chart/ci/stacked-pd.yaml").read_text())
VERSION = yaml.safe_load((TREE / "deploy/chart/Chart.yaml").read_text())["appVersion"]
NEXT_VERSION = VERSION + "-next"  # the same programs in another image, for an upgrade
REPOSITORY = "registry.example.com/tdvol"
PAUSE, BUSYBOX = "tdvol.test/pause:1", "docker.io/library/busybox:1.37"
# Sidecar: its module, and what else is built from that.
MODULES = {
    "provisioner": ("github.com/kubernetes-csi/external-provisioner", ()),
    "attacher": ("github.com/kubernetes-csi/external-attacher", ()),
    "resizer": ("github.com/kubernetes-csi/external-resizer", ()),
    "snapshotter": ("github.com/kubernetes-csi/external-snapshotter", ("snapshot-controller",)),
}
SNAPSHOTS = VALUES["sidecars"]["snapshotter"]["image"]["tag"]
CRDS = CACHE / f"crds@{SNAPSHOTS}"
TDVOL = ("csi/tdvol-csi", "blockd/tdvol-blockd", "ctl/tdvolctl")


class BuildError(Exception):
    """A step failed; its output is on the terminal."""


def go(*words, folder: pathlib.Path, **environment: str) -> str:
    """Runs go in a folder; returns its output."""
    settings = {"GOFLAGS": "-mod=mod -buildvcs=false", "GOTOOLCHAIN": os.environ.get("GOTOOLCHAIN", "auto")}
    print("$ go", *words, flush=True)
    done = subprocess.run(["go", *map(str, words)], cwd=folder, stdout=subprocess.PIPE, text=True, env=os.environ | settings | environment)
    if done.returncode:
        raise BuildError(f"go {words[0]} {words[-1]}")
    return done.stdout


def module_folder(module: str) -> pathlib.Path:
    """Where the proxy's copy of a module is."""
    return pathlib.Path(json.loads(go("mod", "download", "-json", module, folder=CACHE))["Dir"])


def make_module(folder: pathlib.Path, files: dict[str, str]) -> None:
    """A module with these files that needs Kubernetes. Kubernetes' 33 replacements count only in a main module: so it has
    the same ones, by the published versions."""
    folder.mkdir(exist_ok=True)
    own = (module_folder(f"k8s.io/kubernetes@{KUBERNETES}") / "go.mod").read_text()
    staged = re.findall(r"^\s+(k8s\.io/\S+) => ", own, re.MULTILINE)
    replaced = "".join(f"replace {name} => {name} v0.{KUBERNETES[3:]}\n" for name in staged)
    made = {"go.mod": f"module programs\nrequire k8s.io/kubernetes {KUBERNETES}\n{replaced}"} | files
    for name, text in made.items():
        (folder / name).write_text(text)
    go("mod", "tidy", "-e", folder=folder)


def build_kubernetes(names) -> None:
    missing = [name for name in names if not (BIN / name).exists()]
    if not missing:
        return
    folder = CACHE / "kubernetes"
    if not (folder / "go.sum").exists():
        imports = "".join(f'import _ "k8s.io/kubernetes/cmd/{name}"\n' for name in CLUSTER)
        make_module(folder, {"main.go": f"//go:build tools\n\npackage main\n\n{imports}"})
    flags = f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES}"
    for name in missing:
        go("build", "-o", BIN / name, f"-ldflags={flags}", f"k8s.io/kubernetes/cmd/{name}", folder=folder)


def sidecar_program(sidecar: str) -> pathlib.Path:
    """The program has its version in its name, so another version in the chart builds another."""
    tag = VALUES["sidecars"][sidecar]["image"]["tag"]
    return BIN / f"csi-{sidecar}@{tag}"


def snapshot_controller() -> pathlib.Path:
    return BIN / f"snapshot-controller@{SNAPSHOTS}"


def build_sidecar(sidecar: str) -> None:
    """They are built in a copy of their module, because its replacements would not count elsewhere."""
    program, (module, more) = sidecar_program(sidecar), MODULES[sidecar]
    tag = program.name.partition("@")[2]
    targets = {program: f"csi-{sidecar}"} | {BIN / f"{name}@{tag}": name for name in more}
    if all(path.exists() for path in targets):
        return
    folder = CACHE / program.name
    if not folder.exists():
        shutil.copytree(module_folder(f"{module}/{tag.partition('.')[0]}@{tag}"), folder)
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    if sidecar == "snapshotter":
        client = f"{module}/client/{tag.partition('.')[0]}"  # replaced by a folder that the proxy's copy has not
        go("mod", "edit", f"-dropreplace={client}", f"-require={client}@{tag}", folder=folder)
    for path, name in targets.items():
        go("build", "-o", path, f"-ldflags=-s -w -X main.version={tag}", f"./cmd/{name}", folder=folder, CGO_ENABLED="0")


def build_upstream() -> None:
    if not upstream.path().exists():
        go(*upstream.BUILD[1:], folder=CACHE, GOBIN=str(upstream.path().parent))


def fetch_crds() -> None:
    """The definitions of snapshots."""
    if CRDS.exists():
        return
    module = MODULES["snapshotter"][0] + f"/client/{SNAPSHOTS.partition('.')[0]}@{SNAPSHOTS}"
    found = sorted((module_folder(module) / "config/crd").glob("snapshot.storage*.yaml"))
    CRDS.with_suffix(".new").mkdir(exist_ok=True)
    for path in found:
        (CRDS.with_suffix(".new") / path.name).write_bytes(path.read_bytes())
    CRDS.with_suffix(".new").rename(CRDS)


def node_packages() -> list[str]:
    """Those of the nodes' image."""
    return lock.wanted(TREE / "deploy/packages.txt", "node")


def debian() -> pathlib.Path:
    """The file tree of the nodes' image, without tdvol, as a tar."""
    packages = node_packages()
    path = CACHE / f"debian-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}.tar"
    if not path.exists():
        site = subprocess.run([TREE / "tests/package-source"], check=True, capture_output=True, text=True).stdout.strip()
        leave_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
        command = ["mmdebstrap", "--mode=root", "--format=tar", "--variant=apt", f"--include={','.join(packages)}", *leave_out,
                   '--aptopt=APT::Install-Recommends "false"', "bookworm", f"{path}.new", site]  # fmt: skip
        print("$", *command, flush=True)
        if subprocess.run(command).returncode:
            raise BuildError("mmdebstrap")
        pathlib.Path(f"{path}.new").rename(path)
    return path


def stripped(program: pathlib.Path) -> bytes:
    made = CACHE / f"stripped.{os.getpid()}"
    subprocess.run(["strip", "-o", made, program], check=True)
    data = made.read_bytes()
    made.unlink()
    return data


def pause_program() -> bytes:
    """It holds a pod's namespaces open, and does nothing else."""
    made = CACHE / f"pause.{os.getpid()}"
    source = b"int pause(void); int main(void) { for (;;) pause(); }"
    subprocess.run(["cc", "-static", "-Os", "-x", "c", "-o", made, "-"], input=source, check=True)
    data = made.read_bytes()
    made.unlink()
    return data


def busybox() -> bytes:
    names = subprocess.run(["/bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    program = pathlib.Path("/bin/busybox").read_bytes()
    links = {f"bin/{name}": "busybox" for name in names if name != "busybox"}
    return oci.layer({"bin/busybox": program}, links, ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "var", "run"))


def upstream_files() -> dict[str, bytes]:
    """Google's driver as its image has it, with our tools: they know the disks of the lab (tests/upstream/disks.py)."""
    tools = {f"{disks.TOOLS}/{name}".lstrip("/"): text.encode() for name, text in disks.TOOL_FILES.items()}
    return {upstream.NAME: upstream.path().read_bytes()} | tools


def archive_of(kind: str, parts: list[str]) -> pathlib.Path:
    """The place of an archive of images, which is named after what is in it."""
    return CACHE / f"{kind}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:12]}.tar"


def write_archive(archive: oci.Archive, path: pathlib.Path) -> pathlib.Path:
    """Writes it in place of the former one of its kind."""
    for old in CACHE.glob(f"{path.stem.rpartition('-')[0]}-*.tar"):
        old.unlink()
    archive.write(path)
    return path


def write_images() -> pathlib.Path:
    """All images in one archive, named after what is in it."""
    base = debian()
    own = {f"usr/bin/{pathlib.Path(name).name}": stripped(BUILD / name) for name in TDVOL}
    pd = upstream_files()
    parts = [base.name, *(hashlib.sha256(data).hexdigest() for data in [*own.values(), *pd.values()]),
             *(sidecar_program(name).name for name in MODULES)]  # fmt: skip
    path = archive_of("images", parts)
    if path.exists():
        return path
    archive, tree = oci.Archive(), base.read_bytes()
    for version in (VERSION, NEXT_VERSION):
        archive.add(f"{REPOSITORY}:{version}", "tdvol-csi", tree, oci.layer(own | {"etc/tdvol-image": version.encode()}))
    for sidecar in MODULES:
        image = VALUES["sidecars"][sidecar]["image"]
        program = oci.layer({f"csi-{sidecar}": sidecar_program(sidecar).read_bytes()}, folders=("tmp", "dev", "proc", "sys", "etc", "run", "var"))
        archive.add(f"{image['repository']}:{image['tag']}", f"/csi-{sidecar}", program)
    image = STACKED["upstream"]["image"]
    archive.add(f"{image['repository']}:{image['tag']}", f"/{upstream.NAME}", tree, oci.layer(pd))
    archive.add(PAUSE, "/pause", oci.layer({"pause": pause_program()}))
    archive.add(BUSYBOX, "/bin/sh", busybox())
    return write_archive(archive, path)


def build_api() -> None:
    BIN.mkdir(parents=True, exist_ok=True)
    build_kubernetes(API)
    fetch_crds()
    helm.build()


def build_all() -> None:
    build_api()
    build_kubernetes(CLUSTER)
    for sidecar in MODULES:
        build_sidecar(sidecar)
    build_upstream()
    print(write_images())


if __name__ == "__main__":
    try:
        build_api() if sys.argv[1:] == ["api"] else build_all()
    except (BuildError, helm.HelmMissing, subprocess.CalledProcessError) as error:
        sys.exit(f"tests/kubernetes/build.py: {error}")
