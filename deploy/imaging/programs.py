# SPDX-License-Identifier: Apache-2.0
"""Builds the programs of a commit with the compiler and the libraries of the lock, and with nothing of this machine.

The packages are unpacked into a folder; the build runs with it as its root, without a network, at fixed
paths. It needs root, or a user who may make namespaces.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tarfile

PROGRAMS = {"tdvol-csi": "csi", "tdvol-blockd": "blockd", "tdvol-broker": "broker", "tdvolctl": "ctl"}
LINKS = {folder: f"usr/{folder}" for folder in ("bin", "sbin", "lib", "lib64")}
NOT_UNPACKED = ["./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/share/info"]
# PATH and the like are those of the build alone.
ENVIRONMENT = {"PATH": "/usr/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8", "TZ": "UTC", "CC": "gcc", "PYTHONDONTWRITEBYTECODE": "1"}
BUILD = """set -eu
umask 022
meson setup /build /src --buildtype=release -Db_lto=true --prefix=/usr -Dwerror=false -Drevision="$REVISION"
ninja -C /build -j "$JOBS" $TARGETS
cd /build
strip $TARGETS
"""


class BuildError(Exception):
    """The programs cannot be built; the text says why."""


def unpack(debs: list[pathlib.Path], cache: pathlib.Path) -> pathlib.Path:
    """The folder with the packages of the build, made at the first time, and whole if it has its name."""
    root = cache / ("root-" + hashlib.sha256("\n".join(sorted(deb.stem for deb in debs)).encode()).hexdigest()[:16])
    if root.exists():
        return root
    new = root.with_suffix(f".new.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    for folder in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "src", "build", "tmp", "dev"):
        (new / folder).mkdir(parents=True)
    new.chmod(0o755)
    for link, target in LINKS.items():
        (new / link).symlink_to(target)
    for deb in debs:
        files = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        done = subprocess.run(["tar", "-x", "-C", new, "--keep-directory-symlink", "--no-same-owner", "-p",
                               *[f"--exclude={path}" for path in NOT_UNPACKED]], stdin=files.stdout)  # fmt: skip
        if files.wait() or done.returncode:
            raise BuildError(f"{deb} cannot be unpacked into {new}")
    if not (new / "usr/bin/sh").exists():
        (new / "usr/bin/sh").symlink_to("dash")  # dash's script makes it
    new.rename(root)
    return root


def inside(root: pathlib.Path, mounts: dict[pathlib.Path, str], script: str, log, stdin=None, stdout=None, **environment: str) -> int:
    """Runs a script with root as its root; mounts: folders and where they are in it."""
    steps = ["mount --make-rprivate /", 'mount --rbind /dev "$0/dev"', 'mount -t tmpfs tmpfs "$0/tmp"']
    words = [str(root)]
    for folder, place in mounts.items():
        words.append(str(folder))
        steps.append(f'mount --bind "${len(words) - 1}" "$0{place}"')
    values = [f"{name}={value}" for name, value in (ENVIRONMENT | environment).items()]
    words += ["chroot", str(root), "/usr/bin/env", "-i", *values, "/usr/bin/sh", "-c", script]
    steps.append(f'shift {len(mounts)}; exec "$@"')
    namespaces = ["--mount", "--net", "--ipc", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    return subprocess.run(["unshare", *namespaces, "sh", "-euc", "; ".join(steps), *words],
                          stdin=stdin or subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                          env=os.environ | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}).returncode  # fmt: skip


def export(tree: pathlib.Path, revision: str, target: pathlib.Path) -> None:
    """The files of a commit. What is changed in the tree and not committed is not in them."""
    git = subprocess.Popen(["git", "-C", tree, "archive", "--format=tar", revision], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=git.stdout, mode="r|") as tar:
        tar.extractall(target)
    if git.wait():
        raise BuildError(f"git archive {revision} failed")


def build(root: pathlib.Path, source: pathlib.Path, work: pathlib.Path, revision: str, jobs: int, epoch: int) -> dict[str, bytes]:
    """The stripped programs, by their names. work: an empty folder, which keeps the log of a build that fails."""
    (work / "build").mkdir()
    targets = [f"{folder}/{name}" for name, folder in PROGRAMS.items()]
    with (work / "log").open("w") as log:
        status = inside(root, {source: "/src", work / "build": "/build"}, BUILD, log, REVISION=revision, JOBS=str(jobs),
                        TARGETS=" ".join(targets), SOURCE_DATE_EPOCH=str(epoch))  # fmt: skip
    if status:
        raise BuildError(f"the build ended with {status}:\n" + "\n".join((work / "log").read_text().splitlines()[-40:]))
    return {name: (work / "build" / folder / name).read_bytes() for name, folder in PROGRAMS.items()}


def compress(root: pathlib.Path, content: bytes, work: pathlib.Path) -> bytes:
    """By the gzip of the lock: another version, or another library, would give other bytes."""
    plain, packed = work / "layer.tar", work / "layer.tar.gz"
    plain.write_bytes(content)
    with plain.open("rb") as source, packed.open("wb") as target, (work / "log").open("a") as log:
        if inside(root, {}, "exec gzip -9 -n -c", log, stdin=source, stdout=target):
            raise BuildError("gzip failed: " + (work / "log").read_text()[-1000:])
    return packed.read_bytes()
