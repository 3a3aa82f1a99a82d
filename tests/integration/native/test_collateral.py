# SPDX-License-Identifier: Apache-2.0
"""tdvolctl fetches collateral from a PCCS into a bundle; and the broker's pages for probes and metrics."""

import http.client
import json
import subprocess
import time

import pytest
import sims
from brokers import ctl, free_port

needs_sim = sims.needs_sim
FMSPC = "a0c06f000000"


def fetch(pccs, out, *arguments) -> subprocess.CompletedProcess:
    wanted = [] if {"--fmspc", "--quote"} & set(arguments) else ["--fmspc", FMSPC]
    return ctl("collateral", "fetch", "--pccs", pccs.url.geturl(), "--out", out, *wanted, *arguments)


def show(path, pki, *arguments) -> tuple[int, list[dict]]:
    done = ctl("collateral", "show", path, "--json", "--test-root", pki / "root.der", *arguments)
    assert done.returncode in (0, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


@needs_sim
def test_fetched_bundle_is_usable(tmp_path, make_pccs, pki):
    done = fetch(make_pccs("--evaluation", "21", "--crl-number", "7"), tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    code, sets = show(tmp_path / "b.json", pki)
    assert code == 0 and len(sets) == 1
    found = sets[0]
    assert (found["fmspc"], found["ca"], found["authentic"], found["usable"]) == (FMSPC, "platform", True, True)
    assert (found["evaluation_number"], found["root_crl_number"], found["pck_crl_number"]) == (21, 7, 7)
    assert 29 * 86400 < found["left_seconds"] < 30 * 86400 and 0 < found["age_seconds"] < 7300


@needs_sim
def test_quote_says_what_to_fetch_once(tmp_path, pccs, pki):
    quote = sims.quote_of(pki, tmp_path / "q")
    done = fetch(pccs, tmp_path / "b.json", "--quote", quote, "--quote", quote, "--fmspc", FMSPC.upper())
    assert done.returncode == 0, done.stderr
    assert [one["fmspc"] for one in show(tmp_path / "b.json", pki)[1]] == [FMSPC]
    assert pccs.state()["requests"] == 4


@needs_sim
def test_folder_is_shown_like_a_bundle(facts, pki):
    code, sets = show(facts, pki)
    assert code == 0 and sets[0]["fmspc"] == FMSPC


@needs_sim
def test_show_tells_people_how_long_it_will_do(tmp_path, pccs, pki):
    assert fetch(pccs, tmp_path / "b.json").returncode == 0
    told = ctl("collateral", "show", tmp_path / "b.json", "--test-root", pki / "root.der")
    assert told.returncode == 0
    for part in (f"FMSPC {FMSPC}, platform CA", "under the test root", "29 days left", "usable       yes"):
        assert part in told.stdout


@needs_sim
def test_without_the_test_root_nothing_holds(tmp_path, pccs):
    assert fetch(pccs, tmp_path / "b.json").returncode == 0
    told = ctl("collateral", "show", tmp_path / "b.json")
    assert told.returncode == 3 and "PckRootUnknown" in told.stdout and "signatures" not in told.stdout


@needs_sim
def test_show_refuses_what_will_be_expired(tmp_path, pccs, pki):
    assert fetch(pccs, tmp_path / "b.json").returncode == 0
    code, sets = show(tmp_path / "b.json", pki, "--at", str(int(time.time()) + 40 * 86400))
    assert code == 3 and sets[0]["authentic"] and not sets[0]["usable"]
    assert sets[0]["reason"] == "CollateralExpired" and sets[0]["left_seconds"] < 0


@needs_sim
@pytest.mark.parametrize("fault, part", [
    ("400", "HTTP status 400"), ("401", "HTTP status 401"), ("404", "does not know"), ("410", "try again"),
    ("429", "too often"), ("500", "HTTP status 500"), ("503", "HTTP status 503"), ("truncated", "collateral"),
    ("huge", "larger than"), ("redirect", "redirects are not followed"), ("pem-crl", "PEM is refused"),
    ("half", "collateral"), ("empty", "collateral"), ("html", "collateral"), ("no-header", "header"),
    ("bad-header", "collateral"), ("wrong-header", "neither the PCK platform nor the processor CA"),
])  # fmt: skip
def test_faulty_service_leaves_the_old_bundle(tmp_path, pccs, fault, part):
    (tmp_path / "b.json").write_text("precious")
    pccs.fault(fault)
    done = fetch(pccs, tmp_path / "b.json")
    assert done.returncode == 1 and part in done.stderr, done.stderr
    assert (tmp_path / "b.json").read_text() == "precious"
    assert [path.name for path in tmp_path.glob("b.json*")] == ["b.json"]


@needs_sim
@pytest.mark.parametrize("fault, reason, authentic", [
    ("stale", "CollateralExpired", True), ("forged", "CollateralSignature", False),
])  # fmt: skip
def test_what_only_verification_finds_is_shown(tmp_path, pccs, pki, fault, reason, authentic):
    pccs.fault(fault)
    assert fetch(pccs, tmp_path / "b.json").returncode == 0
    code, sets = show(tmp_path / "b.json", pki)
    assert code == 3 and not sets[0]["usable"]
    assert (sets[0]["reason"], sets[0]["authentic"]) == (reason, authentic)


@needs_sim
def test_lists_in_hex_are_understood(tmp_path, pccs, pki):
    pccs.fault("hex-crl")
    assert fetch(pccs, tmp_path / "b.json").returncode == 0
    assert show(tmp_path / "b.json", pki)[0] == 0


@needs_sim
def test_hanging_service_is_given_up(tmp_path, pccs):
    pccs.fault("hang")
    start = time.monotonic()
    done = fetch(pccs, tmp_path / "b.json")
    pccs.fault("none")
    assert done.returncode == 1 and "imed out" in done.stderr
    assert 5 < time.monotonic() - start < 30


@pytest.fixture
def tls(tmp_path):
    """A certificate for 127.0.0.1 and its key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path / "cert.pem", tmp_path / "key.pem"


@needs_sim
def test_tls_is_checked_against_the_ca_file(tmp_path, make_pccs, tls, pki):
    certificate, key = tls
    pccs = make_pccs("--tls-cert", certificate, "--tls-key", key)
    assert pccs.url.scheme == "https"
    refused = fetch(pccs, tmp_path / "b.json")
    assert refused.returncode == 1 and "certificate" in refused.stderr
    done = fetch(pccs, tmp_path / "b.json", "--pccs-ca", certificate)
    assert done.returncode == 0, done.stderr
    assert show(tmp_path / "b.json", pki)[0] == 0


@needs_sim
def test_tls_to_another_name_is_refused(tmp_path, make_pccs, tls):
    certificate, key = tls
    pccs = make_pccs("--tls-cert", certificate, "--tls-key", key)
    done = ctl("collateral", "fetch", "--pccs", f"https://localhost:{pccs.url.port}", "--pccs-ca", certificate,
               "--fmspc", FMSPC, "--out", tmp_path / "b.json")  # fmt: skip
    assert done.returncode == 1 and "localhost" in done.stderr


@pytest.mark.parametrize("arguments, part", [
    ([], "out"), (["--out", "b"], "--quote or --fmspc"), (["--out", "b", "--fmspc", "xyz"], "12 hex digits"),
    (["--out", "b", "--fmspc", FMSPC, "--pccs", "http://pccs.example"], "https://"),
    (["--out", "b", "--fmspc", FMSPC, "--pccs", "ftp://127.0.0.1"], "https://"),
    (["--out", "b", "--fmspc", FMSPC, "--ca", "root"], "ca"), (["--out", "b", "extra"], "extra"),
])  # fmt: skip
def test_fetch_tells_wrong_usage(arguments, part):
    ended = ctl("collateral", "fetch", *arguments)
    assert ended.returncode == 2 and part in ended.stderr, ended.stderr


def test_show_tells_wrong_usage_and_what_it_cannot_read(tmp_path):
    assert ctl("collateral", "show").returncode == 2
    assert "No such file" in ctl("collateral", "show", tmp_path / "b").stderr
    assert "no collateral" in ctl("collateral", "show", tmp_path).stderr
    (tmp_path / "b").write_text('{"version": 1, "sets": [{}]}')
    ended = ctl("collateral", "show", tmp_path / "b")
    assert ended.returncode == 1 and "set 1" in ended.stderr


# --- the broker's pages ---


def page(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_broker_tells_probes_and_monitoring_how_it_is(broker):
    broker.stop()
    port = free_port()
    broker.start(http=f"127.0.0.1:{port}")
    assert page(port, "/healthz")[0] == page(port, "/readyz")[0] == 200
    assert page(port, "/other")[0] == 404
    assert broker.ctl("broker", "status").returncode == 0
    status, text = page(port, "/metrics")
    assert status == 200 and "tdvol_keybroker_sealed 0\n" in text
    assert 'tdvol_keybroker_operations_seconds_count{method_name="GetStatus",grpc_status_code="OK"} ' in text
    assert "\ntdvol_audit_lines_total " in text


def test_sealed_broker_is_healthy_but_not_ready(broker):
    broker.stop()
    port = free_port()
    broker.start(http=f"127.0.0.1:{port}", master_key=None)
    assert page(port, "/healthz")[0] == 200
    status, text = page(port, "/readyz")
    assert status == 503 and "sealed" in text
    assert "tdvol_keybroker_sealed 1\n" in page(port, "/metrics")[1]


def test_broker_refuses_an_http_address_that_is_none(make_broker):
    one = make_broker()
    ended = subprocess.run(one.command(http="localhost"), capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1 and "--http" in ended.stderr
