# SPDX-License-Identifier: Apache-2.0
"""The checker of histories finds what no store that does one thing after the other could have shown."""

import math

import pytest
from history import Call, Had, History, overlaps, taken

READ, TAKE = "read", "take"


def call(kind, start, end, version=None, content=None, expected=None):
    made = f"content {version}".encode() if content is None else content
    return Call("v", kind, start, end, version, made, expected)


def change(start, end, expected, version=None):
    return call("change", start, end, expected + 1 if version is None else version, expected=expected)


def lost(kind, start):
    return Call("v", kind, start, math.inf)


def check(*calls) -> list[str]:
    history = History()
    for one in calls:
        history.add(one)
    return history.check()


GOOD = {
    "one after the other": [call(TAKE, 0, 1, 1), change(2, 3, 1), call(READ, 4, 5, 2), change(6, 7, 2)],
    "a read beside a change sees either": [call(TAKE, 0, 1, 1), change(2, 9, 1), call(READ, 3, 4, 2), call(READ, 3, 4, 1)],
    "a lost change may have been made": [call(TAKE, 0, 1, 1), lost("change", 2), call(READ, 4, 5, 2)],
    "or not": [call(TAKE, 0, 1, 1), lost("change", 2), call(READ, 4, 5, 1), call(READ, 6, 7, 1)],
    "or later": [call(TAKE, 0, 1, 1), lost("change", 2), call(READ, 4, 5, 1), call(READ, 6, 7, 2)],
    "a lost change that is asked for again and was made": [
        call(TAKE, 0, 1, 1), lost("change", 2), call(TAKE, 4, 5, 3), call("repeat", 6, 7, 3)],
    "or is made only now": [call(TAKE, 0, 1, 1), lost("change", 2), call(READ, 4, 5, 1), call("repeat", 6, 7, 2)],
    "a lease that is taken again": [call(TAKE, 0, 1, 1), call(TAKE, 2, 3, 1)],
    "two volumes have nothing to do with each other": [call(READ, 0, 1, 9), Call("w", READ, 2, 3, 1, b"")],
}
BAD = {
    "an old state after a new one": ([change(0, 1, 1), call(READ, 2, 3, 1)], "2 had been seen before"),
    "two changes from one version": ([change(0, 5, 1), change(1, 4, 1)], "given by 2 changes"),
    "a change that is not the next": ([change(0, 1, 1, 3), lost("change", 0)], "from version 1 gave version 3"),
    "a change that is made twice": ([call(READ, 0, 1, 2), change(2, 3, 1)], "2 had been seen before"),
    "two holders of one version": ([call(TAKE, 0, 1, 1, b"a"), call(TAKE, 2, 3, 1, b"b")], "with two contents"),
    "a repeated change that sees an old state": (
        [change(0, 1, 1), lost("change", 1), call("repeat", 2, 3, 1)], "2 had been seen before"),
    "a repeat makes no second change": ([call(TAKE, 0, 1, 1), call("repeat", 2, 3, 2)], "came from nobody"),
    "a change from nowhere": ([call(TAKE, 0, 1, 1), call(READ, 2, 3, 2)], "came from nobody"),
    "a lost read is no change": ([call(TAKE, 0, 1, 1), lost(READ, 1), call(READ, 2, 3, 2)], "came from nobody"),
    "one lost change for two versions": ([call(TAKE, 0, 1, 1), lost("change", 1), call(READ, 2, 3, 3)], "came from nobody"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_possible_history_has_no_fault(name):
    assert check(*GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_an_impossible_history_has_its_fault(name):
    calls, text = BAD[name]
    assert any(text in fault for fault in check(*calls))


def test_times_of_two_nodes_on_one_volume_must_not_overlap():
    n1, n2 = Had("v", "n1", 1, 5, is_silent=True), Had("v", "n2", 6, math.inf)
    assert overlaps([n2, n1, Had("v", "n1", 2, 3), Had("w", "n2", 1, 9)]) == []
    assert taken([n1, n2]) == 1 and taken([n2]) == 0
    assert len(overlaps([n1, n2, Had("v", "n3", 7, 8)])) == 1
    assert len(overlaps([Had("v", "n2", 4.9, 8), n1])) == 1
    assert len(overlaps([n1, Had("v", "n1", 2, 3), Had("v", "n2", 4, 8)])) == 1
