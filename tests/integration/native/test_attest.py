# SPDX-License-Identifier: Apache-2.0
"""Attacks on the handshake, and the rights of an attested session, over real TLS and with signed quotes."""

import concurrent.futures
import contextlib
import hashlib
import os
import signal
import ssl
import subprocess
import threading
import time

import brokers
import grpc
import http2
import pytest
import sims
import tds
from brokers import CALL_SECONDS, DRIVER, Node, create, keybroker
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytestmark = sims.needs_sim
DENIED, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


@contextlib.contextmanager
def refused(code: grpc.StatusCode, reason: str = "", part: str = ""):
    """The call must fail with this code, this reason in the trailing metadata, and this text in its message."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = caught.value
    said = dict(error.trailing_metadata() or ()).get("tdvol-reason", "")
    assert (error.code(), said) == (code, reason), error.details()
    assert part in error.details()


def status(stub) -> keybroker.GetStatusResponse:
    return stub.GetStatus(keybroker.GetStatusRequest(), timeout=CALL_SECONDS)


def restart(broker, td) -> None:
    broker.stop()
    broker.start(test_root=td.pki / "root.der", collateral_dir=td.pki.parent / "facts")
    td.stub = td.connect()


def last(broker) -> dict:
    return [line for line in broker.audit() if line.get("method") == "Attest"][-1]


@pytest.fixture
def broker(start):
    one = start()
    yield one
    one.stop()
    one.audit()


@pytest.fixture
def td(broker, pki):
    return tds.Td(broker, pki)


# --- the right way ---


def test_a_td_with_its_clusters_token_opens_its_volumes(broker, td, cluster):
    answer = td.attest(owner_token=cluster.token("n1", 300))
    assert (answer.tenant, answer.rule) == ("default", "nodes") and 290_000 < answer.remaining_ms <= 300_000
    create(td.stub, "v")
    opened = td.node.open(td.stub, "v")
    assert len(td.node.secret(opened)) == 32
    record = td.node.ready(td.stub, opened.record)
    again = td.connect()  # the session belongs to the key, not to the connection
    td.node.change(again, record, keybroker.CHANGE_CLOSED)
    line = last(broker)
    assert (line["decision"], line["image"], line["rule"], line["tenant"]) == ("allow", "image-1", "nodes", "default")
    assert (line["token_node"], line["token_subject"]) == ("n1", tds.SUBJECT)
    assert (line["tcb_status"], line["tcb_evaluation"], line["qe_evaluation"]) == ("UpToDate", 18, 18)
    assert line["mrtd"] == tds.IMAGE["mrtd"][0] and line["peer"] == "127.0.0.1" and line["policy_revision"] == "r1"
    assert line["client_key"] == tds.spki_sha256(td.key).hex() and len(line["collateral_sha256"]) == 64
    opens = [line for line in broker.audit() if line.get("method") == "OpenVolume"]
    assert opens[-1]["quote_sha256"] == line["quote_sha256"]
    assert opens[-1]["mrtd"] == line["mrtd"] and opens[-1]["image"] == line["image"]


def test_a_td_with_its_owners_certificate_has_its_tenant(broker, td, owner):
    answer = td.attest(owner_certificate=owner.certify(td.key))
    assert (answer.tenant, last(broker)["owner"]) == ("other", "td-1")


def test_the_simulator_is_loud_about_what_it_trusts(broker):
    text = subprocess.run([brokers.program("tdvol-broker"), "--version"], capture_output=True, text=True).stdout
    assert "SIMULATOR BUILD" in text and "TEST BUILD" in broker.log.read_text()
    assert "TEST ROOT" in next(line for line in broker.audit() if line["event"] == "start")["root"]


# --- without evidence ---


def test_without_evidence_a_key_of_its_own_gets_nothing(broker, td):
    for call in (status, lambda stub: create(stub, "v"), lambda stub: td.node.open(stub, "v"),
                 lambda stub: stub.ListRecords(keybroker.ListRecordsRequest(driver=DRIVER), timeout=5)):  # fmt: skip
        with refused(UNAUTHENTICATED, "NotAttested", "attest first"):
            call(td.stub)
    assert broker.audit()[-1]["word"] == "NotAttested"


def test_a_certificate_of_the_client_ca_is_no_evidence(broker):
    with refused(UNAUTHENTICATED, "NotAttested"):
        Node().open(broker.stub("node"), "v")
    assert status(broker.stub("admin")).state == keybroker.BROKER_STATE_OPEN


def test_without_collateral_nobody_attests_and_the_options_are_named(start, pki, cluster):
    broker = start(collateral_dir=None)
    td = tds.Td(broker, pki)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, part="--collateral-dir"):
        td.attest(owner_token=cluster.token())
    assert status(broker.stub("admin")).state == keybroker.BROKER_STATE_OPEN


def test_without_the_test_root_the_simulator_is_not_trusted(start, pki, cluster):
    broker = start(test_root=None)
    with pytest.raises(grpc.RpcError):
        tds.Td(broker, pki).attest(owner_token=cluster.token())
    assert last(broker)["decision"] == "deny"


@pytest.mark.parametrize("options, part", [
    ({"pccs_ca": "/x"}, "without --pccs"), ({"pccs": "http://example.com"}, "https://"),
    ({"collateral_dir": "/nonexistent"}, "/nonexistent"), ({"test_root": "/nonexistent"}, "--test-root"),
])  # fmt: skip
def test_sources_that_cannot_be_used_are_told_at_start(make_broker, options, part):
    assert part in make_broker().start_in_vain(**options)


# --- nonces ---


def test_a_nonce_that_was_never_given_out_is_refused(td):
    for nonce in (bytes(32), os.urandom(32), hashlib.sha256(b"x").digest()):
        with refused(UNAUTHENTICATED, "NonceUnknown"):
            td.send(td.request(nonce=nonce))


def test_a_message_is_good_once(td, cluster):
    request = td.request(owner_token=cluster.token())
    td.send(request)
    with refused(UNAUTHENTICATED, "NonceUsed"):
        td.send(request)
    assert status(td.stub)  # the session still works


def test_a_failed_try_uses_its_nonce_up(td, cluster):
    request = td.request(owner_token=cluster.token())
    good = request.quote
    request.quote = good[:700] + bytes([good[700] ^ 1]) + good[701:]
    with pytest.raises(grpc.RpcError):
        td.send(request)
    request.quote = good
    with refused(UNAUTHENTICATED, "NonceUsed"):
        td.send(request)


def test_of_parallel_tries_with_one_nonce_one_wins(start, pki, cluster):
    td = tds.Td(start(workers=16, attest_rate=1000), pki)
    for _ in range(20):
        request = td.request(owner_token=cluster.token())

        def attempt(_):
            try:
                return bool(td.send(request).tenant)  # noqa: B023
            except grpc.RpcError as error:
                assert dict(error.trailing_metadata()).get("tdvol-reason") == "NonceUsed" \
                    or error.code() == grpc.StatusCode.UNAVAILABLE, error  # fmt: skip
                return False

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(attempt, range(8))) == 1


def test_a_nonce_dies_with_the_process(broker, td, cluster):
    request = td.request(owner_token=cluster.token())
    restart(broker, td)
    with refused(UNAUTHENTICATED, "NonceUnknown"):
        td.send(request)


# --- keys ---


def test_a_relayed_quote_gives_the_relay_nothing(broker, td, cluster):
    relay = tds.Td(broker, td.pki)
    with refused(UNAUTHENTICATED, "NonceUnknown"):  # a relay that ends TLS itself and passes the TD's message on
        relay.send(td.request(owner_token=cluster.token()), relay.stub)
    fresh = relay.challenge()  # a relay that lets the TD make a quote over the relay's nonce
    quote = td.quote(td.report_data(fresh.nonce, fresh.broker_key_sha256))
    with refused(DENIED, "ReportData"):
        relay.send(td.request(nonce=fresh.nonce, quote=quote, owner_token=cluster.token()), relay.stub)
    with refused(UNAUTHENTICATED, "NotAttested"):
        status(relay.stub)


def test_another_sealing_key_is_refused_at_both_places(td, cluster):
    with refused(DENIED, "ReportData"):
        td.attest(owner_token=cluster.token(), sealing_public_key=Node().public_key)
    td.attest(owner_token=cluster.token())
    create(td.stub, "v")
    with refused(DENIED, "SealingKey"):
        Node("n1").open(td.stub, "v")
    assert td.node.secret(td.node.open(td.stub, "v"))


def test_evidence_for_one_broker_is_worthless_at_another(start, pki, cluster):
    td, other = tds.Td(start("one"), pki), tds.Td(start("two"), pki)
    other.key, other.node = td.key, td.node  # the same TD, lured to another broker
    other.stub = other.connect()
    lured, fresh = other.challenge(), td.challenge()
    assert lured.broker_key_sha256 != fresh.broker_key_sha256
    quote = td.quote(td.report_data(fresh.nonce, lured.broker_key_sha256))
    with refused(DENIED, "ReportData"):
        td.send(td.request(nonce=fresh.nonce, quote=quote, owner_token=cluster.token()))
    with refused(UNAUTHENTICATED, "NonceUnknown"):
        td.send(td.request(nonce=lured.nonce, quote=quote, owner_token=cluster.token()))


def test_a_key_of_another_start_has_no_part_in_the_session(td, cluster):
    td.attest(owner_token=cluster.token())
    with refused(UNAUTHENTICATED, "NotAttested"):
        status(td.connect(ec.generate_private_key(ec.SECP256R1())))


def test_a_quote_in_the_style_of_other_protocols_is_refused(td, cluster):
    fresh = td.challenge()
    digest = hashlib.sha384(td.report_data(fresh.nonce, fresh.broker_key_sha256)).digest()
    for data in (digest.ljust(64, b"\0"), fresh.nonce.ljust(64, b"\0"), bytes(64)):
        with refused(DENIED, "ReportData"):
            td.attest(quote=td.quote(data), owner_token=cluster.token())


def test_each_part_of_the_report_data_counts(td, cluster):
    for at in (0, 31, 63):
        fresh = td.challenge()
        data = bytearray(td.report_data(fresh.nonce, fresh.broker_key_sha256))
        data[at] ^= 1
        with refused(DENIED, "ReportData"):
            td.send(td.request(nonce=fresh.nonce, quote=td.quote(bytes(data)), owner_token=cluster.token()))


# --- TLS ---


def client_context(broker, td) -> ssl.SSLContext:
    private = td.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = broker.dir.parent / "td.pem"
    path.write_bytes(private + tds.pem(tds.certificate(td.key, "node")))
    context = ssl.create_default_context(cafile=str(broker.dir / "ca.crt"))
    context.load_cert_chain(path)
    context.set_alpn_protocols(["h2"])
    return context


def ask_raw(broker, context, session=None):
    """GetChallenge in HTTP/2 by hand, since no client library resumes; returns (session, was resumed)."""
    connection = http2.Connection(broker.port, context, session=session)
    connection.call("GetChallenge")
    while frame := connection.read():
        if frame[0] == http2.HEADERS and frame[1] & http2.END_STREAM:
            break
    assert frame, "no answer"
    session, reused = connection.socket.session, connection.socket.session_reused
    connection.close()
    return session, reused


def test_a_tls_session_is_not_resumed(broker, td):
    context = client_context(broker, td)
    session, reused = ask_raw(broker, context)
    assert not reused and not (session and session.has_ticket)
    assert not ask_raw(broker, context, session)[1]


def test_tls_1_2_is_not_spoken_to_tds_either(broker, td):
    context = client_context(broker, td)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask_raw(broker, context)


# --- what the quote says ---


def test_a_debug_td_is_refused(broker, pki, cluster):
    with refused(DENIED, "TdDebug"):
        tds.Td(broker, pki, td_attributes="0x10000001").attest(owner_token=cluster.token())


@pytest.mark.parametrize("members, reason", [
    ({"mrtd": "00" * 48}, "Measurement"),
    ({"rtmr1": "4d10" + 46 * "00"}, "Measurement"),
    ({"rtmr2": "00" * 48}, "Measurement"),
    ({"td_attributes": "0x20000000"}, "TdAttributes"),
])  # fmt: skip
def test_another_image_is_denied_with_a_word_and_no_more(broker, pki, cluster, members, reason):
    td = tds.Td(broker, pki, **members)
    with refused(DENIED, reason, "the broker's policy does not allow this"):
        td.attest(owner_token=cluster.token())
    assert last(broker)["word"] == reason and last(broker)["reason"].startswith("rule ")
    with refused(UNAUTHENTICATED, "NotAttested"):
        status(td.stub)


def test_an_outdated_platform_is_denied_unless_the_rule_excepts_it(start, pki, tmp_path, cluster):
    sims.sim("collateral", "--pki", pki, "--out", tmp_path / "old", "--status", "OutOfDate")
    exception = {"exceptions": [{"status": "OutOfDate", "advisories": [], "until": "2099-01-01T00:00:00Z"}]}
    excepted = tds.rule("nodes", "default", cluster.owner()) | {"td": {"images": ["image-1"], "tcb": exception}}
    strict = start("strict", collateral_dir=tmp_path / "old")
    with refused(DENIED, "TcbOutOfDate"):
        tds.Td(strict, pki).attest(owner_token=cluster.token())
    assert last(strict)["tcb_status"] == "OutOfDate"
    lenient = start("lenient", [excepted], collateral_dir=tmp_path / "old")
    assert tds.Td(lenient, pki).attest(owner_token=cluster.token()).rule == "nodes"


def test_a_quote_of_another_pki_is_refused(broker, td, tmp_path, cluster):
    sims.sim("pki", tmp_path / "evil")
    stranger = tds.Td(broker, tmp_path / "evil")
    with refused(DENIED, "PckRootUnknown"):
        stranger.attest(owner_token=cluster.token())


def test_an_event_log_must_replay(td, cluster):
    with refused(DENIED, "EventLogMalformed"):
        td.attest(owner_token=cluster.token(), event_log=b"\xff" * 300)


@pytest.mark.parametrize("wants, reason", [
    ({"platforms": ["00" * 16]}, "Platform"),
    ({"minimum_sgx_type": 2}, "Platform"),
    ({"tcb": {"minimum_evaluation": 19}}, "EvaluationTooLow"),
    ({"event_log": True}, "EventLogMissing"),
])  # fmt: skip
def test_what_a_rule_wants_of_platform_data_and_log_is_wanted(start, pki, cluster, wants, reason):
    rule = tds.rule("nodes", "default", cluster.owner(), td={"images": ["image-1"]} | wants)
    with refused(DENIED, reason):
        tds.Td(start(rules=[rule]), pki).attest(owner_token=cluster.token())


def test_a_td_with_a_service_td_is_denied(broker, pki, cluster):
    with refused(DENIED, "TdServiceTd"):
        tds.Td(broker, pki, version=5, body_type=3, mrservicetd="11" * 48).attest(owner_token=cluster.token())


# --- whose TD ---


def test_the_right_image_without_an_owner_is_denied(td):
    with refused(DENIED, "OwnerMissing"):
        td.attest()


@pytest.mark.parametrize("changed, reason", [
    ({"aud": ["vault"]}, "TokenAudience"),
    ({"iss": "https://evil.test"}, "TokenIssuer"),
    ({"sub": "system:serviceaccount:default:default"}, "TokenSubject"),
    ({"exp": int(time.time()) - 3600, "iat": 1000, "nbf": 1000}, "TokenExpired"),
])  # fmt: skip
def test_a_token_for_something_else_is_denied(start, pki, cluster, changed, reason):
    td = tds.Td(start(rules=[tds.rule("nodes", "default", cluster.owner())]), pki)
    with refused(DENIED, reason):
        td.attest(owner_token=cluster.token(**changed))


def test_a_token_of_another_cluster_is_refused(td):
    with refused(DENIED, "TokenSignature"):
        td.attest(owner_token=tds.Cluster().token())


def test_a_proof_that_does_not_hold_is_no_hindrance_where_the_rule_goes_by_another(start, pki, cluster, owner):
    """The DaemonSet always sends its cluster's token, also to a broker of many clusters."""
    measured = tds.rule("measured", "other", {"mrconfigid": [tds.IMAGE["mrtd"][0]]})
    td = tds.Td(start(rules=[tds.rule("nodes", "default", cluster.owner()), measured]), pki,
                mrconfigid=tds.IMAGE["mrtd"][0])  # fmt: skip
    assert td.attest(owner_token=tds.Cluster().token()).rule == "measured"


