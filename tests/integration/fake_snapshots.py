# SPDX-License-Identifier: Apache-2.0
"""Snapshots, and groups of them, of the fake upstream driver (fake_upstream.py)."""

import pathlib
import re
import time

from fake_driver import ID_MAX, PARAMETERS, Base, Code, check, csi, needs, run


class Snapshots(Base):
    """The methods for snapshots."""

    def _shown_snapshot(self, snapshot_id: str) -> csi.Snapshot:
        snapshot = self.state.snapshots[snapshot_id]
        shown = csi.Snapshot(snapshot_id=snapshot_id, source_volume_id=snapshot["source"], size_bytes=snapshot["size"],
                             ready_to_use=True, group_snapshot_id=snapshot["group"])  # fmt: skip
        shown.creation_time.FromNanoseconds(snapshot["time"])
        return shown

    def _snap(self, name: str, source: str, group: str = "") -> str:
        snapshot_id = f"fake/{self.config.name}/snapshots/{re.sub('[^A-Za-z0-9._-]', '_', name)}"[:ID_MAX]
        if known := self.state.snapshots.get(snapshot_id):
            check(known["source"] == source, Code.ALREADY_EXISTS, f"snapshot {name} exists, of another volume")
            return snapshot_id
        volume, file = self._volume(source), self.state.new_file()
        with self.devices.held(list(self.state.attached.get(source, {}).values())):
            run("cp", "--sparse=always", volume["file"], file)
        self.state.snapshots[snapshot_id] = {"source": source, "size": volume["size"], "file": file, "group": group,
                                             "time": time.time_ns()}  # fmt: skip
        return snapshot_id

    @needs("snapshots")
    def CreateSnapshot(self, request, node, rule):
        check(request.name, Code.INVALID_ARGUMENT, "no name")
        self._volume(request.source_volume_id)
        self._parameters(request.parameters, PARAMETERS)
        self._secrets("CreateSnapshot", request.secrets)
        return csi.CreateSnapshotResponse(snapshot=self._shown_snapshot(self._snap(request.name, request.source_volume_id)))

    @needs("snapshots")
    def DeleteSnapshot(self, request, node, rule):
        check(request.snapshot_id, Code.INVALID_ARGUMENT, "no snapshot id")
        self._secrets("DeleteSnapshot", request.secrets)
        known = self.state.snapshots.get(request.snapshot_id)
        check(not known or not known["group"], Code.INVALID_ARGUMENT, "the snapshot belongs to a group")
        if known:
            pathlib.Path(known["file"]).unlink(missing_ok=True)
            del self.state.snapshots[request.snapshot_id]
        return csi.DeleteSnapshotResponse()

    @needs("snapshots")
    def ListSnapshots(self, request, node, rule):
        found = [name for name, snapshot in sorted(self.state.snapshots.items())
                 if request.snapshot_id in ("", name) and request.source_volume_id in ("", snapshot["source"])]  # fmt: skip
        page, next_token = self._page(found, request)
        answer = csi.ListSnapshotsResponse(next_token=next_token)
        for name in page:
            answer.entries.add(snapshot=self._shown_snapshot(name))
        return answer

    @needs("snapshots")
    def GetSnapshot(self, request, node, rule):
        check(request.snapshot_id, Code.INVALID_ARGUMENT, "no snapshot id")
        check(request.snapshot_id in self.state.snapshots, Code.NOT_FOUND, f"no snapshot {request.snapshot_id}")
        return csi.GetSnapshotResponse(snapshot=self._shown_snapshot(request.snapshot_id))

    # Groups of snapshots.

    @needs("groups")
    def GroupControllerGetCapabilities(self, request, node, rule):
        answer = csi.GroupControllerGetCapabilitiesResponse()
        answer.capabilities.add().rpc.type = csi.GroupControllerServiceCapability.RPC.CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT
        return answer

    def _shown_group(self, group_id: str) -> csi.VolumeGroupSnapshot:
        group = self.state.groups[group_id]
        shown = csi.VolumeGroupSnapshot(group_snapshot_id=group_id, ready_to_use=True)
        shown.snapshots.extend(self._shown_snapshot(name) for name in group["snapshots"])
        shown.creation_time.FromNanoseconds(group["time"])
        return shown

    @needs("groups")
    def CreateVolumeGroupSnapshot(self, request, node, rule):
        check(request.name and request.source_volume_ids, Code.INVALID_ARGUMENT, "no name, or no volumes")
        self._parameters(request.parameters, PARAMETERS)
        self._secrets("CreateVolumeGroupSnapshot", request.secrets)
        group_id = f"fake/{self.config.name}/groups/{request.name}"[:ID_MAX]
        for source in request.source_volume_ids:
            self._volume(source)
        if known := self.state.groups.get(group_id):
            check(sorted(known["sources"]) == sorted(request.source_volume_ids), Code.ALREADY_EXISTS, "of other volumes")
        else:
            names = [self._snap(f"{request.name}-{number}", source, group_id)
                     for number, source in enumerate(request.source_volume_ids)]  # fmt: skip
            self.state.groups[group_id] = {"sources": list(request.source_volume_ids), "snapshots": names,
                                           "time": time.time_ns()}  # fmt: skip
        return csi.CreateVolumeGroupSnapshotResponse(group_snapshot=self._shown_group(group_id))

    @needs("groups")
    def DeleteVolumeGroupSnapshot(self, request, node, rule):
        check(request.group_snapshot_id, Code.INVALID_ARGUMENT, "no group id")
        if group := self.state.groups.get(request.group_snapshot_id):
            check(sorted(group["snapshots"]) == sorted(request.snapshot_ids), Code.INVALID_ARGUMENT, "not its snapshots")
            for name in group["snapshots"]:
                pathlib.Path(self.state.snapshots.pop(name)["file"]).unlink(missing_ok=True)
            del self.state.groups[request.group_snapshot_id]
        return csi.DeleteVolumeGroupSnapshotResponse()

    @needs("groups")
    def GetVolumeGroupSnapshot(self, request, node, rule):
        check(request.group_snapshot_id, Code.INVALID_ARGUMENT, "no group id")
        check(request.group_snapshot_id in self.state.groups, Code.NOT_FOUND, "no such group")
        group = self.state.groups[request.group_snapshot_id]
        check(sorted(group["snapshots"]) == sorted(request.snapshot_ids), Code.INVALID_ARGUMENT, "not its snapshots")
        return csi.GetVolumeGroupSnapshotResponse(group_snapshot=self._shown_group(request.group_snapshot_id))
