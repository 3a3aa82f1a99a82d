# SPDX-License-Identifier: Apache-2.0
"""Serves the imitated compute service (cloud.py) and the metadata server of its machines, over HTTP.

    with Server(cloud, "node-1") as server: ...       server.address is "127.0.0.1:PORT"

Faults change the answers of single calls, and each request is logged. The metadata server says which machine asks:
on loopback a second machine has a server of its own over the same cloud; elsewhere machine_of can tell by address.
"""

import contextlib
import dataclasses
import datetime
import http.server
import json
import re
import socket
import threading
import time
import urllib.parse

import cloud as clouds
from account import Account
from resources import ApiError, Instance

TOKEN = "token-of-the-imitated-cloud"
METADATA_TOKEN = "token-of-the-metadata-server"
TOKEN_BODY = "body-of-the-token-request"
BODY_MAX = 1 << 20
NAME = r"[^/]+"
# Method, path below projects/P, call. Its groups are the call's arguments after the project.
CALLS = [
    (method, re.compile(f"(?P<project>{NAME})/{path}"), call)
    for method, path, call in (
        ("POST", f"zones/({NAME})/disks", "disks.insert"),
        ("GET", f"zones/({NAME})/disks", "disks.list"),
        ("GET", f"zones/({NAME})/disks/({NAME})", "disks.get"),
        ("DELETE", f"zones/({NAME})/disks/({NAME})", "disks.delete"),
        ("PATCH", f"zones/({NAME})/disks/({NAME})", "disks.update"),
        ("POST", f"zones/({NAME})/disks/({NAME})/resize", "disks.resize"),
        ("POST", f"zones/({NAME})/disks/({NAME})/setLabels", "disks.setLabels"),
        ("GET", f"regions/({NAME})/disks", "regionDisks.list"),
        ("GET", f"regions/({NAME})/disks/({NAME})", "regionDisks.get"),
        ("GET", f"zones/({NAME})/instances", "instances.list"),
        ("GET", f"zones/({NAME})/instances/({NAME})", "instances.get"),
        ("POST", f"zones/({NAME})/instances/({NAME})/attachDisk", "instances.attachDisk"),
        ("POST", f"zones/({NAME})/instances/({NAME})/detachDisk", "instances.detachDisk"),
        ("POST", "global/snapshots", "snapshots.insert"),
        ("GET", "global/snapshots", "snapshots.list"),
        ("GET", f"global/snapshots/({NAME})", "snapshots.get"),
        ("DELETE", f"global/snapshots/({NAME})", "snapshots.delete"),
        ("GET", "global/images", "images.list"),
        ("GET", f"global/images/({NAME})", "images.get"),
        ("DELETE", f"global/images/({NAME})", "images.delete"),
        ("GET", "zones", "zones.list"),
        ("GET", "regions", "regions.list"),
    )
]
OPERATION = re.compile(rf"(?P<scope>{NAME}/(?:zones/{NAME}|regions/{NAME}|global))/operations/(?P<name>{NAME})(?P<wait>/wait)?")
CHANGES = re.compile(r"\.(insert|delete|update|resize|setLabels|attachDisk|detachDisk)$")


@dataclasses.dataclass
class Fault:
    """What goes wrong with the next calls of one name, such as "disks.insert".

    delay: seconds before the call is carried out. status, reason: it is refused instead. operation_error: it seems to
    work, but its operation ends with this code, such as "QUOTA_EXCEEDED". lose_answer: it is carried out, and then
    the connection ends without an answer. where: a regular expression for its path; times: for so many calls.
    """

    call: str
    delay: float = 0
    status: int = 0
    reason: str = "backendError"
    operation_error: str = ""
    lose_answer: bool = False
    where: str = ""
    times: int = 1
    reached: threading.Event = dataclasses.field(default_factory=threading.Event)  # a call has met it


@dataclasses.dataclass
class Request:
    """One line of the log."""

    call: str
    method: str
    path: str
    query: dict
    body: dict
    status: int  # 0: no answer was sent
    seconds: float


def masked(document, paths: list[list[str]]):
    """The fields that a partial response is to hold; a path is a list of names."""
    if isinstance(document, list):
        return [masked(entry, paths) for entry in document]
    if not isinstance(document, dict):
        return document
    kept = {}
    for name in document:
        below = [path[1:] for path in paths if path[0] == name]
        if below:
            kept[name] = document[name] if [] in below else masked(document[name], below)
    return kept


