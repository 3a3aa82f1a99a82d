# SPDX-License-Identifier: Apache-2.0
"""A simulated Trust Domain that is a client of the broker: its two keys, its quotes, its owner's proofs."""

import base64
import datetime
import hashlib
import json
import pathlib
import time

import brokers
import grpc
import sims
from brokers import CALL_SECONDS, keybroker
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

TAG = b"tdvol attest v1".ljust(32, b"\0")
IMAGE = {"mrtd": ["4d01" + 46 * "00"], "rtmr1": ["4d11" + 46 * "00"], "rtmr2": ["4d12" + 46 * "00"]}  # the sim's default
ISSUER, AUDIENCE, SUBJECT = "https://cluster.test", "tdvol", "system:serviceaccount:tdvol:tdvol-node"


def spki_sha256(key) -> bytes:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_key().public_bytes(serialization.Encoding.DER, spki)).digest()


def certificate(key, name: str, issuer=None, days: float = 1) -> x509.Certificate:
    """Makes a certificate. issuer is (certificate, key) of a CA; None makes a self-signed CA."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    builder = x509.CertificateBuilder(
        issuer[0].subject if issuer else subject, subject, key.public_key(), x509.random_serial_number(),
        now - datetime.timedelta(hours=1), now + datetime.timedelta(days=days),
    )  # fmt: skip
    builder = builder.add_extension(x509.BasicConstraints(ca=not issuer, path_length=None), critical=True)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256())


def pem(one) -> bytes:
    return one.public_bytes(serialization.Encoding.PEM)


def text64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Cluster:
    """Issues service account tokens."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def keys(self) -> dict:
        point = self.key.public_key().public_numbers()
        x, y = (text64(number.to_bytes(32, "big")) for number in (point.x, point.y))
        return {"keys": [{"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig", "x": x, "y": y}]}

    def token(self, node: str = "n1", seconds: int = 600, **changed) -> bytes:
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": SUBJECT, "aud": [AUDIENCE], "iat": now - 5, "nbf": now - 5, "exp": now + seconds,
            "kubernetes.io": {"namespace": "tdvol", "node": {"name": node, "uid": "u"}},
        } | changed  # fmt: skip
        parts = [text64(json.dumps(part).encode()) for part in ({"alg": "ES256", "kid": "k1"}, claims)]
        signed = ".".join(parts).encode()
        numbers = decode_dss_signature(self.key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return signed + b"." + text64(b"".join(n.to_bytes(32, "big") for n in numbers)).encode()

    def owner(self) -> dict:
        return {"token": {"issuer": ISSUER, "audience": AUDIENCE, "subjects": [SUBJECT], "keys": self.keys()}}


class Authority:
    """An owner's CA, which signs keys made in TDs."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = certificate(self.key, "owner CA")

    def certify(self, key, name: str = "td-1", days: float = 1) -> bytes:
        return pem(certificate(key, name, (self.certificate, self.key), days))

    def owner(self) -> dict:
        return {"certificate": {"ca": pem(self.certificate).decode(), "common_names": ["td-*"]}}


def rule(name: str, tenant: str, owner: dict, **changed) -> dict:
    return {"name": name, "td": {"images": ["image-1"]}, "owner": owner, "tenant": tenant,
            "may": ["create", "open", "delete"], "volumes": ["*"], "nodes": ["*"]} | changed  # fmt: skip


def write_policy(broker: brokers.Broker, *rules: dict, images: dict | None = None, revision: str = "r1") -> None:
    admin = {"name": "admins", "match": {"certificate.cn": "admin"}, "tenant": "default", "may": ["admin"],
             "volumes": ["*"]}  # fmt: skip
    policy = {"version": 1, "revision": revision, "images": images or {"image-1": IMAGE}, "rules": [*rules, admin]}
    (broker.dir / "policy.json").write_text(json.dumps(policy))


class Td:
    """One start of a TD: new keys, no session yet."""

    def __init__(self, broker: brokers.Broker, pki: pathlib.Path, node: str = "n1", **members):
        self.broker, self.pki, self.members = broker, pki, members
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.node = brokers.Node(node)
        self.stub = self.connect()

    def connect(self, key=None):
        key = key or self.key
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        ca = (self.broker.dir / "ca.crt").read_bytes()
        own = pem(certificate(key, "node"))
        return self.broker.stub(credentials=grpc.ssl_channel_credentials(ca, private, own))

    def challenge(self) -> keybroker.GetChallengeResponse:
        return self.stub.GetChallenge(keybroker.GetChallengeRequest(), timeout=CALL_SECONDS)

    def report_data(self, nonce: bytes, broker_key: bytes) -> bytes:
        parts = TAG, nonce, spki_sha256(self.key), hashlib.sha256(self.node.public_key).digest(), broker_key
        return hashlib.sha512(b"".join(parts)).digest()

    def quote(self, data: bytes) -> bytes:
        folder = self.broker.dir.parent
        arguments = []
        if self.members:
            (folder / "td.json").write_text(json.dumps(self.members))
            arguments = ["--td", folder / "td.json"]
        return sims.quote_of(self.pki, folder / f"quote-{id(self)}.bin", data, *arguments).read_bytes()

    def request(self, **changed) -> keybroker.AttestRequest:
        """A request with a fresh nonce and a quote over it; changed replaces fields."""
        fresh = self.challenge()
        values = {"nonce": fresh.nonce, "tee": "tdx", "sealing_public_key": self.node.public_key} | changed
        if "quote" not in values:
            values["quote"] = self.quote(self.report_data(fresh.nonce, fresh.broker_key_sha256))
        return keybroker.AttestRequest(**values)

    def send(self, request: keybroker.AttestRequest, stub=None) -> keybroker.AttestResponse:
        return (stub or self.stub).Attest(request, timeout=CALL_SECONDS)

    def attest(self, **changed) -> keybroker.AttestResponse:
        return self.send(self.request(**changed))
