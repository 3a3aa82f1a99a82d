# SPDX-License-Identifier: Apache-2.0
"""The services Identity and Controller of the fake upstream driver (fake_upstream.py)."""

import os
import pathlib
import re
import secrets

from fake_driver import ID_MAX, MIB, MUTABLE, PARAMETERS, READERS, ZONE, Base, Code, Refused, check, csi, needs, run


class Controller(Base):
    """Identity and Controller, without snapshots."""

    def GetPluginInfo(self, request, node, rule):
        return csi.GetPluginInfoResponse(name=self.config.name, vendor_version="1.0")

    def GetPluginCapabilities(self, request, node, rule):
        service, growth = csi.PluginCapability.Service, csi.PluginCapability.VolumeExpansion
        answer = csi.GetPluginCapabilitiesResponse()
        kinds = [(True, service.CONTROLLER_SERVICE), (self.config.zones, service.VOLUME_ACCESSIBILITY_CONSTRAINTS),
                 (self.config.groups, service.GROUP_CONTROLLER_SERVICE)]  # fmt: skip
        for is_served, kind in kinds:
            if is_served:
                answer.capabilities.add().service.type = kind
        if self.config.expand:
            answer.capabilities.add().volume_expansion.type = growth.ONLINE
        return answer

    def Probe(self, request, node, rule):
        answer = csi.ProbeResponse()
        answer.ready.value = True
        return answer

    def ControllerGetCapabilities(self, request, node, rule):
        config, kinds = self.config, csi.ControllerServiceCapability.RPC
        served = {
            "CREATE_DELETE_VOLUME": True, "PUBLISH_UNPUBLISH_VOLUME": config.attach, "PUBLISH_READONLY": config.attach,
            "LIST_VOLUMES": config.lists, "GET_CAPACITY": config.capacity, "CREATE_DELETE_SNAPSHOT": config.snapshots,
            "LIST_SNAPSHOTS": config.lists and config.snapshots, "CLONE_VOLUME": config.clones,
            "EXPAND_VOLUME": config.expand,
            "LIST_VOLUMES_PUBLISHED_NODES": config.lists and config.published_nodes and config.attach,
            "GET_VOLUME": config.lists, "MODIFY_VOLUME": config.modify, "GET_SNAPSHOT": config.lists and config.snapshots,
            "SINGLE_NODE_MULTI_WRITER": config.several_writers,
        }  # fmt: skip
        answer = csi.ControllerGetCapabilitiesResponse()
        for name, is_served in served.items():
            if is_served:
                answer.capabilities.add().rpc.type = kinds.Type.Value(name)
        return answer

    def _shown(self, volume_id: str) -> csi.Volume:
        volume = self.state.volumes[volume_id]
        shown = csi.Volume(volume_id=volume_id, capacity_bytes=volume["size"], volume_context=volume["context"])
        if volume["source"]:
            kind, source = volume["source"]
            if kind == "snapshot":
                shown.content_source.snapshot.snapshot_id = source
            else:
                shown.content_source.volume.volume_id = source
        if volume["zone"]:
            shown.accessible_topology.add().segments[ZONE] = volume["zone"]
        return shown

    def _source(self, request) -> tuple[list, str, int]:
        """Kind and id of the source, its file and its size."""
        kind = request.volume_content_source.WhichOneof("type")
        check(kind or not request.HasField("volume_content_source"), Code.INVALID_ARGUMENT, "an empty content source")
        if kind == "snapshot":
            check(self.config.snapshots, Code.INVALID_ARGUMENT, "snapshots are not served")
            source = request.volume_content_source.snapshot.snapshot_id
            check(source in self.state.snapshots, Code.NOT_FOUND, f"no snapshot {source}")
            return [kind, source], self.state.snapshots[source]["file"], self.state.snapshots[source]["size"]
        if kind == "volume":
            check(self.config.clones, Code.INVALID_ARGUMENT, "clones are not served")
            source = request.volume_content_source.volume.volume_id
            volume = self._volume(source)
            return [kind, source], volume["file"], volume["size"]
        return [], "", 0

    def _chosen_zone(self, request) -> str:
        if not self.config.zones:
            check(not request.HasField("accessibility_requirements"), Code.INVALID_ARGUMENT, "topology is not served")
            return ""
        needs = request.accessibility_requirements
        for topology in (*needs.preferred, *needs.requisite):
            check(set(topology.segments) == {ZONE}, Code.INVALID_ARGUMENT, f"topology: want {ZONE} alone")
            if topology.segments[ZONE] in self.config.zones:
                return topology.segments[ZONE]
        check(not needs.requisite, Code.RESOURCE_EXHAUSTED, "no such zone")
        return self.config.zones[0]

    def CreateVolume(self, request, node, rule):
        check(request.name, Code.INVALID_ARGUMENT, "no name")
        check(request.volume_capabilities, Code.INVALID_ARGUMENT, "no volume capabilities")
        for capability in request.volume_capabilities:
            self._capability(capability)
        self._parameters(request.parameters, PARAMETERS)
        check(self.config.modify or not request.mutable_parameters, Code.INVALID_ARGUMENT, "no parameter is mutable")
        self._parameters(request.mutable_parameters, MUTABLE)
        self._secrets("CreateVolume", request.secrets)
        size, zone = self._size(request.capacity_range), self._chosen_zone(request)
        # An id says nothing of the name's length, and is used again for a later volume of that name.
        volume_id = f"fake/{self.config.name}/volumes/{re.sub('[^A-Za-z0-9._-]', '_', request.name)}"[:ID_MAX]
        source, file, source_size = self._source(request)
        fixed = {"parameters": dict(request.parameters), "source": source}
        if known := self.state.volumes.get(volume_id):
            limit = request.capacity_range.limit_bytes
            is_same = all(known[key] == value for key, value in fixed.items())
            fits = known["first_size"] >= request.capacity_range.required_bytes and (not limit or known["size"] <= limit)
            check(is_same and fits, Code.ALREADY_EXISTS, f"volume {volume_id} exists, and is different")
            return csi.CreateVolumeResponse(volume=self._shown(volume_id))
        if source:
            size = max(size, source_size if not request.capacity_range.required_bytes else 0)
            check(size >= source_size, Code.OUT_OF_RANGE, "smaller than its source")
        self._room(size)
        made = self.state.new_file()
        if file:
            run("cp", "--sparse=always", file, made)
        elif self.config.garbage:
            pathlib.Path(made).write_bytes(os.urandom(MIB))
        with open(made, "ab") as disk:
            disk.truncate(size)
        context = {"fake/serial": secrets.token_hex(8), "fake/name": request.name}
        self.state.volumes[volume_id] = fixed | {
            "name": request.name, "size": size, "first_size": size, "context": context, "zone": zone, "file": made,
            "mutable": dict(request.mutable_parameters),
        }  # fmt: skip
        return csi.CreateVolumeResponse(volume=self._shown(volume_id))

    def DeleteVolume(self, request, node, rule):
        check(request.volume_id, Code.INVALID_ARGUMENT, "no volume id")
        self._secrets("DeleteVolume", request.secrets)
        if volume := self.state.volumes.get(request.volume_id):
            check(not self.state.attached.get(request.volume_id), Code.FAILED_PRECONDITION, "the volume is attached")
            check(not self.state.published.get(request.volume_id), Code.FAILED_PRECONDITION, "the volume is published")
            pathlib.Path(volume["file"]).unlink(missing_ok=True)
            del self.state.volumes[request.volume_id]
            self.state.staged.pop(request.volume_id, None)
        return csi.DeleteVolumeResponse()

    @needs("attach")
    def ControllerPublishVolume(self, request, node, rule):
        volume = self._volume(request.volume_id)
        check(request.node_id, Code.INVALID_ARGUMENT, "no node id")
        check(request.HasField("volume_capability"), Code.INVALID_ARGUMENT, "no volume capability")
        self._capability(request.volume_capability)
        check(request.node_id in self.config.nodes, Code.NOT_FOUND, f"no node {request.node_id}")
        check(dict(request.volume_context) == volume["context"], Code.INVALID_ARGUMENT, "not the volume's context")
        self._secrets("ControllerPublishVolume", request.secrets)
        check(not volume["zone"] or volume["zone"] == self._zone(request.node_id), Code.INVALID_ARGUMENT,
              "the volume is in another zone")  # fmt: skip
        mode = request.volume_capability.access_mode.mode
        read_only = request.readonly or mode in READERS
        attached = self.state.attached.setdefault(request.volume_id, {})
        if known := attached.get(request.node_id):
            check(known["read_only"] == read_only, Code.ALREADY_EXISTS, "attached in another mode")
            return csi.ControllerPublishVolumeResponse(publish_context=known["context"])
        several = self.config.multi_attach or (read_only and all(one["read_only"] for one in attached.values()))
        check(not attached or several, Code.FAILED_PRECONDITION, f"attached to {', '.join(attached)}")
        here = sum(request.node_id in nodes for nodes in self.state.attached.values())
        check(not self.config.max_volumes or here < self.config.max_volumes, Code.RESOURCE_EXHAUSTED,
              "the node has too many volumes")  # fmt: skip
        attached[request.node_id] = self.devices.attach(volume["file"], read_only, volume["context"]["fake/serial"]) | {
            "read_only": read_only, "context": {"fake/attachment": secrets.token_hex(8)},
        }  # fmt: skip
        return csi.ControllerPublishVolumeResponse(publish_context=attached[request.node_id]["context"])

    @needs("attach")
    def ControllerUnpublishVolume(self, request, node, rule):
        check(request.volume_id, Code.INVALID_ARGUMENT, "no volume id")
        self._secrets("ControllerUnpublishVolume", request.secrets)
        attached = self.state.attached.get(request.volume_id, {})
        for name in [request.node_id] if request.node_id else list(attached):
            if attachment := attached.pop(name, None):
                self.devices.detach(attachment)
        return csi.ControllerUnpublishVolumeResponse()

    def ValidateVolumeCapabilities(self, request, node, rule):
        self._volume(request.volume_id)
        check(request.volume_capabilities, Code.INVALID_ARGUMENT, "no volume capabilities")
        self._secrets("ValidateVolumeCapabilities", request.secrets)
        answer = csi.ValidateVolumeCapabilitiesResponse()
        try:
            for capability in request.volume_capabilities:
                self._capability(capability)
            self._parameters(request.parameters, PARAMETERS)
            self._parameters(request.mutable_parameters, MUTABLE)
        except Refused as refused:
            answer.message = str(refused)
            return answer
        confirmed = answer.confirmed
        confirmed.volume_context.update(request.volume_context)
        confirmed.volume_capabilities.extend(request.volume_capabilities)
        confirmed.parameters.update(request.parameters)
        confirmed.mutable_parameters.update(request.mutable_parameters)
        return answer

    def _page(self, names: list[str], request) -> tuple[list[str], str]:
        check(request.max_entries >= 0, Code.INVALID_ARGUMENT, "max_entries is negative")
        first = 0
        if request.starting_token:
            check(request.starting_token.isdigit() and int(request.starting_token) <= len(names), Code.ABORTED,
                  "no such starting_token")  # fmt: skip
            first = int(request.starting_token)
        last = first + request.max_entries if request.max_entries else len(names)
        return names[first:last], str(last) if last < len(names) else ""

    def _published_nodes(self, volume_id: str) -> list[str]:
        return list(self.state.attached.get(volume_id, {})) if self.config.published_nodes else []

    @needs("lists")
    def ListVolumes(self, request, node, rule):
        page, next_token = self._page(sorted(self.state.volumes), request)
        answer = csi.ListVolumesResponse(next_token=next_token)
        for name in page:
            answer.entries.add(volume=self._shown(name)).status.published_node_ids.extend(self._published_nodes(name))
        return answer

    @needs("lists")
    def ControllerGetVolume(self, request, node, rule):
        self._volume(request.volume_id)
        answer = csi.ControllerGetVolumeResponse(volume=self._shown(request.volume_id))
        answer.status.published_node_ids.extend(self._published_nodes(request.volume_id))
        return answer

    @needs("modify")
    def ControllerModifyVolume(self, request, node, rule):
        volume = self._volume(request.volume_id)
        self._parameters(request.mutable_parameters, MUTABLE)
        self._secrets("ControllerModifyVolume", request.secrets)
        volume["mutable"] |= dict(request.mutable_parameters)
        return csi.ControllerModifyVolumeResponse()

    @needs("expand")
    def ControllerExpandVolume(self, request, node, rule):
        volume = self._volume(request.volume_id)
        check(request.HasField("capacity_range"), Code.INVALID_ARGUMENT, "no capacity range")
        if request.HasField("volume_capability"):
            self._capability(request.volume_capability)
        self._secrets("ControllerExpandVolume", request.secrets)
        size = self._size(request.capacity_range)
        if size > volume["size"]:
            self._room(size - volume["size"])
            os.truncate(volume["file"], size)
            volume["size"] = size
            if not self.config.node_expand:
                for attachment in self.state.attached.get(request.volume_id, {}).values():
                    self.devices.grow(attachment)
        return csi.ControllerExpandVolumeResponse(
            capacity_bytes=volume["size"], node_expansion_required=self.config.node_expand)  # fmt: skip

    @needs("capacity")
    def GetCapacity(self, request, node, rule):
        for capability in request.volume_capabilities:
            self._capability(capability)
        self._parameters(request.parameters, PARAMETERS)
        answer = csi.GetCapacityResponse(available_capacity=max(self._free(), 0))
        answer.maximum_volume_size.value = max(self._free(), 0)
        answer.minimum_volume_size.value = self.config.minimum_bytes
        return answer
