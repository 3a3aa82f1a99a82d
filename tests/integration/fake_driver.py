# SPDX-License-Identifier: Apache-2.0
"""The disks and the checks of the fake upstream driver (fake_upstream.py)."""

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import subprocess
import sys

import grpc

import stubs

stubs.generate()
sys.path.insert(0, str(stubs.FOLDER))
import csi_pb2 as csi  # noqa: E402

MIB = 1 << 20
Mode = csi.VolumeCapability.AccessMode
READERS = (Mode.SINGLE_NODE_READER_ONLY, Mode.MULTI_NODE_READER_ONLY)
Code = grpc.StatusCode
ID_MAX = 128


@dataclasses.dataclass
class Config:
    """What the driver can do."""

    name: str = "fake.upstream.test"
    nodes: tuple[str, ...] = ("up-1", "up-2")
    attach: bool = True  # PUBLISH_UNPUBLISH_VOLUME
    multi_attach: bool = False  # writable at several nodes
    stage: bool = True  # STAGE_UNSTAGE_VOLUME
    expand: bool = True
    node_expand: bool = True  # the device grows in NodeExpandVolume, else already in ControllerExpandVolume
    snapshots: bool = True
    clones: bool = True
    lists: bool = True
    published_nodes: bool = True
    capacity: bool = True
    modify: bool = True
    groups: bool = False
    several_writers: bool = False  # SINGLE_NODE_MULTI_WRITER
    mknod: bool = False  # publishes a node of its own, not a bind mount of the device
    # "scsi": such a disk is gone at once when it is detached; "linear": it may be written to during a snapshot;
    # "none": no disk. For the next start.
    device: str = "loop"
    round_bytes: int = MIB  # sizes are multiples of this
    minimum_bytes: int = MIB
    total_bytes: int = 1 << 44
    max_volumes: int = 0  # per node
    zones: tuple[str, ...] = ()  # of the nodes, in their order; (): no topology
    secrets: tuple[str, ...] = ()  # the methods that need SECRETS
    unknown_field: str = ""  # text in a field of each answer that no published CSI version has
    serial: bool = True  # a second call for a volume is ABORTED
    garbage: bool = False  # new volumes have old data


SECRETS = {"token": "open sesame"}
PARAMETERS = {"type": ("fast", "slow"), "label": None}
MUTABLE = {"iops": None}
ZONE = "topology.fake.upstream.test/zone"


class Refused(Exception):
    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code


def check(condition, code: grpc.StatusCode, message: str) -> None:
    if not condition:
        raise Refused(code, message)


