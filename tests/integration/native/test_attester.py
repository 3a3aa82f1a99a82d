# SPDX-License-Identifier: Apache-2.0
"""Quotes from a simulated configfs-tsm: the right way, and every way in which it can lie."""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import secrets
import subprocess
import time

import pytest
import sims
import stubs
from brokers import ctl

pytestmark = sims.needs_sim
REPORT_DATA = slice(48 + 520, 48 + 584)
EVENTS = [
    {"register": "rtmr1", "type": 5, "text": "boot loader"},
    {"register": "rtmr2", "type": 6, "text": "kernel"},
    {"register": "rtmr2", "type": 6, "text": "command line"},
]


@pytest.fixture
def make_td(tmp_path, pki):
    numbers = itertools.count()

    def make(td: dict | None = None, latency_ms: int = 0) -> sims.Guest:
        one = sims.Guest(tmp_path / f"td-{next(numbers)}", pki, td or {}, "--latency-ms", latency_ms)
        ends.callback(one.stop)
        return one

    with contextlib.ExitStack() as ends:
        yield make


@pytest.fixture
def td(make_td):
    return make_td()


def attest(td: sims.Guest, *arguments) -> subprocess.CompletedProcess:
    return ctl("attest", "--tsm-root", td.root, "--event-log", td.log, "--json", *arguments)


def refused(td: sims.Guest) -> str:
    """The text of the refusal; no folder may be left behind."""
    ended = attest(td)
    assert ended.returncode == 1 and ended.stdout == "", ended.stdout
    assert td.folders() == []
    return ended.stderr


# --- the request itself ---


def test_quote_carries_what_was_asked_for(td, tmp_path):
    wanted = secrets.token_bytes(64)
    done = attest(td, "--report-data", wanted.hex(), "--out", tmp_path / "quote")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "quote").read_bytes()[REPORT_DATA] == wanted
    assert json.loads(done.stdout)["td"]["report_data"] == wanted.hex()
    assert td.folders() == []


def test_each_request_has_report_data_of_its_own(td):
    values = {json.loads(attest(td).stdout)["td"]["report_data"] for _ in range(3)}
    assert len(values) == 3


@pytest.mark.parametrize("fault", ["busy=2", "eintr=1", "timeout=1"])
def test_what_may_pass_is_tried_again(td, fault):
    td.fault(fault)
    done = attest(td)
    assert done.returncode == 0, done.stderr
    assert (td.root / ".control").read_text() == "none\n"
    assert td.folders() == []


@pytest.mark.parametrize("fault, part", [
    ("empty", "empty"),
    ("short", "at least 1226 bytes"),
    ("garbage", "cannot be used"),
    ("huge", "larger than 16384 bytes"),
    ("stale", "another request"),
    ("io", "Input/output error"),
    ("generation-jump", 'generation is "2"'),
    ("lost-write", 'generation is "0"'),
    ("debug-td", "debug TD"),
    ("other-provider", '"sev_guest"'),
    ("empty-provider", '""'),
    ("no-provider", "tdx_guest is not loaded"),
])  # fmt: skip
def test_a_kernel_that_lies_is_refused(td, fault, part):
    td.fault(fault)
    assert part in refused(td)
    td.fault("none")
    assert attest(td).returncode == 0


def test_provider_without_new_line_is_the_same_one(td):
    td.fault("no-newline")
    assert attest(td).returncode == 0


def test_requests_at_the_same_time_do_not_meet(make_td):
    td = make_td(latency_ms=100)
    wanted = [secrets.token_bytes(64).hex() for _ in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda hex_: attest(td, "--report-data", hex_), wanted))
    assert [json.loads(one.stdout)["td"]["report_data"] for one in done] == wanted
    assert td.folders() == []


def test_without_configfs_it_says_what_to_do(tmp_path):
    ended = ctl("attest", "--tsm-root", tmp_path / "none")
    assert ended.returncode == 1 and "mount -t configfs" in ended.stderr


