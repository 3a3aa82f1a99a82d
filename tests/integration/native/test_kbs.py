# SPDX-License-Identifier: Apache-2.0
"""The master key comes from Trustee's KBS: an imitation of it, the lies of a hostile one, and a simulated TD."""

import base64
import contextlib
import json
import os
import subprocess
import time

import grpc
import pytest
import sims
import tds
import test_attest
import trustee as kbs
from brokers import create, free_port, get, keybroker, page, status
from cryptography.hazmat.primitives.asymmetric import ec
from test_quote import VECTORS

pytestmark = sims.needs_sim
SEALED, OPEN = keybroker.BROKER_STATE_SEALED, keybroker.BROKER_STATE_OPEN
PATH = "default/tdvol/master-key"
SECONDS = 30
VECTOR = VECTORS / "kbs/kbs_0.4.0_p256.json"
EVENTS = [{"register": "rtmr2", "type": 6, "text": "kernel"}]


@pytest.fixture
def make_td(tmp_path, pki):
    with contextlib.ExitStack() as ends:

        def make(td: dict | None = None, name: str = "td") -> sims.Guest:
            one = sims.Guest(tmp_path / name, pki, td or {})
            ends.callback(one.stop)
            return one

        yield make


@pytest.fixture
def td(make_td):
    return make_td({"events": EVENTS})


@pytest.fixture
def trustee(tmp_path, pki, facts):
    made = kbs.Trustee(tmp_path, pki / "root.der", facts)
    yield made
    made.stop()


def keep_at(broker, trustee, td) -> None:
    """From now on only the KBS has the broker's key."""
    master = broker.dir / "master.key"
    broker.text = master.read_text().strip()
    trustee.resources[PATH] = bytes.fromhex(broker.text)
    master.unlink()
    broker.options = {"master_key": f"kbs:{trustee.url}/{PATH}", "tsm_root": td.root, "event_log": td.log}


@pytest.fixture
def kept(make_broker, trustee, td):
    """A broker with a volume, stopped, whose master key only the KBS has."""
    broker = make_broker().start()
    create(broker.stub(), "v")
    broker.stop()
    keep_at(broker, trustee, td)
    return broker


def wait_until_open(broker) -> None:
    end = time.monotonic() + SECONDS
    while status(broker.stub()).state != OPEN:
        assert time.monotonic() < end, broker.log.read_text()
        time.sleep(0.2)
    get(broker.stub(), "v")


def sealed_why(broker) -> str:
    answer = status(broker.stub())
    assert answer.state == SEALED
    return answer.sealed_why


# --- the imitation is one ---


@pytest.mark.skipif(not VECTOR.exists(), reason=f"there is no {VECTOR}")
def test_imitation_agrees_with_the_vector_of_the_protocol():
    vector = json.loads(VECTOR.read_text())
    jwk = vector["tee_jwk"]
    data = kbs.report_data(vector["challenge"]["nonce"], jwk)
    assert data.hex() == vector["report_data_64"]
    own = ec.derive_private_key(int(vector["tee_private_key_hex"], 16), ec.SECP256R1())
    assert kbs.unseal(own, vector["jwe_response"]) == vector["plaintext"].encode()
    assert kbs.unseal(own, kbs.seal(jwk, b"x")) == b"x"
    epk = ec.derive_private_key(int(vector["epk_private_hex"], 16), ec.SECP256R1())
    assert kbs.seal(jwk, b"x", epk=epk)["protected"] == vector["jwe_response"]["protected"]
    assert kbs.wrapping_key(bytes.fromhex(vector["ecdh_Z"])).hex() == vector["concat_kdf_kek"]


