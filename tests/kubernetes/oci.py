# SPDX-License-Identifier: Apache-2.0
"""Images as one archive in the OCI layout, which containerd imports: each layer is in it once."""

import hashlib
import io
import json
import pathlib
import tarfile

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(files: dict[str, bytes], links: dict[str, str] | None = None, folders: tuple[str, ...] = ()) -> bytes:
    """A layer of programs, symbolic links and folders, by their paths. The same input gives the same bytes."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in folders:
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            archive.addfile(entry)
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
        for path, target in (links or {}).items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            archive.addfile(entry)
    return made.getvalue()


class Archive:
    """Images that are written together."""

    def __init__(self):
        self.blobs: dict[str, bytes] = {}
        self.images: list[dict] = []

    def _blob(self, kind: str, data: bytes) -> dict:
        self.blobs[digest(data)] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    def add(self, name: str, entrypoint: str, *layers: bytes) -> None:
        """An image whose name has a tag, such as example.com/program:1."""
        config = json.dumps({
            "architecture": "amd64", "os": "linux", "config": {"Env": [PATH], "Entrypoint": [entrypoint]},
            "rootfs": {"type": "layers", "diff_ids": [digest(part) for part in layers]},
        }).encode()  # fmt: skip
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": self._blob(CONFIG, config),
            "layers": [self._blob(LAYER, part) for part in layers],
        }).encode()  # fmt: skip
        self.images.append(self._blob(MANIFEST, manifest) | {"annotations": {"io.containerd.image.name": name}})

    def write(self, path: pathlib.Path) -> None:
        index = json.dumps({"schemaVersion": 2, "manifests": self.images}).encode()
        files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
        files |= {f"blobs/sha256/{name.removeprefix('sha256:')}": data for name, data in self.blobs.items()}
        path.write_bytes(layer(files))
