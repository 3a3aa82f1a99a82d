# SPDX-License-Identifier: Apache-2.0
"""tdvolctl quote explain: real and changed quotes, its exit codes, its text and its JSON."""

import json
import os
import pathlib
import subprocess

import pytest
import sims

TREE = pathlib.Path(__file__).resolve().parents[3]
VECTORS = pathlib.Path(os.environ.get("TDVOL_VECTORS", TREE.parent / "shared/vectors"))
SETS = sorted(path for path in VECTORS.glob("quotes/*") if path.is_dir())
GOOD = VECTORS / "quotes/A-v4-uptodate-b0c06f"
needs_vectors = pytest.mark.skipif(not SETS, reason=f"there are no vectors in {VECTORS}")


def explain(*words) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sims.stubs.BUILD / "ctl/tdvolctl", "quote", "explain", *map(str, words)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def expected_of(folder: pathlib.Path) -> dict:
    return json.loads((folder / "expected.json").read_text())


@needs_vectors
@pytest.mark.parametrize("folder", SETS, ids=lambda path: path.name)
def test_real_quotes_get_their_verdict(folder):
    expected = expected_of(folder)
    done = explain(folder / "quote.bin", "--at", expected["check_time"], "--json")
    said = json.loads(done.stdout)
    accepted = expected["default_policy"] == "accept"
    assert (done.returncode, said["verdict"]) == ((0, "accepted") if accepted else (3, "refused")), said
    assert bool(said["reason"]) is not accepted and isinstance(said["advisories"], list), said
    assert [step["ok"] for step in said["steps"]].count(False) == (0 if accepted else 1), said


@needs_vectors
@pytest.mark.parametrize("folder", SETS, ids=lambda path: path.name)
def test_real_quotes_are_out_of_date_now(folder):
    done = explain(folder / "quote.bin", "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (3, "refused"), done.stdout


@needs_vectors
def test_changed_quotes_are_refused_with_a_reason():
    changed = sorted(VECTORS.glob("negative/*.bin"))
    assert changed
    for quote in changed:
        done = explain(quote, "--collateral", GOOD, "--at", expected_of(GOOD)["check_time"], "--json")
        assert done.returncode == 3 and json.loads(done.stdout)["reason"], (quote, done)


@needs_vectors
def test_people_see_every_step_and_the_verdict_last():
    at = expected_of(GOOD)["check_time"]
    done = explain(GOOD / "quote.bin", "--at", at)
    assert "ok      signature of the quote" in done.stdout and done.stdout.endswith("\nAccepted.\n")
    done = explain(GOOD / "quote.bin", "--at", at + 3 * 365 * 86400)
    assert "REFUSED collateral is current" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Refused, Co"), done.stdout


@needs_vectors
def test_collateral_that_does_not_hold_is_a_step_too(tmp_path):
    for path in GOOD.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (tmp_path / "tcb_info.json").read_bytes()
    (tmp_path / "tcb_info.json").write_bytes(text.replace(b"UpToDate", b"Revoked!", 1))
    (tmp_path / "tcb_info_response.json").unlink()
    done = explain(tmp_path / "quote.bin", "--at", expected_of(GOOD)["check_time"], "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["reason"]) == (3, "CollateralSignature"), said
    assert [(step["step"], step["ok"]) for step in said["steps"]] == [("collateral", False)], said


def test_what_cannot_be_decided_is_no_refusal(tmp_path):
    (tmp_path / "quote.bin").write_bytes(bytes(5000))
    for words in ([], ["/nonexistent"], [tmp_path / "quote.bin"], ["a", "b"], ["--at", "never", "a"], ["--nothing"]):
        done = explain(*words)
        assert (done.returncode, done.stdout) == (1, "") and done.stderr, (words, done)