def test_imitation_refuses_what_the_real_one_refuses(kept, trustee):
    kept.start(**kept.options)
    seen = trustee.asked[1][1]
    other = {"alg": kbs.ALG} | kbs.jwk_of(ec.generate_private_key(ec.SECP256R1()))

    def attest(nonce=None, jwk=None, **evidence) -> str:
        cookie = trustee.auth("", {}, {"version": "0.4.0", "tee": "tdx"})[2][0][1].partition(";")[0]
        session = trustee.session_of({"Cookie": cookie})
        runtime = seen["runtime-data"] | {"nonce": nonce or session.nonce} | ({"tee-pubkey": jwk} if jwk else {})
        request = {"runtime-data": runtime, "tee-evidence": seen["tee-evidence"] | evidence}
        with pytest.raises(kbs.Refused) as caught:
            trustee.attest("", {"Cookie": cookie}, request)
        assert session.jwk is None
        return caught.value.detail

    assert "REPORT_DATA" in attest()  # the evidence of another session
    assert "nonce mismatch" in attest(nonce=seen["runtime-data"]["nonce"])
    assert "REPORT_DATA" in attest(jwk=other)
    assert "REPORT_DATA" in attest(additional_evidence="{}")
    sample = {"svn": "1", "report_data": ""}
    assert "Deserialize" in attest(primary_evidence=sample)
    quote = bytearray(trustee.quotes[0])
    quote[48 + 136] ^= 1
    changed = {"quote": base64.b64encode(quote).decode(), "cc_eventlog": None}
    assert "Verifier evaluate failed" in attest(primary_evidence=changed)
    with pytest.raises(kbs.Refused):
        trustee.resource(f"/kbs/v0/resource/{PATH}", {"Cookie": "kbs-session-id=none"}, None)
    with pytest.raises(kbs.Refused):
        trustee.auth("", {}, {"version": "0.3.0", "tee": "tdx"})


# --- the right way ---


def test_kbs_gives_the_key_to_the_td(kept, trustee, td):
    kept.start(**kept.options)
    assert status(kept.stub()).state == OPEN
    get(kept.stub(), "v")
    assert [path for path, _ in trustee.asked] == ["/kbs/v0/auth", "/kbs/v0/attest", f"/kbs/v0/resource/{PATH}"]
    auth, attest = trustee.asked[0][1], trustee.asked[1][1]
    assert (auth["version"], auth["tee"]) == ("0.4.0", "tdx")
    log = attest["tee-evidence"]["primary_evidence"]["cc_eventlog"]
    assert base64.b64decode(log) == td.log.read_bytes()
    assert td.folders() == []
    assert kept.text not in kept.log.read_text()


def test_td_without_an_event_log_sends_none(make_broker, trustee, make_td):
    broker = make_broker()
    keep_at(broker, trustee, make_td())
    broker.start(**broker.options)
    assert status(broker.stub()).state == OPEN
    assert trustee.asked[1][1]["tee-evidence"]["primary_evidence"]["cc_eventlog"] is None


def test_log_that_does_not_fit_the_quote_is_not_sent(make_broker, trustee, make_td):
    broker = make_broker()
    keep_at(broker, trustee, make_td({"events": EVENTS}))
    other = make_td({"events": [*EVENTS, *EVENTS]}, "other")
    broker.start(**broker.options | {"event_log": other.log})
    assert trustee.asked[1][1]["tee-evidence"]["primary_evidence"]["cc_eventlog"] is None
    assert "the event log is not sent" in broker.log.read_text()


def test_resource_may_be_hex_digits(kept, trustee):
    trustee.resources[PATH] = kept.text.encode() + b"\n"
    kept.start(**kept.options)
    assert status(kept.stub()).state == OPEN


def test_each_exchange_has_a_key_of_its_own(kept, trustee):
    for _ in range(2):
        kept.start(**kept.options)
        kept.stop()
    one, two = (request["runtime-data"]["tee-pubkey"] for path, request in trustee.asked if path.endswith("attest"))
    assert one != two


# --- waiting ---


WAITS = [
    ({"images": set()}, "it does not accept this TD's evidence (AttestationError: the executables"),
    ({"resources": {}}, "it has no such resource, or cannot read it (PluginInternalError"),
    ({"answers": {"auth": (503, b"busy", [])}}, "it is not ready (status 503)"),
    ({"answers": {"resource": (500, b"", [])}}, "it is not ready (status 500)"),
    ({"answers": {"attest": (401, b"<html>login</html>", [])}}, "says nothing of a KBS"),
    ({"allowed": False}, "its resource policy does not give the key to this TD (PolicyDeny: Access denied"),
]  # fmt: skip


def test_broker_waits_for_what_can_be_mended(kept, trustee):
    for change, why in WAITS:
        before = {name: getattr(trustee, name) for name in change}
        vars(trustee).update(change)
        kept.start(**kept.options)
        assert why in sealed_why(kept)
        vars(trustee).update(before)
        if why != WAITS[-1][1]:
            kept.stop()
    wait_until_open(kept)


def test_kbs_that_is_away_keeps_the_broker_sealed(kept, trustee):
    trustee.stop()
    kept.start(**kept.options)
    assert "127.0.0.1" in sealed_why(kept)


