# SPDX-License-Identifier: Apache-2.0
"""The images of the last commit: two builds are equal, and what is in them runs. tests/run image runs this.

Each build is of a clone of its own, in another folder, with another mask, locale, time zone, host name and
number of compilers, and unpacks its own compiler. Both take some minutes. They need root, or user namespaces.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "deploy"))
from imaging import layer, lock, measurements, oci, sbom  # noqa: E402

SPDX_TOOLS = "spdx-tools==0.8.5"
FOLDERS = {"one": "one", "other": "other/folder with a longer name"}
CIRCUMSTANCES = {
    "one": ("umask 022; exec {}", {"LC_ALL": "C", "TZ": "UTC", "HOME": "/root"}, 2),
    "other": ("umask 077; hostname other.example.com; exec {}",
              {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu", "HOME": "/nonexistent", "USER": "somebody",
               "CFLAGS": "-O0", "SOURCE_DATE_EPOCH": "1", "TAR_OPTIONS": "--mtime=@5", "GZIP": "-1"}, 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """The folders with what both builds made."""
    top = tmp_path_factory.mktemp("image")
    kept = TREE / ".cache/image/debs"
    kept.mkdir(parents=True, exist_ok=True)
    made = {}
    for folder in FOLDERS.values():  # both first, because somebody may commit during a build
        subprocess.run(["git", "clone", "-q", "--no-local", TREE, top / folder], check=True)
    for name, (shell, environment, jobs) in CIRCUMSTANCES.items():
        clone, cache, made[name] = top / FOLDERS[name], top / f"cache-{name}", top / f"made-{name}"
        cache.mkdir()
        (cache / "debs").symlink_to(kept)  # each file is checked by its digest when it is used
        command = f'deploy/image build --jobs {jobs} --output "{made[name]}"'
        done = subprocess.run(["unshare", "--uts", "sh", "-euc", shell.format(command)], cwd=clone, capture_output=True, text=True,
                              env=os.environ | environment | {"TDVOL_IMAGE_CACHE": str(cache)})  # fmt: skip
        shutil.rmtree(cache)
        assert done.returncode == 0, done.stdout + done.stderr
        print(done.stdout)
    yield made
    shutil.rmtree(top)


def archives(folder):
    return {path.name: oci.Image(path) for path in sorted(folder.glob("*.oci.tar"))}


def test_two_builds_are_equal(builds):
    one, other = (archives(builds[name]) for name in FOLDERS)
    assert len(one) == 2 and one.keys() == other.keys()
    for name, image in one.items():
        assert not list(oci.differences(image, other[name]))
    for path in sorted(builds["one"].iterdir()):
        assert path.read_bytes() == (builds["other"] / path.name).read_bytes(), path.name


def test_a_build_verifies_against_the_measurements_of_the_other(builds):
    published = next(builds["one"].glob("*.measurements.json"))
    done = subprocess.run([TREE / "deploy/image", "verify", published, "--archives", builds["other"]], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("equal: ") == 2, done.stdout + done.stderr
    wrong = builds["one"].parent / "wrong.json"
    digest = measurements.read(published)["images"]["tdvol"]["programs"]["tdvol-csi"]["sha384"]
    wrong.write_text(published.read_text().replace(digest, "0" * 96))
    done = subprocess.run([TREE / "deploy/image", "verify", wrong, "--archives", builds["other"]], capture_output=True, text=True)
    assert done.returncode == 1 and "differs: tdvol: programs: tdvol-csi: sha384" in done.stdout, done.stdout


def test_the_images_have_nothing_needless(builds):
    for name, image in archives(builds["one"]).items():
        entries = image.entries()
        assert sum(len(entry[-1]) for entry in entries.values()) < 72e6, name
        assert not [path for path in entries if path.startswith(("var/cache", "var/lib/apt", "var/log", "usr/share/man", "etc/machine-id"))]
        assert not [path for path in entries if path.startswith("usr/share/doc/") and path.count("/") > 3 and not path.endswith("copyright")]
        assert not [path for path, entry in entries.items() if int(entry[1], 8) & 0o6000 or entry[2] or entry[3]]
        has_shell = "broker" in name  # for the demonstration in deploy/kubernetes/broker.yaml
        assert ("usr/bin/sh" in entries) is has_shell
        assert image.config["config"]["User"] == ("65532:65532" if has_shell else "0:0")


def test_labels_and_version_name_the_commit(builds):
    commit = measurements.read(next(builds["one"].glob("*.measurements.json")))["revision"]
    assert len(commit) == 40
    for image in archives(builds["one"]).values():
        labels = image.config["config"]["Labels"]
        assert labels["org.opencontainers.image.revision"] == commit
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert image.manifest["annotations"] == labels
        program = image.config["config"]["Entrypoint"][0].lstrip("/")
        assert f"(revision {commit[:12]})".encode() in image.entries()[program][-1]
        assert str(TREE).encode() not in image.entries()[program][-1]


def test_sboms_are_complete_and_valid(builds):
    locked = lock.read(TREE / "deploy/image.lock")
    for image, chosen in (("tdvol", "node"), ("tdvol-broker", "broker")):
        archive = next(builds["one"].glob(f"{image}-[0-9]*.oci.tar"))
        beside = next(builds["one"].glob(f"{image}-[0-9]*.spdx.json")).read_bytes()
        entries = oci.Image(archive).entries()
        assert oci.file_of(entries, measurements.SBOM_PLACE) == beside and not list(sbom.faults(beside))
        status = {path.rsplit("/", 1)[1] for path in entries if path.startswith("var/lib/dpkg/status.d/")}
        assert status == {package.name for package in locked.of(chosen)}
        for package in locked.of(chosen):
            assert f'"{sbom.purl(package, "amd64").split("?")[0]}?'.encode() in beside or b"arch=all" in beside


def test_sboms_are_valid_by_the_tools_of_spdx(builds):
    venv = TREE / ".cache/spdx-tools"
    if not (venv / "bin/pyspdxtools").exists():
        for step in ([sys.executable, "-m", "venv", venv], [venv / "bin/pip", "install", "-q", SPDX_TOOLS]):
            if subprocess.run(step, capture_output=True).returncode:
                shutil.rmtree(venv, ignore_errors=True)
                pytest.skip(f"{SPDX_TOOLS} cannot be installed")
    for path in builds["one"].glob("*.spdx.json"):
        done = subprocess.run([venv / "bin/pyspdxtools", "-i", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    broken = builds["one"].parent / "broken.spdx.json"
    broken.write_text(path.read_text().replace("SPDX-2.3", "SPDX-9"))
    assert subprocess.run([venv / "bin/pyspdxtools", "-i", broken], capture_output=True).returncode


def unpack(image, folder):
    """The image as a container would have it."""
    for path, (kind, mode, *_, link, data) in sorted(image.entries().items()):
        target = folder / path
        if kind == layer.tarfile.DIRTYPE.decode():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == layer.tarfile.SYMTYPE.decode():
            target.symlink_to(link)
        else:
            target.write_bytes(data if kind == layer.tarfile.REGTYPE.decode() else (folder / link).read_bytes())
            target.chmod(int(mode, 8))
    return folder


def inside(root, user, *words, **options):
    setpriv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if os.geteuid() == 0 else []
    command = [*setpriv, "unshare", "--map-root-user", "chroot", root, *words]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, **options)


def test_programs_and_tools_run_in_the_node_image(builds, tmp_path):
    root = unpack(archives(builds["one"])["tdvol-" + version(builds) + ".oci.tar"], tmp_path / "root")
    (root / "disk").write_bytes(b"\0" * (320 << 20))
    (root / "proc/self").mkdir()
    for path in ("proc/mounts", "proc/self/mounts"):
        (root / path).write_text("")  # there is no proc here
    for words in (["tdvol-csi", "--version"], ["tdvolctl", "--version"], ["tdvol-csi", "--help"], ["mkfs.ext4", "-q", "/disk"],
                  ["e2fsck", "-f", "-p", "/disk"], ["resize2fs", "/disk"], ["mkfs.xfs", "-q", "-f", "/disk"], ["xfs_repair", "-n", "/disk"],
                  ["xfs_growfs", "-V"], ["thin_check", "-V"], ["modprobe", "--version"], ["mount", "--version"], ["umount", "--version"]):  # fmt: skip
        done = inside(root, 0, *words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"


def version(builds):
    return measurements.read(next(builds["one"].glob("*.measurements.json")))["version"]


@pytest.fixture
def open_folder():
    """One that each user can enter: pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        yield folder


