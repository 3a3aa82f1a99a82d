# SPDX-License-Identifier: Apache-2.0
"""The broker as a process, with real TLS, real SQLite and real kill -9."""

import concurrent.futures
import datetime
import json
import os
import signal
import socket
import ssl
import subprocess
import time

import brokers
import grpc
import pytest
from brokers import CALL_SECONDS, DRIVER, Node, create, get, keybroker, refused, status
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def deletion(volume_id: str) -> keybroker.DeleteRequest:
    return keybroker.DeleteRequest(driver=DRIVER, volume_id=volume_id)


# --- one volume ---


def test_life_of_a_volume(broker):
    stub, node = broker.stub(), Node()
    assert create(stub, "v").phase == keybroker.PHASE_NEW
    first = node.open(stub, "v")
    assert first.record.phase == keybroker.PHASE_FORMATTING
    assert 590_000 < first.record.format.remaining_ms <= 600_000
    record = node.ready(stub, first.record)
    assert (record.phase, record.lease.node) == (keybroker.PHASE_READY, "n1")
    record = node.change(stub, record, keybroker.CHANGE_OPENED, open_counter=1)
    record = node.change(stub, record, keybroker.CHANGE_CLOSED, clean_hash=b"\x02" * 32)
    assert not record.HasField("lease") and record.clean_hash
    again = Node("n2", "b2")
    opened = again.open(stub, "v")
    assert again.secret(opened) == node.secret(first) and len(node.secret(first)) == 32
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "open on node n2"):
        stub.BeginDelete(deletion("v"), timeout=CALL_SECONDS)
    again.change(stub, opened.record, keybroker.CHANGE_CLOSED)
    stub.BeginDelete(deletion("v"), timeout=CALL_SECONDS)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "being deleted"):
        node.open(stub, "v")
    stub.FinishDelete(deletion("v"), timeout=CALL_SECONDS)
    with refused(grpc.StatusCode.NOT_FOUND):
        get(stub, "v")
    assert create(stub, "v").record_id != record.record_id


def test_a_copy_opens_with_the_sources_secret_until_its_last_user_is_gone(broker):
    stub, node = broker.stub(), Node()
    create(stub, "v")
    source = node.open(stub, "v")
    record = node.change(stub, node.ready(stub, source.record), keybroker.CHANGE_CLOSED)
    request = keybroker.CopyRecordRequest(
        driver=DRIVER, source_volume_id="v", source_version=record.version, volume_id="s",
        kind=keybroker.KIND_SNAPSHOT, name="snap", location="n1",
    )  # fmt: skip
    copy = stub.CopyRecord(request, timeout=CALL_SECONDS).record
    assert (copy.phase, copy.origin.record_id) == (keybroker.PHASE_READY, record.record_id)
    assert stub.CopyRecord(request, timeout=CALL_SECONDS).record == copy
    for step in (stub.BeginDelete, stub.FinishDelete):
        step(deletion("v"), timeout=CALL_SECONDS)
    assert node.secret(node.open(stub, "s", read_only=True)) == node.secret(source)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "read-only"):
        node.open(stub, "s")


def test_records_survive_a_restart(broker):
    before = create(broker.stub(), "v")
    broker.stop()
    broker.start()
    assert get(broker.stub(), "v") == before


def test_of_two_nodes_racing_for_a_new_volume_one_formats(broker):
    create(broker.stub(), "v")

    def attempt(number: int):
        try:
            return Node(f"n{number}").open(broker.stub(), "v").record.phase
        except grpc.RpcError as error:
            return error.code(), error.details()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, range(8)))
    losers = [result for result in results if isinstance(result, tuple)]
    assert results.count(keybroker.PHASE_FORMATTING) == 1 and len(losers) == 7, results
    assert all(code == grpc.StatusCode.ABORTED and "being formatted by node n" in text for code, text in losers)


