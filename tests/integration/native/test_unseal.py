# SPDX-License-Identifier: Apache-2.0
"""A sealed broker gets its master key from administrators, whole or in shares."""

import concurrent.futures
import json
import os
import pty
import subprocess

import grpc
import pytest
from brokers import create, free_port, get, keybroker, page, program, refused, status

SEALED, OPEN = keybroker.BROKER_STATE_SEALED, keybroker.BROKER_STATE_OPEN


@pytest.fixture
def sealed(make_broker):
    """A broker that has a volume, and was started again without its key."""
    broker = make_broker().start()
    create(broker.stub(), "v")
    broker.stop()
    return broker.start(master_key="unseal:")


@pytest.fixture
def shares(sealed, tmp_path):
    done = sealed.ctl("broker", "split", "--key-file", sealed.dir / "master.key", "--shares", "3", "--needed", "2",
                      "--out", tmp_path / "shares")  # fmt: skip
    assert done.returncode == 0 and "2 of them open the broker" in done.stdout, done.stderr
    return [tmp_path / f"shares/share-{number}" for number in (1, 2, 3)]


def unseal(broker, file, client: str = "admin") -> subprocess.CompletedProcess:
    return broker.ctl("broker", "unseal", "--key-file", file, client=client)


def assert_open(broker) -> None:
    assert status(broker.stub()).state == OPEN
    get(broker.stub(), "v")
    assert broker.ctl("broker", "status").stdout.startswith("state    open\n")
    broker.audit()  # the chain goes on


def test_key_opens_the_broker_without_a_restart(sealed):
    answer = status(sealed.stub())
    assert answer.state == SEALED
    assert answer.sealed_why == "the broker is sealed: it waits for the master key: tdvolctl broker unseal"
    assert "it waits for the master key" in sealed.ctl("broker", "status").stdout
    with refused(grpc.StatusCode.UNAVAILABLE, "waits for the master key"):
        get(sealed.stub(), "v")
    done = unseal(sealed, sealed.dir / "master.key")
    assert (done.returncode, done.stdout) == (0, "the broker is open\n"), done.stderr
    assert_open(sealed)
    assert [line["event"] for line in sealed.audit()].count("start") == 2
    again = unseal(sealed, sealed.dir / "master.key")
    assert again.returncode == 1 and "the broker is open already" in again.stderr


def test_shares_open_the_broker(sealed, shares):
    first = unseal(sealed, shares[2])
    assert (first.returncode, first.stdout) == (0, "1 of 2 shares are there; the broker needs 1 more\n")
    assert status(sealed.stub()).state == SEALED
    assert "it has 1 of 2 shares" in sealed.ctl("broker", "status").stdout
    twice = unseal(sealed, shares[2])
    assert twice.returncode == 1 and "share number 3 is here already" in twice.stderr
    assert unseal(sealed, shares[0]).stdout == "the broker is open\n"
    assert_open(sealed)


def test_two_administrators_at_once(sealed, shares):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda file: unseal(sealed, file), shares[:2]))
    assert "the broker is open\n" in [one.stdout for one in done], [one.stderr for one in done]
    assert_open(sealed)


def test_key_of_another_store_is_refused_by_name(sealed, tmp_path):
    other = tmp_path / "other.key"
    other.write_text(os.urandom(32).hex())
    other.chmod(0o600)
    done = unseal(sealed, other)
    assert done.returncode == 1 and "the store was made with another master key" in done.stderr
    assert status(sealed.stub()).state == SEALED
    assert unseal(sealed, sealed.dir / "master.key").returncode == 0
    assert_open(sealed)


def test_typing_errors_and_mixed_shares_are_refused(sealed, shares, tmp_path):
    text = shares[0].read_text()
    wrong = tmp_path / "wrong"
    for bad in (text[:-1] + ("0" if text[-1] != "0" else "1"), text[:40], "abc", "0" * 63, ":" * 100, "x" * 257):
        wrong.write_text(bad)
        wrong.chmod(0o600)
        assert unseal(sealed, wrong).returncode != 0
    assert "it waits for the master key" in sealed.ctl("broker", "status").stdout
    other = tmp_path / "other.key"
    other.write_text(os.urandom(32).hex())
    other.chmod(0o600)
    sealed.ctl("broker", "split", "--key-file", other, "--shares", "2", "--needed", "2", "--out", tmp_path / "mixed")
    assert unseal(sealed, shares[0]).returncode == 0
    mixed = unseal(sealed, tmp_path / "mixed/share-1")
    assert mixed.returncode == 1 and "belongs to another key" in mixed.stderr
    assert unseal(sealed, shares[1]).returncode == 0
    assert_open(sealed)


