# SPDX-License-Identifier: Apache-2.0
"""A broker in a TD gets its master key from another broker that is open; and who does not get it."""

import concurrent.futures
import contextlib
import json
import os
import shutil
import time

import clusters
import grpc
import keybroker_pb2_grpc
import pytest
import sims
import tds
import test_attest
from brokers import CALL_SECONDS, create, free_port, get, hpke_open, keybroker, page, status

pytestmark = sims.needs_sim
SEALED, OPEN = keybroker.BROKER_STATE_SEALED, keybroker.BROKER_STATE_OPEN
DENIED, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
SECONDS = 40
INFO = b"tdvol v1 master key"


def replicas(owner: dict) -> dict:
    rule = tds.rule("replicas", "default", owner, may=["replicate"])
    del rule["nodes"]
    return rule


@pytest.fixture
def peer(start, cluster, pki, facts):
    """A broker that is open and gives its key to replicas."""
    made = start("peer", [replicas(cluster.owner())])
    made.root, made.facts = pki / "root.der", facts
    return made


@pytest.fixture
def make_td(tmp_path, pki):
    with contextlib.ExitStack() as ends:

        def make(td: dict | None = None, name: str = "td") -> sims.Guest:
            one = sims.Guest(tmp_path / name, pki, td or {})
            ends.callback(one.stop)
            return one

        yield make


@pytest.fixture
def make_asking(make_broker, cluster, make_td, peer):
    """A stopped broker with a volume, whose store has the peer's master key; it has none itself."""

    def make(td: sims.Guest | None = None, name: str = "asking"):
        broker = make_broker(name)
        master = broker.dir / "master.key"
        master.write_text((peer.dir / "master.key").read_text())
        broker.start()
        create(broker.stub(), "v")
        broker.stop()
        broker.text = master.read_text().strip()
        master.unlink()
        token = broker.dir / "token"
        token.write_bytes(cluster.token())
        td = td or make_td()
        broker.options = {"master_key": f"peer:{peer.address}", "peer_ca": peer.dir / "ca.crt", "owner_token": token,
                          "tsm_root": td.root, "event_log": td.log}  # fmt: skip
        return broker

    return make


@pytest.fixture
def asking(make_asking):
    return make_asking()


def sealed_why(broker) -> str:
    answer = status(broker.stub())
    assert answer.state == SEALED
    return answer.sealed_why


def wait_until_open(broker) -> None:
    end = time.monotonic() + SECONDS
    while status(broker.stub()).state != OPEN:
        assert time.monotonic() < end, broker.log.read_text()
        time.sleep(0.2)
    get(broker.stub(), "v")


def calls(broker, method: str) -> list[tuple]:
    return [(line["decision"], line.get("rule", "")) for line in broker.audit() if line.get("method") == method]


# --- the right way ---


def test_open_peer_gives_its_key_to_an_attested_replica(asking, peer):
    asking.start(**asking.options)
    assert status(asking.stub()).state == OPEN
    get(asking.stub(), "v")
    assert calls(peer, "Attest") == calls(peer, "Replicate") == [("allow", "replicas")]
    line = next(line for line in peer.audit() if line.get("method") == "Replicate")
    attested = next(line for line in peer.audit() if line.get("method") == "Attest")
    assert line["quote_sha256"] == attested["quote_sha256"] and attested["image"] == "image-1"
    for log in (asking.log, peer.log, peer.dir / "audit.jsonl", asking.dir / "audit.jsonl"):
        assert asking.text not in log.read_text()


def test_peers_are_tried_until_one_is_open(asking, peer, make_broker):
    closed = make_broker("closed").start(master_key="unseal:")
    both = [f"127.0.0.1:{free_port()}", closed.address, peer.address]
    ca = asking.dir / "cas.crt"
    ca.write_text((peer.dir / "ca.crt").read_text() + (closed.dir / "ca.crt").read_text())
    asking.start(**asking.options | {"master_key": f"peer:{','.join(both)}", "peer_ca": ca})
    assert status(asking.stub()).state == OPEN
    log = asking.log.read_text()
    assert log.count("a peer gave no master key") == 2 and "the broker is sealed" in log


