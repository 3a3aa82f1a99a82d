# SPDX-License-Identifier: Apache-2.0
"""An imitation of Google's compute service: its disks, snapshots and instances, as far as the persistent disk
driver asks for them. server.py serves it over HTTP.

It refuses what the real service refuses, with the same codes, reasons and messages, because the driver reads them.
Disks are sparse files. What happens on the machine when a disk is attached is the affair of disks.py.

Source: the REST reference of compute v1, https://cloud.google.com/compute/docs/reference/rest/v1. Not imitated are
regional disks (lists of them are empty), images (there are none), quotas and labels of snapshots.
"""

import contextlib
import datetime
import errno
import itertools
import os
import pathlib
import re
import threading
import time

from resources import (
    BASE, ApiError, Attachment, Disk, Instance, Operation, Snapshot, exists, in_use, invalid, matches, not_found, path_of,
)  # fmt: skip

GIB = 1 << 30
# The names that the real service takes, and the same with the capitals of csi-sanity's names.
CLOUD_NAMES = r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"
ANY_NAMES = r"[A-Za-z0-9](?:[-+A-Za-z0-9]{0,61}[A-Za-z0-9])?"
# Smallest and largest size in GiB.
DISK_TYPES = {
    "pd-standard": (1, 65536),
    "pd-balanced": (1, 65536),
    "pd-ssd": (1, 65536),
    "hyperdisk-balanced": (4, 65536),
}
MULTI_WRITER_TYPES = ("pd-balanced", "pd-ssd")
MULTI_WRITER_INSTANCES = 2
PAGE = 500  # entries of a list, at most and by default
WAIT_SECONDS = 120  # longest answer of operations.wait
DISK_FIELDS = {"name", "sizeGb", "description", "type", "labels", "sourceSnapshot", "sourceDisk", "multiWriter", "accessMode",
               "provisionedIops", "provisionedThroughput", "enableConfidentialCompute"}  # fmt: skip
ATTACH_FIELDS = {"deviceName", "kind", "mode", "source", "type", "forceAttach", "boot", "autoDelete"}
SNAPSHOT_FIELDS = {"name", "description", "labels", "sourceDisk", "storageLocations"}


class NoDevices:
    """For a cloud without machines: nothing happens there."""

    def attach(self, instance: str, device_name: str, file: pathlib.Path, read_only: bool) -> None:
        """Makes the disk appear at the machine."""

    def detach(self, instance: str, device_name: str) -> None:
        """Takes it away, in use or not."""

    def resize(self, instance: str, device_name: str) -> None:
        """Its file is longer."""

    def still(self):
        """A context in which no machine writes, so that what is copied is the disk of one moment."""
        return contextlib.nullcontext()