def test_only_who_may_unseals(sealed):
    policy = json.loads((sealed.dir / "policy.json").read_text())
    done = unseal(sealed, sealed.dir / "master.key", client="node")
    assert done.returncode == 1 and "DENIED" in done.stderr
    for rule in policy["rules"]:
        rule["may"] = [word for word in rule["may"] if word != "unseal"]
    (sealed.dir / "policy.json").write_text(json.dumps(policy))
    sealed.stop()
    sealed.start(master_key=None)
    done = unseal(sealed, sealed.dir / "master.key")
    assert done.returncode == 1 and "DENIED" in done.stderr
    assert status(sealed.stub()).state == SEALED


def test_broker_with_a_key_file_takes_no_key(make_broker):
    broker = make_broker().start()
    done = unseal(broker, broker.dir / "master.key")
    assert done.returncode == 1 and "is open already" in done.stderr


def test_readiness_says_what_it_waits_for(make_broker):
    broker, port = make_broker(), free_port()
    broker.start(master_key="unseal:", http=f"127.0.0.1:{port}")
    address = f"127.0.0.1:{port}"
    assert "it waits for the master key: tdvolctl broker unseal" in page(address, "/readyz")
    assert unseal(broker, broker.dir / "master.key").returncode == 0  # a new store takes it
    assert "sealed" not in page(address, "/readyz")
    assert "tdvol_keybroker_sealed 0\n" in page(address, "/metrics")


def test_key_is_typed_at_a_terminal_and_not_shown(sealed):
    leader, follower = pty.openpty()
    environment = os.environ | {
        "TDVOL_BROKER": sealed.address, "TDVOL_BROKER_CA": str(sealed.dir / "ca.crt"),
        "TDVOL_CLIENT_CERT": str(sealed.dir / "clients/admin.crt"), "TDVOL_CLIENT_KEY": str(sealed.dir / "clients/admin.key"),
    }  # fmt: skip
    with subprocess.Popen([program("tdvolctl"), "broker", "unseal"], stdin=follower, stdout=subprocess.PIPE,
                          stderr=follower, env=environment, text=True) as asking:  # fmt: skip
        shown = b""
        while b"not shown): " not in shown:
            shown += os.read(leader, 1024)
        os.write(leader, (sealed.dir / "master.key").read_bytes())
        assert asking.communicate(timeout=60)[0] == "the broker is open\n"
    os.set_blocking(leader, False)
    shown += os.read(leader, 4096)
    assert (sealed.dir / "master.key").read_text().strip().encode() not in shown
    os.close(leader)
    os.close(follower)


def test_key_comes_from_a_credential_of_systemd(make_broker):
    broker = make_broker()
    assert "LoadCredentialEncrypted=master.key" in broker.start_in_vain(master_key="credential:master.key")
    broker.environment = {"CREDENTIALS_DIRECTORY": str(broker.dir)}
    broker.start(master_key="credential:master.key")
    assert status(broker.stub()).state == OPEN


def test_unknown_sources_and_wrong_splits_are_refused(make_broker, tmp_path):
    broker = make_broker()
    assert "file:PATH, fd:N, credential:NAME, vault:URL, kbs:URL, peer:HOST:PORT, unseal:" in broker.start_in_vain(master_key="hsm:1")
    for shares, needed in ((2, 3), (17, 2), (0, 0)):
        done = broker.ctl("broker", "split", "--key-file", broker.dir / "master.key", "--shares", shares,
                          "--needed", needed, "--out", tmp_path / "no")  # fmt: skip
        assert done.returncode == 2, done
    assert not list(tmp_path.glob("no/*"))
