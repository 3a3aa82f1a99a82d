# SPDX-License-Identifier: Apache-2.0
"""The results of a suite, and the formats in which programs report them."""

import dataclasses
import json
import pathlib
import re
import xml.etree.ElementTree as ElementTree


@dataclasses.dataclass
class Outcome:
    """The result of one suite."""

    passed: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)
    skipped: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # name, reason

    def add(self, other: "Outcome") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def read_tap(name: str, output: str, result: str) -> Outcome:
    """The cases of one unit test program. If TAP shows no failure, the program's own result counts."""
    outcome = Outcome()
    said = dict(re.findall(r"^# skipped, (\S+): (.*)$", output, re.MULTILINE))  # tests/unit/test.h
    for line in output.splitlines():
        match = re.match(r"(not )?ok \d+(?: - )?\s*(.*)", line)
        if not match:
            continue
        case, _, directive = match[2].partition("# ")
        if directive.upper().startswith("SKIP"):
            outcome.skipped.append((f"{name}: {case.strip()}", directive[4:].strip() or "no reason given"))
        elif match[1]:
            outcome.failed.append(f"{name}: {case.strip()}")
        elif case.strip() in said:
            outcome.skipped.append((f"{name}: {case.strip()}", said[case.strip()]))
        else:
            outcome.passed += 1
    if result == "SKIP" and "[==========]" in output:  # meson cannot read cmocka's other forms, and skips them
        outcome.failed.append(f"{name}: no TAP (use RUN_TESTS)")
    elif result == "SKIP" and not outcome.skipped:
        outcome.skipped.append((name, "skipped by meson"))
    elif result not in ("OK", "SKIP", "EXPECTEDFAIL") and not outcome.failed:
        outcome.failed.append(f"{name}: {result}")
    elif result == "OK" and not outcome.passed + len(outcome.skipped):
        outcome.passed = 1
    return outcome


def read_meson(results: pathlib.Path, status: int) -> Outcome:
    """The cases of all programs of one "meson test" call, which ended with status."""
    outcome = Outcome()
    for line in results.read_text().splitlines() if results.exists() else []:
        test = json.loads(line)
        outcome.add(read_tap(test["name"], test.get("stdout") or "", test["result"]))
    if status and not outcome.failed:
        outcome.failed.append(f"meson test ended with {status}")
    return outcome


def read_junit(path: pathlib.Path) -> Outcome:
    """Results in the JUnit format, as pytest and ginkgo write it."""
    outcome = Outcome()
    if not path.exists():
        return outcome
    for case in ElementTree.parse(path).iter("testcase"):
        name = case.get("name", "")
        if case.get("classname", "").startswith("test_"):
            name = case.get("classname") + "::" + name
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed.append(name)
        elif skip is not None:
            outcome.skipped.append((name, skip.get("message") or "no reason given"))
        else:
            outcome.passed += 1
    return outcome