def test_broker_waits_for_a_sealed_peer_and_says_so(asking, peer):
    policy = json.loads((peer.dir / "policy.json").read_text())
    policy["rules"][-1]["may"].append("unseal")
    (peer.dir / "policy.json").write_text(json.dumps(policy))
    peer.stop()
    peer.start(master_key="unseal:", test_root=peer.root, collateral_dir=peer.facts)
    http = f"127.0.0.1:{free_port()}"
    asking.start(**asking.options, http=http)
    assert f"it waits for a peer with the master key: {peer.address}: Attest: the broker is sealed" in sealed_why(asking)
    assert "waits for a peer" in page(http, "/readyz")
    assert peer.ctl("broker", "unseal", "--key-file", peer.dir / "master.key").returncode == 0
    wait_until_open(asking)


def test_people_may_bring_the_key_when_no_peer_is_open(asking, peer, tmp_path):
    peer.stop()
    asking.start(**asking.options)
    assert "it waits for a peer" in sealed_why(asking)
    wrong = tmp_path / "wrong"
    for path, text in ((wrong, os.urandom(32).hex()), (tmp_path / "right", asking.text)):
        path.write_text(text)
        path.chmod(0o600)
    done = asking.ctl("broker", "unseal", "--key-file", wrong)
    assert done.returncode == 1 and "made with another master key" in done.stderr
    assert asking.ctl("broker", "unseal", "--key-file", tmp_path / "right").returncode == 0
    wait_until_open(asking)


@pytest.mark.skipif(not clusters.ETCD or not shutil.which("etcdctl"), reason="etcd is not installed")
def test_replicas_over_etcd_bring_each_other_back(tmp_path, make_broker, make_td, cluster, pki, facts):
    """After the first start no file has the key: whichever broker is killed gets it from those that are left."""
    td, etcd = make_td(), clusters.Cluster(tmp_path / "etcd", [tds.brokers.ThisHost()])
    group = clusters.Replicas(etcd, make_broker)
    policy = json.loads((group.all[0].dir / "policy.json").read_text())
    policy["images"] = {"image-1": tds.IMAGE}
    policy["rules"].insert(0, replicas(cluster.owner()))
    peers = "peer:" + ",".join(one.address for one in group.all)
    verify = {"test_root": pki / "root.der", "collateral_dir": facts}
    try:
        for one in group.all:
            (one.dir / "policy.json").write_text(json.dumps(policy))
            (one.dir / "token").write_bytes(cluster.token())
            one.key = (one.dir / "master.key").read_text()
            one.options = verify | {"master_key": peers, "peer_ca": one.dir / "ca.crt", "owner_token": one.dir / "token",
                                    "tsm_root": td.root, "event_log": td.log}  # fmt: skip
        first, *others = group.all
        group.start(first, **verify)
        create(first.stub(), "v")
        for one in group.all:
            (one.dir / "master.key").unlink()
        for one in [*others, first, *others]:
            if one.process:
                one.process.kill()
                one.process.wait()
            group.start(one, **one.options)
            wait_until_open(one)
        for one in group.all:
            assert one.key.strip() not in one.log.read_text()
            one.stop()
            one.audit()
    finally:
        etcd.close()


# --- who gets nothing ---


def test_replica_with_another_measurement_gets_nothing_and_says_why(make_asking, peer, make_td):
    asking = make_asking(make_td({"mrtd": "4d02" + 46 * "00"}))
    asking.start(**asking.options)
    assert "Attest: the broker's policy does not allow this, Measurement" in sealed_why(asking)
    assert calls(peer, "Replicate") == [] and calls(peer, "Attest") == [("deny", "")]


