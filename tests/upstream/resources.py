# SPDX-License-Identifier: Apache-2.0
"""Resources of the imitated compute service (cloud.py), their JSON form, and its errors."""

import dataclasses
import pathlib
import re
import time

BASE = "https://www.googleapis.com/compute/v1/"
ATTACH_LIMITS = {"f1-micro": 16, "g1-small": 16, "e2-micro": 16, "e2-small": 16, "e2-medium": 16}
ATTACH_LIMIT = 128  # the boot disk counts


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, reason: str, message: str):
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    def document(self) -> dict:
        entry = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.status, "message": self.message, "errors": [entry]}}


def not_found(path: str) -> ApiError:
    return ApiError(404, "notFound", f"The resource '{path}' was not found")


def exists(path: str) -> ApiError:
    return ApiError(409, "alreadyExists", f"The resource '{path}' already exists")


def invalid(field: str, value, why: str) -> ApiError:
    return ApiError(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")


def in_use(path: str, user: str) -> ApiError:
    return ApiError(400, "resourceInUseByAnotherResource", f"The disk resource '{path}' is already being used by '{user}'")


def path_of(url: str) -> str:
    """projects/... of a full or partial URL."""
    match = re.fullmatch(r"(?:https?://[^/]+/compute/\w+/)?(projects/.+)", url)
    if not match:
        raise invalid("resource", url, "The URL is malformed.")
    return match[1]


def matches(document: dict, text: str) -> bool:
    """Whether a resource is in the answer of a list call with this filter: "FIELD eq REGULAR-EXPRESSION", ne,
    "FIELD=VALUE" or !=."""
    match = re.fullmatch(r"\s*([\w.]+)\s*(\seq\s|\sne\s|!=|=)\s*(.*?)\s*", text)
    if not match:
        raise invalid("filter", text, "Invalid list filter expression.")
    value: object = document
    for part in match[1].split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    operator, wanted = match[2].strip(), match[3]
    if operator in ("=", "!="):
        return (str(value) == wanted.strip('"')) == (operator == "=")
    try:
        return bool(re.fullmatch(wanted, str(value))) == (operator == "eq")
    except re.error:
        raise invalid("filter", text, "Invalid list filter expression.") from None


@dataclasses.dataclass
class Disk:
    """A disk; its bytes are in file."""

    path: str  # projects/P/zones/Z/disks/NAME
    file: pathlib.Path
    size_gib: int
    kind: str
    description: str
    labels: dict[str, str]
    multi_writer: bool
    access_mode: str
    origin: dict[str, str]  # the fields for what it was made from
    number: int
    created: str
    ready_at: float
    performance: dict[str, int]
    fingerprint: int = 0

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def zone(self) -> str:
        return self.path.split("/")[3]

    def document(self, users: list[str]) -> dict:
        scope = self.path.rpartition("/disks/")[0]
        document = {
            "kind": "compute#disk", "id": str(self.number), "name": self.name, "zone": BASE + scope,
            "sizeGb": str(self.size_gib), "status": "READY" if self.ready_at <= time.monotonic() else "CREATING",
            "selfLink": BASE + self.path, "type": f"{BASE}{scope}/diskTypes/{self.kind}", "description": self.description,
            "creationTimestamp": self.created, "labelFingerprint": str(self.fingerprint), "physicalBlockSizeBytes": "4096",
        }  # fmt: skip
        document |= self.origin | {field: str(value) for field, value in self.performance.items()}
        document |= {"multiWriter": True} if self.multi_writer else {}
        document |= {"accessMode": self.access_mode or "READ_WRITE_SINGLE"} if self.kind.startswith("hyperdisk") else {}
        document |= {"labels": self.labels} if self.labels else {}
        return document | ({"users": [BASE + user for user in users]} if users else {})


@dataclasses.dataclass
class Snapshot:
    """The bytes of a disk at one moment, in file."""

    path: str
    file: pathlib.Path
    size_gib: int
    source_disk: str
    source_disk_id: int
    description: str
    number: int
    created: str
    ready_at: float

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def document(self) -> dict:
        return {
            "kind": "compute#snapshot", "id": str(self.number), "name": self.name, "selfLink": BASE + self.path,
            "status": "READY" if self.ready_at <= time.monotonic() else "UPLOADING", "diskSizeGb": str(self.size_gib),
            "sourceDisk": BASE + self.source_disk, "sourceDiskId": str(self.source_disk_id),
            "creationTimestamp": self.created, "description": self.description, "storageLocations": ["us"],
        }  # fmt: skip


@dataclasses.dataclass
class Attachment:
    """A disk at an instance."""

    disk: Disk
    device_name: str
    mode: str


@dataclasses.dataclass
class Instance:
    """A machine; disks by their device name."""

    path: str
    machine_type: str
    number: int
    disks: dict[str, Attachment] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def limit(self) -> int:
        return ATTACH_LIMITS.get(self.machine_type, ATTACH_LIMIT)

    def document(self) -> dict:
        scope = self.path.rpartition("/instances/")[0]
        disks = [{"kind": "compute#attachedDisk", "type": "PERSISTENT", "mode": "READ_WRITE", "boot": True, "index": 0,
                  "deviceName": "persistent-disk-0", "source": f"{BASE}{scope}/disks/{self.name}"}]  # fmt: skip
        disks += [{"kind": "compute#attachedDisk", "type": "PERSISTENT", "mode": one.mode, "boot": False, "index": index,
                   "deviceName": one.device_name, "source": BASE + one.disk.path}
                  for index, one in enumerate(self.disks.values(), 1)]  # fmt: skip
        return {
            "kind": "compute#instance", "id": str(self.number), "name": self.name, "status": "RUNNING",
            "zone": BASE + scope, "selfLink": BASE + self.path, "disks": disks,
            "machineType": f"{BASE}{scope}/machineTypes/{self.machine_type}",
        }  # fmt: skip


@dataclasses.dataclass
class Operation:
    """A change that is done at a time, with or without an error."""

    scope: str  # projects/P/zones/Z or projects/P/global
    name: str
    kind: str
    target: str
    number: int
    done_at: float
    error: tuple[str, str] | None

    def document(self) -> dict:
        done = self.done_at <= time.monotonic()
        document = {
            "kind": "compute#operation", "id": str(self.number), "name": self.name,
            "operationType": self.kind, "status": "DONE" if done else "RUNNING", "progress": 100 if done else 0,
            "targetLink": BASE + self.target, "selfLink": f"{BASE}{self.scope}/operations/{self.name}",
        }  # fmt: skip
        if "/zones/" in self.scope:
            document["zone"] = BASE + self.scope
        if done and self.error:
            code, message = self.error
            document |= {"error": {"errors": [{"code": code, "message": message}]}, "httpErrorStatusCode": 400}
        return document
