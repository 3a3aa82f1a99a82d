# SPDX-License-Identifier: Apache-2.0
"""OCI archives: a tar of index.json and of blobs that are named by their digests. podman, skopeo and ctr load them."""

import gzip
import hashlib
import io
import json
import pathlib
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
UNPACKED_MAX = 1 << 31  # bytes of a layer


class ArchiveError(Exception):
    """The file is no whole OCI archive of one image."""


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def encode(value) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def descriptor(media_type: str, content: bytes) -> dict:
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content)}


def write_archive(path: pathlib.Path, images: list[dict], blobs: list[bytes]) -> None:
    """images: descriptors of manifests, which are among the blobs, as all that they name."""
    index = encode({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": images})
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
    files |= {"blobs/sha256/" + sha256(blob)[7:]: blob for blob in blobs}
    with path.open("wb") as target, tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file, content in sorted(files.items()):
            info = tarfile.TarInfo(file)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))


def write(path: pathlib.Path, name: str, version: str, created: str, config: dict, layers: list[tuple[str, bytes, bytes]]) -> str:
    """Writes an image of layers (what it is, its tar, the same compressed), and returns the manifest's digest."""
    image = encode({
        "architecture": "amd64", "os": "linux", "created": created, "config": config,
        "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for _, tar, _ in layers]},
        "history": [{"created": created, "created_by": what} for what, *_ in layers],
    })  # fmt: skip
    manifest = encode({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, image),
        "layers": [descriptor(LAYER, packed) for *_, packed in layers], "annotations": config["Labels"],
    })  # fmt: skip
    named = descriptor(MANIFEST, manifest) | {
        "platform": {"architecture": "amd64", "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": version, "io.containerd.image.name": f"docker.io/library/{name}:{version}"},
    }  # fmt: skip
    write_archive(path, [named], [image, manifest, *(packed for *_, packed in layers)])
    return sha256(manifest)


class Image:
    """An archive that was read: every blob has the digest that names it."""

    def __init__(self, path: pathlib.Path):
        try:
            with tarfile.open(path) as tar:
                self.files = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}
            index = json.loads(self.files["index.json"])
            if len(index["manifests"]) != 1:
                raise ArchiveError(f"{path}: it has {len(index['manifests'])} images, not one")
            self.path, self.digest = path, index["manifests"][0]["digest"]
            self.manifest = json.loads(self.blob(self.digest))
            self.config = json.loads(self.blob(self.manifest["config"]["digest"]))
            self.layers = [self.blob(layer["digest"]) for layer in self.manifest["layers"]]
        except (OSError, KeyError, TypeError, AttributeError, ValueError, tarfile.TarError) as error:
            raise ArchiveError(f"{path}: no OCI archive: {error!r}") from error

    def blob(self, digest: str) -> bytes:
        content = self.files.get("blobs/sha256/" + digest.removeprefix("sha256:"))
        if content is None:
            raise ArchiveError(f"{self.path}: the blob {digest} is missing")
        if sha256(content) != digest:
            raise ArchiveError(f"{self.path}: the blob {digest} has another content, {sha256(content)}")
        return content

    def entries(self) -> dict[str, tuple]:
        """What is in the image: for each path its kind, mode, owner, time, link and content; later layers win."""
        found = {}
        for packed, diff_id in zip(self.layers, self.config["rootfs"]["diff_ids"]):
            with gzip.open(io.BytesIO(packed)) as stream:
                content = stream.read(UNPACKED_MAX + 1)
            if len(content) > UNPACKED_MAX or sha256(content) != diff_id:
                raise ArchiveError(f"{self.path}: a layer is not what the configuration says it is")
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                for member in tar:
                    data = tar.extractfile(member).read() if member.isreg() else b""
                    found[member.name] = (member.type.decode(), oct(member.mode), member.uid, member.gid, member.mtime, member.linkname, data)
        return found


def file_of(entries: dict[str, tuple], path: str) -> bytes | None:
    return entries[path][-1] if path in entries else None


def differences(one: Image, other: Image):
    """Which files of two images differ, and in what."""
    if one.digest == other.digest:
        return
    mine, others = one.entries(), other.entries()
    found = False
    for path in sorted(mine.keys() | others.keys()):
        if path not in mine or path not in others:
            found = True
            yield f"{path}: only in {(one if path in mine else other).path}"
            continue
        for what, here, there in zip(("kind", "mode", "user", "group", "time", "link"), mine[path], others[path]):
            if here != there:
                found = True
                yield f"{path}: {what} {here}, and {there}"
        if mine[path][-1] != others[path][-1]:
            found = True
            at = next((i for i, (a, b) in enumerate(zip(mine[path][-1], others[path][-1])) if a != b), "its end")
            yield f"{path}: the content differs, first at byte {at}"
    for name, here, there in (("configuration", one.config, other.config), ("manifest", one.manifest, other.manifest)):
        if not found and here != there:
            keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
            yield f"the {name} differs in {', '.join(keys)}"