@pytest.mark.parametrize("arguments", [["--report-data", "00"], ["--report-data", "z" * 128]])
def test_wrong_report_data_is_refused(td, arguments):
    assert "128 hex digits" in attest(td, *arguments).stderr
    assert td.folders() == []


# --- what tdvolctl prints about the TD ---


def test_image_is_what_the_events_lead_to(make_td):
    td = make_td({"mrtd": "aa" * 48, "xfam": "0x602e7", "events": EVENTS})
    said = json.loads(attest(td).stdout)
    registers = {name: bytes(48) for name in ("rtmr1", "rtmr2")}
    for event in EVENTS:
        digest = hashlib.sha384(event["text"].encode()).digest()
        registers[event["register"]] = hashlib.sha384(registers[event["register"]] + digest).digest()
    assert said["event_log"] == "replays" and said["warnings"] == []
    assert said["image"] == {
        "mrtd": ["aa" * 48], "rtmr1": [registers["rtmr1"].hex()], "rtmr2": [registers["rtmr2"].hex()],
        "xfam": ["0x602e7"],
    }  # fmt: skip
    assert len(said["platform"]["fmspc"]) == 12 and len(said["platform"]["id"]) == 32


def test_event_log_that_was_changed_is_told(make_td):
    td = make_td({"events": EVENTS})
    log = td.log.read_bytes()
    digest = hashlib.sha384(b"kernel").digest()
    assert log.count(digest) == 1
    td.log.write_bytes(log.replace(digest, hashlib.sha384(b"other").digest()))
    said = json.loads(attest(td).stdout)
    assert said["event_log"] == "differs"
    assert any("RTMR2" in warning and "RTMR1" not in warning for warning in said["warnings"])


@pytest.mark.parametrize("size, part", [(1 << 20, "malformed"), ((1 << 20) + 1, "larger than")])
def test_event_log_is_bounded(td, size, part):
    td.log.write_bytes(b"\x01" * size)
    done = attest(td)
    assert part in done.stdout + done.stderr
    assert (done.returncode == 0) == (size == 1 << 20)


def test_kernel_s_registers_are_compared(make_td, tmp_path):
    td = make_td({"rtmr1": "11" * 48, "rtmr2": "22" * 48})
    for i, value in enumerate([b"\x00", b"\x11", b"\x22", b"\x33"]):
        (tmp_path / f"rtmr{i}:sha384").write_bytes(value * 48)
    said = json.loads(attest(td, "--measurements", tmp_path).stdout)
    assert said["kernel"] == "differs" and any("RTMR3" in warning for warning in said["warnings"])


def test_people_are_told_what_to_do_next(td):
    done = ctl("attest", "--tsm-root", td.root, "--event-log", td.log)
    for part in ("mrtd", '"rtmr1": [', '"images"', "owner"):
        assert part in done.stdout


# --- through tdvol-blockd ---


