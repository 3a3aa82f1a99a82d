# SPDX-License-Identifier: Apache-2.0
"""A broker process on this machine, its clients, and the node's side of HPKE."""

import contextlib
import hashlib
import ipaddress
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import hosts  # noqa: E402
import stubs  # noqa: E402

stubs.generate()
sys.path.insert(0, str(stubs.FOLDER))
import keybroker_pb2 as keybroker  # noqa: E402
import keybroker_pb2_grpc  # noqa: E402

DRIVER = "csi.test"
LOOPBACK = ipaddress.ip_address("127.0.0.1")
MIB = 1024 * 1024
GIB = 1024 * MIB
START_SECONDS = 20
CALL_SECONDS = 20


def program(name: str) -> str:
    return str(stubs.BUILD / {"tdvol-broker": "broker", "tdvolctl": "ctl"}[name] / name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((host, port)) == 0


def page(address: str, path: str) -> str:
    """A page of the broker's HTTP server, also when it says 503."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def ctl(*arguments, **options) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TDVOL_")}
    environment |= options.pop("env", {})
    return subprocess.run(
        [program("tdvolctl"), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
        env=environment, **options,
    )  # fmt: skip


class ThisHost:
    """Where servers run: here. hosts.Host has others."""

    address = "127.0.0.1"
    disk = None

    def command(self, words: list) -> list:
        return words


class Broker:
    """A broker that tests start and stop; `tdvolctl broker init` makes its folder."""

    def __init__(self, folder: pathlib.Path, environment: dict[str, str] | None = None, host=None):
        self.dir = folder
        self.host = host or ThisHost()
        self.environment = environment or {}
        self.port = free_port()
        self.address = f"{self.host.address}:{self.port}"
        self.log = folder.parent / f"{folder.name}.log"
        self.process: subprocess.Popen | None = None
        self.channels: list[grpc.Channel] = []
        if not folder.exists():
            made = ctl("broker", "init", folder)
            assert made.returncode == 0, made.stderr

    def command(self, **changed) -> list[str]:
        """Returns its command line; an option that is None is left out."""
        options = {
            "dir": self.dir / "state", "listen": self.address, "cert": self.dir / "broker.crt",
            "key": self.dir / "broker.key", "client-ca": self.dir / "ca.crt", "policy": self.dir / "policy.json",
            "audit": self.dir / "audit.jsonl", "master-key": self.dir / "master.key", "log-format": "json",
        } | {name.replace("_", "-"): value for name, value in changed.items()}  # fmt: skip
        flags = [[f"--{name}", str(value)] for name, value in options.items() if value is not None]
        return self.host.command([program("tdvol-broker"), *sum(flags, [])])

    def start(self, **changed) -> "Broker":
        if "LD_PRELOAD" in self.environment:
            hosts.forget_clocks()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(**changed), env=os.environ | self.environment, stdin=subprocess.DEVNULL, stderr=output
            )
        end = time.monotonic() + START_SECONDS
        http = int(str(changed["http"]).rpartition(":")[2]) if changed.get("http") else None
        while not (self.is_listening() and (http is None or is_open(http, self.host.address))):
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log.read_text()}"
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)
        return self

    def is_listening(self) -> bool:
        return is_open(self.port, self.host.address)

    def start_in_vain(self, **changed) -> str:
        """Starts it with options that it must refuse; returns its last line, which must be its only error."""
        ended = subprocess.run(self.command(**changed), capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 1, (ended.returncode, ended.stderr)
        lines = [json.loads(line) for line in ended.stderr.splitlines()]
        assert [line["level"] for line in lines].count("error") == 1, ended.stderr
        return lines[-1]["error"]

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            assert self.process.wait(30) == 0, self.log.read_text()
            self.process = None

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def credentials(self, client: str = "node") -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            (self.dir / "ca.crt").read_bytes(), (self.dir / f"clients/{client}.key").read_bytes(),
            (self.dir / f"clients/{client}.crt").read_bytes(),
        )  # fmt: skip

    def stub(self, client: str = "node", credentials=None) -> keybroker_pb2_grpc.KeyBrokerStub:
        channel = grpc.secure_channel(self.address, credentials or self.credentials(client),
                                      [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)])  # fmt: skip
        self.channels.append(channel)
        return keybroker_pb2_grpc.KeyBrokerStub(channel)

    def ctl(self, *arguments, client: str = "admin", **options) -> subprocess.CompletedProcess:
        environment = {
            "TDVOL_BROKER": self.address, "TDVOL_BROKER_CA": str(self.dir / "ca.crt"),
            "TDVOL_CLIENT_CERT": str(self.dir / f"clients/{client}.crt"),
            "TDVOL_CLIENT_KEY": str(self.dir / f"clients/{client}.key"),
        }  # fmt: skip
        return ctl(*arguments, env=environment, **options)

    def audit(self) -> list[dict]:
        """The lines of the audit log; first checks the chain without the broker's own code."""
        previous, lines = "0" * 64, []
        for raw in (self.dir / "audit.jsonl").read_bytes().splitlines():
            try:
                line = json.loads(raw)
            except ValueError:
                line = None  # torn by a crash: the next line must say so
            if line is not None:
                assert line["prev"] == previous and line["seq"] == len(lines) + 1, raw
                lines.append(line)
            previous = hashlib.sha256(raw).hexdigest()
        return lines


def spec(name: str = "pvc-1", **changed) -> keybroker.VolumeSpec:
    values = {
        "name": name, "size_bytes": GIB, "mapping_bytes": GIB + 18 * MIB, "device_bytes": GIB + 64 * MIB,
        "integrity": keybroker.INTEGRITY_AEGIS128, "provisioning": keybroker.PROVISIONING_THICK,
        "fs_type": "ext4", "sector_bytes": 4096, "layout_version": 1, "backing": keybroker.BACKING_FILE,
        "workqueue": keybroker.WORKQUEUE_AUTO,
    }  # fmt: skip
    return keybroker.VolumeSpec(**values | changed)


@contextlib.contextmanager
def refused(code: grpc.StatusCode, part: str = ""):
    """The call must fail with this code and this text in its message."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() == code, caught.value.details()
    assert part in caught.value.details()


def get(stub, volume_id: str) -> keybroker.Record:
    request = keybroker.GetRecordRequest(driver=DRIVER, volume_id=volume_id)
    return stub.GetRecord(request, timeout=CALL_SECONDS).record


def status(stub) -> keybroker.GetStatusResponse:
    return stub.GetStatus(keybroker.GetStatusRequest(), timeout=CALL_SECONDS)


def create(stub, volume_id: str, **changed) -> keybroker.Record:
    request = keybroker.CreateRecordRequest(driver=DRIVER, volume_id=volume_id, spec=spec(**changed))
    return stub.CreateRecord(request, timeout=CALL_SECONDS).record


# By key id: what the workers of all nodes got.
SECRETS: dict[bytes, bytes] = {}
KINDS = {"GetRecord": 1, "OpenVolume": 2, "OpenVolumeReadOnly": 3, "ChangeRecord": 4}


def hkdf(secret: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, info).derive(secret)


def mac(key: bytes, message: bytes) -> bytes:
    made = hmac.HMAC(key, hashes.SHA256())
    made.update(message)
    return made.finalize()


def prove(record: keybroker.Record, change: keybroker.Change, secret: bytes) -> bytes:
    """The proof that the change comes from a worker; see Proofs in keybroker.proto."""
    if change.kind == keybroker.CHANGE_CLOSED:
        key = hkdf(secret, b"tdvol v1 close" + record.record_id + record.open_counter.to_bytes(8, "big"))
        return mac(key, change.SerializeToString())
    message = record.record_id + record.version.to_bytes(8, "big") + change.SerializeToString()
    return mac(hkdf(secret, b"tdvol v1 change"), message)


def check_signature(kind: str, nonce: bytes, answer, ca: bytes, subject: bytes | None = None) -> None:
    """Checks an answer to a worker; see Signed answers in keybroker.proto."""
    record, sealed = answer.record.SerializeToString(), getattr(answer, "sealed_secret", b"")
    signed = b"tdvol v1 answer to a worker".ljust(32, b"\0") + KINDS[kind].to_bytes(4, "big") + nonce
    signed += b"\0" * 32 if subject is None else hashlib.sha256(subject).digest()
    signed += len(record).to_bytes(4, "big") + len(sealed).to_bytes(4, "big") + record + sealed
    certificate = x509.load_der_x509_certificate(answer.certificates)
    issuer = x509.load_pem_x509_certificate(ca).public_key()
    issuer.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    certificate.public_key().verify(answer.signature, signed, ec.ECDSA(hashes.SHA256()))


class Node:
    """A node's side of the broker: its names, its sealing key, and the secret it gets."""

    def __init__(self, name: str = "n1", boot_id: str = "b1"):
        self.name = name
        self.boot_id = boot_id
        self.private_key = X25519PrivateKey.generate()
        self.public_key = self.private_key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )

    def open(self, stub, volume_id: str, read_only: bool = False) -> keybroker.OpenVolumeResponse:
        request = keybroker.OpenVolumeRequest(
            driver=DRIVER, volume_id=volume_id, node=self.name, boot_id=self.boot_id, read_only=read_only,
            sealing_public_key=self.public_key,
        )  # fmt: skip
        answer = stub.OpenVolume(request, timeout=CALL_SECONDS)
        SECRETS[answer.record.key_id] = self.secret(answer)
        return answer

    def renew(self, stub, volume_id: str) -> keybroker.Record:
        request = keybroker.RenewLeaseRequest(driver=DRIVER, volume_id=volume_id, node=self.name, boot_id=self.boot_id)
        return stub.RenewLease(request, timeout=CALL_SECONDS).record

    def next_secret(self, record: keybroker.Record) -> bytes:
        """The one that a rotation brings; the record is one that the broker gave with it."""
        aad = record.record_id + record.rotation.key_id + record.rotation.generation.to_bytes(4, "big")
        return hpke_open(self.private_key, self.public_key, record.rotation.secret, b"tdvol v1 volume secret", aad)

    def change_request(self, record: keybroker.Record, kind: int, **fields) -> keybroker.ChangeRecordRequest:
        """As a worker's, with the proof when a worker has one."""
        change, secret = keybroker.Change(kind=kind, **fields), SECRETS.get(record.key_id)
        if kind in (keybroker.CHANGE_NEXT_HEADER, keybroker.CHANGE_ROTATED) and record.rotation.secret:
            secret = self.next_secret(record)
        return keybroker.ChangeRecordRequest(
            driver=DRIVER, volume_id=record.volume_id, expected_version=record.version, node=self.name,
            boot_id=self.boot_id, change=change, proof=prove(record, change, secret) if secret else b"",
        )  # fmt: skip

    def change(self, stub, record: keybroker.Record, kind: int, **fields) -> keybroker.Record:
        request = self.change_request(record, kind, **fields)
        return stub.ChangeRecord(request, timeout=CALL_SECONDS).record

    def ready(self, stub, record: keybroker.Record) -> keybroker.Record:
        return self.change(
            stub, record, keybroker.CHANGE_READY, attempt=record.format.attempt, header_digest=b"\x01" * 32,
        )  # fmt: skip

    def secret(self, answer: keybroker.OpenVolumeResponse) -> bytes:
        record = answer.record
        aad = record.record_id + record.key_id + record.generation.to_bytes(4, "big")
        return hpke_open(self.private_key, self.public_key, answer.sealed_secret, b"tdvol v1 volume secret", aad)


def hpke_open(private_key, public_key: bytes, sealed: bytes, info: bytes, aad: bytes) -> bytes:
    """Opens the first message: RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM."""

    def labelled_extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
        extract = hmac.HMAC(salt or b"\0" * 32, hashes.SHA256())
        extract.update(b"HPKE-v1" + suite + label + secret)
        return extract.finalize()

    def labelled_expand(suite: bytes, key: bytes, label: bytes, context: bytes, length: int) -> bytes:
        labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context
        return HKDFExpand(hashes.SHA256(), length, labelled).derive(key)

    encapsulated, text = sealed[:32], sealed[32:]
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"
    shared = private_key.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    key = labelled_extract(kem, b"", b"eae_prk", shared)
    shared = labelled_expand(kem, key, b"shared_secret", encapsulated + public_key, 32)
    context = b"\x00" + labelled_extract(suite, b"", b"psk_id_hash", b"") \
        + labelled_extract(suite, b"", b"info_hash", info)  # fmt: skip
    secret = labelled_extract(suite, shared, b"secret", b"")
    aead = AESGCM(labelled_expand(suite, secret, b"key", context, 32))
    return aead.decrypt(labelled_expand(suite, secret, b"base_nonce", context, 12), text, aad)