def test_a_token_that_is_none_is_refused(td):
    for text in (b"x", b"a.b.c", b"e30.e30."):
        with pytest.raises(grpc.RpcError) as caught:
            td.attest(owner_token=text)
        assert caught.value.code() == DENIED


def test_an_owners_certificate_is_for_one_key(td, owner):
    with refused(DENIED, "OwnerCertificate"):
        td.attest(owner_certificate=owner.certify(ec.generate_private_key(ec.SECP256R1())))
    with refused(DENIED, "OwnerCertificate"):
        td.attest(owner_certificate=tds.Authority().certify(td.key))
    with refused(DENIED, "OwnerCertificate"):
        td.attest(owner_certificate=owner.certify(td.key, days=-0.01))


def test_a_tenants_volumes_are_not_seen_by_another(broker, pki, cluster, owner):
    mine, theirs = tds.Td(broker, pki), tds.Td(broker, pki)
    mine.attest(owner_token=cluster.token())
    theirs.attest(owner_certificate=owner.certify(theirs.key))
    create(mine.stub, "v")
    for call in (theirs.node.open, lambda stub, name: stub.GetRecord(
            keybroker.GetRecordRequest(driver=DRIVER, volume_id=name), timeout=5)):  # fmt: skip
        with refused(grpc.StatusCode.NOT_FOUND):
            call(theirs.stub, "v")


