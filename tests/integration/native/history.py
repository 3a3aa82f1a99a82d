# SPDX-License-Identifier: Apache-2.0
"""What many clients saw of records, and whether one store that does one thing after the other could have shown it.

A record's version orders its states, so no search is needed. The history of a record is linearizable if and only if
* a version has one content, whoever sees it;
* a change was made from the version that it expected: it gave the next one, and nobody else gave the same;
* a call that begins after another has ended sees no older version, and a change sees a newer one;
* each version was given by a change that somebody saw, or by one whose end nobody knows."""

import collections
import dataclasses
import itertools
import threading
import time


@dataclasses.dataclass(frozen=True)
class Call:
    """One call. Times are of one monotonic clock, in seconds."""

    volume: str
    # "read"; "take" makes a change or finds it made; "change" makes one from the version that it expects; "repeat" is
    # a change that is asked for again, because the end of the first is not known: it makes the change or finds it made.
    kind: str
    start: float
    end: float  # infinity if its end is not known
    version: int | None = None  # None: the end is not known
    content: bytes = b""
    expected: int | None = None  # of a change


@dataclasses.dataclass
class Had:
    """A node had a volume and wrote to it, as far as it knows, from one moment to another."""

    volume: str
    node: str
    since: float
    until: float
    is_silent: bool = False  # it asked for nothing while its lease ended
    is_closed: bool = False


def pairs(had: list[Had]):
    """Each two times that different nodes had one volume, in their order."""
    of_volume = collections.defaultdict(list)
    for one in sorted(had, key=lambda one: one.since):
        of_volume[one.volume].append(one)
    for times in of_volume.values():
        yield from ((a, b) for a, b in itertools.combinations(times, 2) if a.node != b.node)


def overlaps(had: list[Had]) -> list[str]:
    """Volumes that two nodes had at the same time."""
    return [f"{a.volume}: {a.node} had it until {a.until:.3f}, and {b.node} from {b.since:.3f} on"
            for a, b in pairs(had) if b.since < a.until]  # fmt: skip


def taken(had: list[Had]) -> int:
    """How many silent nodes have lost a volume to another one."""
    return len({id(a) for a, _ in pairs(had) if a.is_silent})


class History:
    """Calls of many threads."""

    def __init__(self):
        self.calls: list[Call] = []
        self.lock = threading.Lock()

    def add(self, call: Call) -> None:
        with self.lock:
            self.calls.append(call)

    def check(self) -> list[str]:
        """What no such store could have shown."""
        of_volume = collections.defaultdict(list)
        for call in self.calls:
            of_volume[call.volume].append(call)
        return [f"{volume}: {fault}" for volume, calls in sorted(of_volume.items()) for fault in faults_of(calls)]


def faults_of(calls: list[Call]):
    seen = [call for call in calls if call.version is not None]
    yield from contents(seen)
    yield from changes(seen)
    yield from order(seen)
    yield from sources(calls, seen)


def contents(seen: list[Call]):
    first = {}
    for call in seen:
        if first.setdefault(call.version, call.content) != call.content:
            yield f"version {call.version} was seen with two contents"


def changes(seen: list[Call]):
    given = collections.Counter(call.version for call in seen if call.kind == "change")
    yield from (f"version {version} was given by {n} changes" for version, n in given.items() if n > 1)
    for call in seen:
        if call.kind == "change" and call.version != call.expected + 1:
            yield f"a change from version {call.expected} gave version {call.version}"


def order(seen: list[Call]):
    """Goes through all begins and ends in the order of time; a call that ends at a moment is before one that begins then."""
    moments = sorted([(call.end, 0, i) for i, call in enumerate(seen)] + [(call.start, 1, i) for i, call in enumerate(seen)])
    newest, newest_at_start = -1, {}
    for _, is_start, i in moments:
        call = seen[i]
        if is_start:
            newest_at_start[i] = newest
        else:
            newest = max(newest, call.version)
    for i, before in newest_at_start.items():
        call = seen[i]
        if call.version < before or (call.kind == "change" and call.version == before):
            yield f"a {call.kind} gave version {call.version}, but {before} had been seen before it began"


def sources(calls: list[Call], seen: list[Call]):
    """Versions between the first and the last that no seen call has given need one call each whose end is not known."""
    if not seen:
        return
    known = {call.version for call in seen if call.kind in ("take", "change")}
    first = min(call.version for call in seen)
    read = {call.version for call in seen}
    missing = [v for v in range(first + 1, max(read) + 1) if v not in known]
    lost = sum(call.version is None and call.kind in ("take", "change") for call in calls)
    if len(missing) > lost:
        yield f"versions {missing[:10]} came from nobody: only {lost} changes have no known end"


def now() -> float:
    return time.monotonic()
