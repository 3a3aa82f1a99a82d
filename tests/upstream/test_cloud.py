# SPDX-License-Identifier: Apache-2.0
"""The imitated cloud refuses what the real one refuses, and its faults do what they say."""

import base64
import contextlib
import http.client
import json
import os
import threading
import time
import urllib.parse

import cloud as clouds
import pytest
import server as servers
from account import GRANT, Account
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

GIB = 1 << 30


class Caller:
    """Calls the API; each call has a connection of its own."""

    zone = "/compute/v1/projects/proj/zones/us-central1-a"

    def __init__(self, server: servers.Server):
        self.server = server

    def raw(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.server.address, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: dict | None) -> tuple[int, dict]:
        data = None if body is None else json.dumps(body).encode()
        status, answer = self.raw(method, path, data, {"Authorization": f"Bearer {servers.TOKEN}"})
        return status, json.loads(answer)

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        status, answer = self.json(method, path, body)
        assert status == 200, answer
        return answer

    def fails(self, status: int, reason: str, method: str, path: str, body: dict | None = None) -> str:
        """The call fails like this; returns the message."""
        found, answer = self.json(method, path, body)
        assert (found, answer.get("error", {}).get("errors", [{}])[0].get("reason")) == (status, reason), answer
        return answer["error"]["message"]

    def insert(self, name: str, size: int = 1, **fields) -> dict:
        return self.call("POST", f"{self.zone}/disks", {"name": name, "sizeGb": str(size)} | fields)

    def disk(self, name: str) -> dict:
        return self.call("GET", f"{self.zone}/disks/{name}")

    def attachment(self, name: str, mode: str = "READ_WRITE") -> dict:
        source = f"http://{self.server.address}{self.zone}/disks/{name}"
        return {"deviceName": name, "mode": mode, "source": source, "type": "PERSISTENT"}

    def attach(self, instance: str, name: str, mode: str = "READ_WRITE") -> dict:
        return self.call("POST", f"{self.zone}/instances/{instance}/attachDisk", self.attachment(name, mode))

    def detach(self, instance: str, name: str) -> dict:
        return self.call("POST", f"{self.zone}/instances/{instance}/detachDisk?deviceName={name}")