def test_another_node_formats_after_the_deadline(make_broker):
    broker = make_broker().start(format_deadline_s=1)
    stub = broker.stub()
    create(stub, "v")
    late = Node("n1").open(stub, "v").record
    with refused(grpc.StatusCode.ABORTED, "formatted by node n1"):
        Node("n2").open(stub, "v")
    time.sleep(1.1)
    assert Node("n2").open(stub, "v").record.format.attempt == 2
    with refused(grpc.StatusCode.ABORTED):
        Node("n1").ready(stub, late)


def test_many_calls_at_once(broker):
    def life(number: int) -> bytes:
        stub, node = broker.stub(), Node()
        create(stub, f"v{number}", name=f"pvc-{number}")
        opened = node.open(stub, f"v{number}")
        node.ready(stub, opened.record)
        return node.secret(opened)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        secrets = list(pool.map(life, range(64)))
    assert len(set(secrets)) == 64
    page = broker.stub().ListRecords(keybroker.ListRecordsRequest(driver=DRIVER, page_size=50), timeout=CALL_SECONDS)
    rest = keybroker.ListRecordsRequest(driver=DRIVER, page_token=page.next_page_token)
    ids = [r.volume_id for r in [*page.records, *broker.stub().ListRecords(rest, timeout=CALL_SECONDS).records]]
    assert ids == sorted(f"v{number}" for number in range(64))


# --- who calls ---


def make_client(folder, name: str, authority, *, days: int = 1, usage: str = "clientAuth"):
    """Makes a client certificate of the CA in the folder with the openssl command; returns (certificate, key)."""
    key, request, certificate = (folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
    run = lambda *words: subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)  # noqa: E731
    run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    run("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
    extensions = folder / "extensions"
    extensions.write_text(f"extendedKeyUsage={usage}\n")
    run("x509", "-req", "-in", request, "-CA", authority / "ca.crt", "-CAkey", authority / "ca.key",
        "-CAcreateserial", "-days", days, "-extfile", extensions, "-out", certificate)  # fmt: skip
    return certificate.read_bytes(), key.read_bytes()


def stub_of(broker, certificate: bytes, key: bytes):
    return broker.stub(credentials=grpc.ssl_channel_credentials((broker.dir / "ca.crt").read_bytes(), key, certificate))


def test_a_client_that_no_rule_names_is_denied(broker, tmp_path):
    stub = stub_of(broker, *make_client(tmp_path, "stranger", broker.dir))
    with refused(grpc.StatusCode.PERMISSION_DENIED, "the broker's policy does not allow this"):
        status(stub)
    last = broker.audit()[-1]
    assert (last["decision"], last["cn"], last["word"]) == ("deny", "stranger", "NoRule")


def test_certificates_that_are_not_good_are_unauthenticated(broker, make_broker, tmp_path):
    other = make_broker("other")
    for certificate, key in (
        make_client(tmp_path, "node", other.dir),
        make_client(tmp_path, "node", broker.dir, days=-1),
        make_client(tmp_path, "node", broker.dir, usage="serverAuth"),
    ):
        with refused(grpc.StatusCode.UNAUTHENTICATED):
            status(stub_of(broker, certificate, key))
        assert broker.audit()[-1]["code"] == "UNAUTHENTICATED"


def test_a_client_without_certificate_is_not_answered(broker):
    credentials = grpc.ssl_channel_credentials((broker.dir / "ca.crt").read_bytes())
    with pytest.raises(grpc.RpcError) as caught:
        status(broker.stub(credentials=credentials))
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)


def test_clear_text_is_not_answered(broker):
    with grpc.insecure_channel(broker.address) as channel, pytest.raises(grpc.RpcError):
        status(brokers.keybroker_pb2_grpc.KeyBrokerStub(channel))


def handshake(broker, version: ssl.TLSVersion) -> str:
    context = ssl.create_default_context(cafile=str(broker.dir / "ca.crt"))
    context.load_cert_chain(broker.dir / "clients/node.crt", broker.dir / "clients/node.key")
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", broker.port), 10) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as tls:
            return tls.version()


