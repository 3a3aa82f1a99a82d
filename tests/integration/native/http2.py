# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand (RFC 9113, RFC 7541), for clients that break the rules. Headers are sent without compression."""

import socket
import ssl
import struct

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INITIAL_WINDOW_SIZE = 4
CANCEL = 8


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def integer(bits: int, first: int, value: int) -> bytes:
    """RFC 7541, section 5.1."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    out, value = bytes([first | limit]), value - limit
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def block(*fields: tuple[str, str]) -> bytes:
    texts = [(name.encode(), value.encode()) for name, value in fields]
    return b"".join(b"\0" + integer(7, 0, len(n)) + n + integer(7, 0, len(v)) + v for n, v in texts)


def request(method: str, *more: tuple[str, str], **changed) -> bytes:
    """The header block of a call; a field that is None is left out."""
    fields = {
        ":method": "POST", ":scheme": "https", ":authority": "localhost",
        ":path": f"/tdvol.keybroker.v1.KeyBroker/{method}", "te": "trailers", "content-type": "application/grpc",
    } | {name.replace("_", "-"): value for name, value in changed.items()}  # fmt: skip
    return block(*[(name, value) for name, value in fields.items() if value is not None], *more)


def message(body: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(body)) + body


def context(certificate, key) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.load_cert_chain(certificate, key)
    made.set_alpn_protocols(["h2"])
    return made


class Connection:
    """One connection; reads nothing by itself."""

    def __init__(self, port: int, tls: ssl.SSLContext, source: str = "127.0.0.1", settings: bytes = b"", session=None):
        raw = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
        self.socket = tls.wrap_socket(raw, server_hostname="localhost", session=session)
        self.next = 1
        self.buffer = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def begin(self, method: str, **changed) -> int:
        """Sends the header of a call, and returns its stream."""
        stream, self.next = self.next, self.next + 2
        self.send(frame(HEADERS, END_HEADERS, stream, request(method, **changed)))
        return stream

    def call(self, method: str, body: bytes = b"") -> int:
        stream, self.next = self.next, self.next + 2
        self.send(frame(HEADERS, END_HEADERS, stream, request(method))
                  + frame(DATA, END_STREAM, stream, message(body)))  # fmt: skip
        return stream

    def read(self) -> tuple[int, int, int, bytes] | None:
        """The next frame: kind, flags, stream, body. None at the end."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            more = self.socket.recv(65536)
            if not more:
                return None
            self.buffer += more
        size = int.from_bytes(self.buffer[:3], "big")
        head, body, self.buffer = self.buffer[:9], self.buffer[9 : 9 + size], self.buffer[9 + size :]
        return head[3], head[4], int.from_bytes(head[5:9], "big"), body

    def frames(self, seconds: float = 10) -> list[tuple[int, int, int, bytes]]:
        """All frames until the server closes, or says nothing for that long."""
        self.socket.settimeout(seconds)
        got = []
        try:
            while one := self.read():
                got.append(one)
        except (TimeoutError, OSError):
            pass
        return got

    def close(self) -> None:
        self.socket.close()
