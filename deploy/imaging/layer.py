# SPDX-License-Identifier: Apache-2.0
"""The files of an image: from Debian packages, whose scripts never run, and of our own.

The same entries give the same bytes, in whatever order they came: no time, owner, mask or folder of this
machine is in them.
"""

import dataclasses
import io
import pathlib
import re
import stat
import subprocess
import tarfile

MERGED = re.compile(r"(bin|sbin|lib|lib32|lib64|libx32)(?=/|$)")  # links to usr/..., as on each Debian 12
# Never read in an image. Licenses (usr/share/doc/*/copyright, and common-licenses) stay.
LEFT_OUT = re.compile(
    r"usr/share/(?:doc/(?![^/]+/copyright$).+|man|info|locale|lintian|bug|bash-completion|initramfs-tools|gettext|pixmaps|menu)"
    r"(?:/.*)?|etc/(?:cron\.d|init\.d|update-motd\.d|ca-certificates|rc.\.d)(?:/.*)?|usr/lib/(?:systemd|udev)(?:/.*)?"
    r"|usr/sbin/xfs_scrub.*|usr/lib/[^/]*/xfsprogs(?:/.*)?|usr/lib/[^/]*/(?:gconv|perl-base)(?:/.*)?"
)
ROOTS = {"dev": 0o755, "proc": 0o755, "run": 0o755, "sys": 0o755, "tmp": 0o1777}
CERTIFICATES = re.compile(r"usr/share/ca-certificates/.*\.crt")
CONFIGURED = {
    "etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\ntdvol:x:65532:65532:tdvol:/:/usr/sbin/nologin\n"
                  "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\ntdvol:x:65532:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}  # fmt: skip


class LayerError(Exception):
    """The files do not make an image."""


@dataclasses.dataclass(frozen=True)
class Entry:
    kind: bytes  # of tarfile: REGTYPE, DIRTYPE, SYMTYPE, LNKTYPE
    mode: int
    data: bytes = b""
    link: str = ""
    mtime: int = 0


def merged(path: str) -> str:
    """The path of a file from the root of the image; empty for the root itself."""
    path = str(pathlib.PurePosixPath(path.lstrip("/"))).removeprefix("./")
    return "" if path == "." else f"usr/{path}" if MERGED.match(path) else path


def of_tar(content: bytes) -> dict[str, Entry]:
    """The entries of a package's files."""
    entries = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            path = merged(member.name)
            if not path or LEFT_OUT.fullmatch(path):
                continue
            if ".." in pathlib.PurePosixPath(path).parts or not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                raise LayerError(f"{path}: a file of an unexpected kind or place")
            data = tar.extractfile(member).read() if member.isreg() else b""
            if data[:2] == b"#!":
                continue  # there is no interpreter
            link = merged(member.linkname) if member.islnk() else member.linkname
            # No program of an image gains rights by being started.
            mode = member.mode & ~(stat.S_ISUID | stat.S_ISGID) & 0o7777
            entries[path] = Entry(member.type if not member.isreg() else tarfile.REGTYPE, mode, data, link, int(member.mtime))
    return entries


def of_deb(deb: pathlib.Path) -> dict[str, Entry]:
    return of_tar(subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, stdout=subprocess.PIPE).stdout)


def file(data: bytes, mtime: int, mode: int = 0o644) -> Entry:
    return Entry(tarfile.REGTYPE, mode, data, "", mtime)


def add(entries: dict[str, Entry], more: dict[str, Entry]) -> None:
    """Puts more into entries; two packages may share folders, but no file."""
    for path, entry in more.items():
        known = entries.get(path)
        if known and (known.kind, known.link, known.data) != (entry.kind, entry.link, entry.data):
            raise LayerError(f"{path}: two packages have it, with other content")
        entries[path] = known or entry


def without_empty_folders(entries: dict[str, Entry]) -> dict[str, Entry]:
    """Folders of what was left out go, too."""
    used = {str(parent) for path, entry in entries.items() if entry.kind != tarfile.DIRTYPE for parent in pathlib.PurePosixPath(path).parents}
    return {path: entry for path, entry in entries.items() if entry.kind != tarfile.DIRTYPE or path in used}


def of_packages(debs: dict[str, pathlib.Path], statuses: dict[str, str], mtime: int) -> dict[str, Entry]:
    """The base of an image: the files of its packages, and what their scripts would have made of them.

    debs: files by package. statuses: their control fields, which scanners look for in status.d."""
    entries = {}
    for name in sorted(debs):
        add(entries, of_deb(debs[name]))
    entries = without_empty_folders(entries)
    bundle = b"".join(entries[path].data for path in sorted(entries) if CERTIFICATES.fullmatch(path))
    if bundle:
        entries["etc/ssl/certs/ca-certificates.crt"] = file(bundle, mtime)
    for path, text in CONFIGURED.items():
        entries[path] = file(text.encode(), mtime)
    for name, text in statuses.items():
        entries[f"var/lib/dpkg/status.d/{name}"] = file(text.encode(), mtime)
    for name in sorted(entries):
        if match := MERGED.match(name.removeprefix("usr/")) if name.startswith("usr/") else None:
            entries[match[1]] = Entry(tarfile.SYMTYPE, 0o777, link="usr/" + match[1], mtime=mtime)
    entries["etc/mtab"] = Entry(tarfile.SYMTYPE, 0o777, link="../proc/self/mounts", mtime=mtime)  # resize2fs wants it
    for path, mode in ROOTS.items():
        entries[path] = Entry(tarfile.DIRTYPE, mode, mtime=mtime)
    return entries


def with_parents(entries: dict[str, Entry], mtime: int) -> dict[str, Entry]:
    found = dict(entries)
    for path in entries:
        for parent in pathlib.PurePosixPath(path).parents:
            if str(parent) != ".":
                found.setdefault(str(parent), Entry(tarfile.DIRTYPE, 0o755, mtime=mtime))
    return found


def to_tar(entries: dict[str, Entry], mtime: int) -> bytes:
    """A layer. mtime: of the folders that no entry is for. A hard link comes after its file."""
    raw = io.BytesIO()
    whole = with_parents(entries, mtime)
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(whole, key=lambda path: (whole[path].kind == tarfile.LNKTYPE, path)):
            entry = whole[path]
            info = tarfile.TarInfo(path)
            info.type, info.mode, info.linkname, info.mtime = entry.kind, entry.mode, entry.link, entry.mtime
            info.size = len(entry.data)
            tar.addfile(info, io.BytesIO(entry.data))
    return raw.getvalue()


def resolve(entries: dict[str, Entry], path: str) -> Entry | None:
    """The file that path names, through links."""
    for _ in range(8):
        entry = entries.get(merged(path))
        if not entry or entry.kind not in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            return entry
        at = pathlib.PurePosixPath(merged(path)).parent
        path = entry.link if entry.link.startswith("/") or entry.kind == tarfile.LNKTYPE else str(at / entry.link)
        path = re.sub(r"[^/]+/\.\./", "", path)
    return None
