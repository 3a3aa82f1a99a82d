# SPDX-License-Identifier: Apache-2.0
"""An imitation of Trustee's Key Broker Service, protocol 0.4.0: it checks what the real one checks before it answers."""

import base64
import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import re
import secrets
import ssl
import threading
import time
import uuid

import sims
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap
from tds import text64

ALG = "ECDH-ES+A256KW"
ERRORS = "https://github.com/confidential-containers/kbs/errors/"
PART = re.compile(r"[a-zA-Z0-9_-]+[a-zA-Z0-9_\-.]*")


def bytes64(text: str) -> bytes:
    """Base64url without padding."""
    assert re.fullmatch(r"[A-Za-z0-9_-]*", text)
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def canonical(value) -> bytes:
    """RFC 8785, for objects of texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def report_data(nonce: str, jwk: dict, additional: str = "") -> bytes:
    runtime = {"nonce": nonce, "tee-pubkey": jwk, "additional-evidence": additional}
    return hashlib.sha384(canonical(runtime)).digest().ljust(64, b"\0")


def point_of(jwk: dict) -> ec.EllipticCurvePublicKey:
    assert (jwk["kty"], jwk["crv"], jwk["alg"]) == ("EC", "P-256", ALG), jwk
    x, y = bytes64(jwk["x"]), bytes64(jwk["y"])
    assert len(x) == len(y) == 32
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
    return numbers.public_key()


def jwk_of(key) -> dict:
    numbers = key.public_key().public_numbers()
    x, y = (text64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def wrapping_key(shared: bytes, alg: str = ALG) -> bytes:
    text = b"\0\0\0\1" + shared + len(alg).to_bytes(4, "big") + alg.encode() + bytes(8) + (256).to_bytes(4, "big")
    return hashlib.sha256(text).digest()


def seal(jwk: dict, plain: bytes, header: dict | None = None, epk=None) -> dict:
    """A JWE for this key; header: members in addition, or other values."""
    epk, content, iv = epk or ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(32), secrets.token_bytes(12)
    protected = text64(json.dumps({"alg": ALG, "enc": "A256GCM", "epk": jwk_of(epk)} | (header or {}),
                                  separators=(",", ":")).encode())  # fmt: skip
    wrapped = aes_key_wrap(wrapping_key(epk.exchange(ec.ECDH(), point_of(jwk))), content)
    sealed = AESGCM(content).encrypt(iv, plain, protected.encode())
    return {"protected": protected, "encrypted_key": text64(wrapped), "iv": text64(iv),
            "ciphertext": text64(sealed[:-16]), "tag": text64(sealed[-16:])}  # fmt: skip


def unseal(private_key, jwe: dict) -> bytes:
    header = json.loads(bytes64(jwe["protected"]))
    shared = private_key.exchange(ec.ECDH(), point_of({"alg": ALG} | header["epk"]))
    content = aes_key_unwrap(wrapping_key(shared), bytes64(jwe["encrypted_key"]))
    text = bytes64(jwe["ciphertext"]) + bytes64(jwe["tag"])
    return AESGCM(content).decrypt(bytes64(jwe["iv"]), text, jwe["protected"].encode())


class Refused(Exception):
    def __init__(self, word: str, detail: str, status: int = 401):
        super().__init__(detail)
        self.word, self.detail, self.status = word, detail, status


class Session:
    def __init__(self, tee: str):
        self.id, self.tee = uuid.uuid4().hex, tee
        self.nonce = base64.b64encode(secrets.token_bytes(32)).decode()
        self.jwk: dict | None = None  # once it attested
        self.token = ""


class Trustee:
    """One server. `images`: MRTDs that it accepts. `answers`: what it says in place of its own answer, by step."""

    STEPS = "auth", "attest", "resource"

    def __init__(self, folder: pathlib.Path, root: pathlib.Path, collateral: pathlib.Path, tls=None):
        self.folder, self.root, self.collateral = folder, root, collateral
        self.version, self.images, self.allowed = "0.4.0", {"4d01" + 46 * "00"}, True
        self.resources: dict[str, bytes] = {}
        self.sessions: dict[str, Session] = {}
        self.answers: dict[str, tuple] = {}  # status, body, headers
        self.forge = seal  # makes the answer to a request for a resource
        self.delay_seconds = 0.0
        self.asked: list[tuple[str, dict | None]] = []
        self.quotes: list[bytes] = []
        self.server = http.server.ThreadingHTTPServer(("", 0), self.handler())
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handler(self):
        trustee = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def do_GET(self):
                self.answer(None)

            def answer(self, request):
                status, body, headers = trustee.judge(self.path, self.headers, request)
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # the client may not want all of it
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler

    # --- what the real one checks ---

    def judge(self, path: str, headers, request) -> tuple[int, bytes, list]:
        step = path.removeprefix("/kbs/v0/").partition("/")[0]
        self.asked.append((path, request))
        time.sleep(self.delay_seconds)
        try:
            if not path.startswith("/kbs/v0/") or step not in self.STEPS:
                raise Refused("PluginNotFound", "no such plugin", 404)
            status, answer, more = {"auth": self.auth, "attest": self.attest, "resource": self.resource}[step](
                path, headers, request
            )
        except Refused as refused:
            answer = {"type": ERRORS + refused.word, "detail": refused.detail}
            status, more = refused.status, []
        if step in self.answers:
            other = self.answers[step]
            return other[0], other[1], list(other[2]) if len(other) > 2 else more
        return status, json.dumps(answer).encode(), more

    def session_of(self, headers) -> Session:
        name, _, value = headers.get("Cookie", "").partition("=")
        if name != "kbs-session-id" or value not in self.sessions:
            raise Refused("AttestationError", "RCAR handshake Attest failed: Session not found")
        return self.sessions[value]

    def auth(self, path, headers, request):
        if request["version"] != self.version:
            raise Refused("AttestationError", "RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: "
                          f"expect ={self.version} while the request is {request['version']}")  # fmt: skip
        session = Session(request["tee"])
        self.sessions[session.id] = session
        cookie = f"kbs-session-id={session.id}; Expires=Sun, 29 Nov 2099 12:00:00 GMT"
        return 200, {"nonce": session.nonce, "extra-params": ""}, [("Set-Cookie", cookie)]

    def attest(self, path, headers, request):
        session = self.session_of(headers)
        if session.jwk:  # as the real one: the same token again, and nothing is changed
            return 200, {"token": session.token}, []
        runtime, evidence = request["runtime-data"], request["tee-evidence"]
        if runtime["nonce"] != session.nonce:
            raise Refused("AttestationError", "RCAR handshake Attest failed: nonce mismatch")
        point_of(runtime["tee-pubkey"])
        wanted = report_data(runtime["nonce"], runtime["tee-pubkey"], evidence["additional_evidence"])
        self.verify(session, evidence["primary_evidence"], wanted)
        session.jwk, session.token = runtime["tee-pubkey"], f"{text64(b'{}')}.{text64(os.urandom(30))}.{text64(b's')}"
        return 200, {"token": session.token}, []

    def verify(self, session: Session, evidence: dict, wanted: bytes) -> None:
        if session.tee != "tdx":
            raise Refused("AttestationError", f"no verifier for {session.tee}")
        if set(evidence) != {"quote", "cc_eventlog"}:
            raise Refused("AttestationError", "Deserialize TDX Evidence failed.")
        quote = base64.b64decode(evidence["quote"], validate=True)
        self.quotes.append(quote)
        file = self.folder / f"kbs-{session.id}.bin"
        file.write_bytes(quote)
        said = sims.explain(file, self.root, "--collateral", self.collateral)
        if said["verdict"] != "accepted":
            raise Refused("AttestationError", f"Verifier evaluate failed: {said}")
        if sims.report_data(quote) != wanted:
            raise Refused("AttestationError", "REPORT_DATA is different from that in TDX Quote")
        if quote[48 + 136 : 48 + 184].hex() not in self.images:
            raise Refused("AttestationError", "the executables are not affirmed")

    def resource(self, path, headers, request):
        session = self.session_of(headers)
        if not session.jwk:
            raise Refused("TokenNotFound", "Attestation Token not found")
        parts = path.removeprefix("/kbs/v0/resource/").split("/")
        if len(parts) != 3 or not all(PART.fullmatch(part) for part in parts):
            raise Refused("InvalidRequestPath", path, 404)
        if not self.allowed:
            raise Refused("PolicyDeny", "Access denied by policy")
        if "/".join(parts) not in self.resources:
            raise Refused("PluginInternalError", "Plugin Internal Error")
        return 200, self.forge(session.jwk, self.resources["/".join(parts)]), []
