# SPDX-License-Identifier: Apache-2.0
"""One cluster with tdvol for all flows, first with local volumes, then before another driver; and the table of what was seen."""

import json
import os
import pathlib
import signal
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import build  # noqa: E402
import install  # noqa: E402
import install_stacked  # noqa: E402
import watch  # noqa: E402
from cluster import METRICS_PORT, Cluster  # noqa: E402
from flow import Flow  # noqa: E402
from machines import Project  # noqa: E402

LAB = build.BUILD / "kubernetes"
TABLE = pytest.StashKey[list]()
FLOW = pytest.StashKey[Flow]()
FAILED = pytest.StashKey[bool]()


def pytest_configure(config) -> None:
    config.stash[TABLE] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as process 1 of its namespace it would ignore the signal
    config.addinivalue_line("markers", "only(kind, why): the flow is of this release alone, local or stacked")
    if os.environ.get("TDVOL_INSIDE") != "1":
        pytest.exit("start it by tests/run kubernetes, or by tests/kubernetes/run.py", 2)


@pytest.fixture(scope="session")
def empty_cluster():
    """A cluster of one node, without tdvol."""
    lab = Cluster(LAB)
    try:
        lab.add_node()
        yield lab
    finally:
        lab.stop()


@pytest.fixture(scope="session")
def lab(empty_cluster):
    """A cluster into which tdvol came by README.md's commands, and which Prometheus watches."""
    empty_cluster.releases = [install.install(empty_cluster)]
    broker = f"{watch.nodes.GATEWAY}:{METRICS_PORT}"
    empty_cluster.prometheus = watch.Prometheus(empty_cluster.folder / "prometheus", empty_cluster.kubectl, broker)
    yield empty_cluster
    empty_cluster.prometheus.stop()


@pytest.fixture(scope="session")
def two_nodes(lab):
    """The same with a second node."""
    if len(lab.nodes) == 1:
        lab.add_node()
        lab.releases[0].wait()
    return lab


@pytest.fixture(scope="session")
def stacked(two_nodes):
    """The release before Google's driver, over the imitated cloud, into the same cluster."""
    with Project(two_nodes.folder / "cloud", two_nodes.nodes) as project:
        two_nodes.releases.append(install_stacked.install(two_nodes, project))
        yield two_nodes.releases[-1]


@pytest.fixture(scope="session", params=["local", "stacked"])
def release(request, lab):
    """The release whose volumes the flows use: pytest runs all flows of the first before those of the second."""
    chosen = lab.releases[0] if request.param == "local" else request.getfixturevalue("stacked")
    chosen.make_default()
    return chosen


@pytest.fixture
def flow(request, release):
    only = request.node.get_closest_marker("only")
    if only and only.args[0] != release.kind:
        pytest.skip(only.args[1])
    made = Flow(release, request.node.name)
    request.node.stash[FLOW] = made
    yield made
    if request.node.stash.get(FAILED, False):
        made.rescue()
    else:
        made.finish()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call":
        item.stash[FAILED] = report.failed
    if FLOW in item.stash and report.failed:
        item.stash[FLOW].see(call.excinfo.exconly().replace("\n", " ")[:400])
    if FLOW in item.stash and (report.when == "teardown" or report.failed):
        made, rows = item.stash[FLOW], item.config.stash[TABLE]
        verdict = "FAILED" if report.failed or item.stash.get(FAILED, False) else "ok"
        row = {"flow": made.name.removeprefix("test_"), "verdict": verdict, "seconds": round(time.monotonic() - made.start, 1), "seen": made.seen}
        rows[:] = [*(one for one in rows if one["flow"] != row["flow"]), row]


def pytest_runtest_logreport(report) -> None:
    """A run takes an hour: what failed is said at once."""
    if report.failed:
        print(f"\n{report.longreprtext[-3000:]}", file=sys.__stderr__, flush=True)


def pytest_terminal_summary(terminalreporter, config) -> None:
    rows = config.stash[TABLE]
    terminalreporter.section("flows")
    for row in rows:
        terminalreporter.write_line(f"{row['flow']:<32} {row['verdict']:<6} {row['seconds']:>6.1f} s  {'; '.join(row['seen'])}")
    if rows:
        (LAB / "table.json").write_text(json.dumps(rows, indent=2))