class Machines(clouds.NoDevices):
    """Says what would happen at the machines."""

    def __init__(self):
        self.events = []

    def attach(self, instance, device_name, file, read_only):
        self.events.append(("attach", instance, device_name, os.stat(file).st_size // GIB, read_only))

    def detach(self, instance, device_name):
        self.events.append(("detach", instance, device_name))

    def resize(self, instance, device_name):
        self.events.append(("resize", instance, device_name))

    @contextlib.contextmanager
    def still(self):
        self.events.append("still")
        yield
        self.events.append("going on")


@pytest.fixture
def machines():
    return Machines()


@pytest.fixture
def cloud(tmp_path, machines):
    made = clouds.Cloud(tmp_path / "disks", machines)
    for name in ("n1", "n2", "n3"):
        made.add_instance(name)
    yield made
    made.close()
    assert not (tmp_path / "disks").exists()


@pytest.fixture
def api(cloud):
    with servers.Server(cloud, "n1") as server:
        yield Caller(server)


def test_only_known_callers(api):
    """Without the right header or token there is no answer."""
    for path, headers, status in (
        ("/computeMetadata/v1/instance/zone", {}, 403),
        ("/computeMetadata/v1/instance/zone", {"Metadata-Flavor": "Google"}, 200),
        ("/computeMetadata/v1/instance/attributes/x", {"Metadata-Flavor": "Google"}, 404),
        (f"{api.zone}/disks", {}, 401),
        (f"{api.zone}/disks", {"Authorization": "Bearer other"}, 401),
    ):
        assert api.raw("GET", path, headers=headers)[0] == status, (path, headers)
    token = json.loads(api.raw("GET", "/computeMetadata/v1/instance/service-accounts/default/token",
                               headers={"Metadata-Flavor": "Google"})[1])["access_token"]  # fmt: skip
    bearer = {"Authorization": f"Bearer {token}"}
    assert api.raw("POST", "/token", b"other", bearer)[0] == 401
    assert api.raw("POST", "/token", servers.TOKEN_BODY.encode())[0] == 401
    status, data = api.raw("POST", "/token", servers.TOKEN_BODY.encode(), bearer)
    assert (status, json.loads(data)["accessToken"]) == (200, servers.TOKEN)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def assertion(account: Account, **changes) -> bytes:
    """What a program with the account's file sends for a token."""
    file = json.loads(account.file())
    claims = {"iss": file["client_email"], "aud": file["token_uri"], "iat": time.time(), "exp": time.time() + 3600} | changes
    signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    key = serialization.load_pem_private_key(file["private_key"].encode(), None)
    signature = encoded(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))
    return urllib.parse.urlencode({"grant_type": GRANT, "assertion": f"{signed}.{signature}"}).encode()


def test_tokens_of_an_account(cloud):
    """Only for the account's own, fresh assertion."""
    account, other = Account("http://tokens"), Account("http://tokens")
    with servers.Server(cloud, "n1", account=account) as server:
        api = Caller(server)
        status, data = api.raw("POST", "/account-token", assertion(account))
        assert (status, json.loads(data)["access_token"]) == (200, servers.TOKEN)
        wrong = [assertion(other), assertion(account, aud="http://other"), assertion(account, iss="other"),
                 assertion(account, exp=time.time() - 1), assertion(account, iat=time.time() + 600), b"", b"assertion=a.b.c",
                 b"assertion=%ff", assertion(account)[:-5]]  # fmt: skip
        for body in wrong:
            assert api.raw("POST", "/account-token", body)[0] == 401, body
        assert api.raw("GET", "/account-token")[0] == 401
    with servers.Server(cloud, "n1") as server:
        assert Caller(server).raw("POST", "/account-token", assertion(account))[0] == 401


def test_machines_are_known_by_address(cloud):
    class Known(servers.Server):
        def machine_of(self, caller):
            return next(one for one in cloud.instances.values() if one.name == "n2") if caller == "127.0.0.2" else None

    def name_for(caller: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(server.address, timeout=20, source_address=(caller, 0))
        with contextlib.closing(connection):
            connection.request("GET", "/computeMetadata/v1/instance/name", headers={"Metadata-Flavor": "Google"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    with Known(cloud) as server:
        assert name_for("127.0.0.2") == (200, b"n2")
        assert name_for("127.0.0.3")[0] == 404


def test_metadata_names_the_machine(cloud):
    with servers.Server(cloud, "n2") as server:
        status, data = Caller(server).raw("GET", "/computeMetadata/v1/instance/name", headers={"Metadata-Flavor": "Google"})
        assert (status, data) == (200, b"n2")


def test_unknown_things(api):
    """404 for what is not there, 400 for zones that no cloud has, 404 for calls that it does not know."""
    other = "/compute/v1/projects/proj/zones/us-central1-z"
    for method, path in (
        ("GET", f"{api.zone}/disks/none"), ("DELETE", f"{api.zone}/disks/none"), ("POST", f"{api.zone}/disks/none/resize"),
        ("GET", f"{api.zone}/instances/none"), ("GET", "/compute/v1/projects/proj/global/snapshots/none"),
        ("GET", f"{api.zone}/operations/none"), ("POST", f"{api.zone}/operations/none/wait"),
        ("GET", "/compute/v1/projects/proj/global/images/none"), ("GET", "/compute/v1/projects/other/zones"), ("GET", "/compute/v1/projects/proj/regions/us-central1/disks/none"),
    ):  # fmt: skip
        api.fails(404, "notFound", method, path, {"sizeGb": "9"} if path.endswith("resize") else None)
    api.fails(400, "invalid", "GET", f"{other}/disks")
    api.fails(400, "invalid", "GET", "/compute/v1/projects/proj/regions/us-east1/disks")
    api.fails(404, "notFound", "PATCH", f"{api.zone}/instances/n1")


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 64, "1a", "a/b"])
def test_names(api, name):
    api.fails(400, "invalid", "POST", f"{api.zone}/disks", {"name": name, "sizeGb": "1"})
    api.fails(400, "invalid", "POST", "/compute/v1/projects/proj/global/snapshots",
              {"name": name, "sourceDisk": "projects/proj/zones/us-central1-a/disks/none"})  # fmt: skip


@pytest.mark.parametrize("size", ["0", "-1", "1.5", "1Gi", "", 0, True, "65537", "99999999999999999"])
def test_sizes(api, size):
    """Whole GiB, as a string or a number."""
    api.fails(400, "invalid", "POST", f"{api.zone}/disks", {"name": "a", "sizeGb": size})


def test_bad_requests(api):
    api.fails(400, "badRequest", "POST", f"{api.zone}/disks", {"name": "a", "sizeGb": "1", "sizeGB": "1"})
    api.fails(404, "notFound", "POST", f"{api.zone}/disks", {"name": "a", "sizeGb": "1", "type": "zones/z/diskTypes/pd-none"})
    api.fails(400, "invalid", "POST", f"{api.zone}/disks", {"name": "a", "sizeGb": "3", "type": "hyperdisk-balanced"})
    api.fails(400, "invalid", "POST", f"{api.zone}/disks", {"name": "a", "sizeGb": "1", "multiWriter": True})
    api.fails(400, "invalid", "POST", f"{api.zone}/disks", {"name": "a", "sizeGb": "1", "provisionedIops": "3000"})
    api.insert("a")
    for method, path in (("POST", "disks/a/resize"), ("POST", "disks/a/setLabels"), ("PATCH", "disks/a?paths=sizeGb")):
        api.fails(400, "badRequest", method, f"{api.zone}/{path}", {"sizeGB": "2"})
    api.fails(400, "badRequest", "POST", "/compute/v1/projects/proj/global/snapshots", {"name": "s", "disk": "a"})
    headers = {"Authorization": f"Bearer {servers.TOKEN}"}
    assert api.raw("POST", f"{api.zone}/disks", b"{}", headers | {"Content-Length": str(servers.BODY_MAX + 1)})[0] == 400
    assert api.raw("POST", f"{api.zone}/disks", b"{", headers)[0] == 400
    assert api.raw("POST", f"{api.zone}/disks", b"[]", headers)[0] == 400


def test_life_of_a_disk(api, cloud, machines):
    operation = api.insert("a", 2)
    assert (operation["status"], operation["operationType"]) == ("DONE", "insert")
    assert api.call("POST", f"{api.zone}/operations/{operation['name']}/wait")["status"] == "DONE"
    disk = api.disk("a")
    assert (disk["sizeGb"], disk["status"], disk.get("users")) == ("2", "READY", None)
    assert disk["selfLink"] == "https://www.googleapis.com/compute/v1/projects/proj/zones/us-central1-a/disks/a"
    api.fails(409, "alreadyExists", "POST", f"{api.zone}/disks", {"name": "a", "sizeGb": "2"})
    api.attach("n1", "a")
    assert api.disk("a")["users"] == [f"{clouds.BASE}projects/proj/zones/us-central1-a/instances/n1"]
    api.fails(400, "resourceInUseByAnotherResource", "DELETE", f"{api.zone}/disks/a")
    for size in ("1", "2", "65537"):
        api.fails(400, "invalid", "POST", f"{api.zone}/disks/a/resize", {"sizeGb": size})
    api.call("POST", f"{api.zone}/disks/a/resize", {"sizeGb": "3"})
    assert api.disk("a")["sizeGb"] == "3"
    api.detach("n1", "a")
    api.fails(400, "invalid", "POST", f"{api.zone}/instances/n1/detachDisk?deviceName=a")
    api.call("DELETE", f"{api.zone}/disks/a")
    api.fails(404, "notFound", "GET", f"{api.zone}/disks/a")
    assert machines.events == [("attach", "n1", "a", 2, False), ("resize", "n1", "a"), ("detach", "n1", "a")]
    assert list(cloud.folder.iterdir()) == []


def test_one_writer(api, machines):
    """A disk has one writer or many readers; by force it moves."""
    api.insert("a")
    api.attach("n1", "a")
    for mode in ("READ_WRITE", "READ_ONLY"):
        error = api.fails(400, "resourceInUseByAnotherResource", "POST", f"{api.zone}/instances/n2/attachDisk", api.attachment("a", mode))
        assert "The disk resource" in error and "is already being used" in error  # the driver looks for these words
    api.fails(400, "resourceInUseByAnotherResource", "POST", f"{api.zone}/instances/n1/attachDisk", api.attachment("a"))
    api.call("POST", f"{api.zone}/instances/n2/attachDisk?forceAttach=true", api.attachment("a"))
    assert machines.events[-2:] == [("detach", "n1", "a"), ("attach", "n2", "a", 1, False)]
    api.detach("n2", "a")
    api.attach("n1", "a", "READ_ONLY")
    api.attach("n2", "a", "READ_ONLY")
    assert len(api.disk("a")["users"]) == 2
    api.fails(400, "resourceInUseByAnotherResource", "POST", f"{api.zone}/instances/n3/attachDisk", api.attachment("a"))


def test_two_writers_of_a_shared_disk(api):
    api.insert("a", type="pd-ssd", multiWriter=True)
    api.attach("n1", "a")
    api.attach("n2", "a")
    api.fails(400, "resourceInUseByAnotherResource", "POST", f"{api.zone}/instances/n3/attachDisk", api.attachment("a"))


def test_bad_attachments(api):
    api.insert("a")
    api.insert("b")
    path = f"{api.zone}/instances/n1/attachDisk"
    api.fails(404, "notFound", "POST", path, api.attachment("none"))
    api.fails(404, "notFound", "POST", f"{api.zone}/instances/none/attachDisk", api.attachment("a"))
    api.fails(400, "invalid", "POST", path, api.attachment("a", "READ"))
    api.fails(400, "invalid", "POST", path, api.attachment("a") | {"source": "disks/a"})
    api.fails(400, "badRequest", "POST", path, api.attachment("a") | {"interfaces": "SCSI"})
    api.attach("n1", "a")
    api.fails(400, "invalid", "POST", path, api.attachment("b") | {"deviceName": "a"})
    api.call("POST", f"{api.zone[:-1]}b/disks", {"name": "c", "sizeGb": "1"})
    elsewhere = api.attachment("c") | {"source": "projects/proj/zones/us-central1-b/disks/c"}
    api.fails(400, "invalid", "POST", path, elsewhere)


def test_attach_limit(api, cloud):
    """The boot disk counts."""
    cloud.add_instance("small", machine_type="e2-medium")
    for number in range(16):
        api.insert(f"d{number}")
    for number in range(15):
        api.attach("small", f"d{number}")
    api.fails(403, "limitExceeded", "POST", f"{api.zone}/instances/small/attachDisk", api.attachment("d15"))
    assert len(api.call("GET", f"{api.zone}/instances/small")["disks"]) == 16


def test_snapshots_and_clones(api, cloud, machines, monkeypatch):
    """They keep the bytes of their moment, in which no machine writes, and are never smaller than their source."""
    copy = clouds.copy_sparse
    monkeypatch.setattr(clouds, "copy_sparse", lambda *files: (machines.events.append("copied"), copy(*files)))
    api.insert("a", 2)
    file = next(iter(cloud.disks.values())).file
    with file.open("r+b") as disk:
        disk.seek(GIB + 5)
        disk.write(b"old")
    snapshots = "/compute/v1/projects/proj/global/snapshots"
    source = "projects/proj/zones/us-central1-a/disks/a"
    api.fails(404, "notFound", "POST", snapshots, {"name": "s", "sourceDisk": source + "x"})
    api.call("POST", snapshots, {"name": "s", "sourceDisk": source})
    api.fails(409, "alreadyExists", "POST", snapshots, {"name": "s", "sourceDisk": source})
    with file.open("r+b") as disk:
        disk.seek(GIB + 5)
        disk.write(b"new")
    made = {"b": {"sourceSnapshot": "projects/proj/global/snapshots/s"}, "c": {"sourceDisk": source}}
    for name, field in made.items():
        api.fails(400, "invalid", "POST", f"{api.zone}/disks", {"name": name, "sizeGb": "1"} | field)
        api.insert(name, 3, **field)
    assert machines.events == ["still", "copied", "going on"] * 3
    files = {disk.name: disk.file for disk in cloud.disks.values()}
    for name, wanted in (("b", b"old"), ("c", b"new")):
        with files[name].open("rb") as disk:
            disk.seek(GIB + 5)
            assert disk.read(3) == wanted
        assert files[name].stat().st_size == 3 * GIB and files[name].stat().st_blocks < 2048
    api.fails(400, "invalid", "POST", f"{api.zone}/disks", {"name": "d", "sizeGb": "2", "type": "pd-ssd", "sourceDisk": source})
    api.fails(400, "invalid", "POST", f"{api.zone[:-1]}b/disks", {"name": "d", "sizeGb": "2", "sourceDisk": source})
    assert api.disk("b")["sourceSnapshotId"] == api.call("GET", f"{snapshots}/s")["id"]
    assert api.disk("c")["sourceDiskId"] == api.disk("a")["id"]
    api.call("DELETE", f"{api.zone}/disks/a")  # the snapshot outlives it
    assert api.call("GET", f"{snapshots}/s")["diskSizeGb"] == "2"
    api.call("DELETE", f"{snapshots}/s")
    api.fails(404, "notFound", "DELETE", f"{snapshots}/s")


def test_labels_and_performance(api):
    api.insert("a", 4, type="hyperdisk-balanced")
    disk = api.disk("a")
    assert (disk["provisionedIops"], disk["accessMode"]) == ("3000", "READ_WRITE_SINGLE")
    request = {"labels": {"k": "v"}, "labelFingerprint": disk["labelFingerprint"]}
    api.call("POST", f"{api.zone}/disks/a/setLabels", request)
    api.fails(412, "conditionNotMet", "POST", f"{api.zone}/disks/a/setLabels", request)
    assert api.disk("a")["labels"] == {"k": "v"}
    api.call("PATCH", f"{api.zone}/disks/a?paths=provisionedIops", {"name": "a", "provisionedIops": "4000"})
    assert api.disk("a")["provisionedIops"] == "4000"
    api.insert("b")
    api.fails(400, "invalid", "PATCH", f"{api.zone}/disks/b?paths=provisionedIops", {"provisionedIops": "4000"})


def test_lists(api, cloud):
    """Filters, pages and partial answers."""
    for number in range(5):
        api.insert(f"d{number}")
    path = f"{api.zone}/disks"
    first = api.call("GET", f"{path}?maxResults=2")
    second = api.call("GET", f"{path}?maxResults=2&pageToken={first['nextPageToken']}")
    third = api.call("GET", f"{path}?maxResults=2&pageToken={second['nextPageToken']}")
    names = [disk["name"] for page in (first, second, third) for disk in page["items"]]
    assert names == ["d0", "d1", "d2", "d3", "d4"] and "nextPageToken" not in third
    cloud.page = 3
    assert len(api.call("GET", path)["items"]) == 3
    cloud.page = clouds.PAGE
    for text, count in (("name=d1", 1), ("name!=d1", 4), ("name%20eq%20d[12]", 2), ("name%20ne%20d.*", 0), ("name%20eq%20d", 0)):
        assert len(api.call("GET", f"{path}?filter={text}")["items"]) == count, text
    for query in ("filter=name", "filter=name%20eq%20(", "maxResults=501", "maxResults=x", "pageToken=x", "pageToken=6"):
        api.fails(400, "invalid", "GET", f"{path}?{query}")
    assert api.call("GET", f"{path}?maxResults=1&fields=items/name") == {"items": [{"name": "d0"}]}
    assert api.call("GET", f"{path}?maxResults=1&fields=items/name,nextPageToken")["nextPageToken"] == "1"
    api.fails(400, "invalidParameter", "GET", f"{path}?fields=items(name")
    zones = "/compute/v1/projects/proj/zones?filter=region%20eq%20.*"
    assert len(api.call("GET", f"{zones}us-central1$")["items"]) == 2
    assert api.call("GET", f"{zones}us-east1$")["items"] == []


def test_operations_take_time(api, cloud):
    cloud.seconds["disks.insert"] = 0.3
    operation = api.insert("a")
    assert (operation["status"], api.disk("a")["status"]) == ("RUNNING", "CREATING")
    api.fails(400, "resourceNotReady", "POST", f"{api.zone}/instances/n1/attachDisk", api.attachment("a"))
    assert api.call("POST", f"{api.zone}/operations/{operation['name']}/wait")["status"] == "DONE"
    assert api.disk("a")["status"] == "READY"
    cloud.seconds["snapshots.insert"] = 60
    source = {"sourceDisk": "projects/proj/zones/us-central1-a/disks/a"}
    api.call("POST", "/compute/v1/projects/proj/global/snapshots", {"name": "s"} | source)
    assert api.call("GET", "/compute/v1/projects/proj/global/snapshots/s")["status"] == "UPLOADING"
    early = {"name": "b", "sizeGb": "1", "sourceSnapshot": "projects/proj/global/snapshots/s"}
    api.fails(400, "resourceNotReady", "POST", f"{api.zone}/disks", early)


def test_the_end_detaches(api, cloud, machines):
    api.insert("a")
    api.attach("n1", "a")
    cloud.close()
    assert machines.events[-1] == ("detach", "n1", "a")


def test_faults(api):
    """Refused, failed later, without an answer, late: each once, and each in the log."""
    server = api.server
    server.add_fault(servers.Fault("disks.insert", status=503))
    api.fails(503, "backendError", "POST", f"{api.zone}/disks", {"name": "a", "sizeGb": "1"})
    api.fails(404, "notFound", "GET", f"{api.zone}/disks/a")
    server.add_fault(servers.Fault("disks.insert", operation_error="QUOTA_EXCEEDED"))
    operation = api.call("POST", f"{api.zone}/operations/{api.insert('a')['name']}/wait")
    assert operation["error"]["errors"][0]["code"] == "QUOTA_EXCEEDED"
    api.fails(404, "notFound", "GET", f"{api.zone}/disks/a")
    server.add_fault(servers.Fault("disks.insert", lose_answer=True))
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        api.insert("a")
    assert api.disk("a")["name"] == "a"  # it was made
    fault = server.add_fault(servers.Fault("disks.get", delay=0.3, where="/a$"))
    caller = threading.Thread(target=api.disk, args=("a",))
    start = time.monotonic()
    caller.start()
    assert fault.reached.wait(5)
    caller.join()
    assert time.monotonic() - start >= 0.3
    server.add_fault(servers.Fault("disks.get", status=500, where="/other$"))
    api.disk("a")
    assert [request.status for request in server.calls("disks.insert")] == [503, 200, 0]