def test_kbs_that_never_answers_is_left(kept, trustee):
    trustee.delay_seconds = 60
    start = time.monotonic()
    kept.start(**kept.options)
    assert time.monotonic() - start < 15
    assert "timed out" in sealed_why(kept).lower()


def test_probes_are_answered_while_the_broker_waits_for_a_silent_kbs(kept, trustee):
    trustee.delay_seconds = 3
    port = free_port()
    with kept.log.open("ab") as output:
        kept.process = subprocess.Popen(kept.command(http=f"127.0.0.1:{port}", **kept.options), stderr=output)
    while not trustee.asked:
        assert kept.process.poll() is None, kept.log.read_text()
        time.sleep(0.01)
    start = time.monotonic()
    assert "the broker is sealed: it starts" in page(f"127.0.0.1:{port}", "/readyz")
    assert page(f"127.0.0.1:{port}", "/healthz") == "ok\n"
    assert "\ntdvol_keybroker_sealed 1\n" in page(f"127.0.0.1:{port}", "/metrics")
    assert time.monotonic() - start < 1 and not kept.is_listening()
    while page(f"127.0.0.1:{port}", "/readyz") != "ok\n":
        assert time.monotonic() - start < SECONDS, kept.log.read_text()
        time.sleep(0.01)
    assert kept.is_listening()
    get(kept.stub(), "v")


def test_kbs_is_not_asked_all_the_time(kept, trustee):
    trustee.allowed = False
    kept.start(**kept.options)
    time.sleep(2.5)
    assert 2 <= len(trustee.quotes) <= 3  # after 1 and 3 seconds


def test_other_measurement_gets_nothing(make_broker, trustee, make_td):
    broker = make_broker()
    keep_at(broker, trustee, make_td({"mrtd": "4d02" + 46 * "00"}))
    broker.start(**broker.options)
    assert "it does not accept this TD's evidence" in sealed_why(broker)


def test_debug_td_asks_for_nothing(make_broker, trustee, make_td):
    broker = make_broker()
    keep_at(broker, trustee, make_td({"td_attributes": "0x10000001"}))
    assert "this is a debug TD" in broker.start_in_vain(**broker.options)
    assert [path for path, _ in trustee.asked] == ["/kbs/v0/auth"]


def test_machine_that_is_no_td_says_so(kept, tmp_path):
    assert "configfs-tsm" in kept.start_in_vain(**kept.options | {"tsm_root": tmp_path / "none"})


# --- sessions ---


def test_lost_session_is_begun_again_once(kept, trustee):
    lost = []

    def lose_one(jwk, plain):
        if lost:
            return kbs.seal(jwk, plain)
        lost.append(jwk)
        trustee.sessions.clear()
        raise kbs.Refused("TokenNotFound", "Attestation Token not found")

    trustee.forge = lose_one
    kept.start(**kept.options)
    assert status(kept.stub()).state == OPEN
    assert len(trustee.quotes) == 2
    assert lost[0] != trustee.asked[-2][1]["runtime-data"]["tee-pubkey"]


def test_session_that_is_lost_each_time_is_named(kept, trustee):
    trustee.answers["resource"] = 401, json.dumps({"type": kbs.ERRORS + "TokenNotFound", "detail": "gone"}).encode()
    kept.start(**kept.options)
    assert "it does not know the session any more (TokenNotFound: gone)" in sealed_why(kept)
    assert len(trustee.quotes) == 2


def test_version_mismatch_is_named(kept, trustee):
    trustee.version = "0.5.0"
    error = kept.start_in_vain(**kept.options)
    assert "another version of the protocol than 0.4.0" in error and "expect =0.5.0" in error


# --- a hostile server ---


def challenge(**changed) -> bytes:
    return json.dumps({"nonce": base64.b64encode(bytes(32)).decode(), "extra-params": ""} | changed).encode()


COOKIE = [("Set-Cookie", "kbs-session-id=0123")]