def test_nothing_older_than_tls_1_3_is_spoken(broker):
    assert handshake(broker, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(broker, ssl.TLSVersion.TLSv1_2)


def test_roles_are_kept_apart(broker):
    node, admin = broker.stub("node"), broker.stub("admin")
    create(node, "v")
    with refused(grpc.StatusCode.PERMISSION_DENIED):
        node.ReleaseLease(keybroker.ReleaseLeaseRequest(driver=DRIVER, volume_id="v"), timeout=CALL_SECONDS)
    with refused(grpc.StatusCode.PERMISSION_DENIED):
        Node().open(admin, "v")
    with refused(grpc.StatusCode.PERMISSION_DENIED):
        create(admin, "w")


def rule(name: str, **changed) -> dict:
    return {"name": name, "match": {"certificate.cn": name}, "tenant": "default",
            "may": ["create", "open", "delete"], "without_attestation": True,
            "volumes": ["*"], "nodes": ["*"]} | changed  # fmt: skip


def test_tenants_and_nodes_come_from_the_rule(make_broker):
    broker = make_broker()
    rules = [rule("node", nodes=["${certificate.cn}"]), rule("admin", tenant="other")]
    (broker.dir / "policy.json").write_text(json.dumps({"version": 1, "rules": rules}))
    broker.start()
    create(broker.stub("node"), "v")
    with refused(grpc.StatusCode.NOT_FOUND):
        get(broker.stub("admin"), "v")
    with refused(grpc.StatusCode.PERMISSION_DENIED):
        Node("n1").open(broker.stub("node"), "v")
    assert Node("node").open(broker.stub("node"), "v").record.format.node == "node"


def issue(broker, name: str) -> None:
    """A client certificate of the broker's CA."""
    folder = broker.dir / "clients"
    key = ec.generate_private_key(ec.SECP256R1())
    ca = x509.load_pem_x509_certificate((broker.dir / "ca.crt").read_bytes())
    ca_key = serialization.load_pem_private_key((broker.dir / "ca.key").read_bytes(), None)
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .add_extension(x509.BasicConstraints(False, None), True)
        .sign(ca_key, hashes.SHA256())
    )  # fmt: skip
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))  # fmt: skip


@pytest.fixture
def two_nodes(make_broker):
    """A broker, set up as docs/install.md says for nodes with certificates of their own, and two of them."""
    broker = make_broker()
    nodes = rule("nodes", match={"certificate.cn": "n?"}, nodes=["${certificate.cn}"])
    admin = rule("admin", may=["admin"], without_attestation=False)
    admin.pop("nodes")
    (broker.dir / "policy.json").write_text(json.dumps({"version": 1, "rules": [nodes, admin]}))
    issue(broker, "n1")
    issue(broker, "n2")
    broker.start()
    return broker


def test_a_node_reaches_no_volume_of_another(two_nodes):
    broker = two_nodes
    s1, s2, n1, n2 = broker.stub("n1"), broker.stub("n2"), Node("n1"), Node("n2", "b2")
    create(s1, "v", location="n1")
    record = n1.ready(s1, n1.open(s1, "v").record)
    record = n1.change(s1, record, keybroker.CHANGE_CLOSED)
    delete = deletion("v")
    holder = {"driver": DRIVER, "volume_id": "v", "node": "n2", "boot_id": "b2"}
    copy = {"driver": DRIVER, "volume_id": "w", "source_volume_id": "v", "source_version": record.version,
            "kind": keybroker.KIND_VOLUME, "name": "w"}  # fmt: skip
    attempts = {
        "open": lambda: n2.open(s2, "v"),
        "open read-only": lambda: n2.open(s2, "v", read_only=True),
        "change": lambda: n2.change(s2, record, keybroker.CHANGE_CLOSED),
        "take over": lambda: s2.TakeOverLease(keybroker.TakeOverLeaseRequest(**holder), timeout=CALL_SECONDS),
        "begin to delete": lambda: s2.BeginDelete(delete, timeout=CALL_SECONDS),
        "finish a deletion": lambda: s2.FinishDelete(delete, timeout=CALL_SECONDS),
        "copy here": lambda: s2.CopyRecord(keybroker.CopyRecordRequest(**copy, location="n2"), timeout=CALL_SECONDS),
        "copy there": lambda: s2.CopyRecord(keybroker.CopyRecordRequest(**copy, location="n1"), timeout=CALL_SECONDS),
        "create there": lambda: create(s2, "x", location="n1"),
        "create again": lambda: create(s2, "v", location="n2"),
    }  # fmt: skip
    for name, attempt in attempts.items():
        with refused(grpc.StatusCode.PERMISSION_DENIED):
            attempt()
            pytest.fail(f"n2 may {name}")
        assert broker.audit()[-1]["reason"] == "the volume is on another node", name
    assert get(s1, "v").version == record.version  # n1 notices nothing of it
    assert get(s2, "v").spec.location == "n1"  # any node may look: ControllerExpandVolume runs anywhere
    assert n1.secret(n1.open(s1, "v"))