def copy_sparse(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies the data of a file, but not its holes; target has its length or is longer."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        end = os.fstat(reader.fileno()).st_size
        offset = 0
        while offset < end:
            try:
                start = os.lseek(reader.fileno(), offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    return
                raise
            offset = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            while start < offset:
                data = os.pread(reader.fileno(), min(offset - start, 1 << 20), start)
                if data.strip(b"\0"):
                    os.pwrite(writer.fileno(), data, start)
                start += len(data)


class Cloud:
    """One project. Names of methods are those of the API's calls; their arguments are the parts of the path."""

    def __init__(self, folder: pathlib.Path, devices=None, project: str = "proj",
                 zones: tuple[str, ...] = ("us-central1-a", "us-central1-b"), names: str = CLOUD_NAMES):  # fmt: skip
        self.folder = folder
        self.devices = devices or NoDevices()
        self.project, self.zones, self.names = project, zones, names
        self.page = PAGE
        self.seconds: dict[str, float] = {}  # how long operations run, by call ("disks.insert")
        self.disks: dict[str, Disk] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.instances: dict[str, Instance] = {}
        self.operations: dict[tuple[str, str], Operation] = {}
        self._lock = threading.RLock()
        self._numbers = itertools.count(int(time.time() * 1000))
        folder.mkdir(parents=True, exist_ok=True)

    def add_instance(self, name: str, zone: str = "", machine_type: str = "n2d-standard-4") -> Instance:
        """A machine with its boot disk."""
        path = f"projects/{self.project}/zones/{zone or self.zones[0]}/instances/{name}"
        made = Instance(path, machine_type, next(self._numbers))
        self.instances[path] = made
        return made

    def close(self) -> None:
        """Detaches all disks and removes their files."""
        with self._lock:
            for instance in self.instances.values():
                for device_name in list(instance.disks):
                    self.devices.detach(instance.name, device_name)
                    del instance.disks[device_name]
            for one in [*self.disks.values(), *self.snapshots.values()]:
                one.file.unlink(missing_ok=True)
            self.disks.clear()
            self.snapshots.clear()
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    # --- disks

    def disks_insert(self, project: str, zone: str, body: dict, query: dict) -> dict:
        scope = self._zone(project, zone)
        self._check_fields(body, DISK_FIELDS)
        name = body.get("name", "")
        path = f"{scope}/disks/{name}"
        with self._lock:
            self._check_name(name)
            kind = self._disk_type(scope, body.get("type", "pd-standard"))
            source, least, origin = self._source(scope, kind, body)
            size = self._size(body.get("sizeGb"), least or DISK_TYPES[kind][0], "resource.sizeGb")
            least = max(least, DISK_TYPES[kind][0])
            if not least <= size <= DISK_TYPES[kind][1]:
                raise invalid("resource.sizeGb", size, f"Disk size must be {least} to {DISK_TYPES[kind][1]} GiB.")
            if body.get("multiWriter") and kind not in MULTI_WRITER_TYPES:
                raise invalid("resource.multiWriter", "true", f"Multi-writer is not supported for disk type {kind}.")
            if path in self.disks:
                raise exists(path)
            disk = Disk(
                path, self.folder / f"disk-{next(self._numbers)}", size, kind, body.get("description", ""),
                body.get("labels", {}), bool(body.get("multiWriter")), body.get("accessMode", ""),
                origin, next(self._numbers), self._timestamp(), self._ready("disks.insert"), self._performance(kind, body),
            )  # fmt: skip
            self._make_file(disk.file, size)
            if source:
                with self.devices.still():
                    copy_sparse(source, disk.file)
            self.disks[path] = disk
            return self._operation("disks.insert", scope, path)

    def disks_get(self, project: str, zone: str, name: str, body: dict, query: dict) -> dict:
        with self._lock:
            return self._document(self._disk(f"{self._zone(project, zone)}/disks/{name}"))

    def disks_list(self, project: str, zone: str, body: dict, query: dict) -> dict:
        scope = self._zone(project, zone)
        with self._lock:
            found = [self._document(disk) for path, disk in self.disks.items() if path.startswith(f"{scope}/")]
        return self._list("diskList", found, query)

    def regionDisks_list(self, project: str, region: str, body: dict, query: dict) -> dict:
        self._region(project, region)
        return self._list("diskList", [], query)

    def regionDisks_get(self, project: str, region: str, name: str, body: dict, query: dict) -> dict:
        raise not_found(f"{self._region(project, region)}/disks/{name}")

    def disks_delete(self, project: str, zone: str, name: str, body: dict, query: dict) -> dict:
        scope = self._zone(project, zone)
        with self._lock:
            disk = self._disk(f"{scope}/disks/{name}")
            if users := self._users(disk):
                raise in_use(disk.path, users[0].path)
            del self.disks[disk.path]
            disk.file.unlink()
            return self._operation("disks.delete", scope, disk.path)

    def disks_resize(self, project: str, zone: str, name: str, body: dict, query: dict) -> dict:
        scope = self._zone(project, zone)
        self._check_fields(body, {"sizeGb"})
        with self._lock:
            disk = self._disk(f"{scope}/disks/{name}")
            self._grow(disk, self._size(body.get("sizeGb"), 0, "sizeGb"))
            return self._operation("disks.resize", scope, disk.path)

    def disks_setLabels(self, project: str, zone: str, name: str, body: dict, query: dict) -> dict:
        scope = self._zone(project, zone)
        self._check_fields(body, {"labels", "labelFingerprint"})
        with self._lock:
            disk = self._disk(f"{scope}/disks/{name}")
            if body.get("labelFingerprint") != str(disk.fingerprint):
                raise ApiError(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")
            disk.labels = body.get("labels", {})
            disk.fingerprint += 1
            return self._operation("disks.setLabels", scope, disk.path)

    def disks_update(self, project: str, zone: str, name: str, body: dict, query: dict) -> dict:
        scope = self._zone(project, zone)
        self._check_fields(body, DISK_FIELDS)
        with self._lock:
            disk = self._disk(f"{scope}/disks/{name}")
            for field in query.get("paths", "").split(","):
                if field == "sizeGb":
                    self._grow(disk, self._size(body.get(field), 0, field))
                elif field == "accessMode" and disk.kind.startswith("hyperdisk"):
                    disk.access_mode = body.get(field, "")
                elif field in disk.performance:
                    disk.performance[field] = self._size(body.get(field), 0, field)
                else:
                    raise invalid("paths", field, f"It cannot be updated for disk type {disk.kind}.")
            return self._operation("disks.update", scope, disk.path)

    # --- instances

    def instances_get(self, project: str, zone: str, name: str, body: dict, query: dict) -> dict:
        with self._lock:
            return self._instance(f"{self._zone(project, zone)}/instances/{name}").document()

    def instances_list(self, project: str, zone: str, body: dict, query: dict) -> dict:
        scope = self._zone(project, zone)
        with self._lock:
            found = [one.document() for path, one in self.instances.items() if path.startswith(f"{scope}/")]
        return self._list("instanceList", found, query)

    def instances_attachDisk(self, project: str, zone: str, name: str, body: dict, query: dict) -> dict:
        scope = self._zone(project, zone)
        self._check_fields(body, ATTACH_FIELDS)
        with self._lock:
            instance = self._instance(f"{scope}/instances/{name}")
            disk = self._disk(path_of(body.get("source", "")))
            if disk.zone != zone:
                raise invalid("resource.source", disk.path, "The disk must be in the zone of the instance.")
            if disk.ready_at > time.monotonic():
                raise ApiError(400, "resourceNotReady", f"The resource '{disk.path}' is not ready")
            mode = body.get("mode", "READ_WRITE")
            if mode not in ("READ_WRITE", "READ_ONLY"):
                raise invalid("resource.mode", mode, "Must be READ_WRITE or READ_ONLY.")
            device_name = body.get("deviceName") or f"persistent-disk-{len(instance.disks) + 1}"
            forced = query.get("forceAttach") == "true"
            others = [user for user in self._users(disk) if user is not instance]
            if any(attachment.disk is disk for attachment in instance.disks.values()):
                raise in_use(disk.path, instance.path)
            if device_name in instance.disks:
                raise invalid("resource.deviceName", device_name, "The device name is in use at this instance.")
            self._check_sharing(disk, mode, [] if forced else others)
            if len(instance.disks) + 1 >= instance.limit:
                raise ApiError(403, "limitExceeded", "Exceeded limit 'maximum_persistent_disks' on resource "
                                                     f"'{instance.name}'. Limit: {instance.limit}.0")  # fmt: skip
            if forced and mode == "READ_WRITE" and not disk.multi_writer:
                for other in others:
                    self._take_away(other, disk)
            self.devices.attach(instance.name, device_name, disk.file, mode == "READ_ONLY")
            instance.disks[device_name] = Attachment(disk, device_name, mode)
            return self._operation("instances.attachDisk", scope, instance.path)

    def instances_detachDisk(self, project: str, zone: str, name: str, body: dict, query: dict) -> dict:
        scope = self._zone(project, zone)
        with self._lock:
            instance = self._instance(f"{scope}/instances/{name}")
            device_name = query.get("deviceName", "")
            if device_name not in instance.disks:
                raise invalid("disk", device_name, f"No attached disk found with device name '{device_name}'")
            self._take_away(instance, instance.disks[device_name].disk)
            return self._operation("instances.detachDisk", scope, instance.path)

    # --- snapshots and images

    def snapshots_insert(self, project: str, body: dict, query: dict) -> dict:
        scope = self._global(project)
        self._check_fields(body, SNAPSHOT_FIELDS)
        name = body.get("name", "")
        path = f"{scope}/snapshots/{name}"
        with self._lock:
            self._check_name(name)
            disk = self._disk(path_of(body.get("sourceDisk", "")))
            if path in self.snapshots:
                raise exists(path)
            snapshot = Snapshot(
                path, self.folder / f"snapshot-{next(self._numbers)}", disk.size_gib, disk.path, disk.number,
                body.get("description", ""), next(self._numbers), self._timestamp(), self._ready("snapshots.insert"),
            )  # fmt: skip
            self._make_file(snapshot.file, disk.size_gib)
            with self.devices.still():
                copy_sparse(disk.file, snapshot.file)
            self.snapshots[path] = snapshot
            return self._operation("snapshots.insert", scope, path)

    def snapshots_get(self, project: str, name: str, body: dict, query: dict) -> dict:
        with self._lock:
            return self._snapshot(f"{self._global(project)}/snapshots/{name}").document()

    def snapshots_list(self, project: str, body: dict, query: dict) -> dict:
        self._global(project)
        with self._lock:
            found = [snapshot.document() for snapshot in self.snapshots.values()]
        return self._list("snapshotList", found, query)

    def snapshots_delete(self, project: str, name: str, body: dict, query: dict) -> dict:
        scope = self._global(project)
        with self._lock:
            snapshot = self._snapshot(f"{scope}/snapshots/{name}")
            del self.snapshots[snapshot.path]
            snapshot.file.unlink()
            return self._operation("snapshots.delete", scope, snapshot.path)

    def images_list(self, project: str, body: dict, query: dict) -> dict:
        self._global(project)
        return self._list("imageList", [], query)

    def images_get(self, project: str, name: str, body: dict, query: dict) -> dict:
        raise not_found(f"{self._global(project)}/images/{name}")

    images_delete = images_get

    # --- zones, regions, operations

    def zones_list(self, project: str, body: dict, query: dict) -> dict:
        self._global(project)
        found = [{"kind": "compute#zone", "name": zone, "status": "UP", "selfLink": f"{BASE}projects/{project}/zones/{zone}",
                  "region": f"{BASE}projects/{project}/regions/{zone[:-2]}"} for zone in self.zones]  # fmt: skip
        return self._list("zoneList", found, query)

    def regions_list(self, project: str, body: dict, query: dict) -> dict:
        self._global(project)
        found = [{"kind": "compute#region", "name": name, "status": "UP", "selfLink": f"{BASE}projects/{project}/regions/{name}"}
                 for name in sorted({zone[:-2] for zone in self.zones})]  # fmt: skip
        return self._list("regionList", found, query)

    def operations_get(self, scope: str, name: str, body: dict, query: dict) -> dict:
        with self._lock:
            return self._find_operation(scope, name).document()

    def operations_wait(self, scope: str, name: str, body: dict, query: dict) -> dict:
        """Answers when the operation is done, or after two minutes."""
        with self._lock:
            operation = self._find_operation(scope, name)
        time.sleep(max(0, min(operation.done_at - time.monotonic(), WAIT_SECONDS)))
        return operation.document()

    def failed_operation(self, call: str, scope: str, target: str, code: str) -> dict:
        """The answer of a call that looks good, but whose operation ends with this error."""
        with self._lock:
            return self._operation(call, scope, target, (code, f"{call} of '{target}' failed"))

    # --- what the calls share

    def _global(self, project: str) -> str:
        if project != self.project:
            raise not_found(f"projects/{project}")
        return f"projects/{project}/global"

    def _zone(self, project: str, zone: str) -> str:
        self._global(project)
        if zone not in self.zones:
            raise invalid("zone", zone, "Unknown zone.")
        return f"projects/{project}/zones/{zone}"

    def _region(self, project: str, region: str) -> str:
        self._global(project)
        if region not in {zone[:-2] for zone in self.zones}:
            raise invalid("region", region, "Unknown region.")
        return f"projects/{project}/regions/{region}"

    def _disk(self, path: str) -> Disk:
        if path not in self.disks:
            raise not_found(path)
        return self.disks[path]

    def _instance(self, path: str) -> Instance:
        if path not in self.instances:
            raise not_found(path)
        return self.instances[path]

    def _snapshot(self, path: str) -> Snapshot:
        if path not in self.snapshots:
            raise not_found(path)
        return self.snapshots[path]

    def _find_operation(self, scope: str, name: str) -> Operation:
        if (scope, name) not in self.operations:
            raise not_found(f"{scope}/operations/{name}")
        return self.operations[scope, name]

    def _document(self, disk: Disk) -> dict:
        return disk.document([instance.path for instance in self._users(disk)])

    def _users(self, disk: Disk) -> list[Instance]:
        return [instance for instance in self.instances.values()
                if any(attachment.disk is disk for attachment in instance.disks.values())]  # fmt: skip

    def _check_fields(self, body: dict, known: set[str]) -> None:
        for field in body:
            if field not in known:
                raise ApiError(400, "badRequest", f'Invalid JSON payload received. Unknown name "{field}": Cannot find field.')

    def _check_name(self, name: str) -> None:
        if not re.fullmatch(self.names, name):
            raise invalid("resource.name", name, f"Must be a match of regex '{self.names}'")

    def _disk_type(self, scope: str, url: str) -> str:
        name = url.rpartition("/")[2]
        if name not in DISK_TYPES:
            raise not_found(f"{scope}/diskTypes/{name}")
        return name

    def _size(self, value, default: int, field: str) -> int:
        """A whole number of GiB; the API writes 64-bit numbers as strings."""
        if value is None:
            return default
        if isinstance(value, bool) or not re.fullmatch(r"[1-9]\d{0,15}", str(value)):
            raise invalid(field, value, "Must be a positive whole number.")
        return int(value)

    def _performance(self, kind: str, body: dict) -> dict[str, int]:
        if not kind.startswith("hyperdisk"):
            for field in ("provisionedIops", "provisionedThroughput"):
                if field in body:
                    raise invalid(f"resource.{field}", body[field], f"It is not supported for disk type {kind}.")
            return {}
        return {"provisionedIops": self._size(body.get("provisionedIops"), 3000, "resource.provisionedIops"),
                "provisionedThroughput": self._size(body.get("provisionedThroughput"), 140, "resource.provisionedThroughput")}  # fmt: skip

    def _source(self, scope: str, kind: str, body: dict) -> tuple[pathlib.Path | None, int, dict]:
        """For a disk made from a snapshot or another disk: the file to copy, its size in GiB, what to say of it."""
        if body.get("sourceSnapshot"):
            snapshot = self._snapshot(path_of(body["sourceSnapshot"]))
            if snapshot.ready_at > time.monotonic():
                raise ApiError(400, "resourceNotReady", f"The resource '{snapshot.path}' is not ready")
            origin = {"sourceSnapshot": BASE + snapshot.path, "sourceSnapshotId": str(snapshot.number)}
            return snapshot.file, snapshot.size_gib, origin
        if body.get("sourceDisk"):
            disk = self._disk(path_of(body["sourceDisk"]))
            if not disk.path.startswith(f"{scope}/") or disk.kind != kind:
                raise invalid("resource.sourceDisk", disk.path, "Zone and type must be those of the new disk.")
            return disk.file, disk.size_gib, {"sourceDisk": BASE + disk.path, "sourceDiskId": str(disk.number)}
        return None, 0, {}

    def _check_sharing(self, disk: Disk, mode: str, others: list[Instance]) -> None:
        """Who else may have the disk: readers beside readers, or two writers of a multi-writer disk."""
        if not others:
            return
        modes = {one.mode for other in others for one in other.disks.values() if one.disk is disk}
        if disk.multi_writer:
            if len(others) >= MULTI_WRITER_INSTANCES:
                raise in_use(disk.path, others[0].path)
        elif disk.access_mode != "READ_WRITE_MANY" and (mode != "READ_ONLY" or modes != {"READ_ONLY"}):
            raise in_use(disk.path, others[0].path)

    def _take_away(self, instance: Instance, disk: Disk) -> None:
        for device_name, attachment in list(instance.disks.items()):
            if attachment.disk is disk:
                self.devices.detach(instance.name, device_name)
                del instance.disks[device_name]

    def _grow(self, disk: Disk, size: int) -> None:
        if size <= disk.size_gib:
            raise invalid("sizeGb", size, f"New disk size '{size}' GiB must be larger than existing size '{disk.size_gib}' GiB.")
        if size > DISK_TYPES[disk.kind][1]:
            raise invalid("sizeGb", size, f"Disk size must be at most {DISK_TYPES[disk.kind][1]} GiB.")
        disk.size_gib = size
        os.truncate(disk.file, size * GIB)
        for instance in self._users(disk):
            for device_name, attachment in instance.disks.items():
                if attachment.disk is disk:
                    self.devices.resize(instance.name, device_name)

    def _make_file(self, file: pathlib.Path, size_gib: int) -> None:
        file.touch(mode=0o600, exist_ok=False)
        os.truncate(file, size_gib * GIB)

    def _timestamp(self) -> str:
        return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")

    def _ready(self, call: str) -> float:
        return time.monotonic() + self.seconds.get(call, 0)

    def _operation(self, call: str, scope: str, target: str, error: tuple[str, str] | None = None) -> dict:
        number = next(self._numbers)
        made = Operation(scope, f"operation-{number}", call.rpartition(".")[2], target, number, self._ready(call), error)
        self.operations[scope, made.name] = made
        return made.document()

    def _list(self, kind: str, found: list[dict], query: dict) -> dict:
        """One page. A page token is the number of the first entry."""
        if text := query.get("filter"):
            found = [document for document in found if matches(document, text)]
        most = query.get("maxResults", str(PAGE))
        if not re.fullmatch(r"\d{1,3}", most) or int(most) > PAGE:
            raise invalid("maxResults", most, f"Must be 0 to {PAGE}.")
        token = query.get("pageToken") or "0"
        if not re.fullmatch(r"\d{1,9}", token) or int(token) > len(found):
            raise invalid("pageToken", token, "Invalid page token.")
        first, count = int(token), min(int(most) or self.page, self.page)
        document: dict = {"kind": f"compute#{kind}", "items": found[first : first + count]}
        if first + count < len(found):
            document["nextPageToken"] = str(first + count)
        return document