NO_ANSWERS = [
    ("auth", (200, b"", COOKIE), "its challenge cannot be read"),
    ("auth", (200, b"<html>", COOKIE), "its challenge cannot be read"),
    ("auth", (200, b"[" * 5000, COOKIE), "its challenge cannot be read"),
    ("auth", (200, b"x" * 200000, COOKIE), "the answer is larger than 65536 bytes"),
    ("auth", (200, challenge(nonce=None), COOKIE), "its nonce is not 32 bytes"),
    ("auth", (200, challenge(nonce="!"), COOKIE), "its nonce is not 32 bytes"),
    ("auth", (200, challenge(nonce=base64.b64encode(bytes(16)).decode()), COOKIE), "its nonce is not 32 bytes"),
    ("auth", (200, challenge(nonce="A" * 60000), COOKIE), "its nonce is not 32 bytes"),
    ("auth", (200, challenge(**{"extra-params": {"selected-hash-algorithm": "md5"}}), COOKIE), "selects a hash"),
    ("auth", (200, challenge(), []), "without the one cookie"),
    ("auth", (200, challenge(), [*COOKIE, ("Set-Cookie", "kbs-session-id=4567")]), "without the one cookie"),
    ("auth", (200, challenge(), [("Set-Cookie", "kbs-session-id=a\r\n X-Other: b")]), "its session has no name"),
    ("auth", (200, challenge(), [("Set-Cookie", "kbs-session-id=a b")]), "its session has no name"),
    ("auth", (302, b"", [("Location", "http://127.0.0.1:1/kbs/v0/auth")]), "it redirects (status 302)"),
    ("auth", (404, b"<html>", []), "it answers with status 404: is this a KBS"),
    ("attest", (200, b"{}", []), "its answer to the evidence has no token"),
    ("attest", (307, b"", [("Location", "http://127.0.0.1:1/")]), "it redirects (status 307)"),
    ("resource", (200, b"", []), "it has not exactly the members"),
    ("resource", (200, b"plain text of the key, 32 bytes!", []), "it has not exactly the members"),
    ("resource", (200, b"x" * 200000, []), "the answer is larger than 65536 bytes"),
    ("resource", (301, b"", [("Location", "http://127.0.0.1:1/")]), "it redirects (status 301)"),
]  # fmt: skip


def test_answers_that_are_none_are_refused(kept, trustee):
    for step, answer, why in NO_ANSWERS:
        trustee.answers = {step: answer}
        assert why in kept.start_in_vain(**kept.options), (step, answer)


def changed_text(jwe: dict, name: str, change) -> dict:
    return jwe | {name: kbs.text64(change(kbs.bytes64(jwe[name])))}


def flip(raw: bytes) -> bytes:
    return bytes([raw[0] ^ 1]) + raw[1:]


def reordered(jwe: dict) -> dict:
    return changed_text(jwe, "protected", lambda raw: json.dumps(json.loads(raw), sort_keys=True).encode())


FORGERIES = [
    (lambda jwk, plain: kbs.seal(jwk, plain, {"alg": "dir"}), "alg and enc"),
    (lambda jwk, plain: kbs.seal(jwk, plain, {"alg": "ECDH-ES+A128KW"}), "alg and enc"),
    (lambda jwk, plain: kbs.seal(jwk, plain, {"enc": "A128GCM"}), "alg and enc"),
    (lambda jwk, plain: kbs.seal(jwk, plain, {"zip": "DEF"}), "other members"),
    (lambda jwk, plain: kbs.seal(jwk, plain, {"crit": ["exp"]}), "other members"),
    (lambda jwk, plain: kbs.seal(jwk, plain, {"epk": {"crv": "P-256", "kty": "EC", "x": jwk["x"], "y": jwk["x"]}}), "not on the curve"),
    (lambda jwk, plain: kbs.seal(jwk, plain, {"epk": {"crv": "P-521", "kty": "EC", "x": jwk["x"], "y": jwk["y"]}}), "no key on the curve"),
    (lambda jwk, plain: kbs.seal(jwk, plain) | {"aad": ""}, "exactly the members"),
    (lambda jwk, plain: changed_text(kbs.seal(jwk, plain), "tag", flip), "it was changed"),
    (lambda jwk, plain: changed_text(kbs.seal(jwk, plain), "tag", lambda raw: raw[:12]), "tag is not 16"),
    (lambda jwk, plain: changed_text(kbs.seal(jwk, plain), "ciphertext", flip), "it was changed"),
    (lambda jwk, plain: changed_text(kbs.seal(jwk, plain), "encrypted_key", flip), "it was changed"),
    (lambda jwk, plain: changed_text(kbs.seal(jwk, plain), "iv", lambda raw: raw + b"0000"), "iv is not 12"),
    (lambda jwk, plain: reordered(kbs.seal(jwk, plain)), "it was changed"),
    (lambda jwk, plain: kbs.seal({"alg": kbs.ALG} | kbs.jwk_of(ec.generate_private_key(ec.SECP256R1())), plain), "it was changed"),
    (lambda jwk, plain: kbs.seal(jwk, plain[:31]), "the resource is no master key"),
    (lambda jwk, plain: kbs.seal(jwk, plain + b"0"), "the resource is no master key"),
    (lambda jwk, plain: kbs.seal(jwk, bytes(32)), "the resource is no master key"),
    (lambda jwk, plain: kbs.seal(jwk, os.urandom(32)), "made with another master key"),
]  # fmt: skip


