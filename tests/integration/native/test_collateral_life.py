# SPDX-License-Identifier: Apache-2.0
"""Collateral of a running broker: it is renewed, refused, expired or older than before; and the broker's clock."""

import http.client
import shutil
import signal
import sqlite3
import time

import grpc
import pytest
import sims
import tds
from brokers import ctl, free_port
from test_attest import refused

pytestmark = sims.needs_sim
DAY = 86400
DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
def publish(pki, tmp_path):
    """publish(options...) replaces the collateral in the broker's folder by new data of the simulated Intel."""
    folder = tmp_path / "published"

    def write(*arguments):
        shutil.rmtree(folder, ignore_errors=True)
        sims.sim("collateral", "--pki", pki, "--out", folder, *arguments)
        return folder

    return write


def page(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def wait_for_log(broker, text: str, n: int = 1) -> None:
    end = time.monotonic() + 20
    while broker.log.read_text().count(text) < n:
        assert time.monotonic() < end, broker.log.read_text()
        time.sleep(0.02)


def read_again(broker, text: str) -> None:
    broker.process.send_signal(signal.SIGHUP)
    wait_for_log(broker, text)


def attest_until_fetched(td, cluster):
    end = time.monotonic() + 20
    while True:
        try:
            return td.attest(owner_token=cluster.token())
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED), error
            assert time.monotonic() < end
            time.sleep(0.3)


def test_a_restart_needs_no_service(start, pki, make_pccs, cluster):
    pccs = make_pccs()
    options = {"collateral_dir": None, "pccs": pccs.url.geturl()}
    broker = start(**options)
    attest_until_fetched(tds.Td(broker, pki), cluster)
    broker.stop()
    pccs.fault("503")
    broker.start(test_root=pki / "root.der", **options)
    before = pccs.state()["requests"]
    assert tds.Td(broker, pki).attest(owner_token=cluster.token()).tenant == "default"
    assert pccs.state()["requests"] == before


def test_a_faulty_service_is_told_to_the_client_and_the_log(start, pki, make_pccs, cluster):
    pccs = make_pccs("--fault", "pem-crl")
    broker = start(collateral_dir=None, pccs=pccs.url.geturl())
    td = tds.Td(broker, pki)
    with refused(grpc.StatusCode.UNAVAILABLE, "CollateralMissing"):
        td.attest(owner_token=cluster.token())
    wait_for_log(broker, "collateral not fetched")
    assert "PEM is refused" in broker.log.read_text()


def test_a_forged_answer_is_refused_and_not_kept(start, pki, make_pccs, cluster):
    pccs = make_pccs("--fault", "forged")
    broker = start(collateral_dir=None, pccs=pccs.url.geturl())
    with refused(grpc.StatusCode.UNAVAILABLE, "CollateralMissing"):
        tds.Td(broker, pki).attest(owner_token=cluster.token())
    wait_for_log(broker, "CollateralSignature")
    assert not list((broker.dir / "state/collateral").iterdir())


def test_collateral_that_goes_back_is_an_alarm_and_the_newer_stays(start, pki, publish, cluster):
    options = {"collateral_dir": publish("--evaluation", "20")}
    broker = start(**options)
    publish("--evaluation", "19")
    read_again(broker, "CollateralRolledBack")
    assert tds.Td(broker, pki).attest(owner_token=cluster.token()).tenant == "default"
    broker.stop()
    broker.start(test_root=pki / "root.der", **options)  # now it has only the older one
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "CollateralMissing"):
        tds.Td(broker, pki).attest(owner_token=cluster.token())


def test_lists_that_go_back_are_an_alarm(start, pki, publish, cluster):
    broker = start(collateral_dir=publish("--crl-number", "7"))
    publish("--crl-number", "6", "--evaluation", "30")
    read_again(broker, "CrlRolledBack")
    assert tds.Td(broker, pki).attest(owner_token=cluster.token()).tenant == "default"


def test_expired_collateral_refuses_until_it_is_renewed(start, pki, publish, cluster):
    port = free_port()
    broker = start(collateral_dir=publish("--issued", int(time.time()) - 31 * DAY), http=f"127.0.0.1:{port}")
    td = tds.Td(broker, pki)
    wait_for_log(broker, "collateral expired")
    with refused(DENIED, "CollateralExpired"):
        td.attest(owner_token=cluster.token())
    status, text = page(port, "/readyz")
    assert status == 503 and "expired" in text
    assert page(port, "/healthz")[0] == 200
    publish()
    read_again(broker, "collateral taken")
    wait_for_log(broker, "collateral taken", 2)
    assert td.attest(owner_token=cluster.token()).tenant == "default"
    assert page(port, "/readyz")[0] == 200
    metrics = page(port, "/metrics")[1]
    assert 'tdvol_attest_verdicts_total{reason="CollateralExpired"} 1\n' in metrics
    assert 'tdvol_attest_verdicts_total{reason="Accepted"} 1\n' in metrics
    assert "\ntdvol_attested_sessions 1\n" in metrics
    assert 'tdvol_collateral_evaluation_number{fmspc="a0c06f000000",ca="platform"} 18\n' in metrics


def test_a_broken_bundle_is_told_and_changes_nothing(start, pki, facts, tmp_path, make_pccs, cluster):
    pccs = make_pccs()
    bundle = tmp_path / "bundle.json"
    done = ctl("collateral", "fetch", "--pccs", pccs.url.geturl(), "--fmspc", "a0c06f000000", "--out", bundle)
    assert done.returncode == 0, done.stderr
    broker = start(collateral_dir=None, collateral_bundle=bundle)
    bundle.write_text("{")
    read_again(broker, "collateral not read again")
    assert tds.Td(broker, pki).attest(owner_token=cluster.token()).tenant == "default"
    broker.stop()
    assert "bundle.json" in broker.start_in_vain(test_root=pki / "root.der", collateral_bundle=bundle)


def test_a_clock_that_went_back_stops_attesting_until_the_mark_is_taken_away(start, pki, facts, cluster):
    broker = start()
    tds.Td(broker, pki).attest(owner_token=cluster.token())

    def edit(statement: str, *values) -> None:
        broker.stop()
        with sqlite3.connect(broker.dir / "state/broker.db") as store:
            assert store.execute(statement, values).rowcount == 1
        store.close()
        broker.start(test_root=pki / "root.der", collateral_dir=facts)

    edit("UPDATE highest SET value = ? WHERE name = 'clock'", int(time.time()) + 3600)
    with refused(grpc.StatusCode.UNAVAILABLE, "ClockRolledBack"):
        tds.Td(broker, pki).attest(owner_token=cluster.token())
    edit("DELETE FROM highest WHERE name = 'clock'")  # as docs/collateral.md says
    assert tds.Td(broker, pki).attest(owner_token=cluster.token()).tenant == "default"
