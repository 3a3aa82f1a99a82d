# SPDX-License-Identifier: Apache-2.0
"""The broker's door and other people's HTTP/2 and gRPC: h2spec and grpc-go. Both need Go and its module proxy."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import threading

import http2
import pytest

GO = shutil.which("go", path=os.environ["PATH"] + ":/usr/local/go/bin")
CACHE = pathlib.Path(__file__).resolve().parents[3] / ".cache"
H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
# What h2spec sends is no gRPC call, so that the answer is a status without a body, at once.
NO_BODY = "waits for DATA of the answer"
ENDS_AT_ONCE = "the streams end before there are too many"
# Both are allowed: the frames may have been under way when the stream was closed (RFC 9113, section 5.1).
IGNORED = "nghttp2 ignores frames on streams that are closed"
NO_PRIORITY = "we announce SETTINGS_NO_RFC7540_PRIORITIES (RFC 9218): PRIORITY is ignored"
NOT_FOR_GRPC = {
    "Sends a WINDOW_UPDATE frame on half-closed (remote) stream": NO_BODY,
    "Sends a PRIORITY frame on half-closed (remote) stream": NO_BODY,
    "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded": ENDS_AT_ONCE,
    "closed: Sends a DATA frame after sending RST_STREAM frame": IGNORED,
    "closed: Sends a HEADERS frame after sending RST_STREAM frame": IGNORED,
    "closed: Sends a DATA frame": IGNORED,
    "closed: Sends a HEADERS frame": IGNORED,
    "Sends stream identifier that is numerically smaller than previous": IGNORED,
    "Sends PRIORITY frame that depend on itself": NO_PRIORITY,
    "Sends a PRIORITY frame with 0x0 stream identifier": NO_PRIORITY,
}
GRPC_GO = "google.golang.org/grpc@v1.64.0"
GO_CLIENT = r"""
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
)

type raw struct{}

func (raw) Marshal(v any) ([]byte, error)        { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error   { *v.(*[]byte) = bytes.Clone(data); return nil }
func (raw) Name() string                         { return "proto" }

func main() {
	certificate, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	if err != nil {
		panic(err)
	}
	encoding.RegisterCodec(raw{})
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true}
	channel, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		panic(err)
	}
	call := func(name, method string, request []byte, options ...grpc.CallOption) {
		var answer []byte
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := channel.Invoke(ctx, "/tdvol.keybroker.v1.KeyBroker/"+method, &request, &answer, options...)
		fmt.Printf("%s %s %d\n", name, status.Code(err), len(answer))
	}
	call("status", "GetStatus", []byte{})
	call("missing", "NoSuchMethod", []byte{})
	call("record", "GetRecord", []byte("\x0a\x01d\x12\x01v"))
	call("gzip", "GetStatus", bytes.Repeat([]byte{1}, 100), grpc.UseCompressor(gzip.Name))
	call("long", "GetStatus", make([]byte, 1<<20))
	for i := 0; i < 200; i++ {
		call("many", "GetStatus", []byte{})
	}
}
"""


def go(*arguments: str, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": os.environ.get("GOTOOLCHAIN", "auto")}
    return subprocess.run([GO, *arguments], capture_output=True, text=True, check=False, timeout=600,
                          env=environment | options.pop("env", {}), **options)  # fmt: skip


def built(program: pathlib.Path, build) -> pathlib.Path:
    """The program; build() makes it when it is missing. Skips without Go."""
    if not program.exists():
        if not GO:
            pytest.skip("go is not installed")
        program.parent.mkdir(parents=True, exist_ok=True)
        made = build()
        assert made.returncode == 0, f"{program.name} cannot be built: {made.stderr.strip().splitlines()[-1:]}"
    return program


class Tunnel:
    """Listens without TLS and sends everything on over TLS with a client certificate: h2spec has none."""

    def __init__(self, port: int, tls: ssl.SSLContext):
        self.target, self.tls = port, tls
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                threading.Thread(target=self.carry, args=(near,), daemon=True).start()

    def carry(self, near: socket.socket) -> None:
        far = self.tls.wrap_socket(socket.create_connection(("127.0.0.1", self.target)), server_hostname="localhost")
        lock = threading.Lock()  # OpenSSL's connections take one thread at a time

        def forth() -> None:
            with contextlib.suppress(OSError):
                while data := near.recv(65536):
                    with lock:
                        far.sendall(data)
                far.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=forth, daemon=True).start()
        far.settimeout(0.005)
        with contextlib.suppress(OSError):
            while True:
                try:
                    with lock:
                        data = far.recv(65536)
                except TimeoutError:
                    continue
                if not data:
                    break
                near.sendall(data)
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)  # close() alone would wait for the other thread
        near.close()

    def close(self) -> None:
        self.listener.close()


def test_h2spec(broker):
    h2spec = built(CACHE / "h2spec/h2spec", lambda: go("install", H2SPEC, env={"GOBIN": str(CACHE / "h2spec")}))
    tunnel = Tunnel(broker.port, http2.context(broker.dir / "clients/node.crt", broker.dir / "clients/node.key"))
    try:
        done = subprocess.run([h2spec, "-p", str(tunnel.port), "-o", "8", "generic", "http2", "hpack"],
                              capture_output=True, text=True, check=False, timeout=580)  # fmt: skip
    finally:
        tunnel.close()
    failed = set(re.findall(r"×\s+(?:\d+: )?(.*)", done.stdout))
    print(done.stdout.splitlines()[-1])
    assert re.search(r"\d+ tests, \d+ passed", done.stdout), done.stdout + done.stderr
    assert not failed - NOT_FOR_GRPC.keys(), done.stdout[done.stdout.find("Failures:") :]


def test_grpc_go(broker):
    folder = CACHE / "grpc-go"

    def build() -> subprocess.CompletedProcess:
        (folder / "main.go").write_text(GO_CLIENT)
        go("mod", "init", "client", cwd=folder)
        got = go("get", GRPC_GO, cwd=folder)
        return got if got.returncode else go("build", "-o", "client", ".", cwd=folder)

    client = built(folder / "client", build)
    done = subprocess.run([client, broker.address, broker.dir / "clients/node.crt", broker.dir / "clients/node.key"],
                          capture_output=True, text=True, check=True, timeout=120)  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].startswith("status OK ") and int(lines[0].split()[2]) > 20
    assert lines[1:5] == ["missing Unimplemented 0", "record NotFound 0", "gzip Unimplemented 0",
                          "long ResourceExhausted 0"]  # fmt: skip
    assert lines[5:] == [lines[0].replace("status", "many")] * 200