def test_an_admin_deletes_the_volume_of_a_node_that_is_gone(two_nodes):
    s1, s2, admin = two_nodes.stub("n1"), two_nodes.stub("n2"), two_nodes.stub("admin")
    create(s1, "v", location="n1")
    admin.BeginDelete(deletion("v"), timeout=CALL_SECONDS)
    admin.FinishDelete(deletion("v"), timeout=CALL_SECONDS)
    with refused(grpc.StatusCode.NOT_FOUND):
        get(s1, "v")
    assert create(s2, "v", location="n2").spec.location == "n2"  # the claim is made again elsewhere


def test_a_policy_is_read_again_on_sighup_and_a_bad_one_changes_nothing(broker):
    stub, path = broker.stub(), broker.dir / "policy.json"
    before, text = status(stub).policy_hash, path.read_text()

    def reload(new_text: str, message: str) -> str:
        count = broker.log.read_text().count(message)
        path.write_text(new_text)
        broker.process.send_signal(signal.SIGHUP)
        while broker.log.read_text().count(message) == count:
            time.sleep(0.01)
        return status(stub).policy_hash

    assert reload(text[:-4], "policy not changed") == before
    changed = reload(text + "\n", "policy changed")
    assert changed != before
    assert broker.audit()[-1]["policy"] == changed


# --- start options that it refuses ---


def sealed_by_fd(broker, text: str) -> subprocess.Popen:
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    with broker.log.open("ab") as output:
        process = subprocess.Popen(
            broker.command(master_key=None, master_key_fd=reader), pass_fds=[reader], stderr=output
        )
    os.close(reader)
    return process


def test_the_master_key_may_come_from_a_descriptor(make_broker):
    broker = make_broker()
    broker.process = sealed_by_fd(broker, (broker.dir / "master.key").read_text())
    while not broker.is_listening():
        assert broker.process.poll() is None, broker.log.read_text()
        time.sleep(0.01)
    assert status(broker.stub()).state == keybroker.BROKER_STATE_OPEN
    broker.stop()
    assert sealed_by_fd(broker, "").wait(10) == 1


def test_without_a_master_key_it_is_sealed(broker):
    create(broker.stub(), "v")
    broker.stop()
    broker.start(master_key=None)
    assert status(broker.stub()).state == keybroker.BROKER_STATE_SEALED
    for call in (lambda: get(broker.stub(), "v"), lambda: create(broker.stub(), "w"),
                 lambda: Node().open(broker.stub(), "v")):  # fmt: skip
        with refused(grpc.StatusCode.UNAVAILABLE, "broker is sealed"):
            call()


def test_private_files_must_be_private(make_broker):
    broker = make_broker()
    for name in ("master.key", "broker.key"):
        path = broker.dir / name
        path.chmod(0o640)
        error = broker.start_in_vain()
        assert str(path) in error and "chmod" in error
        path.chmod(0o600)


