# SPDX-License-Identifier: Apache-2.0
"""Which Debian packages images are made of, each with its digest: deploy/image.lock.

Versions alone would not do: Debian's mirrors keep only the newest ones, so a build of an old commit could
not have them. The lock names files. They come from a mirror while it has them, and from snapshot.debian.org
afterwards; in both cases only a file with the digest of the lock is taken. apt, which checks Debian's
signatures, is asked only when the lock is made.
"""

import dataclasses
import datetime
import hashlib
import pathlib
import re
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request

RELEASE, ARCHITECTURE = "bookworm", "amd64"  # Trust Domains are of one architecture
SUITES = [("debian", RELEASE), ("debian", f"{RELEASE}-updates"), ("debian-security", f"{RELEASE}-security")]
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://deb.debian.org"
SNAPSHOT = "http://snapshot.debian.org/archive"
DEB_MAX = 1 << 28  # bytes
# The headings of deploy/packages.txt for each set. The build needs three packages that every Debian machine has.
SETS = {
    "broker": (["libraries", "image", "demonstration"], []),
    "node": (["libraries", "image", "run"], []),
    "build": (["build"], ["coreutils", "dash", "gzip"]),
}
# Packages of images depend on these for scripts alone, and images run none: neither the packages' own scripts,
# nor udev, nor reports of e2fsprogs and xfsprogs. libicu is for xfs_scrub alone, which is left out, too.
FOR_SCRIPTS = {"awk", "debconf", "dmsetup", "libicu72", "logsave", "openssl", "python3"}


class LockError(Exception):
    """The packages of an image cannot be had; the text says what to do."""


@dataclasses.dataclass(frozen=True, order=True)
class Package:
    name: str
    version: str
    sha256: str
    path: str  # below a mirror, such as debian/pool/main/a/acl/libacl1_2.3.1-3_amd64.deb
    sets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Lock:
    snapshot: str  # a time of snapshot.debian.org at which all files were there, such as 20261129T120000Z
    packages: tuple[Package, ...]

    def of(self, name: str) -> list[Package]:
        return [package for package in self.packages if name in package.sets]


HEADER = """# SPDX-License-Identifier: Apache-2.0
# The Debian packages of the images and of the build, made by deploy/image lock: sets, name, version, SHA-256, file.
"""
LINE = re.compile(r"(?P<sets>[a-z,]+) (?P<name>[a-z0-9][a-z0-9+.-]+) (?P<version>[0-9][A-Za-z0-9.+:~-]*)"
                  r" (?P<sha256>[0-9a-f]{64}) (?P<path>debian(?:-security)?/pool/[A-Za-z0-9_.+~%/-]+\.deb)")  # fmt: skip


def read(path: pathlib.Path) -> Lock:
    snapshot, packages = "", []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := re.fullmatch(r"snapshot (\d{8}T\d{6}Z)", line):
            snapshot = match[1]
        elif match := LINE.fullmatch(line):
            packages.append(Package(**match.groupdict() | {"sets": tuple(match["sets"].split(","))}))
        elif line and not line.startswith("#"):
            raise LockError(f"{path}:{number}: neither a comment, nor the snapshot, nor a package: {line}")
    names = [package.name for package in packages]
    if not snapshot or len(names) != len(set(names)) or not all(set(package.sets) <= SETS.keys() for package in packages):
        raise LockError(f"{path}: no snapshot, a package twice, or an unknown set: make it again with deploy/image lock")
    return Lock(snapshot, tuple(packages))


def write(path: pathlib.Path, lock: Lock) -> None:
    lines = [f"{','.join(p.sets)} {p.name} {p.version} {p.sha256} {p.path}" for p in sorted(lock.packages)]
    path.write_text("\n".join([HEADER + f"snapshot {lock.snapshot}", *lines]) + "\n")


def wanted(list_file: pathlib.Path, name: str) -> list[str]:
    """The packages of a set that deploy/packages.txt names, without what they depend on."""
    headings, more = SETS[name]
    found, heading = list(more), ""
    for line in list_file.read_text().splitlines():
        if match := re.match(r"# ([a-z]+)(?:$|[: ])", line):
            heading = match[1]
        elif not line:
            heading = ""
        elif heading in headings and not line.startswith("#"):
            found.append(line)
    return sorted(set(found))


