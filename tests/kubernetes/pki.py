# SPDX-License-Identifier: Apache-2.0
"""The cluster's CA, its certificates, and the files with which its programs find and reach the API server."""

import base64
import datetime
import ipaddress
import json
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

DAY = datetime.timedelta(days=1)


def pem_of(key) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def name_of(common_name: str, organization: str | None) -> x509.Name:
    parts = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.append(x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


class Authority:
    """A CA whose files lie in one folder: ca.crt, NAME.crt, NAME.key, NAME.kubeconfig, sa.key, sa.pub."""

    def __init__(self, folder: pathlib.Path, server: str, addresses: list[str]):
        """server: where the API is, as https://HOST:PORT; addresses: in its certificate."""
        self.folder, self.server = folder, server
        folder.mkdir(parents=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = name_of("tests", None)
        self._write("ca.crt", self._sign(self.subject, self.key.public_key(), is_ca=True))
        self.issue("apiserver", "kube-apiserver", addresses=addresses)
        self.issue("admin", "admin", "system:masters")
        accounts = rsa.generate_private_key(65537, 2048)  # signs the tokens of service accounts
        self._write("sa.key", pem_of(accounts))
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        self._write("sa.pub", accounts.public_key().public_bytes(serialization.Encoding.PEM, public))

    def _write(self, name: str, data: bytes) -> None:
        (self.folder / name).touch(mode=0o600)
        (self.folder / name).write_bytes(data)

    def _sign(self, subject: x509.Name, key, is_ca: bool = False, addresses: list[str] | None = None) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )  # fmt: skip
        if addresses:
            names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, common_name: str, organization: str | None = None, addresses: list[str] | None = None) -> None:
        """A certificate; for clients also a kubeconfig."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name_of(common_name, organization), key.public_key(), addresses=addresses)
        self._write(f"{name}.key", pem_of(key))
        self._write(f"{name}.crt", certificate)
        if not addresses:
            self._write(f"{name}.kubeconfig", self._kubeconfig(name).encode())

    def _kubeconfig(self, name: str) -> str:
        def data(file: str) -> str:
            return base64.b64encode((self.folder / file).read_bytes()).decode()

        cluster = {"server": self.server, "certificate-authority-data": data("ca.crt")}
        user = {"client-certificate-data": data(f"{name}.crt"), "client-key-data": data(f"{name}.key")}
        return json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}], "users": [{"name": name, "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": name}}],
        })  # fmt: skip
