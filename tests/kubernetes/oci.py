# SPDX-License-Identifier: Apache-2.0
"""Several images as one archive, which containerd imports: each layer is in it once."""

import pathlib
import sys
import tarfile

import programs

sys.path.append(str(programs.TREE / "deploy"))
from imaging import layer as layers  # noqa: E402
from imaging import oci  # noqa: E402

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LAYER = "application/vnd.oci.image.layer.v1.tar"  # not compressed


def layer(files: dict[str, bytes], links: dict[str, str] | None = None, folders: tuple[str, ...] = ()) -> bytes:
    """A layer of programs, symbolic links and folders, by their paths. The same input gives the same bytes."""
    entries = {path: layers.Entry(tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755) for path in folders}
    entries |= {path: layers.file(data, 0, 0o755) for path, data in files.items()}
    entries |= {path: layers.Entry(tarfile.SYMTYPE, 0o777, link=target) for path, target in (links or {}).items()}
    return layers.to_tar(entries, 0)


class Archive:
    """Images that are written together."""

    def __init__(self):
        self.blobs: list[bytes] = []
        self.images: list[dict] = []

    def add(self, name: str, entrypoint: str, *parts: bytes) -> None:
        """An image of layers, whose name has a tag, such as example.com/program:1."""
        config = oci.encode({
            "architecture": "amd64", "os": "linux", "config": {"Env": [PATH], "Entrypoint": [entrypoint]},
            "rootfs": {"type": "layers", "diff_ids": [oci.sha256(part) for part in parts]},
        })  # fmt: skip
        manifest = oci.encode({
            "schemaVersion": 2, "mediaType": oci.MANIFEST, "config": oci.descriptor(oci.CONFIG, config),
            "layers": [oci.descriptor(LAYER, part) for part in parts],
        })  # fmt: skip
        self.blobs += [config, manifest, *parts]
        self.images.append(oci.descriptor(oci.MANIFEST, manifest) | {"annotations": {"io.containerd.image.name": name}})

    def write(self, path: pathlib.Path) -> None:
        oci.write_archive(path, self.images, self.blobs)