def sha256_of(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def download(url: str, target: pathlib.Path) -> str:
    """Fetches a file; returns what was wrong, or nothing."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = answer.read(DEB_MAX + 1)
    except (OSError, urllib.error.URLError) as error:
        return f"{url}: {error}"
    if len(content) > DEB_MAX:
        return f"{url}: longer than {DEB_MAX} bytes"
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(content)
    pathlib.Path(file.name).replace(target)
    return ""


def fetch(package: Package, snapshot: str, mirror: str, folder: pathlib.Path) -> pathlib.Path:
    """The package's file in folder, which keeps files by their digests: from there, a mirror, or the snapshot."""
    target = folder / f"{package.sha256}.deb"
    if target.exists() and sha256_of(target) == package.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    archive, rest = package.path.split("/", 1)
    tried = []
    for url in (f"{mirror}/{package.path}", f"{SNAPSHOT}/{archive}/{snapshot}/{rest}"):
        wrong = download(url, target)
        if not wrong and sha256_of(target) == package.sha256:
            return target
        tried.append(wrong or f"{url}: another file, with the SHA-256 {sha256_of(target)}")
        target.unlink(missing_ok=True)
    raise LockError(f"{package.name} {package.version} cannot be had: {'; '.join(tried)}")


def fetch_all(lock: Lock, mirror: str, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    return {package.name: fetch(package, lock.snapshot, mirror, folder) for package in lock.packages}


def control(deb: pathlib.Path) -> dict[str, str]:
    """The fields of a package, with continued lines joined."""
    done = subprocess.run(["dpkg-deb", "-f", deb], check=True, capture_output=True, text=True)
    fields = re.findall(r"^([A-Za-z-]+):[ ]?(.*(?:\n[ \t].*)*)", done.stdout, re.MULTILINE)
    return dict(fields)


def needed(names: list[str], controls: dict[str, dict[str, str]], without: set[str]) -> set[str]:
    """The packages that names depend on, and themselves. apt chose them: each dependency has one that is there."""
    provided = {}
    for name, fields in controls.items():
        for word in re.findall(r"[a-z0-9][a-z0-9+.-]+(?=\s*(?:[(,]|$))", fields.get("Provides", "")):
            provided.setdefault(word, name)
    found, left = set(), list(names)
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        fields = controls[name]
        for dependency in re.split(r",\s*", ", ".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))):
            choices = [re.split(r"[\s:(]", choice.strip())[0] for choice in dependency.split("|")]
            if not dependency or without & set(choices):
                continue
            there = [name if name in controls else provided.get(name) for name in choices]
            if not any(there):
                raise LockError(f"{name}: nothing was chosen for its dependency {dependency}")
            left.append(next(filter(None, there)))
    return found


def ask_apt(root: pathlib.Path, names: list[str], mirror: str) -> list[tuple[str, str]]:
    """The files that a machine without any package would need for names: paths below the mirror, and digests."""
    for folder in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "lists/partial", "archives/partial"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "status").write_text("")
    sources = "".join(f"deb [signed-by={KEYRING}] {mirror}/{archive} {suite} main\n" for archive, suite in SUITES)
    (root / "etc/apt/sources.list").write_text(sources)
    (root / "apt.conf").write_text(
        f'Dir "{root}"; Dir::State "{root}"; Dir::Cache "{root}"; Dir::State::status "{root}/status";\n'
        f'APT::Architecture "{ARCHITECTURE}"; APT::Architectures {{ "{ARCHITECTURE}"; }};\n'
        'APT::Install-Recommends "false"; APT::Sandbox::User ""; Acquire::Languages "none"; Acquire::ForceHash "SHA256";\n'
    )
    said = ""
    for words in (["update", "-q", "--error-on=any"], ["install", "-qq", "-y", "--print-uris", *names]):
        done = subprocess.run(["apt-get", *words], capture_output=True, text=True,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "APT_CONFIG": str(root / "apt.conf"), "LC_ALL": "C"})  # fmt: skip
        if done.returncode:
            raise LockError(f"apt-get {words[0]}: {done.stderr.strip()}")
        said = done.stdout
    found = re.findall(r"^'([^']+)' \S+ \d+ SHA256:([0-9a-f]{64})$", said, re.MULTILINE)
    return [(urllib.parse.unquote(url.removeprefix(mirror + "/")), digest) for url, digest in found]


def make(list_file: pathlib.Path, mirror: str, folder: pathlib.Path) -> Lock:
    """A lock of the newest packages that the mirror has. Their files are kept in folder."""
    snapshot = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    sets, known = {}, {}
    with tempfile.TemporaryDirectory(prefix="tdvol-apt-") as root:
        for name in SETS:
            names = wanted(list_file, name)
            controls = {}
            for path, digest in ask_apt(pathlib.Path(root), names, mirror):
                deb = fetch(Package(path, "", digest, path, ()), snapshot, mirror, folder)
                fields = control(deb)
                controls[fields["Package"]] = fields
                known[fields["Package"]] = (fields["Version"], digest, path)
            for package in needed(names, controls, set() if name == "build" else FOR_SCRIPTS):
                sets.setdefault(package, []).append(name)
    return Lock(snapshot, tuple(sorted(Package(name, *known[name], tuple(sets[name])) for name in sets)))
