# SPDX-License-Identifier: Apache-2.0
"""tdvol-sim writes quotes, collateral and event logs that the product accepts or refuses as intended."""

import hashlib
import json
import subprocess
import time

import pytest
import sims

pytestmark = sims.needs_sim


def write_td(tmp_path, **members):
    path = tmp_path / "td.json"
    path.write_text(json.dumps(members))
    return path


def test_quote_is_accepted_with_its_collateral(tmp_path, pki, facts):
    quote = sims.quote_of(pki, tmp_path / "quote.bin")
    said = sims.explain(quote, pki / "root.der", "--collateral", facts)
    assert (said["verdict"], said["tcb_status"]) == ("accepted", "UpToDate"), said


def test_intel_root_does_not_trust_it(tmp_path, pki, facts):
    quote = sims.quote_of(pki, tmp_path / "quote.bin")
    done = subprocess.run(
        [sims.stubs.BUILD / "ctl/tdvolctl", "quote", "explain", quote, "--collateral", facts],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr


def test_another_pki_is_not_trusted(tmp_path, pki, facts):
    sims.sim("pki", tmp_path / "other")
    quote = sims.quote_of(tmp_path / "other", tmp_path / "quote.bin")
    said = sims.explain(quote, pki / "root.der", "--collateral", facts)
    assert said["verdict"] == "refused"


def test_pki_is_not_overwritten(pki):
    before = (pki / "root.der").read_bytes()
    assert "exists" in sims.sim("pki", pki, fails=True)
    assert (pki / "root.der").read_bytes() == before


@pytest.mark.parametrize("options,verdict,status", [
    (["--status", "OutOfDate"], "refused", "OutOfDate"),
    (["--status", "Revoked"], "refused", "Revoked"),
    (["--issued", int(time.time()) - 40 * 86400, "--days", 30], "refused", ""),
    (["--fmspc", "b0c06f000000"], "refused", ""),
    (["--evaluation", 19, "--crl-number", 7], "accepted", "UpToDate"),
])  # fmt: skip
def test_collateral_says_what_was_asked_for(tmp_path, pki, options, verdict, status):
    sims.sim("collateral", "--pki", pki, "--out", tmp_path / "facts", *options)
    quote = sims.quote_of(pki, tmp_path / "quote.bin")
    said = sims.explain(quote, pki / "root.der", "--collateral", tmp_path / "facts")
    assert (said["verdict"], said["tcb_status"]) == (verdict, status), said


def test_collateral_of_the_processor_ca_fits_its_platforms(tmp_path, pki):
    sims.sim("collateral", "--pki", pki, "--out", tmp_path / "facts", "--ca", "processor")
    for ca, verdict in (("processor", "accepted"), ("platform", "refused")):
        td = write_td(tmp_path, platform={"ca": ca})
        quote = sims.quote_of(pki, tmp_path / "quote.bin", sims.ASKED, "--td", td)
        said = sims.explain(quote, pki / "root.der", "--collateral", tmp_path / "facts")
        assert said["verdict"] == verdict, said


def test_quotes_are_of_one_machine_until_its_platform_changes(tmp_path, pki):
    def certificates(*arguments) -> bytes:
        quote = sims.quote_of(pki, tmp_path / "quote.bin", sims.ASKED, *arguments).read_bytes()
        return quote[quote.index(b"-----BEGIN") :]

    other = write_td(tmp_path, platform={"pce_svn": 5})
    assert certificates() == certificates()
    assert certificates() != certificates("--td", other)


def test_quote_says_what_the_description_says(tmp_path, pki):
    td = write_td(tmp_path, version=5, body_type=3, mrtd="11" * 48, rtmr3="33" * 48, mrservicetd="44" * 48,
                  td_attributes="0x10000001", xfam="0xe7")  # fmt: skip
    quote = sims.quote_of(pki, tmp_path / "quote.bin", sims.ASKED, "--td", td).read_bytes()
    body = quote[54:]
    assert quote[:2] == b"\x05\x00" and quote[48:50] == b"\x03\x00"
    assert body[120:136] == bytes.fromhex("0100001000000000e700000000000000")
    assert body[136:184] == b"\x11" * 48 and body[472:520] == b"\x33" * 48
    assert body[520:584] == sims.ASKED and body[600:648] == b"\x44" * 48


@pytest.mark.parametrize("members,said", [
    ({"mrdt": "00"}, 'unknown member "mrdt"'),
    ({"mrtd": "11" * 47}, '"mrtd" is not 96 hex digits'),
    ({"mrtd": 5}, '"mrtd" is not 96 hex digits'),
    ({"xfam": "e7"}, '"xfam" is not "0x"'),
    ({"xfam": "0x" + "1" * 17}, '"xfam" is not "0x"'),
    ({"version": 65536}, '"version" is not a number'),
    ({"platform": {"ca": "both"}}, 'platform: "ca" is not'),
    ({"platform": []}, "platform: is not a JSON object"),
    ({"events": [], "rtmr0": "00" * 48}, "has events and rtmr0"),
    ({"events": [{"register": "rtmr4", "text": "x"}]}, "event 1 is not"),
    ({"events": [{"register": "rtmr0", "text": "x", "more": 1}]}, "event 1 is not"),
    ({"events": {}}, "events is not a list"),
])  # fmt: skip
def test_wrong_description_is_refused(tmp_path, pki, members, said):
    td = write_td(tmp_path, **members)
    message = sims.sim("quote", "--pki", pki, "--report-data", sims.ASKED.hex(), "--td", td, fails=True)
    assert said in message


def test_report_data_of_another_length_is_refused(pki):
    for data in ("", "00" * 63, "00" * 65, "zz" * 64):
        assert "128 hex digits" in sims.sim("quote", "--pki", pki, f"--report-data={data}", fails=True)


def test_event_log_replays_to_the_registers_of_the_quote(tmp_path, pki):
    events = [("rtmr0", 1, "firmware"), ("rtmr3", 6, "first"), ("rtmr3", 3, "not extended"), ("rtmr3", 13, "\u00e9")]
    td = write_td(tmp_path, events=[{"register": r, "type": t, "text": x} for r, t, x in events])
    registers = {f"rtmr{i}": bytes(48) for i in range(4)}
    for register, kind, text in events:
        if kind != 3:
            digest = hashlib.sha384(text.encode()).digest()
            registers[register] = hashlib.sha384(registers[register] + digest).digest()

    printed = json.loads(sims.sim("ccel", "--td", td, "--out", tmp_path / "ccel"))
    quote = sims.quote_of(pki, tmp_path / "quote.bin", sims.ASKED, "--td", td).read_bytes()
    assert printed == {name: value.hex() for name, value in registers.items()}
    assert quote[48 + 328 : 48 + 520] == b"".join(registers.values())
    log = (tmp_path / "ccel").read_bytes()
    assert b"Spec ID Event03" in log and b"not extended" in log and len(log) % 4096 == 0


def test_description_without_events_makes_no_log(tmp_path):
    td = write_td(tmp_path)
    assert "has no events" in sims.sim("ccel", "--td", td, "--out", tmp_path / "ccel", fails=True)
    assert not (tmp_path / "ccel").exists()


def test_help_teaches():
    for command in ("pki", "collateral", "quote", "ccel", "tsm", "pccs"):
        text = sims.sim(command, "--help")
        assert f"Usage: tdvol-sim {command}" in text and len(text) > 300
        assert command in sims.sim("--help")