def test_a_node_has_the_name_that_its_token_gives_it(td, cluster):
    td.attest(owner_token=cluster.token("n7"))
    create(td.stub, "v")
    with refused(DENIED):
        td.node.open(td.stub, "v")
    td.node.name = "n7"
    assert td.node.open(td.stub, "v").record.format.node == "n7"


# --- the life of a session ---


def test_a_session_ends_by_itself_and_attesting_again_is_enough(start, pki, cluster):
    td = tds.Td(start(session_lifetime_s=2), pki)
    answer = td.attest(owner_token=cluster.token())
    assert answer.remaining_ms <= 2000
    create(td.stub, "v")
    time.sleep(2.1)
    with refused(UNAUTHENTICATED, "NotAttested", "expired"):
        td.node.open(td.stub, "v")
    td.attest(owner_token=cluster.token())
    assert td.node.open(td.stub, "v")


def test_a_restarted_broker_knows_nobody(broker, td, cluster):
    td.attest(owner_token=cluster.token())
    restart(broker, td)
    with refused(UNAUTHENTICATED, "NotAttested"):
        status(td.stub)
    td.attest(owner_token=cluster.token())
    assert status(td.stub)


def test_a_policy_without_the_image_ends_sessions_at_once(broker, td, cluster):
    td.attest(owner_token=cluster.token())
    other = tds.IMAGE | {"mrtd": ["aa" * 48]}
    tds.write_policy(broker, tds.rule("nodes", "default", cluster.owner()), images={"image-1": other}, revision="r2")
    before = broker.log.read_text().count("policy changed")
    broker.process.send_signal(signal.SIGHUP)
    while broker.log.read_text().count("policy changed") == before:
        time.sleep(0.01)
    with refused(DENIED, "Measurement"):
        status(td.stub)
    assert broker.audit()[-1]["policy_revision"] == "r2"


