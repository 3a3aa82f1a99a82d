# SPDX-License-Identifier: Apache-2.0
"""Hostile clients of the broker's door, each in a process of its own.

    attacks.py NAME LEAST PORT SECONDS CERTIFICATE KEY CA

Prints what it did as one line; "NAME started" comes first. It lasts SECONDS, and on a slow machine longer, up to six times,
until it did what it does LEAST times.
"""

import contextlib
import itertools
import pathlib
import socket
import ssl
import struct
import sys
import threading
import time

import http2

SETTLED = (OSError, ssl.SSLError)


class Attack:
    def __init__(self, least: int, port: int, seconds: float, certificate: str, key: str, ca: str):
        self.least, self.port = least, port
        self.end = time.monotonic() + seconds
        self.last_end = self.end + 5 * seconds
        self.tls = http2.context(certificate, key)
        self.certificate, self.key, self.ca = certificate, key, ca
        self.kept: list = []
        self.done = 0

    def is_on(self) -> bool:
        now = time.monotonic()
        if self.done < self.least and now < self.last_end:
            self.end = max(self.end, now + 1)
        return now < self.end

    def wait(self) -> None:
        while self.is_on():
            time.sleep(min(0.1, max(0.0, self.end - time.monotonic())))

    def connect(self, **options) -> http2.Connection:
        return http2.Connection(self.port, self.tls, **options)

    def connections(self) -> None:
        """1,100 TCP connections that say nothing, closed again; over and over."""
        while self.is_on():
            with contextlib.suppress(*SETTLED):
                while len(self.kept) < 1100:
                    self.kept.append(socket.create_connection(("127.0.0.1", self.port), timeout=5))
                    self.done += 1
            for one in self.kept:
                one.close()
            self.kept.clear()

    def idle(self) -> None:
        """1,011 connections with TLS and HTTP/2, kept."""
        while self.is_on() and self.done < 1011:
            with contextlib.suppress(*SETTLED):
                self.kept.append(self.connect())
                self.done += 1
        self.wait()

    def crowd(self) -> None:
        """The same, from 20 addresses."""
        while self.is_on() and self.done < 1011:
            with contextlib.suppress(*SETTLED):
                self.kept.append(self.connect(source=f"127.0.3.{self.done % 20 + 1}"))
                self.done += 1
        self.wait()

    def addresses(self) -> None:
        """The same, each from an address of its own."""
        while self.is_on() and self.done < 1011:
            with contextlib.suppress(*SETTLED):
                self.kept.append(self.connect(source=f"127.0.{4 + self.done // 250}.{self.done % 250 + 1}"))
                self.done += 1
        self.wait()

    def handshakes(self) -> None:
        """Connections by TLS, closed at once; over and over."""
        while self.is_on():
            with contextlib.suppress(*SETTLED):
                self.connect().close()
                self.done += 1

    def resets(self) -> None:
        """Streams that are reset at once; a new connection when one is cut."""
        header = http2.request("GetStatus")
        while self.is_on():
            with contextlib.suppress(*SETTLED):
                one = self.connect()
                for first in itertools.count(1, 400):
                    streams = range(first, first + 400, 2)
                    one.send(b"".join(http2.frame(http2.HEADERS, http2.END_HEADERS, s, header)
                                      + http2.frame(http2.RST_STREAM, 0, s, struct.pack(">I", http2.CANCEL))
                                      for s in streams))  # fmt: skip
                    self.done += len(streams)
                    if not self.is_on():
                        break

    def refused(self) -> None:
        """Calls that are answered at once, because there is no such method; nothing is read."""
        header = http2.request("NoSuchMethod")
        while self.is_on():
            with contextlib.suppress(*SETTLED):
                one = self.connect()
                one.socket.settimeout(1)
                for first in itertools.count(1, 400):
                    streams = range(first, first + 400, 2)
                    one.send(b"".join(http2.frame(http2.HEADERS, 5, s, header) for s in streams))
                    self.done += len(streams)
                    if not self.is_on():
                        break

    def header(self) -> None:
        """One header without an end: a text of 1 GiB is announced."""
        start = b"\0" + http2.integer(7, 0, 1) + b"x" + http2.integer(7, 0, 1 << 30)
        more = b"".join(http2.frame(http2.CONTINUATION, 0, 1, b"a" * 16384) for _ in range(16))
        while self.is_on():
            with contextlib.suppress(*SETTLED):
                one = self.connect()
                one.send(http2.frame(http2.HEADERS, 0, 1, start))
                while self.is_on():
                    one.send(more)
                    self.done += len(more)

    def bomb(self) -> None:
        """A large field in the table of HPACK, named again and again by one byte."""
        big = b"\x40" + http2.integer(7, 0, 1) + b"x" + http2.integer(7, 0, 3900) + b"a" * 3900
        while self.is_on():
            with contextlib.suppress(*SETTLED):
                one = self.connect()
                for stream in itertools.count(1, 2):
                    one.send(http2.frame(http2.HEADERS, 0, stream, http2.request("GetStatus") + big)
                             + http2.frame(http2.CONTINUATION, 4, stream, b"\xbe" * 16000))  # fmt: skip
                    self.done += 1
                    if not self.is_on():
                        break

    def pings(self) -> None:
        """PING and SETTINGS whose answers nobody reads."""
        each = http2.frame(http2.PING, 0, 0, b"12345678") + http2.frame(http2.SETTINGS, 0, 0)
        while self.is_on():
            with contextlib.suppress(*SETTLED):
                one = self.connect()
                one.socket.settimeout(1)
                while self.is_on():
                    one.send(each * 100)
                    self.done += 200

    def unfinished(self) -> None:
        """44 addresses, each with 24 requests that never end."""
        while self.is_on():
            until = min(self.end, time.monotonic() + 8)
            with contextlib.suppress(*SETTLED):
                for number in range(1, 45):
                    one = self.connect(source=f"127.0.1.{number}")
                    self.kept.append(one)
                    for _ in range(24):
                        one.begin("GetStatus")
                        self.done += 1
            time.sleep(max(0.0, until - time.monotonic()))
            for one in self.kept:
                one.close()
            self.kept.clear()

    def large(self) -> None:
        """Six addresses, each with 24 requests of 1.2 MB that never end."""
        whole = b"\0" + struct.pack(">I", 1200000) + b"\x12" + b"\0" * 1199000

        def send_slowly(one: http2.Connection, streams: list[int]) -> None:
            with contextlib.suppress(*SETTLED):
                for at in range(0, len(whole), 16384):
                    for stream in streams:
                        one.send(http2.frame(http2.DATA, 0, stream, whole[at : at + 16384]))
                        self.done += 1
                    for _ in streams:  # windows open again
                        one.socket.settimeout(0.01)
                        with contextlib.suppress(TimeoutError):
                            one.socket.recv(65536)
                        one.socket.settimeout(5)

        while self.is_on():
            threads = []
            for number in range(1, 7):
                with contextlib.suppress(*SETTLED):
                    one = self.connect(source=f"127.0.2.{number}")
                    streams = [one.begin("Attest") for _ in range(24)]
                    threads.append(threading.Thread(target=send_slowly, args=(one, streams), daemon=True))
                    threads[-1].start()
            for thread in threads:
                thread.join(max(0.1, self.end - time.monotonic()))

    def calls(self) -> None:
        """Four connections of one client, with 2,800 calls in flight."""
        import brokers
        import grpc

        read = lambda path: pathlib.Path(path).read_bytes()  # noqa: E731
        credentials = grpc.ssl_channel_credentials(read(self.ca), read(self.key), read(self.certificate))

        def flood() -> None:
            channel = grpc.secure_channel(f"127.0.0.1:{self.port}", credentials,
                                          [("grpc.use_local_subchannel_pool", 1)])  # fmt: skip
            stub, live = brokers.keybroker_pb2_grpc.KeyBrokerStub(channel), []
            while self.is_on():
                live = [one for one in live if not one.done()]
                while len(live) < 700 and self.is_on():
                    live.append(stub.GetStatus.future(brokers.keybroker.GetStatusRequest(), timeout=20))
                    self.done += 1
                time.sleep(0.01)

        threads = [threading.Thread(target=flood, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        self.wait()

    def unread(self) -> None:
        """Long answers that nobody reads: windows of no bytes, then sockets that are not read."""
        closed = struct.pack(">HI", http2.INITIAL_WINDOW_SIZE, 0)
        wide = struct.pack(">HI", http2.INITIAL_WINDOW_SIZE, (1 << 31) - 1)
        opened = http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1 - 65535))
        body = b"\x0a\x08csi.test"  # driver
        while self.is_on():
            with contextlib.suppress(*SETTLED):
                for number in range(8):
                    one = self.connect(settings=closed if number % 2 else wide)
                    self.kept.append(one)
                    one.socket.settimeout(1)
                    one.send(opened)
                    for _ in range(100):
                        one.call("ListRecords", body)
                        self.done += 1
            time.sleep(min(2, max(0.0, self.end - time.monotonic())))


def main() -> None:
    name, least, port, seconds, *files = sys.argv[1:]
    attack = Attack(int(least), int(port), float(seconds), *files)
    print(f"{name} started", flush=True)
    getattr(attack, name)()
    print(f"{name}: {attack.done}", flush=True)


if __name__ == "__main__":
    main()