def front(td_root, log, folder, nonce: bytes, timeout_ms: int = 0) -> dict:
    done = subprocess.run(
        [stubs.BUILD / "tests/integration/front", "--blockd", stubs.BUILD / "blockd/tdvol-blockd", "--dir", folder,
         "--tsm-root", td_root, "--event-log", log, "--nonce", nonce.hex(), "--client", "22" * 32,
         "--broker", "33" * 32, "--timeout-ms", str(timeout_ms)],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return json.loads(done.stdout)


def binding(nonce: bytes, sealing_public_key: bytes) -> bytes:
    parts = [nonce, b"\x22" * 32, hashlib.sha256(sealing_public_key).digest(), b"\x33" * 32]
    return hashlib.sha512(b"tdvol attest v1".ljust(32, b"\0") + b"".join(parts)).digest()


def test_worker_binds_the_quote_to_its_own_sealing_key(make_td, tmp_path):
    td = make_td({"events": EVENTS})
    nonce = secrets.token_bytes(32)
    said = front(td.root, td.log, tmp_path, nonce)
    key = bytes.fromhex(said["sealing_public_key"])
    assert len(key) == 32 and any(key)
    assert bytes.fromhex(said["quote"])[REPORT_DATA] == binding(nonce, key)
    assert bytes.fromhex(said["event_log"]) == td.log.read_bytes()
    assert td.folders() == []


def test_each_blockd_has_a_sealing_key_of_its_own(td, tmp_path):
    keys = {front(td.root, td.log, tmp_path, bytes(32))["sealing_public_key"] for _ in range(2)}
    assert len(keys) == 2


def test_largest_event_log_arrives_whole(make_td, tmp_path):
    filler = secrets.token_bytes(1 << 17).hex()
    td = make_td({"events": [*EVENTS, {"register": "rtmr3", "type": 6, "text": filler}]})
    td.log.write_bytes(td.log.read_bytes().ljust(1 << 20, b"\0"))  # like the firmware's table
    said = front(td.root, td.log, tmp_path, bytes(32))
    assert bytes.fromhex(said["event_log"]) == td.log.read_bytes()


def test_worker_keeps_an_event_log_back_that_does_not_fit(td, tmp_path):
    td.log.write_bytes(secrets.token_bytes(1 << 20))
    said = front(td.root, td.log, tmp_path, bytes(32))
    assert said["event_log"] == "" and said["quote"]


@pytest.mark.parametrize("fault, code", [
    ("empty", "UNAVAILABLE"), ("stale", "UNAVAILABLE"), ("generation-jump", "UNAVAILABLE"), ("huge", "UNAVAILABLE"),
    ("debug-td", "FAILED_PRECONDITION"), ("other-provider", "FAILED_PRECONDITION"),
    ("no-provider", "FAILED_PRECONDITION"),
])  # fmt: skip
def test_front_learns_whether_it_may_pass(td, tmp_path, fault, code):
    td.fault(fault)
    said = front(td.root, td.log, tmp_path, bytes(32))
    assert (said["code"], said["reason"]) == (code, "QuoteUnavailable")
    assert td.folders() == []


def test_busy_kernel_is_tried_until_the_deadline(td, tmp_path):
    td.fault("busy")
    start = time.monotonic()
    said = front(td.root, td.log, tmp_path, bytes(32), timeout_ms=2500)
    assert said["code"] == "UNAVAILABLE" and "no quote in time" in said["text"]
    assert 1 < time.monotonic() - start < 6
    assert td.folders() == []


def test_one_worker_at_a_time_asks_the_kernel(td, tmp_path):
    with (tmp_path / "quote").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        said = front(td.root, td.log, tmp_path, bytes(32))
    assert (said["code"], said["reason"]) == ("UNAVAILABLE", "QuoteUnavailable")
    assert "under way" in said["text"] and td.folders() == []
    assert "quote" in front(td.root, td.log, tmp_path, bytes(32))


def test_what_a_killed_worker_left_is_removed(make_td, tmp_path):
    td = make_td(latency_ms=2500)
    said = front(td.root, td.log, tmp_path, bytes(32), timeout_ms=700)
    assert (said["code"], said["reason"]) == ("UNAVAILABLE", "QuoteUnavailable")
    front(td.root, td.log, tmp_path, bytes(32))
    assert td.folders() == []


def test_only_what_nobody_holds_is_removed(td, tmp_path):
    stale, held, foreign = "tdvol-" + "00" * 16, "tdvol-" + "11" * 16, "entry-4711"
    for name in (stale, held, foreign):
        (td.root / name).mkdir()
    holder = os.open(td.root / held, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert "quote" in front(td.root, td.log, tmp_path, bytes(32))
    assert td.folders() == [foreign, held]
    os.close(holder)
    assert "quote" in front(td.root, td.log, tmp_path, bytes(32))
    assert td.folders() == [foreign]
