# SPDX-License-Identifier: Apache-2.0
"""tdvol-sim's PCCS serves like a real one, and can be told to serve faults."""

import http.client
import json
import subprocess
import threading
import time

import pytest
import sims

pytestmark = sims.needs_sim


def judge(tmp_path, pccs, pki) -> dict:
    quote = sims.quote_of(pki, tmp_path / "quote.bin")
    number = len(list(tmp_path.glob("facts*")))
    return sims.explain(quote, pki / "root.der", "--collateral", pccs.fetch(tmp_path / f"facts{number}"))


def test_served_collateral_is_accepted(tmp_path, pccs, pki):
    assert judge(tmp_path, pccs, pki)["verdict"] == "accepted"
    assert pccs.state() == {"fault": "none", "left": 0, "requests": 4, "faulty": 0}


def test_served_over_tls_too(tmp_path, make_pccs, pki):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    pccs = make_pccs("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem")
    assert pccs.url.scheme == "https"
    assert judge(tmp_path, pccs, pki)["verdict"] == "accepted"


@pytest.mark.parametrize("path,status", [
    ("/tdx/certification/v4/tcb?fmspc=b0c06f000000", 404),
    ("/tdx/certification/v4/tcb?fmspc=b0", 400),
    ("/tdx/certification/v4/tcb", 400),
    ("/tdx/certification/v4/tcb?fmspc=a0c06f000000&update=early", 200),
    ("/tdx/certification/v4/tcb?fmspc=a0c06f000000&update=later", 400),
    ("/tdx/certification/v4/tcb?fmspc=a0c06f000000&tcbEvaluationDataNumber=17", 410),
    ("/tdx/certification/v4/tcb?fmspc=a0c06f000000&tcbEvaluationDataNumber=18", 200),
    ("/tdx/certification/v4/tcb?fmspc=a0c06f000000&tcbEvaluationDataNumber=19", 404),
    ("/tdx/certification/v4/qe/identity?update=early&tcbEvaluationDataNumber=18", 400),
    ("/sgx/certification/v4/pckcrl", 400),
    ("/sgx/certification/v4/pckcrl?ca=processor", 200),
    ("/tdx/certification/v3/qe/identity", 404),
    ("/", 404),
])  # fmt: skip
def test_request_gets_the_status_of_the_real_one(pccs, path, status):
    assert pccs.get(path)[0] == status


def test_list_is_pem_unless_der_is_asked_for(pccs):
    der, pem = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der", "/sgx/certification/v4/pckcrl?ca=platform"
    assert pccs.get(der)[2][:1] == b"\x30"
    assert pccs.get(pem)[2].startswith(b"-----BEGIN X509 CRL-----")
    pccs.fault("pem-crl")
    assert pccs.get(der)[2].startswith(b"-----BEGIN X509 CRL-----")
    pccs.fault("hex-crl")
    assert bytes.fromhex(pccs.get(der)[2].decode())[:1] == b"\x30"


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 500, 503])
def test_status_is_the_fault(pccs, status):
    pccs.fault(str(status), count=2)
    path = sims.PATHS["qe_identity_response.json"]
    assert [pccs.get(path)[0] for _ in range(3)] == [status, status, 200]


def test_fault_is_for_the_paths_named_only(pccs):
    pccs.fault("500", only="/tcb")
    statuses = {name: pccs.get(path)[0] for name, path in sims.PATHS.items()}
    assert statuses.pop("tcb_info_response.json") == 500
    assert set(statuses.values()) == {200}
    assert pccs.state() == {"fault": "500", "left": 0, "requests": 4, "faulty": 1}


@pytest.mark.parametrize("fault", ["stale", "half", "empty", "html", "forged", "wrong-header", "bad-header"])
def test_faulty_collateral_is_refused(tmp_path, pccs, pki, fault):
    pccs.fault(fault)
    assert judge(tmp_path, pccs, pki)["verdict"] == "refused"
    pccs.fault("none")
    assert judge(tmp_path, pccs, pki)["verdict"] == "accepted"