class Server:
    """The service as one machine sees it, or as all do."""

    def __init__(self, cloud: clouds.Cloud, instance: str = "", listen: tuple[str, int] = ("127.0.0.1", 0), account: Account | None = None):
        """instance: the machine; none if machine_of knows. account: who may ask for tokens, beside the machines."""
        self.cloud, self.account = cloud, account
        self.instance = next((one for one in cloud.instances.values() if one.name == instance), None)
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        handler = type("Handler", (Handler,), {"owner": self})
        self._http = http.server.ThreadingHTTPServer(listen, handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def address(self) -> str:
        return ":".join(map(str, self._http.server_address))

    def machine_of(self, caller: str) -> Instance | None:
        """The machine that asks, from the address of this caller."""
        return self.instance

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def add_fault(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    def calls(self, *names: str) -> list[Request]:
        """The logged requests with these names, or all."""
        with self._lock:
            return [request for request in self.requests if not names or request.call in names]

    def log(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def take_fault(self, call: str, path: str) -> Fault | None:
        """The fault that this call meets."""
        with self._lock:
            for fault in self._faults:
                if fault.call == call and re.search(fault.where, path):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                    fault.reached.set()
                    return fault
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one connection."""

    owner: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 300

    def log_message(self, format, *args):  # noqa: A002  # the name is the base class's
        """The log is Server.requests."""

    def do_GET(self):  # noqa: N802
        self.answer()

    do_POST = do_DELETE = do_PATCH = do_GET

    def answer(self) -> None:
        started = time.monotonic()
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        call, body, fault = "", {}, None
        try:
            data = self.read_body()
            if path.startswith("/computeMetadata/v1/"):
                call = "metadata"
                status, kind, answer = 200, "application/text", self.metadata(path)
            elif path == "/token":
                call = "token"
                status, kind, answer = 200, "application/json", self.token(data)
            elif path == "/account-token":
                call = "account-token"
                status, kind, answer = 200, "application/json", self.account_token(data)
            else:
                body = self.parse(data)
                call, function = self.find(path)
                fault = self.owner.take_fault(call, path)
                answer = json.dumps(self.carry_out(call, function, body, query, fault)).encode()
                status, kind = 200, "application/json"
        except ApiError as error:
            status, kind, answer = error.status, "application/json", json.dumps(error.document()).encode()
        except Exception as error:
            failure = ApiError(500, "internalError", f"{type(error).__name__}: {error}")
            status, kind, answer = 500, "application/json", json.dumps(failure.document()).encode()
        lost = bool(fault and fault.lose_answer)
        self.owner.log(
            Request(call, self.command, path, query, body, 0 if lost else status, time.monotonic() - started)
        )
        if lost:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        with contextlib.suppress(OSError):  # the caller may have gone
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("Metadata-Flavor", "Google")
            self.end_headers()
            self.wfile.write(answer)

    def read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdigit() or int(length) > BODY_MAX:
            self.close_connection = True
            raise ApiError(400, "badRequest", "The body must have a length of at most 1 MiB")
        return self.rfile.read(int(length))

    def parse(self, data: bytes) -> dict:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise ApiError(401, "authError", "Request had invalid authentication credentials.")
        try:
            body = json.loads(data or b"{}")
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ApiError(400, "parseError", "Parse Error")
        return body

    def find(self, path: str):
        """The call's name, and a function that carries it out."""
        match = re.fullmatch(r"/compute/(?:v1|beta|alpha)/projects/(.*)", path)
        if match and (found := OPERATION.fullmatch(match[1])):
            wait = bool(found["wait"])
            if self.command == ("POST" if wait else "GET"):
                call = "operations.wait" if wait else "operations.get"
                return call, lambda *rest: self.method(call)(f"projects/{found['scope']}", found["name"], *rest)
        for method, pattern, call in CALLS:
            if match and method == self.command and (found := pattern.fullmatch(match[1])):
                arguments = found.groups()
                return call, lambda *rest: self.method(call)(*arguments, *rest)
        raise ApiError(404, "notFound", f"No such call: {self.command} {path}")

    def method(self, call: str):
        return getattr(self.owner.cloud, call.replace(".", "_"))

    def carry_out(self, call: str, function, body: dict, query: dict, fault: Fault | None) -> dict:
        if fault:
            time.sleep(fault.delay)
            if fault.status:
                raise ApiError(fault.status, fault.reason, f"{call} failed: an injected fault")
            if fault.operation_error:
                if not CHANGES.search(call):
                    raise ValueError(f"{call} has no operation")
                path = self.path.partition("/projects/")[2].partition("?")[0].split("/")
                scope = "/".join(["projects", *path[: 2 if path[1] == "global" else 3]])
                return self.owner.cloud.failed_operation(call, scope, "/".join(["projects", *path]), fault.operation_error)
        document = function(body, query)
        if fields := query.get("fields"):
            if not re.fullmatch(r"[\w/]+(,[\w/]+)*", fields):
                raise ApiError(400, "invalidParameter", f"Invalid field selection {fields}")
            document = masked(document, [field.split("/") for field in fields.split(",")])
        return document

    def metadata(self, path: str) -> bytes:
        """The metadata server."""
        if self.headers.get("Metadata-Flavor") != "Google":
            raise ApiError(403, "forbidden", "Missing required header: Metadata-Flavor")
        cloud, instance = self.owner.cloud, self.owner.machine_of(self.client_address[0])
        if not instance:
            raise ApiError(404, "notFound", f"No machine has the address {self.client_address[0]}")
        answers = {
            "project/project-id": cloud.project,
            "project/numeric-project-id": "1",
            "instance/name": instance.name,
            "instance/zone": f"projects/1/zones/{instance.path.split('/')[3]}",
            "instance/machine-type": f"projects/1/machineTypes/{instance.machine_type}",
            "instance/service-accounts/default/token": json.dumps(
                {"access_token": METADATA_TOKEN, "expires_in": 3599, "token_type": "Bearer"}
            ),
        }
        name = path.removeprefix("/computeMetadata/v1/")
        if name not in answers:
            raise ApiError(404, "notFound", f"No such metadata: {name}")
        return answers[name].encode()

    def token(self, data: bytes) -> bytes:
        """The server that a cluster asks for tokens."""
        if self.command != "POST" or self.headers.get("Authorization") != f"Bearer {METADATA_TOKEN}" or data != TOKEN_BODY.encode():
            raise ApiError(401, "authError", "Request had invalid authentication credentials.")
        expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        return json.dumps({"accessToken": TOKEN, "expireTime": expires.isoformat(timespec="seconds")}).encode()

    def account_token(self, data: bytes) -> bytes:
        """The server that a service account asks for tokens."""
        if self.command != "POST" or not self.owner.account or not self.owner.account.accepts(data):
            raise ApiError(401, "authError", "Invalid JWT")
        return json.dumps({"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}).encode()