def test_another_master_key_is_refused(broker):
    broker.stop()
    (broker.dir / "master.key").write_text("00" * 32)
    assert "another master key" in broker.start_in_vain()
    (broker.dir / "master.key").write_text("no key at all")
    assert "openssl rand -hex 32" in broker.start_in_vain()
    broker.start(master_key=None)


def test_a_second_broker_is_refused(broker):
    assert "another broker already uses the store" in broker.start_in_vain(listen="127.0.0.1:0")
    error = broker.start_in_vain(listen="127.0.0.1:0", dir=broker.dir / "state2")
    assert "audit log" in error and "another broker writes to it" in error
    assert status(broker.stub()).state == keybroker.BROKER_STATE_OPEN


@pytest.mark.parametrize("name, change, part", [
    ("policy", None, "policy.json"),
    ("policy", lambda text: text[:40], "policy"),
    ("policy", lambda text: text.replace('"node"', '"*"', 1), "would match every caller"),
    ("policy", lambda text: text.replace('"may"', '"mai"'), 'unknown key "mai"'),
    ("policy", lambda text: text.replace('"version": 1', '"version": 2'), "version 2 is not known"),
    ("cert", lambda text: "rubbish", "certificate is not PEM"),
    ("key", lambda text: "rubbish", "private key is not PEM"),
    ("client_ca", lambda text: "", "PEM"),
])  # fmt: skip
def test_bad_files_are_refused_by_name(make_broker, name, change, part):
    broker = make_broker()
    files = {"policy": "policy.json", "cert": "broker.crt", "key": "broker.key", "client_ca": "ca.crt"}
    path = broker.dir / files[name]
    if change:
        path.write_text(change(path.read_text()))
    else:
        path.unlink()
    assert part in broker.start_in_vain()


def test_an_rsa_certificate_is_refused(make_broker):
    broker = make_broker()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1",
         "-keyout", broker.dir / "broker.key", "-out", broker.dir / "broker.crt"], check=True, capture_output=True,
    )  # fmt: skip
    (broker.dir / "broker.key").chmod(0o600)
    assert "EC key" in broker.start_in_vain()


def test_a_port_in_use_is_refused(broker, make_broker):
    assert str(broker.port) in make_broker("other").start_in_vain(listen=broker.address)