def list_number(pccs) -> int:
    """The number of the PCK revocation list."""
    der = pccs.get(sims.PATHS["pck_crl.der"])[2]
    text = subprocess.run(["openssl", "crl", "-inform", "DER", "-noout", "-crlnumber"],
                          input=der, capture_output=True, check=True).stdout  # fmt: skip
    return int(text.decode().split("=")[1], 16)


def evaluation_number(pccs) -> int:
    return json.loads(pccs.get(sims.PATHS["tcb_info_response.json"])[2])["tcbInfo"]["tcbEvaluationDataNumber"]


def test_rollback_lowers_the_numbers_of_good_collateral(tmp_path, make_pccs, pki):
    pccs = make_pccs("--evaluation", "20", "--crl-number", "9")
    assert (evaluation_number(pccs), list_number(pccs)) == (20, 9)
    pccs.fault("rollback")
    assert (evaluation_number(pccs), list_number(pccs)) == (19, 8)
    assert judge(tmp_path, pccs, pki)["verdict"] == "accepted"


def test_header_is_missing(pccs):
    path = sims.PATHS["tcb_info_response.json"]
    assert "TCB-Info-Issuer-Chain" in pccs.get(path)[1]
    pccs.fault("no-header")
    assert "TCB-Info-Issuer-Chain" not in pccs.get(path)[1]


def test_truncated_answer_has_fewer_bytes_than_it_said(pccs):
    pccs.fault("truncated")
    with pytest.raises(http.client.IncompleteRead) as caught:
        pccs.get(sims.PATHS["qe_identity_response.json"])
    assert 0 < len(caught.value.partial)


def test_huge_answer_is_64_mib(pccs):
    pccs.fault("huge")
    status, headers, body = pccs.get(sims.PATHS["qe_identity_response.json"])
    assert (status, len(body), headers["Content-Length"]) == (200, 64 << 20, str(64 << 20))


def test_redirection_leads_to_the_right_answer(pccs):
    path = sims.PATHS["tcb_info_response.json"]
    pccs.fault("redirect")
    status, headers, _ = pccs.get(path)
    assert (status, headers["Location"]) == (302, "/elsewhere/tdx/certification/v4/tcb")
    assert pccs.get("/elsewhere" + path)[0] == 200


def test_slow_answer_is_late_and_right(pccs):
    pccs.fault("slow", ms=400)
    start = time.monotonic()
    assert pccs.get(sims.PATHS["qe_identity_response.json"])[0] == 200
    assert time.monotonic() - start >= 0.4


def test_hanging_request_gets_no_answer_and_holds_up_nobody(pccs):
    path = sims.PATHS["qe_identity_response.json"]
    pccs.fault("hang", count=1)
    with pytest.raises(TimeoutError):
        pccs.get(path, seconds=0.5)
    assert pccs.get(path)[0] == 200


def test_ends_while_a_request_hangs(pki):
    pccs = sims.Pccs(pki, "--fault", "hang")
    ended = []
    hanging = threading.Thread(target=lambda: ended.append(pytest.raises(Exception, pccs.get, "/IntelSGXRootCA.der")))
    hanging.start()
    time.sleep(0.3)
    assert sims.elapsed(pccs.stop) < 10
    hanging.join()
    assert ended


@pytest.mark.parametrize("query", [
    "", "fault=nonsense", "fault=slow&ms=x", "fault=500&count=-1", "fault=500&only=" + "x" * 64,
])  # fmt: skip
def test_wrong_control_changes_nothing(pccs, query):
    assert pccs.get(f"/control?{query}", "POST")[0] == 400
    assert pccs.state()["fault"] == "none"
    assert pccs.get(sims.PATHS["root_ca_crl.der"], "POST")[0] == 405


@pytest.mark.parametrize("options,said", [
    (["--listen", "localhost:0"], "--listen"),
    (["--listen", "127.0.0.1"], "not IP:PORT"),
    (["--listen", "127.0.0.1:0", "--tls-cert", "/dev/null"], "go together"),
    (["--listen", "127.0.0.1:0", "--fault", "nonsense"], "no such fault"),
    (["--listen", "127.0.0.1:0", "--fmspc", "a0"], "12 hex digits"),
])  # fmt: skip
def test_wrong_options_are_refused(pki, options, said):
    assert said in sims.sim("pccs", "--pki", pki, *options, fails=True)