def test_resources_that_are_not_good_are_refused(kept, trustee):
    for number, (forge, why) in enumerate(FORGERIES):
        trustee.forge = forge
        assert why in kept.start_in_vain(**kept.options), (number, why)
    trustee.forge = kbs.seal
    kept.start(**kept.options)
    get(kept.stub(), "v")


def test_nonce_and_answer_of_an_earlier_exchange_open_nothing(kept, trustee):
    """Who recorded an exchange plays all of it again."""
    made = []
    trustee.forge = lambda jwk, plain: made.append(kbs.seal(jwk, plain)) or made[-1]
    kept.start(**kept.options)
    kept.stop()
    (old,) = trustee.sessions.values()
    trustee.answers["auth"] = 200, challenge(nonce=old.nonce), [("Set-Cookie", f"kbs-session-id={old.id}")]
    trustee.answers["resource"] = 200, json.dumps(made[0]).encode()
    assert "it was changed, or encrypted to another key" in kept.start_in_vain(**kept.options)


def test_evidence_for_the_kbs_is_no_evidence_for_a_broker(kept, trustee, start, pki):
    kept.start(**kept.options)
    client = tds.Td(start("other"), pki)
    with test_attest.refused(grpc.StatusCode.PERMISSION_DENIED, "ReportData"):
        client.attest(quote=trustee.quotes[0])


def test_late_wrong_key_does_not_become_a_storm(kept, trustee):
    trustee.allowed = False
    kept.start(**kept.options)
    trustee.resources[PATH] = os.urandom(32)
    trustee.allowed = True
    end = time.monotonic() + SECONDS
    while "made with another master key" not in sealed_why(kept):
        assert time.monotonic() < end
        time.sleep(0.2)
    asked = len(trustee.quotes)
    time.sleep(2)
    assert len(trustee.quotes) <= asked + 1
    trustee.resources[PATH] = bytes.fromhex(kept.text)
    wait_until_open(kept)


# --- TLS ---


@pytest.fixture
def tls(tmp_path, pki, facts, make_broker):
    """A KBS behind TLS, with the certificate of a broker that is not used otherwise."""
    owner = make_broker("tls")
    made = kbs.Trustee(tmp_path, pki / "root.der", facts, (owner.dir / "broker.crt", owner.dir / "broker.key"))
    made.ca = owner.dir / "ca.crt"
    yield made
    made.stop()


def test_kbs_behind_tls_gives_the_key(make_broker, tls, td):
    broker = make_broker()
    keep_at(broker, tls, td)
    broker.start(**broker.options, kbs_ca=tls.ca)
    assert status(broker.stub()).state == OPEN


def test_server_with_another_certificate_is_asked_nothing(make_broker, tls, td):
    broker = make_broker()
    keep_at(broker, tls, td)
    for ca in (broker.dir / "ca.crt", None):
        broker.start(**broker.options, kbs_ca=ca)
        assert "certificate" in sealed_why(broker)
        broker.stop()
    away = f"kbs:{tls.url.replace('127.0.0.1', '127.0.0.2')}/{PATH}"
    broker.start(**broker.options | {"master_key": away}, kbs_ca=tls.ca)
    assert "127.0.0.2" in sealed_why(broker) and "subject name" in sealed_why(broker)
    assert tls.asked == []


@pytest.mark.parametrize("where, why", [
    ("http://kbs.example/a/b/c", "use https://"),
    ("https://kbs.example/a/b", "https://HOST/REPOSITORY/TYPE/TAG"),
    ("https://kbs.example/a/b/c/d", "https://HOST/REPOSITORY/TYPE/TAG"),
    ("https://kbs.example/../b/c", "https://HOST/REPOSITORY/TYPE/TAG"),
    ("https://u:p@kbs.example/a/b/c", "must have no user"),
    ("", "kbs:URL"),
])  # fmt: skip
def test_wrong_addresses_are_refused(make_broker, where, why):
    assert why in make_broker().start_in_vain(master_key=f"kbs:{where}")
