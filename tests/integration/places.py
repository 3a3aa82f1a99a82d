# SPDX-License-Identifier: Apache-2.0
"""Where kubelet has volumes staged and published, below its folder."""

import contextlib
import hashlib
import pathlib


class Kubelet:
    """kubelet's folder, for the volumes of one driver."""

    def __init__(self, folder: pathlib.Path, driver: str):
        self.folder = folder
        csi = folder / "plugins/kubernetes.io/csi"
        self._pods, self._staged = folder / "pods", csi / driver
        self._raw_staged, self._raw_published = csi / "volumeDevices/staging", csi / "volumeDevices/publish"
        for made in self._bases:
            made.mkdir(parents=True, exist_ok=True)

    @property
    def _bases(self) -> tuple[pathlib.Path, ...]:
        return self._pods, self._staged, self._raw_staged, self._raw_published

    def staging(self, volume_id: str, pv: str, block: bool) -> pathlib.Path:
        """Where the volume is staged."""
        if block:
            return self._raw_staged / pv
        return self._staged / hashlib.sha256(volume_id.encode()).hexdigest() / "globalmount"

    def target(self, pod: str, pv: str, block: bool) -> pathlib.Path:
        """Where it is published for a pod."""
        return self._raw_published / pv / pod if block else self._pods / pod / "volumes/kubernetes.io~csi" / pv / "mount"

    def prune(self, folder: pathlib.Path) -> None:
        """Removes the folder and those above it, as far as they are empty and were made for one volume."""
        with contextlib.suppress(OSError):
            while folder not in self._bases and folder != folder.parent:
                folder.rmdir()
                folder = folder.parent