def run(*command) -> str:
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    check(not done.returncode, Code.INTERNAL, f"{' '.join(map(str, command))}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def write_whole(path: pathlib.Path, value) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(value))
    draft.rename(path)


class State:
    """What outlives the process."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.path = folder, folder / "state.json"
        known = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.volumes: dict[str, dict] = known.get("volumes", {})
        self.snapshots: dict[str, dict] = known.get("snapshots", {})
        self.groups: dict[str, dict] = known.get("groups", {})
        self.attached: dict[str, dict[str, dict]] = known.get("attached", {})  # volume, node
        self.staged: dict[str, dict[str, str]] = known.get("staged", {})  # volume, node: path
        self.published: dict[str, dict[str, str]] = known.get("published", {})  # volume, target: node
        self.number: int = known.get("number", 0)

    def save(self) -> None:
        for places in (self.attached, self.staged, self.published):
            for volume in [volume for volume, found in places.items() if not found]:
                del places[volume]
        write_whole(self.path, {key: value for key, value in vars(self).items() if key not in ("folder", "path")})

    def new_file(self) -> str:
        self.number += 1
        return str(self.folder / f"disks/{self.number}")


class Loop:
    """A file attached as a loop device. All that is known of it is in the state."""

    @staticmethod
    def held(_attachments: list[dict]) -> contextlib.AbstractContextManager:
        """While a snapshot is taken. Here writes go on, so it may be torn: only for volumes that nobody writes to."""
        return contextlib.nullcontext()

    @staticmethod
    def attach(file: str, read_only: bool, _serial: str) -> dict:
        return {"device": run("losetup", "--find", "--show", *(["--read-only"] if read_only else []), file)}

    @staticmethod
    def grow(attachment: dict) -> None:
        run("losetup", "--set-capacity", attachment["device"])

    @staticmethod
    def detach(attachment: dict) -> None:
        with contextlib.suppress(Refused):  # gone already
            run("losetup", "--detach", attachment["device"])


class Linear(Loop):
    """A dm-linear mapping over the loop device, as LVM makes them. Its snapshots hold one point in time."""

    @staticmethod
    def attach(file: str, read_only: bool, serial: str) -> dict:
        below = Loop.attach(file, read_only, serial)["device"]
        name = f"fake-{serial}-{pathlib.Path(below).name}"
        run("dmsetup", "create", name, *(["--readonly"] if read_only else []), "--table", Linear._table(below))
        return {"device": str(pathlib.Path("/dev/mapper", name).resolve()), "below": below, "name": name}

    @staticmethod
    def _table(below: str) -> str:
        return f"0 {run('blockdev', '--getsz', below)} linear {below} 0"

    @staticmethod
    def grow(attachment: dict) -> None:
        below = attachment["below"]
        Loop.grow({"device": below})
        run("dmsetup", "reload", attachment["name"], "--table", Linear._table(below))
        run("dmsetup", "resume", attachment["name"])

    @staticmethod
    def detach(attachment: dict) -> None:
        with contextlib.suppress(Refused):  # gone already
            run("dmsetup", "remove", "--deferred", attachment["name"])
        Loop.detach({"device": attachment["below"]})

    @staticmethod
    @contextlib.contextmanager
    def held(attachments: list[dict]):
        """Nothing is written meanwhile: writes wait, and those on their way have come down."""
        names = [attachment["name"] for attachment in attachments]
        for name in names:
            run("dmsetup", "suspend", "--noflush", "--nolockfs", name)
        try:
            yield
        finally:
            for name in names:
                run("dmsetup", "resume", name)


class NoDisk:
    """Nothing is attached: for those who measure the controller's calls."""

    @staticmethod
    def attach(_file: str, _read_only: bool, _serial: str) -> dict:
        return {"device": ""}

    @staticmethod
    def grow(_attachment: dict) -> None:
        pass

    detach = grow
    held = Loop.held


class Scsi:
    """A SCSI disk, which vanishes from its users when it is detached. The fake cannot start again with these."""

    def __init__(self):
        sys.path.insert(0, str(stubs.TREE / "tests/upstream"))
        import disks

        run("modprobe", "-a", "loop", "sd_mod", "target_core_mod", "target_core_iblock", "tcm_loop")
        self._disks, self._host, self._made = disks, disks.Host(200), {}
        self._numbers = itertools.count(1)

    def attach(self, file: str, read_only: bool, serial: str) -> dict:
        number = next(number for number in self._numbers if not self._host.unit(number).exists())
        disk = self._disks.ScsiDisk(self._host, number, serial, pathlib.Path(file), read_only)
        self._made[disk.name] = disk
        return {"device": f"/dev/{disk.name}"}

    def grow(self, attachment: dict) -> None:
        self._made[pathlib.Path(attachment["device"]).name].rescan()

    def detach(self, attachment: dict) -> None:
        self._made.pop(pathlib.Path(attachment["device"]).name).remove()

    held = staticmethod(Loop.held)

    def close(self) -> None:
        self._host.remove()


def needs(capability: str):
    """The method exists only with this switch."""

    def wrap(function):
        function.capability = capability
        return function

    return wrap


class Base:
    """What the services share. Their methods are named as in CSI; node is "" at the controller's socket."""

    def __init__(self, folder: pathlib.Path, config: Config):
        self.folder, self.config, self.state = folder, config, State(folder)
        (folder / "disks").mkdir(exist_ok=True)
        self.devices = {"loop": Loop, "linear": Linear, "none": NoDisk, "scsi": Scsi}[config.device]()

    def _secrets(self, method: str, given) -> None:
        if method in self.config.secrets:
            check(given, Code.INVALID_ARGUMENT, f"{method} needs secrets")
            check(dict(given) == SECRETS, Code.UNAUTHENTICATED, f"{method}: wrong secrets")

    def _capability(self, given) -> None:
        check(given.HasField("access_mode"), Code.INVALID_ARGUMENT, "no access mode")
        check(given.WhichOneof("access_type"), Code.INVALID_ARGUMENT, "no access type")
        check(given.HasField("block"), Code.INVALID_ARGUMENT, "only block volumes are served")
        modes = {Mode.SINGLE_NODE_WRITER, *READERS}
        if self.config.multi_attach:
            modes |= {Mode.MULTI_NODE_MULTI_WRITER, Mode.MULTI_NODE_SINGLE_WRITER}
        if self.config.several_writers:
            modes |= {Mode.SINGLE_NODE_MULTI_WRITER, Mode.SINGLE_NODE_SINGLE_WRITER}
        check(given.access_mode.mode in modes, Code.INVALID_ARGUMENT,
              f"access mode {Mode.Mode.Name(given.access_mode.mode)} is not served")  # fmt: skip

    def _volume(self, volume_id: str) -> dict:
        check(volume_id, Code.INVALID_ARGUMENT, "no volume id")
        check(len(volume_id) <= ID_MAX, Code.INVALID_ARGUMENT, "the volume id is too long")
        check(volume_id in self.state.volumes, Code.NOT_FOUND, f"no volume {volume_id}")
        return self.state.volumes[volume_id]

    def _parameters(self, given, known: dict) -> None:
        for key, value in given.items():
            if key.startswith("csi.storage.k8s.io/pv"):
                continue  # of --extra-create-metadata
            check(key in known, Code.INVALID_ARGUMENT, f"unknown parameter {key}")
            check(known[key] is None or value in known[key], Code.INVALID_ARGUMENT, f"parameter {key}: bad value {value}")

    def _size(self, wanted) -> int:
        required, limit = wanted.required_bytes, wanted.limit_bytes
        check(required >= 0 and limit >= 0, Code.INVALID_ARGUMENT, "a negative size")
        check(not limit or required <= limit, Code.INVALID_ARGUMENT, "required_bytes is above limit_bytes")
        unit = self.config.round_bytes
        size = -(-max(required, self.config.minimum_bytes, 1) // unit) * unit
        check(not limit or size <= limit, Code.OUT_OF_RANGE, f"the size would be {size}, above the limit")
        return size

    def _room(self, size: int) -> None:
        check(size <= self._free(), Code.RESOURCE_EXHAUSTED, "no space is left")

    def _free(self) -> int:
        return self.config.total_bytes - sum(volume["size"] for volume in self.state.volumes.values())

    def _node(self, node: str) -> str:
        check(node, Code.UNIMPLEMENTED, "this socket has no node service")
        return node

    def _zone(self, node: str) -> str:
        return self.config.zones[self.config.nodes.index(node)] if self.config.zones else ""
