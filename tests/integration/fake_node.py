# SPDX-License-Identifier: Apache-2.0
"""The service Node of the fake upstream driver (fake_upstream.py)."""

import os
import pathlib
import stat

from fake_driver import MIB, READERS, ZONE, Base, Code, check, csi, needs, run


class Node(Base):
    """A machine sees only the volumes that are attached to it."""

    def NodeGetCapabilities(self, request, node, rule):
        self._node(node)
        answer, kinds = csi.NodeGetCapabilitiesResponse(), csi.NodeServiceCapability.RPC
        served = {"STAGE_UNSTAGE_VOLUME": self.config.stage, "EXPAND_VOLUME": self.config.expand and self.config.node_expand,
                  "GET_VOLUME_STATS": True, "SINGLE_NODE_MULTI_WRITER": self.config.several_writers}  # fmt: skip
        for name, is_served in served.items():
            if is_served:
                answer.capabilities.add().rpc.type = kinds.Type.Value(name)
        return answer

    def NodeGetInfo(self, request, node, rule):
        answer = csi.NodeGetInfoResponse(node_id=self._node(node), max_volumes_per_node=self.config.max_volumes)
        if self.config.zones:
            answer.accessible_topology.segments[ZONE] = self._zone(node)
        return answer

    def _attachment(self, volume_id: str, node: str, request) -> dict:
        """The device of the volume at this node. Without PUBLISH_UNPUBLISH_VOLUME the node attaches it by itself."""
        volume = self._volume(volume_id)
        check(dict(request.volume_context) == volume["context"], Code.INVALID_ARGUMENT, "not the volume's context")
        check(request.HasField("volume_capability"), Code.INVALID_ARGUMENT, "no volume capability")
        self._capability(request.volume_capability)
        attached = self.state.attached.setdefault(volume_id, {})
        if not self.config.attach:
            check(not request.publish_context, Code.INVALID_ARGUMENT, "there is no publish context")
            if node not in attached:
                attached[node] = self.devices.attach(volume["file"], False, volume["context"]["fake/serial"]) | {
                    "read_only": False, "context": {}}  # fmt: skip
            return attached[node]
        check(node in attached, Code.FAILED_PRECONDITION, f"not attached to {node}")
        check(dict(request.publish_context) == attached[node]["context"], Code.INVALID_ARGUMENT, "not the publish context")
        return attached[node]

    @needs("stage")
    def NodeStageVolume(self, request, node, rule):
        check(request.staging_target_path, Code.INVALID_ARGUMENT, "no staging path")
        self._secrets("NodeStageVolume", request.secrets)
        self._attachment(request.volume_id, self._node(node), request)
        check(os.path.isdir(request.staging_target_path), Code.INTERNAL, f"no folder {request.staging_target_path}")
        staged = self.state.staged.setdefault(request.volume_id, {})
        known = staged.setdefault(node, request.staging_target_path)
        check(known == request.staging_target_path, Code.FAILED_PRECONDITION, f"staged at {known}")
        return csi.NodeStageVolumeResponse()

    @needs("stage")
    def NodeUnstageVolume(self, request, node, rule):
        check(request.volume_id and request.staging_target_path, Code.INVALID_ARGUMENT, "no volume id, or no path")
        here = [target for target, name in self.state.published.get(request.volume_id, {}).items() if name == self._node(node)]
        check(not here, Code.FAILED_PRECONDITION, f"still published at {', '.join(here)}")
        self.state.staged.get(request.volume_id, {}).pop(node, None)
        self._release(request.volume_id, node)
        return csi.NodeUnstageVolumeResponse()

    def _release(self, volume_id: str, node: str) -> None:
        """Detaches what the node attached by itself."""
        if not self.config.attach and node in self.state.attached.get(volume_id, {}):
            self.devices.detach(self.state.attached[volume_id].pop(node))

    def NodePublishVolume(self, request, node, rule):
        target = pathlib.Path(request.target_path)
        check(request.target_path, Code.INVALID_ARGUMENT, "no target path")
        self._secrets("NodePublishVolume", request.secrets)
        attachment = self._attachment(request.volume_id, self._node(node), request)
        check(not attachment["read_only"] or request.readonly or request.volume_capability.access_mode.mode in READERS,
              Code.INVALID_ARGUMENT, "attached read-only, but published for writing")  # fmt: skip
        if self.config.stage:
            check(request.staging_target_path, Code.INVALID_ARGUMENT, "no staging path")
            staged = self.state.staged.get(request.volume_id, {}).get(node)
            check(staged == request.staging_target_path, Code.FAILED_PRECONDITION, "not staged there")
        check(target.parent.is_dir(), Code.INTERNAL, f"no folder {target.parent}")
        check(not target.is_dir(), Code.INTERNAL, f"{target} is a folder")
        self.state.published.setdefault(request.volume_id, {})[str(target)] = node
        if not self._is_at(target, attachment["device"]):
            self._clear(target)
            self._place(target, attachment["device"], rule)
        return csi.NodePublishVolumeResponse()

    @staticmethod
    def _is_at(target: pathlib.Path, device: str) -> bool:
        try:
            return stat.S_ISBLK(target.stat().st_mode) and target.stat().st_rdev == os.stat(device).st_rdev
        except OSError:
            return False

    def _place(self, target: pathlib.Path, device: str, rule) -> None:
        kind = rule.publish if rule else ""
        if kind == "nothing":
            return
        if kind == "decoy":
            file = self.folder / "decoy"
            with file.open("wb") as decoy:
                decoy.truncate(64 * MIB)
            device = run("losetup", "--find", "--show", file)
        if self.config.mknod and kind != "file":
            os.mknod(target, 0o600 | stat.S_IFBLK, os.stat(device).st_rdev)
            return
        target.touch()
        if kind != "file":
            run("mount", "--bind", device, target)

    def _clear(self, target: pathlib.Path) -> None:
        while os.path.ismount(target) or any(line.split()[4] == str(target) for line in open("/proc/self/mountinfo")):
            run("umount", target)
        target.unlink(missing_ok=True)
        for line in run("losetup", "--noheadings", "--output", "NAME", "--associated", self.folder / "decoy").splitlines() \
                if (self.folder / "decoy").exists() else []:  # fmt: skip
            run("losetup", "--detach", line)

    def NodeUnpublishVolume(self, request, node, rule):
        check(request.volume_id and request.target_path, Code.INVALID_ARGUMENT, "no volume id, or no path")
        self._node(node)
        self._clear(pathlib.Path(request.target_path))
        self.state.published.get(request.volume_id, {}).pop(request.target_path, None)
        if not self.config.stage:
            self._release(request.volume_id, node)
        return csi.NodeUnpublishVolumeResponse()

    def NodeGetVolumeStats(self, request, node, rule):
        volume = self._volume(request.volume_id)
        known = self.state.published.get(request.volume_id, {})
        check(known.get(request.volume_path) == self._node(node), Code.NOT_FOUND, "not published there")
        answer = csi.NodeGetVolumeStatsResponse()
        answer.usage.add(unit=csi.VolumeUsage.BYTES, total=volume["size"])
        return answer

    @needs("node_expand")
    def NodeExpandVolume(self, request, node, rule):
        volume = self._volume(request.volume_id)
        check(request.volume_path, Code.INVALID_ARGUMENT, "no volume path")
        places = [*self.state.published.get(request.volume_id, {}), self.state.staged.get(request.volume_id, {}).get(node)]
        check(request.volume_path in places, Code.NOT_FOUND, f"the volume is not at {request.volume_path}")
        check(request.HasField("volume_capability"), Code.INTERNAL, "cannot tell which file system is there")
        self._capability(request.volume_capability)
        attachment = self.state.attached.get(request.volume_id, {}).get(self._node(node))
        check(attachment, Code.FAILED_PRECONDITION, f"not attached to {node}")
        self.devices.grow(attachment)
        return csi.NodeExpandVolumeResponse(capacity_bytes=volume["size"])