def test_collateral_is_fetched_when_the_first_quote_needs_it(start, pki, make_pccs, cluster):
    pccs = make_pccs()
    broker = start(collateral_dir=None, pccs=pccs.url.geturl())
    td = tds.Td(broker, pki)
    with refused(grpc.StatusCode.UNAVAILABLE, "CollateralMissing"):
        td.attest(owner_token=cluster.token())
    end = time.monotonic() + 20
    while True:
        try:
            assert td.attest(owner_token=cluster.token()).tenant == "default"
            break
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED), error
            assert time.monotonic() < end
            time.sleep(0.5)


# --- floods ---


def test_requests_too_large_are_not_taken(broker, td, cluster):
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):
        td.attest(owner_token=cluster.token(), event_log=bytes(1400 * 1024))
    with refused(DENIED, "EventLogMalformed"):  # a log of the largest allowed size is parsed
        td.attest(owner_token=cluster.token(), event_log=b"\xff" * (1024 * 1024))
    td.attest(owner_token=cluster.token())
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED):  # other calls may not be so large
        create(td.stub, "v", name="x" * 100_000)


@pytest.mark.parametrize("field, value", [
    ("tee", ""), ("tee", "snp"), ("tee", "tdx\0"), ("nonce", b""), ("nonce", bytes(33)), ("sealing_public_key", b""),
    ("sealing_public_key", bytes(31)), ("owner_token", bytes(16385)), ("owner_certificate", bytes(32769)),
], ids=lambda value: value if isinstance(value, str) and value.isidentifier() else str(len(value)))  # fmt: skip
def test_requests_of_a_wrong_form_are_invalid(td, field, value):
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        td.attest(**{field: value})


def test_a_flood_of_bad_quotes_does_not_keep_a_known_client_waiting(broker, td, cluster):
    td.attest(owner_token=cluster.token())
    stop, codes = threading.Event(), []

    def flood() -> None:
        bad = tds.Td(broker, td.pki)
        request = keybroker.AttestRequest(nonce=os.urandom(32), tee="tdx", quote=os.urandom(5000),
                                          sealing_public_key=bytes(32))  # fmt: skip
        while not stop.is_set():
            try:
                bad.send(request)
            except grpc.RpcError as error:
                codes.append(error.code())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        floods = [pool.submit(flood) for _ in range(4)]
        try:
            times = []
            for number in range(100):
                before = time.monotonic()
                create(td.stub, f"v{number}", name=f"pvc-{number}")
                td.node.open(td.stub, f"v{number}")
                times.append(time.monotonic() - before)
        finally:
            stop.set()
        for one in floods:
            one.result()
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) > len(codes) / 2, set(codes)
    assert max(times) < 5, times
    denied = [line for line in broker.audit() if line.get("method") == "Attest" and line["decision"] == "deny"]
    assert len(denied) < len(codes) / 2
