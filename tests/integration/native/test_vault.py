# SPDX-License-Identifier: Apache-2.0
"""The master key comes from Vault's transit engine: an imitation of its API, which checks what Vault checks."""

import base64
import contextlib
import http.server
import json
import os
import threading
import time

import pytest
from brokers import create, get, keybroker, status

SEALED, OPEN = keybroker.BROKER_STATE_SEALED, keybroker.BROKER_STATE_OPEN
KEY_PATH = "/v1/transit/decrypt/tdvol"
TOKEN = "hvs.CAESIJtoken"
SECONDS = 30


class Vault:
    """One key of the transit engine, and one token that may decrypt with it."""

    def __init__(self):
        self.texts: dict[str, bytes] = {}
        self.token, self.problem, self.answer, self.asked = TOKEN, 0, None, 0
        vault = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                vault.asked += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code, answer = vault.judge(self.path, self.headers, body)
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                with contextlib.suppress(OSError):  # the client may not want all of it
                    self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}{KEY_PATH}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def encrypt(self, plain: bytes) -> str:
        text = f"vault:v1:{base64.b64encode(os.urandom(60)).decode()}"
        self.texts[text] = plain
        return text

    def judge(self, path: str, headers, body: bytes) -> tuple[int, bytes]:
        if self.problem:
            return self.problem, b'{"errors":["Vault is sealed"]}'
        if headers.get("X-Vault-Token") != self.token:
            return 403, b'{"errors":["permission denied"]}'
        request = json.loads(body)
        if path != KEY_PATH or list(request) != ["ciphertext"] or request["ciphertext"] not in self.texts:
            return 400, b'{"errors":["invalid ciphertext"]}'
        plain = base64.b64encode(self.texts[request["ciphertext"]]).decode()
        return 200, self.answer or json.dumps({"request_id": "1", "data": {"plaintext": plain}}).encode()


@pytest.fixture
def vault():
    made = Vault()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def wrapped(make_broker, vault):
    """A broker with a volume, stopped, whose master key only Vault has."""
    broker = make_broker().start()
    create(broker.stub(), "v")
    broker.stop()
    master = broker.dir / "master.key"
    files = {"wrapped_key": vault.encrypt(bytes.fromhex(master.read_text().strip())), "vault_token": f"{TOKEN}\n"}
    broker.options = {"master_key": f"vault:{vault.url}"}
    for name, text in files.items():
        path = broker.dir / name
        path.write_text(text)
        path.chmod(0o600)
        broker.options[name] = path
    broker.text = master.read_text()
    master.unlink()
    return broker


def wait_until_open(broker) -> None:
    end = time.monotonic() + SECONDS
    while status(broker.stub()).state != OPEN:
        assert time.monotonic() < end, broker.log.read_text()
        time.sleep(0.2)
    get(broker.stub(), "v")


def test_vault_unwraps_the_key(wrapped):
    wrapped.start(**wrapped.options)
    assert status(wrapped.stub()).state == OPEN
    get(wrapped.stub(), "v")
    log = wrapped.log.read_text()
    assert TOKEN not in log and wrapped.text.strip() not in log


def test_hex_digits_may_be_wrapped_too(wrapped, vault):
    wrapped.options["wrapped_key"].write_text(vault.encrypt(wrapped.text.encode()))
    wrapped.start(**wrapped.options)
    assert status(wrapped.stub()).state == OPEN


@pytest.mark.parametrize("problem, why", [(503, "it may be sealed itself"), (429, "is not ready"), (500, "is not ready")])
def test_broker_waits_while_vault_is_not_ready(wrapped, vault, problem, why):
    vault.problem = problem
    wrapped.start(**wrapped.options)
    answer = status(wrapped.stub())
    assert answer.state == SEALED and why in answer.sealed_why
    vault.problem = 0
    wait_until_open(wrapped)


def test_expired_token_is_named_and_a_new_one_is_read(wrapped, vault):
    vault.token = "hvs.new"
    wrapped.start(**wrapped.options)
    assert "Vault refuses the token (status 403)" in status(wrapped.stub()).sealed_why
    wrapped.options["vault_token"].write_text("hvs.new")
    wait_until_open(wrapped)


def test_vault_is_not_asked_all_the_time(wrapped, vault):
    vault.problem = 503
    wrapped.start(**wrapped.options)
    time.sleep(5)
    assert 2 <= vault.asked <= 4  # after 1, 2, 4 seconds


def test_vault_that_is_away_keeps_the_broker_sealed(wrapped, vault):
    vault.server.shutdown()
    vault.server.server_close()
    wrapped.start(**wrapped.options)
    answer = status(wrapped.stub())
    assert answer.state == SEALED and "127.0.0.1" in answer.sealed_why


@pytest.mark.parametrize("answer", [
    b"", b"{}", b"[]", b"not json", b'{"data":{"plaintext":5}}', b'{"data":{"plaintext":"!!"}}', b'{"data":{"plaintext":"QUJD"}}',
    b'{"data":{"plaintext":"QUJD","plaintext":"QUJD"}}', b'{"data":{"plaintext":""}}', b"[" * 50000, b"x" * 200000,
    json.dumps({"data": {"plaintext": base64.b64encode(bytes(33)).decode()}}).encode(),
    json.dumps({"data": {"plaintext": base64.b64encode(b"z" * 64).decode()}}).encode(),
], ids=lambda answer: f"{len(answer)}-{answer[:24].decode()}")  # fmt: skip
def test_answer_that_is_no_key_is_refused(wrapped, vault, answer):
    vault.answer = answer or b" "
    error = wrapped.start_in_vain(**wrapped.options)
    assert "Vault's answer is not a master key" in error or "the answer is larger than" in error


def test_key_of_another_store_is_refused(wrapped, vault):
    wrapped.options["wrapped_key"].write_text(vault.encrypt(bytes(32)))
    assert "made with another master key" in wrapped.start_in_vain(**wrapped.options)


def test_what_vault_does_not_know_is_refused(wrapped, vault):
    wrapped.options["wrapped_key"].write_text("vault:v1:AAAA")
    assert "status 400" in wrapped.start_in_vain(**wrapped.options)


@pytest.mark.parametrize("name, text, why", [
    ("wrapped_key", "0" * 64, "is not what Vault's transit engine makes"),
    ("wrapped_key", 'vault:v1:"}', "something else than one word"),
    ("vault_token", "two words", "something else than one word"),
    ("vault_token", "a\nX-Other: b", "something else than one word"),
])  # fmt: skip
def test_files_that_are_not_good_are_refused(wrapped, name, text, why):
    wrapped.options[name].write_text(text)
    assert why in wrapped.start_in_vain(**wrapped.options)


@pytest.mark.parametrize("changed, why", [
    ({"vault_token": None}, "--vault-token"), ({"wrapped_key": None}, "--wrapped-key"),
    ({"master_key": "vault:http://vault.example:8200/v1/transit/decrypt/k"}, "use https://"),
    ({"master_key": "vault:https://u:p@vault.example/"}, "must have no user"),
    ({"master_key": "vault:"}, "file:PATH, fd:N, credential:NAME, vault:URL, kbs:URL, peer:HOST:PORT, unseal:"),
])  # fmt: skip
def test_wrong_options_are_refused(wrapped, changed, why):
    assert why in wrapped.start_in_vain(**(wrapped.options | changed))


def test_file_that_others_can_read_is_refused(wrapped):
    wrapped.options["vault_token"].chmod(0o644)
    assert "chmod" in wrapped.start_in_vain(**wrapped.options)