def test_replica_of_another_owner_gets_nothing(asking, peer):
    asking.options["owner_token"].write_bytes(tds.Cluster().token())
    asking.start(**asking.options)
    assert "Token" in sealed_why(asking)
    asking.stop()
    asking.start(**asking.options | {"owner_token": None})
    assert "OwnerMissing" in sealed_why(asking)
    asking.stop()
    asking.start(**asking.options | {"owner_token": asking.dir / "none"})  # it may still come
    assert "--owner-token" in sealed_why(asking)
    assert calls(peer, "Replicate") == []


def test_rule_without_the_permission_gives_nothing(asking, peer, cluster):
    tds.write_policy(peer, tds.rule("nodes", "default", cluster.owner()))
    peer.stop()
    peer.start(test_root=peer.root, collateral_dir=peer.facts)
    asking.start(**asking.options)
    assert "Replicate: the broker's policy does not allow this" in sealed_why(asking)
    assert calls(peer, "Replicate") == [("deny", "nodes")]


def test_debug_td_and_other_machines_ask_nobody(make_asking, peer, make_td, tmp_path):
    asking = make_asking(make_td({"td_attributes": "0x10000001"}))
    assert "this is a debug TD" in asking.start_in_vain(**asking.options)
    assert "configfs-tsm" in asking.start_in_vain(**asking.options | {"tsm_root": tmp_path / "none"})
    assert calls(peer, "Attest") == []


def test_key_of_another_store_is_refused(asking, peer, make_broker, start, cluster):
    other = start("other", [replicas(cluster.owner())])
    error = asking.start_in_vain(
        **asking.options | {"master_key": f"peer:{other.address}", "peer_ca": other.dir / "ca.crt"}
    )
    assert "made with another master key" in error


def ask(td: tds.Td, nonce: bytes = bytes(32), key: bytes | None = None) -> bytes:
    request = keybroker.ReplicateRequest(nonce=nonce, sealing_public_key=key or td.node.public_key)
    return td.stub.Replicate(request, timeout=CALL_SECONDS).sealed_key


def test_key_is_sealed_to_the_attested_key_and_the_question(peer, pki, cluster):
    td = tds.Td(peer, pki)
    with test_attest.refused(UNAUTHENTICATED, "NotAttested"):
        ask(td)
    challenge = td.challenge()
    td.attest(owner_token=cluster.token())
    nonce = os.urandom(32)
    sealed = ask(td, nonce)
    own = td.node.private_key, td.node.public_key, sealed, INFO
    assert hpke_open(*own, challenge.broker_key_sha256 + nonce).hex() == (peer.dir / "master.key").read_text().strip()
    for aad in (challenge.broker_key_sha256 + bytes(32), bytes(32) + nonce, b""):
        with pytest.raises(Exception, match=""):
            hpke_open(*own, aad)
    with test_attest.refused(DENIED, "SealingKey"):
        ask(td, nonce, tds.brokers.Node().public_key)
    for wrong in (b"", bytes(31), bytes(33)):
        with tds.brokers.refused(grpc.StatusCode.INVALID_ARGUMENT, "nonce must have 32 bytes"):
            ask(td, wrong)
    with tds.brokers.refused(grpc.StatusCode.INVALID_ARGUMENT, "sealing_public_key must have 32 bytes"):
        ask(td, nonce, b"short")
    given = [line["code"] for line in peer.audit() if line.get("method") == "Replicate" and line["decision"] == "allow"]
    assert given.count("OK") == 1


def test_certificate_without_evidence_gets_nothing(peer):
    for client in ("admin", "node"):
        with pytest.raises(grpc.RpcError) as caught:
            peer.stub(client).Replicate(
                keybroker.ReplicateRequest(nonce=bytes(32), sealing_public_key=bytes(range(32))), timeout=CALL_SECONDS
            )
        assert caught.value.code() in (DENIED, UNAUTHENTICATED)
    assert ("allow", "replicas") not in calls(peer, "Replicate")