def test_wrong_usage_is_told_with_the_nearest_option(make_broker):
    ended = subprocess.run([*make_broker().command(), "--polcy", "x"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "policy" in ended.stderr


# --- crashes ---


class Session:
    """A client that starts the broker again when it died, and then repeats the call."""

    def __init__(self, broker):
        self.broker = broker
        self.stubs = {name: broker.stub(name) for name in ("node", "admin")}
        self.deaths = 0

    def call(self, action, client: str = "node", after_death=None):
        """after_death is the code that a retry may get because the change was made before the crash."""
        try:
            return action(self.stubs[client])
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error.details()
        assert self.broker.process.wait(10) == -signal.SIGKILL
        self.deaths += 1
        self.broker.environment = {}
        self.broker.start()
        self.stubs = {name: self.broker.stub(name) for name in ("node", "admin")}
        try:
            return action(self.stubs[client])
        except grpc.RpcError as error:
            assert error.code() == after_death, error.details()
            return None


def is_gone(stub) -> bool:
    try:
        get(stub, "v")
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return True
        raise
    return False


def whole_life(session: Session) -> None:
    """Every call that changes a record, and a check after each."""
    node, call = Node(), session.call
    call(lambda s: create(s, "v"))
    opened = call(lambda s: node.open(s, "v"))
    secret = node.secret(opened)
    record = call(lambda s: node.ready(s, opened.record))
    assert record.phase == keybroker.PHASE_READY
    changes = [
        (keybroker.CHANGE_OPENED, {"open_counter": 1}),
        (keybroker.CHANGE_GROWN, grown(record)),
        (keybroker.CHANGE_CLOSED, {"clean_hash": b"\x03" * 32}),
    ]
    for kind, fields in changes:
        record = call(lambda s: node.change(s, record, kind, **fields))  # noqa: B023
    assert (record.open_counter, record.spec.size_bytes) == (1, 2 * brokers.GIB)
    request = keybroker.CopyRecordRequest(
        driver=DRIVER, source_volume_id="v", source_version=record.version, volume_id="s",
        kind=keybroker.KIND_SNAPSHOT, name="snap",
    )  # fmt: skip
    assert call(lambda s: s.CopyRecord(request, timeout=CALL_SECONDS)).record.phase == keybroker.PHASE_READY
    again = call(lambda s: node.open(s, "v"))
    assert node.secret(again) == secret
    release = keybroker.ReleaseLeaseRequest(driver=DRIVER, volume_id="v")
    call(lambda s: s.ReleaseLease(release, timeout=CALL_SECONDS), "admin")
    call(lambda s: s.BeginDelete(deletion("v"), timeout=CALL_SECONDS))
    call(lambda s: s.CancelDelete(deletion("v"), timeout=CALL_SECONDS))
    call(lambda s: s.BeginDelete(deletion("v"), timeout=CALL_SECONDS))
    call(lambda s: s.FinishDelete(deletion("v"), timeout=CALL_SECONDS), after_death=grpc.StatusCode.NOT_FOUND)
    assert call(is_gone)
    assert node.secret(call(lambda s: node.open(s, "s", read_only=True))) == secret


def grown(record: keybroker.Record) -> dict:
    return {
        "size_bytes": 2 * brokers.GIB, "device_bytes": record.spec.device_bytes + brokers.GIB,
        "mapping_bytes": record.spec.mapping_bytes + brokers.GIB,
    }  # fmt: skip


def test_kill_at_every_fault_point_loses_and_doubles_nothing(make_broker, tmp_path):
    passed = tmp_path / "passed"
    broker = make_broker("listing", {"TDVOL_FAULT_LOG": str(passed)}).start()
    whole_life(Session(broker))
    broker.stop()
    if not passed.exists():
        pytest.skip("built without -Dfaults=true")
    names = [line.split()[0] for line in passed.read_text().splitlines()]
    assert {f"broker.{rpc}.{moment}-commit" for moment in ("before", "after") for rpc in (
        "CreateRecord", "OpenVolume", "ChangeRecord", "CopyRecord", "ReleaseLease", "BeginDelete", "CancelDelete",
        "FinishDelete")} <= set(names)  # fmt: skip
    places = [(name, names[: at + 1].count(name)) for at, name in enumerate(names)]
    for at, (name, count) in enumerate(places):
        if name.startswith("broker.audit.") and count in (1, 2, names.count(name)):
            continue  # its own start and stop: there is no call to repeat
        one = make_broker(f"b{at}", {"TDVOL_FAULT": f"{name}:kill:{count}"}).start()
        session = Session(one)
        whole_life(session)
        assert session.deaths == 1, (name, count)
        one.stop()
        assert "restarted" not in [line["event"] for line in one.audit()], (name, count)


def test_a_torn_audit_line_is_explained_after_the_crash(make_broker):
    broker = make_broker(environment={"TDVOL_FAULT": "broker.audit.written:kill:3"}).start()
    with refused(grpc.StatusCode.UNAVAILABLE):
        create(broker.stub(), "v")
    assert broker.process.wait(10) == -signal.SIGKILL
    path = broker.dir / "audit.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    broker.environment = {}
    broker.start()
    assert [line["event"] for line in broker.audit()[-2:]] == ["torn", "start"]
    broker.stop()


def test_sigterm_lets_a_call_in_flight_finish(broker):
    stub = broker.stub()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(create, stub, f"v{number}", name=f"pvc-{number}") for number in range(32)]
        time.sleep(0.02)
        broker.process.terminate()
        for call in calls:
            try:
                assert call.result().phase == keybroker.PHASE_NEW
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error.details()
    assert broker.process.wait(20) == 0
    broker.process = None
    broker.start()
