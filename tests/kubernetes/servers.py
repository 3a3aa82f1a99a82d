# SPDX-License-Identifier: Apache-2.0
"""The programs of a control plane, as processes of this one: etcd, the API server and what works on its objects."""

import os
import pathlib
import shutil
import subprocess
import time

import pki
import programs

KILLED_AFTER_S = 10
NOBODY = "192.0.2.1"  # the API server advertises no loopback address


def wait_until(condition, seconds: float, what: str, pause: float = 0.2):
    """Waits until condition() returns something, and returns that. what: text, or a function that makes it."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"still not after {seconds} s: {what() if callable(what) else what}")
        time.sleep(pause)
    return result


class Server:
    """A process with a log."""

    def __init__(self, log: pathlib.Path, command: list, **options):
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)

    def check(self) -> None:
        """It must run."""
        status = self.process.poll()
        assert status is None, f"{self.log.stem} ended with {status}: {self.log.read_text(errors='replace')[-2000:]}"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(KILLED_AFTER_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Api:
    """etcd and the API server. Its data is gone with its folder."""

    def __init__(self, folder: pathlib.Path, address: str, port: int, service: str | None = None, etcd_port: int = 2379, gates: str = ""):
        """address: where pods and nodes reach it; service: the address of the Service "kubernetes", if it is one here."""
        self.folder, self.servers = folder, []
        addresses = sorted({address, "127.0.0.1", service or address})
        self.authority = pki.Authority(folder / "pki", f"https://{address}:{port}", addresses)
        self.kubeconfig = folder / "pki/admin.kubeconfig"
        self._start_etcd(etcd_port)
        files = folder / "pki"
        self.start("apiserver", [
            programs.BIN / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{etcd_port}",
            f"--bind-address={'0.0.0.0' if service else address}", f"--secure-port={port}",
            f"--advertise-address={address if service else NOBODY}",
            f"--tls-cert-file={files}/apiserver.crt", f"--tls-private-key-file={files}/apiserver.key", f"--client-ca-file={files}/ca.crt",
            f"--service-account-key-file={files}/sa.pub", f"--service-account-signing-key-file={files}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP", "--profiling=false", f"--cert-dir={folder}",
            f"--kubelet-client-certificate={files}/admin.crt", f"--kubelet-client-key={files}/admin.key",
            f"--requestheader-client-ca-file={files}/ca.crt", "--requestheader-allowed-names=front-proxy",
            *([f"--feature-gates={gates}"] if gates else []),
        ])  # fmt: skip

    def _start_etcd(self, port: int) -> None:
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
        self.start("etcd", [
            shutil.which("etcd") or "etcd", "--name=one", f"--data-dir={self.folder}/etcd", f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=one={peer}", "--unsafe-no-fsync",
        ], env=os.environ | {"ETCD_UNSUPPORTED_ARCH": ""})  # fmt: skip

    def start(self, name: str, command: list, **options) -> Server:
        self.servers.append(Server(self.folder / f"{name}.log", command, **options))
        return self.servers[-1]

    def check(self) -> None:
        for server in self.servers:
            server.check()

    def stop(self) -> None:
        for server in reversed(self.servers):
            server.stop()
