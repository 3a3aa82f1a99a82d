# SPDX-License-Identifier: Apache-2.0
"""An etcd cluster on this machine, and brokers that keep their records in it."""

import datetime
import ipaddress
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import brokers
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

START_SECONDS = 30
ETCD = os.environ.get("TDVOL_ETCD") or shutil.which("etcd")


class Relay:
    """Passes connections on to a port of this machine. Cut off, it accepts and then is silent."""

    def __init__(self, to: int):
        self.to = to
        self.is_cut = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                if self.listener.fileno() < 0:
                    return
                continue
            self.sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=(source, target), daemon=True).start()

    def copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while block := source.recv(65536):
                while self.is_cut:
                    time.sleep(0.01)
                target.sendall(block)
        except OSError:
            pass
        for one in (source, target):
            one.close()

    def close(self) -> None:
        self.listener.close()
        self.is_cut = False
        for one in self.sockets:
            one.close()


class Authority:
    """A CA for etcd and its clients, whose files lie in one folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        folder.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.sign("etcd CA", self.key.public_key(), None)
        (folder / "ca.crt").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, key, issuer, addresses: list[str] | None = None) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
            .public_key(key).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
        )  # fmt: skip
        if issuer:
            names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str, addresses: list[str] | None = None) -> None:
        """Writes NAME.crt and NAME.key, also over older ones."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self.folder / f"{name}.key"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        certificate = self.sign(name, key.public_key(), self.certificate, addresses or [brokers.ThisHost.address])
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


class Member:
    """One server of the cluster."""

    def __init__(self, cluster: "Cluster", name: str, host):
        self.cluster, self.name, self.host = cluster, name, host
        self.port, self.peer_port = brokers.free_port(), brokers.free_port()
        self.url = f"https://{host.address}:{self.port}"
        self.peer_url = f"http://{host.address}:{self.peer_port}"
        self.folder = (host.disk or cluster.folder) / name
        self.log = cluster.folder / f"{name}.log"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        authority = self.cluster.authority.folder
        peers = ",".join(f"{m.name}={m.peer_url}" for m in self.cluster.members)
        command = [
            ETCD, "--name", self.name, "--data-dir", self.folder,
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
            "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url, "--initial-cluster", peers,
            "--client-cert-auth", "--trusted-ca-file", authority / "ca.crt", "--cert-file", authority / "server.crt",
            "--key-file", authority / "server.key", "--heartbeat-interval", "100", "--election-timeout", "1000",
        ]  # fmt: skip
        with self.log.open("ab") as output:
            self.process = subprocess.Popen([*map(str, self.host.command(command))], stdout=output, stderr=output,
                                            env=os.environ | {"ETCD_UNSUPPORTED_ARCH": ""})  # fmt: skip

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def pause(self, is_paused: bool) -> None:
        os.kill(self.process.pid, signal.SIGSTOP if is_paused else signal.SIGCONT)


class Cluster:
    """Members, and what their clients need."""

    def __init__(self, folder: pathlib.Path, hosts: list | None = None):
        hosts = hosts or [brokers.ThisHost()] * 3
        folder.mkdir()
        self.folder = folder
        self.authority = Authority(folder / "pki")
        for name in ("server", "client"):
            self.authority.issue(name, [host.address for host in hosts])
        self.members = [Member(self, f"m{i}", host) for i, host in enumerate(hosts)]
        for member in self.members:
            member.start()
        self.wait()

    def wait(self) -> None:
        """Until the cluster takes changes."""
        end = time.monotonic() + START_SECONDS
        while self.etcdctl("put", "ready", "1", check=False).returncode != 0:
            assert time.monotonic() < end, [m.log.read_text()[-2000:] for m in self.members]
            time.sleep(0.1)

    @property
    def spec(self) -> str:
        return "etcd:" + ",".join(m.url for m in self.members)

    def options(self, name: str) -> dict[str, str]:
        """A broker's options for this store."""
        pki = self.authority.folder
        return {"store": self.spec, "store-ca": pki / "ca.crt", "store-cert": pki / "client.crt",
                "store-key": pki / "client.key", "replica": name}  # fmt: skip

    def etcdctl(self, *arguments, check: bool = True, data: bytes | None = None) -> subprocess.CompletedProcess:
        pki = self.authority.folder
        command = [
            shutil.which("etcdctl"), "--endpoints", ",".join(m.url for m in self.members), "--cacert", pki / "ca.crt",
            "--cert", pki / "client.crt", "--key", pki / "client.key", "--command-timeout", "5s", *arguments,
        ]  # fmt: skip
        return subprocess.run([*map(str, command)], capture_output=True, input=data, check=check, timeout=30,
                              env=os.environ | {"ETCDCTL_API": "3"})  # fmt: skip

    def keys(self, prefix: str) -> dict[bytes, tuple[bytes, int]]:
        """All keys below the prefix, with their values and revisions."""
        import base64

        answer = json.loads(self.etcdctl("get", "--prefix", prefix, "-w", "json").stdout)
        return {base64.b64decode(kv["key"]): (base64.b64decode(kv.get("value", "")), kv["mod_revision"])
                for kv in answer.get("kvs", [])}  # fmt: skip

    def close(self) -> None:
        for member in self.members:
            member.kill()


class Replicas:
    """Brokers over one cluster: one PKI, one master key, and a folder, a name and a log for each."""

    def __init__(self, cluster: Cluster, make_broker, n: int = 3):
        self.cluster = cluster
        self.all = [make_broker("r0")]
        first = self.all[0]
        for i in range(1, n):
            shutil.copytree(first.dir, first.dir.parent / f"r{i}")
            self.all.append(make_broker(f"r{i}"))
        for i, one in enumerate(self.all):
            one.replica = f"r{i}"

    def start(self, one: brokers.Broker, **changed) -> brokers.Broker:
        """Starts one, at another port where something of this machine has taken its own meanwhile."""
        for _ in range(5):
            one.http = f"{one.host.address}:{brokers.free_port()}"
            try:
                return one.start(**({"http": one.http} | self.cluster.options(one.replica) | changed))
            except AssertionError:
                if "Address already in use" not in "".join(one.log.read_text().splitlines()[-1:]):
                    raise
                one.port = brokers.free_port()
                one.address = f"{one.host.address}:{one.port}"
        raise AssertionError("no port is free")

    def start_all(self) -> "Replicas":
        for one in self.all:
            self.start(one)
        return self

    @property
    def addresses(self) -> str:
        return ",".join(one.address for one in self.all)