def test_a_broker_serves_from_its_image(builds, open_folder):
    root = unpack(archives(builds["one"])["tdvol-broker-" + version(builds) + ".oci.tar"], open_folder / "root")
    for folder in ("keys", "secrets", "dev"):
        (root / folder).mkdir(exist_ok=True)
        (root / folder).chmod(0o777)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")  # as a container's runtime does
    (root / "dev/null").write_text("")
    (root / "dev/null").chmod(0o666)
    made = inside(root, 65532, "tdvolctl", "broker", "init", "/secrets/broker", "--name", "localhost")
    assert made.returncode == 0, made.stdout + made.stderr
    copied = inside(root, 65532, "sh", "-c", "umask 077; cp -f /secrets/broker/master.key /keys/")
    assert copied.returncode == 0 and (root / "keys/master.key").stat().st_mode & 0o777 == 0o600, copied.stderr
    port = 20000 + os.getpid() % 20000
    setpriv = ["setpriv", "--reuid=65532", "--regid=65532", "--clear-groups"] if os.geteuid() == 0 else []
    broker = subprocess.Popen([*setpriv, "unshare", "--map-root-user", "chroot", root, "tdvol-broker", "--dir", "/secrets/broker",
                               "--listen", f"127.0.0.1:{port}", "--master-key", "/keys/master.key"], stderr=subprocess.PIPE, text=True,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})  # fmt: skip
    try:
        for _ in range(100):
            status = inside(root, 65532, "tdvolctl", "broker", "status", "--broker", f"localhost:{port}", "--broker-ca", "/secrets/broker/ca.crt",
                            "--client-cert", "/secrets/broker/clients/admin.crt", "--client-key", "/secrets/broker/clients/admin.key")  # fmt: skip
            if status.returncode == 0 or broker.poll() is not None:
                break
            time.sleep(0.1)
        assert status.returncode == 0, status.stderr + (broker.stderr.read() if broker.poll() is not None else "")
        assert version(builds) in status.stdout
    finally:
        broker.terminate()
        broker.communicate(timeout=30)
