# SPDX-License-Identifier: Apache-2.0
"""Runs tdvol-sim: the files it writes, the TD's file system it mounts, and the PCCS it serves."""

import contextlib
import errno
import http.client
import json
import os
import pathlib
import ssl
import subprocess
import sys
import time
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import stubs  # noqa: E402

PROGRAM = stubs.BUILD / "tests/sim/tdvol-sim"
SECONDS = 20
ASKED = bytes(range(64))
REPORT_DATA_AT = 48 + 520  # in a quote of version 4
needs_sim = pytest.mark.skipif(not PROGRAM.exists(), reason="tdvol-sim is missing: build with -Dsimulator=true")


def sim(*arguments, fails: bool = False) -> str:
    """Runs it to its end; returns its standard output, or its standard error if it must fail."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (1 if fails else 0), (done.returncode, done.stderr)
    return done.stderr if fails else done.stdout


def quote_of(pki, out, data: bytes = ASKED, *arguments):
    """Writes a quote to out; returns out."""
    sim("quote", "--pki", pki, "--report-data", data.hex(), "--out", out, *arguments)
    return out


def explain(quote: pathlib.Path, root: pathlib.Path, *arguments) -> dict:
    """tdvolctl's verdict on a quote whose collateral is in the same folder, or in --collateral."""
    done = subprocess.run(
        [stubs.BUILD / "ctl/tdvolctl", "quote", "explain", quote, "--json", "--test-root", root, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    return json.loads(done.stdout)


class fails_with:
    """The block must fail with this errno."""

    def __init__(self, number: int):
        self.number = number

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> bool:
        assert isinstance(error, OSError), f"no error, but {errno.errorcode[self.number]} was expected"
        assert errno.errorcode.get(error.errno) == errno.errorcode[self.number]
        return True


class Server:
    """tdvol-sim in the foreground, until it gets a signal; its first line says that it serves."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self.first_line = self.process.stdout.readline()
        assert self.first_line, f"it ended with {self.process.wait(SECONDS)}"

    def stop(self) -> None:
        try:
            self.process.terminate()
            assert self.process.wait(SECONDS) == 0
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


class Tsm(Server):
    """A mounted file system. Blobs are read and written without buffers, so that each system call is tested."""

    def __init__(self, folder: pathlib.Path, pki: pathlib.Path, *arguments):
        if not os.path.exists("/dev/fuse") or os.geteuid() != 0:
            pytest.skip("needs root and /dev/fuse")
        folder.mkdir()
        self.root = folder
        super().__init__("tsm", folder, "--pki", pki, *arguments)

    def stop(self) -> None:
        try:
            super().stop()
            assert not os.path.ismount(self.root)
        finally:
            if os.path.ismount(self.root):
                subprocess.run(["umount", "-l", self.root], check=False)

    def fault(self, text: str) -> None:
        (self.root / ".control").write_text(text)

    @contextlib.contextmanager
    def request(self, name: str = "request"):
        """One directory and its operations."""
        folder = self.root / name
        folder.mkdir()
        try:
            yield Request(folder)
        finally:
            folder.rmdir()


class Guest(Tsm):
    """The file systems of a TD; `td` is its description for tdvol-sim."""

    def __init__(self, folder: pathlib.Path, pki: pathlib.Path, td: dict, *arguments):
        folder.mkdir()
        self.log, description = folder / "CCEL", folder / "td.json"
        description.write_text(json.dumps(td))
        if "events" in td:
            sim("ccel", "--td", description, "--out", self.log)
        super().__init__(folder / "tsm", pki, "--td", description, *arguments)

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if path.is_dir())


class Request:
    def __init__(self, folder: pathlib.Path):
        self.dir = folder

    def write(self, data: bytes) -> None:
        with self.open("inblob", os.O_WRONLY) as fd:
            assert os.write(fd, data) == len(data)

    def text(self, name: str) -> str:
        return (self.dir / name).read_text()

    @contextlib.contextmanager
    def open(self, name: str, flags: int = os.O_RDONLY):
        fd = os.open(self.dir / name, flags)
        try:
            yield fd
        finally:
            os.close(fd)

    def outblob(self) -> bytes:
        with self.open("outblob") as fd:
            return read_all(fd)


def read_all(fd: int) -> bytes:
    """Reads from the beginning to the end of the file."""
    parts, at = [], 0
    while part := os.pread(fd, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def report_data(quote: bytes) -> bytes:
    return quote[REPORT_DATA_AT : REPORT_DATA_AT + 64]


PATHS = {
    "root_ca_crl.der": "/sgx/certification/v4/rootcacrl",
    "pck_crl.der": "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
    "tcb_info_response.json": "/tdx/certification/v4/tcb?fmspc=A0C06F000000",
    "qe_identity_response.json": "/tdx/certification/v4/qe/identity",
}
CHAINS = {
    "pck_crl.der": ("SGX-PCK-CRL-Issuer-Chain", "pck_crl_issuer_chain.pem"),
    "tcb_info_response.json": ("TCB-Info-Issuer-Chain", "tcb_info_issuer_chain.pem"),
    "qe_identity_response.json": ("SGX-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain.pem"),
}


class Pccs(Server):
    """A PCCS on a free port of the loopback device."""

    def __init__(self, pki: pathlib.Path, *arguments):
        super().__init__("pccs", "--listen", "127.0.0.1:0", "--pki", pki, *arguments)
        self.url = urllib.parse.urlsplit(self.first_line.split()[-1])

    def get(self, path: str, method: str = "GET", seconds: float = SECONDS) -> tuple[int, dict[str, str], bytes]:
        """Returns status, headers and body; each request has a connection of its own."""
        if self.url.scheme == "https":
            trusting = ssl.create_default_context()
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(self.url.netloc, timeout=seconds, context=trusting)
        else:
            connection = http.client.HTTPConnection(self.url.netloc, timeout=seconds)
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def fault(self, name: str, **arguments) -> None:
        query = urllib.parse.urlencode({"fault": name} | arguments)
        assert self.get(f"/control?{query}", "POST")[0] == 200

    def state(self) -> dict:
        return json.loads(self.get("/control")[2])

    def fetch(self, folder: pathlib.Path) -> pathlib.Path:
        """Writes the collateral of the default platform to files."""
        folder.mkdir()
        for name, path in PATHS.items():
            status, headers, body = self.get(path)
            assert status == 200, (path, status)
            (folder / name).write_bytes(body)
            if name in CHAINS:
                header, file = CHAINS[name]
                (folder / file).write_text(urllib.parse.unquote(headers[header]))
        return folder


def elapsed(call, *arguments) -> float:
    start = time.monotonic()
    call(*arguments)
    return time.monotonic() - start
