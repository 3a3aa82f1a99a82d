# SPDX-License-Identifier: Apache-2.0
"""A node that demands its broker's evidence (--broker-policy): the broker runs in a simulated TD of its own.

There is no device-mapper here, so nothing is staged. A node attests only to a broker that has shown what it runs, and
its storage health shows whether it is served.
"""

import contextlib
import json
import pathlib

import pytest
import sims
import tds
from test_node import NODE, Plugin
from test_verify import image_policy

pytestmark = sims.needs_sim
SHOWN = "the broker has shown what it runs"


@pytest.fixture
def token(tmp_path, cluster):
    path = tmp_path / "token"
    path.write_bytes(cluster.token(NODE))
    return path


@pytest.fixture
def make_td(tmp_path, pki):
    """make_td(name, description) mounts a TD's file systems."""
    with contextlib.ExitStack() as stack:

        def make(name: str, td: dict | None = None) -> sims.Guest:
            guest = sims.Guest(tmp_path / name, pki, td or {})
            stack.callback(guest.stop)
            return guest

        yield make


@pytest.fixture
def rules(tmp_path):
    return image_policy(tmp_path / "brokers.json")


@pytest.fixture
def start_node(tmp_path, tsm, pki, token, rules):
    """start_node(brokers...) starts a plugin in a TD that demands their evidence."""
    with contextlib.ExitStack() as stack:

        def start(*brokers, name: str = "plugin", policy: pathlib.Path | None = rules, ca=None) -> Plugin:
            words = ["--broker-policy", policy, "--test-root", pki / "root.der"] if policy else []
            plugin = Plugin(tmp_path / name, tsm.root, [one.address for one in brokers],
                            ca or brokers[0].dir / "ca.crt", "--owner-token", token, *words)  # fmt: skip
            stack.callback(plugin.stop)
            return plugin

        yield start


def refusal(plugin: Plugin) -> str:
    """Why the node is not served; no quote of the node was given away."""
    plugin.wait(lambda: plugin.problems() and plugin.lines("not attested"), "the broker is refused")
    assert plugin.problems()[0][0] == "BrokerUnreachable" and "BrokerEvidence" in plugin.problems()[0][1]
    assert "ok" not in plugin.attestations()
    assert not plugin.lines(SHOWN)
    return plugin.lines("not attested")[-1]["error"]


def asked(broker, method: str) -> list:
    return [line for line in broker.audit() if line.get("method") == method]


def test_a_broker_of_the_right_image_serves(start, make_td, start_node):
    guest = make_td("broker-td")
    broker = start(tsm_root=guest.root, event_log=guest.log)
    plugin = start_node(broker)
    plugin.wait_ready()
    (shown,) = plugin.lines(SHOWN)
    assert shown["fits"] == "rule brokers, image image-1"
    broker.stop()


def test_a_broker_of_another_image_gets_no_quote_and_no_token(start, make_td, start_node, tmp_path):
    guest = make_td("broker-td", {"mrtd": "ee" * 48})
    broker = start(tsm_root=guest.root, event_log=guest.log)
    plugin = start_node(broker)
    said = refusal(plugin)
    assert "Measurement" in said and "compare what runs as the broker with --broker-policy" in said
    assert not asked(broker, "Attest")
    broker.stop()


def test_a_broker_in_no_td_is_refused(start, start_node, tmp_path):
    broker = start(tsm_root=tmp_path / "nothing")
    said = refusal(start_node(broker))
    assert "must show what it runs (--broker-policy)" in said and "configfs" in said
    assert not asked(broker, "Attest")
    broker.stop()


def test_a_broker_without_collateral_for_its_own_platform_is_refused(start, make_td, start_node, facts, tmp_path, pki):
    """It verifies nodes of another kind of platform."""
    sims.sim("collateral", "--pki", pki, "--out", tmp_path / "other", "--fmspc", "b0c06f000000")
    guest = make_td("broker-td")
    broker = start(tsm_root=guest.root, event_log=guest.log, collateral_dir=tmp_path / "other")
    said = refusal(start_node(broker))
    assert "CollateralMissing" in said and "give the broker the collateral of its own platform" in said
    broker.stop()


def test_without_the_option_nothing_is_demanded(start, start_node, tmp_path):
    broker = start(tsm_root=tmp_path / "nothing")
    plugin = start_node(broker, policy=None)
    plugin.wait_ready()
    assert not plugin.lines(SHOWN)
    broker.stop()


@pytest.fixture
def both(start, make_td, tmp_path):
    """both(image of the first) starts two brokers with keys of their own, and gives them and a file with both CAs."""

    def make(first: dict | None = None):
        guests = [make_td("td-1", first), make_td("td-2")]
        brokers = [start(f"broker-{i}", tsm_root=guest.root, event_log=guest.log) for i, guest in enumerate(guests)]
        (tmp_path / "ca.pem").write_bytes(b"".join((one.dir / "ca.crt").read_bytes() for one in brokers))
        return *brokers, tmp_path / "ca.pem"

    return make


def test_of_two_brokers_the_one_that_shows_good_evidence_serves(both, start_node):
    bad, good, ca = both({"rtmr2": "dd" * 48})
    plugin = start_node(bad, good, ca=ca)
    plugin.wait_ready()
    assert plugin.lines("not attested")[0]["reason"] == "BrokerEvidence"
    assert len(plugin.lines(SHOWN)) == 1 and asked(good, "Attest") and not asked(bad, "Attest")
    bad.stop()
    good.stop()


def test_each_key_has_to_show_its_own_evidence(both, start_node):
    first, second, ca = both()
    plugin = start_node(first, second, ca=ca)
    plugin.wait_ready()
    first.stop()
    plugin.wait(lambda: asked(second, "Attest"), "the second broker serves")
    plugin.wait_ready()
    assert len(plugin.lines(SHOWN)) == 2
    second.stop()


def test_a_new_session_needs_the_evidence_once(start, make_td, start_node):
    guest = make_td("broker-td")
    broker = start(tsm_root=guest.root, event_log=guest.log, session_lifetime_s=2)
    plugin = start_node(broker)
    plugin.wait(lambda: len(plugin.lines("attested")) >= 3, "three sessions")
    assert len(plugin.lines(SHOWN)) == 1
    broker.stop()


def test_a_policy_that_changed_counts_for_the_next_session(start, make_td, start_node, rules):
    guest = make_td("broker-td")
    broker = start(tsm_root=guest.root, event_log=guest.log, session_lifetime_s=3)
    plugin = start_node(broker)
    plugin.wait_ready()
    image_policy(rules, mrtd=["aa" * 48])
    plugin.wait(lambda: plugin.lines("not attested"), "the broker is refused")
    assert "Measurement" in plugin.lines("not attested")[0]["error"]
    image_policy(rules)  # what was shown under this one still counts
    sessions = len(plugin.lines("attested"))
    plugin.wait(lambda: len(plugin.lines("attested")) > sessions, "the broker is accepted again")
    assert len(plugin.lines(SHOWN)) == 1
    broker.stop()


@pytest.mark.parametrize("text, part", [("{}", "version"), ("[", "policy"), (None, "No such file")])
def test_a_node_with_a_wrong_policy_does_not_start(start, start_node, rules, text, part):
    broker = start()
    rules.unlink() if text is None else rules.write_text(text)
    plugin = start_node(broker)
    assert plugin.process.wait(20) == 2
    said = [line["error"] for line in plugin.lines("cannot start")]
    assert said and "--broker-policy" in said[0] and part in said[0]
    broker.stop()
