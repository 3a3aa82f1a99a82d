# SPDX-License-Identifier: Apache-2.0
"""What the suite "External Storage" said, as a document: ginkgo's report in JSON, and what it did not define."""

import collections
import dataclasses
import re
import textwrap

COLUMNS = 100
REASON_MAX = 300  # characters
# Tests that external.py leaves out: a part of their names, with which backends, and why.
LEFT_OUT = {
    "any volume data source": (("local", "stacked"), "needs two programs as images, hello-populator and volume-data-source-validator"),
    "Pre-provisioned Snapshot": (("local",), "where each node has its own sidecars, a VolumeSnapshotContent that is made by hand needs the label "
                                 "snapshot.storage.kubernetes.io/managed-by with the node's name, which the test does not set"),
}  # fmt: skip
NOT_CHOSEN = "left out by ginkgo's filters, or its time was over"
TAG = re.compile(r"\s*\[[^\]]*\]")
UNDEFINED = re.compile(r"^Skipping registration: \[Testpattern: (.*)\] (\S+) \[Driver: (\S+)\] - (.*)$", re.MULTILINE)
VERDICTS = ("passed", "failed", "skipped", "not run")


@dataclasses.dataclass(frozen=True)
class Group:
    """The tests of one part of the suite over one kind of volume, which the suite does not define for this driver."""

    part: str
    pattern: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Case:
    part: str  # of the suite, such as volumes
    pattern: str  # the kind of volume, such as Dynamic PV (ext4)
    name: str
    verdict: str  # one of VERDICTS
    reason: str  # why, if it did not pass
    seconds: float


def plain(reason: str, driver: str) -> str:
    """One line without the driver's name, and without what each reason has, or what is of the machine alone."""
    line = " ".join(reason.split()).removesuffix(" -- skipping").removesuffix(" - skipping")
    line = line.partition(": 'error reading SSH key")[0]
    for name in (f'"{driver}" ', f"{driver} "):
        line = line.replace(name, "")
    return line[:1].lower() + line[1:]


def read_groups(text: str) -> list[Group]:
    found = {Group(part, pattern.strip(), plain(reason, driver)) for pattern, part, driver, reason in UNDEFINED.findall(text)}
    return sorted(found, key=lambda group: (group.reason, group.part, group.pattern))


def skipped_names(backend: str) -> list[str]:
    """What ginkgo must leave out."""
    return [part for part, (backends, _) in LEFT_OUT.items() if backend in backends]


def verdict_of(spec: dict, name: str, driver: str) -> tuple[str, str]:
    """The verdict and its reason. name: of the test, with the kind of volume."""
    said = spec.get("Failure", {}).get("Message", "")
    if (spec["State"] in ("skipped", "pending") and not said) or "suite timeout occurred" in said:
        return "not run", next((why for part, (_, why) in LEFT_OUT.items() if part in name), NOT_CHOSEN)
    return spec["State"] if spec["State"] in VERDICTS else "failed", plain(said, driver)


def read_case(spec: dict) -> Case | None:
    """None: no test of this suite. What ginkgo does before all tests is none, and the program has some others."""
    suite, group, *inner = [*(spec["ContainerHierarchyTexts"] or []), "", ""]
    driver = re.match(r"External Storage \[Driver: (\S+)\]", suite)
    if not driver:
        return None
    pattern, part = re.fullmatch(r"\[Testpattern: ([^\]]*)\]\s*(\S+).*", group).groups()
    name = " ".join(TAG.sub("", " ".join([*inner, spec["LeafNodeText"]])).split())
    return Case(part, pattern.strip(), name, *verdict_of(spec, f"{pattern} {name}", driver[1]), spec["RunTime"] / 1e9)


def read_cases(suites: list[dict]) -> list[Case]:
    """Those of ginkgo's report, or of several one after the other: what ran last counts."""
    found = {}
    for case in filter(None, (read_case(spec) for suite in suites for spec in suite["SpecReports"])):
        key = (case.part, case.name, case.pattern)
        if key not in found or case.verdict != "not run":
            found[key] = case
    return [found[key] for key in sorted(found)]


def item(text: str, indent: str = "") -> str:
    return textwrap.fill(text, COLUMNS, initial_indent=f"{indent}* ", subsequent_indent=f"{indent}  ", break_on_hyphens=False, break_long_words=False)


def table(cases: list[Case]) -> str:
    """The counts by part of the suite."""
    lines = ["| part | " + " | ".join(VERDICTS) + " |", "|---" * (len(VERDICTS) + 1) + "|"]
    for part in sorted({case.part for case in cases}):
        count = collections.Counter(case.verdict for case in cases if case.part == part)
        lines.append(f"| {part} | " + " | ".join(str(count[verdict]) for verdict in VERDICTS) + " |")
    return "\n".join(lines)


def by_name(cases: list[Case]) -> str:
    """One item for each test, with the kinds of volumes it ran over."""
    found = collections.defaultdict(list)
    for case in cases:
        found[case.part, case.name].append(case.pattern)
    return "\n".join(item(f"{part}: {name}: {'; '.join(patterns)}") for (part, name), patterns in found.items())


def by_reason(cases: list[Case] | list[Group]) -> str:
    """One item for each reason, and below it what has it."""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for case in cases:
        name = f"{case.part}: {case.name}" if isinstance(case, Case) else case.part
        found[case.reason[:REASON_MAX]][name].append(case.pattern)
    items = []
    for reason, names in sorted(found.items()):
        if reason == NOT_CHOSEN:  # nothing is to be said of each
            items += [item(f"{reason}: {sum(map(len, names.values()))} tests, see the table")]
            continue
        items += [item(reason), *(item(f"{name}: {'; '.join(patterns)}", "  ") for name, patterns in sorted(names.items()))]
    return "\n".join(items)


def document(cases: list[Case], groups: list[Group], versions: str) -> str:
    of = {verdict: [case for case in cases if case.verdict == verdict] for verdict in VERDICTS}
    total = ", ".join(f"{len(of[verdict])} {verdict}" for verdict in VERDICTS)
    sections = [textwrap.fill(f"**{total}.** {versions}.", COLUMNS, break_on_hyphens=False), table(cases)]
    for title, chosen in (("Failed:", of["failed"]), ("Not run:", of["not run"]), ("Skipped by the test itself:", of["skipped"]),
                          ("The suite has no such tests for this driver:", groups)):  # fmt: skip
        sections += [title, by_reason(chosen)] if chosen else []
    return "\n\n".join([*sections, "Passed:", by_name(of["passed"])]) + "\n\n"