def test_policy_that_gives_the_key_to_anybody_is_refused(peer, cluster):
    loose = [
        {"name": "r", "match": {"certificate.cn": "admin"}, "tenant": "default", "may": ["replicate"], "volumes": ["*"]},
        {"name": "r", "td": {"images": ["image-1"]}, "any_owner": True, "tenant": "default", "may": ["replicate"],
         "volumes": ["*"]},
    ]  # fmt: skip
    peer.stop()
    for rule in loose:
        tds.write_policy(peer, rule)
        assert "needs both td and owner" in peer.start_in_vain()


# --- a server that only looks like a peer ---


class Liar(keybroker_pb2_grpc.KeyBrokerServicer):
    """It has a broker's certificate, takes every quote, and answers what a test wants."""

    def __init__(self, owner):
        self.key_sha256, self.sealed, self.seen = b"", b"", None
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        keybroker_pb2_grpc.add_KeyBrokerServicer_to_server(self, self.server)
        key, certificate = ((owner.dir / name).read_bytes() for name in ("broker.key", "broker.crt"))
        self.key_sha256 = tds.spki_sha256(tds.x509.load_pem_x509_certificate(certificate))
        port = self.server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        self.address = f"127.0.0.1:{port}"
        self.server.start()

    def GetChallenge(self, request, context):
        return keybroker.GetChallengeResponse(nonce=bytes(32), remaining_ms=60000, broker_key_sha256=self.key_sha256)

    def Attest(self, request, context):
        return keybroker.AttestResponse(remaining_ms=60000, tenant="t", rule="r")

    def Replicate(self, request, context):
        self.seen = request
        return keybroker.ReplicateResponse(sealed_key=self.sealed)


REFUSALS = "sealed master key has", "was changed, or sealed to another key", "needs more memory than one call may use"


def test_answers_of_a_false_peer_are_refused(asking, peer, make_broker):
    liar = Liar(make_broker("liar"))
    options = asking.options | {"master_key": f"peer:{liar.address}"}
    try:
        asking.start(**options)
        assert "it waits for a peer" in sealed_why(asking)
        asking.stop()
        assert liar.seen is None  # another CA's certificate: it was asked nothing
        options["peer_ca"] = make_broker("liar").dir / "ca.crt"
        for sealed in (b"", b"x", bytes(80), os.urandom(80), bytes(81), os.urandom(60000)):
            liar.sealed = sealed
            asking.start(**options)
            why = sealed_why(asking)
            assert any(part in why for part in REFUSALS), why
            asking.stop()
        assert len(liar.seen.nonce) == 32 and liar.seen.nonce != bytes(32)
    finally:
        liar.server.stop(None)


def test_recorded_answer_opens_nothing_later(asking, peer, pki, cluster, make_broker):
    """What the true peer sealed to one TD is given to another one."""
    td = tds.Td(peer, pki)
    td.attest(owner_token=cluster.token())
    liar = Liar(peer)
    liar.sealed = ask(td)
    try:
        asking.start(**asking.options | {"master_key": f"peer:{liar.address}"})
        assert "was changed, or sealed to another key" in sealed_why(asking)
    finally:
        liar.server.stop(None)


@pytest.mark.parametrize("changed, why", [
    ({"peer_ca": None}, "peer: needs --peer-ca"),
    ({"peer_ca": "/none"}, "--peer-ca"),
    ({"master_key": "peer:"}, "peer:HOST:PORT"),
    ({"master_key": "peer:nowhere"}, "is not HOST:PORT"),
    ({"master_key": "peer:a:1,,b:2"}, "is not HOST:PORT"),
    ({"master_key": "peer:" + ",".join(f"a:{n}" for n in range(1, 10))}, "give 1 to 8 addresses"),
])  # fmt: skip
def test_wrong_options_are_refused(asking, changed, why):
    assert why in asking.start_in_vain(**asking.options | changed)


def test_policy_check_names_the_permission(peer):
    done = peer.ctl("policy", "check", peer.dir / "policy.json")
    assert done.returncode == 0 and "may replicate" in done.stdout, done
    assert json.loads((peer.dir / "policy.json").read_text())["rules"][0]["may"] == ["replicate"]
