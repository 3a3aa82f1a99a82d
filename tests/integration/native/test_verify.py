# SPDX-License-Identifier: Apache-2.0
"""tdvolctl verify: a bundle about a broker in a simulated TD is made, and checked by somebody else, offline."""

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time

import brokers
import grpc
import pytest
import sims
import tds
from brokers import CALL_SECONDS, Node, create, keybroker
from cryptography import x509

pytestmark = sims.needs_sim
REFUSED = 3
NONCE = "ab" * 32


def image_policy(path, **changed):
    """Which TDs may be a broker."""
    rule = {"name": "brokers", "td": {"images": ["image-1"]}, "any_owner": True, "tenant": "t",
            "may": ["open"], "volumes": ["*"], "nodes": ["*"]}  # fmt: skip
    path.write_text(json.dumps({"version": 1, "images": {"image-1": tds.IMAGE | changed}, "rules": [rule]}))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory, pki, facts):
    """A bundle of a broker in a TD that gave one key to a TD and one to a certificate."""
    base = tmp_path_factory.mktemp("verify")
    guest = sims.Guest(base / "guest", pki, {})
    broker = brokers.Broker(base / "broker")
    cluster = tds.Cluster()
    node_rule = {"name": "plain", "match": {"certificate.cn": "node"}, "tenant": "default", "may": ["create", "open"],
                 "without_attestation": True, "volumes": ["*"], "nodes": ["*"]}  # fmt: skip
    try:
        tds.write_policy(broker, tds.rule("nodes", "default", cluster.owner()), node_rule)
        broker.start(tsm_root=guest.root, event_log=guest.log, collateral_dir=facts, test_root=pki / "root.der")
        td = tds.Td(broker, pki)
        td.attest(owner_token=cluster.token("n1"))
        create(td.stub, "v")
        td.node.open(td.stub, "v")
        create(broker.stub(), "w")
        Node("n2").open(broker.stub(), "w")
        done = broker.ctl("verify", "make", base / "bundle", broker.dir / "audit.jsonl", "--nonce", NONCE,
                          "--policy", broker.dir / "policy.json", "--collateral", facts)  # fmt: skip
        assert done.returncode == 0, done.stderr
        without = broker.ctl("verify", "make", base / "no-quote", broker.dir / "audit.jsonl", "--no-quote")
        assert without.returncode == 0, without.stderr
        again = broker.ctl("verify", "make", base / "bundle", broker.dir / "audit.jsonl")
        assert again.returncode == 1 and "File exists" in again.stderr
        broker.stop()
    finally:
        broker.close()
        guest.stop()
    broker.bundle, broker.no_quote = base / "bundle", base / "no-quote"
    broker.root = pki / "root.der"
    image_policy(base / "brokers.json")
    broker.rules = base / "brokers.json"
    return broker


@pytest.fixture
def bundle(made, tmp_path):
    shutil.copytree(made.bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def check(made, bundle, *words):
    env = {key: value for key, value in os.environ.items() if not key.startswith("TDVOL_")}
    command = ["unshare", "--net"] if os.geteuid() == 0 else []
    return subprocess.run([*command, brokers.program("tdvolctl"), "verify", "check", bundle, "--test-root", made.root,
                           "--json", *map(str, words)], capture_output=True, text=True, timeout=60, check=False,
                          env=env)  # fmt: skip


def by_quote(made):
    return ["--broker-policy", made.rules, *by_name(made)]


def by_name(made):
    return ["--broker-ca", made.dir / "ca.crt", "--broker-name", "127.0.0.1"]


def accepted(made, bundle, *words) -> str:
    done = check(made, bundle, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return "\n".join(f"{step['step']}: {step.get('detail', '')}" for step in json.loads(done.stdout)["steps"])


def refused(made, bundle, *words) -> str:
    done = check(made, bundle, *words)
    assert done.returncode == REFUSED, done.stdout + done.stderr
    return "\n".join(f"{step['step']}: {step['detail']}" for step in json.loads(done.stdout)["steps"] if not step["ok"])


def test_a_bundle_is_accepted_and_each_statement_has_its_proof(made, bundle):
    said = accepted(made, bundle, *by_quote(made), "--nonce", NONCE, "--key", made.dir / "master.key")
    assert "signed by the key of the certificate" in said and "after your nonce was known" in said
    assert "genuine, by Intel's root" in said and "over this nonce and the broker's key" in said
    assert "it fits rule brokers of --broker-policy, image image-1" in said
    assert "as the broker signed" in said and "it ends where the broker says" in said
    assert "releases: 2 keys were given out" in said
    assert f'1 to 1 quotes of image "image-1", MRTD {tds.IMAGE["mrtd"][0]}' in said
    assert "1 to callers with a certificate and no quote" in said


def test_a_ca_or_a_key_may_vouch_for_the_broker(made, bundle):
    certificate = x509.load_pem_x509_certificate((made.dir / "broker.crt").read_bytes())
    key = tds.spki_sha256(certificate).hex()
    assert "has the name" in accepted(made, bundle, *by_name(made))
    assert "it is one that you gave" in accepted(made, bundle, "--broker-key-sha256", key)
    accepted(made, made.no_quote, *by_name(made))
    assert "says whose it is" in refused(made, bundle)
    assert "says whose it is" in refused(made, bundle, "--broker-policy", made.rules)  # anybody can start this image
    assert "it is none that you gave" in refused(made, bundle, "--broker-key-sha256", "00" * 32)
    assert "another name" in refused(made, bundle, *by_name(made)[:3], "other.example")
    assert check(made, bundle, *by_name(made)[:2]).returncode == 2


def test_a_client_of_the_same_ca_is_no_broker(made, bundle):
    """Clients have certificates of that CA. The name tells them from the broker."""
    assert "another name" in refused(made, bundle, "--broker-ca", made.dir / "ca.crt", "--broker-name", "admin")


def test_a_broker_of_another_image_is_refused(made, bundle, tmp_path):
    other = image_policy(tmp_path / "other.json", mrtd=["aa" * 48])
    assert "broker's image" in refused(made, bundle, "--broker-policy", other, *by_name(made))


def test_without_the_quote_a_policy_of_images_refuses(made, bundle):
    (bundle / "quote.bin").unlink()
    assert "nothing proves what runs as this broker" in refused(made, bundle, *by_quote(made))


def test_another_nonce_is_refused(made, bundle):
    assert "another nonce than yours" in refused(made, bundle, *by_quote(made), "--nonce", "cd" * 32)


def change_statement(bundle, **changed) -> None:
    path = bundle / "statement.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_changed_statement_is_refused(made, bundle):
    said = json.loads((bundle / "statement.json").read_text())
    statement = keybroker.Statement.FromString(base64.b64decode(said["statement"]))
    assert statement.heads[0].seq > 0
    statement.heads[0].seq -= 1
    change_statement(bundle, statement=base64.b64encode(statement.SerializeToString()).decode())
    assert "not the bytes that were signed" in refused(made, bundle, *by_quote(made))
    change_statement(bundle, statement=said["statement"], nonce="cd" * 32)
    assert "not the bytes that were signed" in refused(made, bundle, *by_quote(made), "--nonce", "cd" * 32)


def test_a_quote_for_something_else_is_refused(made, bundle, pki, tmp_path):
    """A genuine quote of the right image, over other bytes."""
    sims.quote_of(pki, bundle / "quote.bin")
    assert "not over this nonce and the broker's key" in refused(made, bundle, *by_quote(made))


def test_a_debug_td_is_refused_with_and_without_a_policy(made, bundle, pki, tmp_path):
    """Its quote is genuine, and over the right nonce and key."""
    certificate = x509.load_pem_x509_certificate((made.dir / "broker.crt").read_bytes())
    data = hashlib.sha512(b"tdvol v1 broker evidence".ljust(32, b"\0") + bytes.fromhex(NONCE)
                          + tds.spki_sha256(certificate)).digest()  # fmt: skip
    sims.quote_of(pki, bundle / "quote.bin", data)
    accepted(made, bundle, *by_quote(made))
    assert "no --broker-policy says" in accepted(made, bundle, *by_name(made))
    (tmp_path / "td.json").write_text('{"td_attributes": "0x10000001"}')
    sims.quote_of(pki, bundle / "quote.bin", data, "--td", tmp_path / "td.json")
    assert "debug" in refused(made, bundle, *by_quote(made)).lower()
    assert "debug" in refused(made, bundle, *by_name(made)).lower()


def test_a_changed_quote_is_refused(made, bundle):
    raw = bytearray((bundle / "quote.bin").read_bytes())
    raw[200] ^= 1
    (bundle / "quote.bin").write_bytes(raw)
    assert "quote:" in refused(made, bundle, *by_quote(made))


def test_another_policy_is_refused(made, bundle):
    (bundle / "policy.json").write_text((bundle / "policy.json").read_text() + "\n")
    assert "the policy in the bundle is another one" in refused(made, bundle, *by_quote(made))


def test_logs_that_are_changed_or_cut_are_refused(made, bundle):
    path = next((bundle / "logs").iterdir())
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(True)[:-1]))
    assert "was cut" in refused(made, bundle, *by_quote(made))
    path.write_bytes(whole.replace(b'"volume":"w"', b'"volume":"x"'))
    assert "the file was changed" in refused(made, bundle, *by_quote(made))
    path.unlink()
    assert "there is no log" in refused(made, bundle, *by_quote(made))


def test_a_bundle_that_is_none_is_an_error(made, bundle, tmp_path):
    assert check(made, tmp_path / "none", *by_quote(made)).returncode == 1
    for text in ("", "[]", "{}", '{"nonce":"zz"}', json.dumps({"nonce": NONCE, "statement": "?"})):
        (bundle / "statement.json").write_text(text)
        assert check(made, bundle, *by_quote(made)).returncode == 1


# --- the broker's quote ---


def test_a_broker_in_no_td_says_so(make_broker, tmp_path):
    broker = make_broker().start(tsm_root=tmp_path / "nothing")
    with brokers.refused(grpc.StatusCode.FAILED_PRECONDITION):
        broker.stub("admin").GetEvidence(keybroker.GetEvidenceRequest(nonce=bytes(32)), timeout=CALL_SECONDS)
    done = broker.ctl("verify", "make", tmp_path / "bundle", broker.dir / "audit.jsonl")
    assert done.returncode == 1 and "--no-quote" in done.stderr
    broker.stop()


def test_the_quote_is_over_nonce_and_key_and_a_few_a_minute(make_broker, tmp_path, pki):
    guest = sims.Guest(tmp_path / "guest", pki, {})
    try:
        broker = make_broker().start(tsm_root=guest.root, master_key=None)  # sealed
        stub = broker.stub("admin")
        certificate = x509.load_pem_x509_certificate((broker.dir / "broker.crt").read_bytes())
        with brokers.refused(grpc.StatusCode.INVALID_ARGUMENT, "nonce"):
            stub.GetEvidence(keybroker.GetEvidenceRequest(nonce=bytes(31)), timeout=CALL_SECONDS)
        nonce = os.urandom(32)
        answer = stub.GetEvidence(keybroker.GetEvidenceRequest(nonce=nonce), timeout=CALL_SECONDS)
        wanted = hashlib.sha512(b"tdvol v1 broker evidence".ljust(32, b"\0") + nonce + tds.spki_sha256(certificate))
        at = sims.REPORT_DATA_AT
        assert answer.tee == "tdx" and answer.quote[at : at + 64] == wanted.digest()
        with brokers.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "too often"):
            for _ in range(10):
                stub.GetEvidence(keybroker.GetEvidenceRequest(nonce=nonce), timeout=CALL_SECONDS)
        assert guest.folders() == []
        broker.stop()
    finally:
        guest.stop()


def ask(stub, nonce=bytes(32), key=b""):
    return stub.GetEvidence(keybroker.GetEvidenceRequest(nonce=nonce, key_sha256=key), timeout=CALL_SECONDS)


def signing_key(broker) -> bytes:
    return tds.spki_sha256(x509.load_pem_x509_certificate((broker.dir / "broker.crt").read_bytes()))


def is_about(quote: bytes, key: bytes, nonce: bytes = bytes(32)) -> bool:
    wanted = hashlib.sha512(b"tdvol v1 broker evidence".ljust(32, b"\0") + nonce + key).digest()
    return sims.report_data(quote) == wanted


def test_a_client_that_has_proven_nothing_yet_gets_the_evidence_with_its_collateral(start, tsm, pki, facts):
    broker = start(tsm_root=tsm.root)
    answer = ask(tds.Td(broker, pki).stub)
    assert is_about(answer.quote, signing_key(broker))
    (only,) = json.loads(answer.collateral)["sets"]
    assert base64.b64decode(only["root_ca_crl"]) == (facts / "root_ca_crl.der").read_bytes()
    broker.stop()


def test_without_collateral_the_quote_goes_alone(make_broker, tsm):
    broker = make_broker().start(tsm_root=tsm.root)
    answer = ask(broker.stub("admin"))
    assert answer.quote and not answer.collateral
    broker.stop()


def test_the_quote_is_about_a_key_that_the_broker_has_and_no_other(start, tsm, pki):
    """A connection keeps the key with which it began; answers are signed with the new one."""
    broker = start(tsm_root=tsm.root)
    stub, old = broker.stub("admin"), signing_key(broker)
    assert is_about(ask(stub, key=old).quote, old)
    with brokers.refused(grpc.StatusCode.INVALID_ARGUMENT, "key_sha256"):
        ask(stub, key=old[:31])
    with brokers.refused(grpc.StatusCode.UNAVAILABLE, "does not have the key"):
        ask(stub, key=bytes(32))
    done = brokers.ctl("broker", "init", broker.dir.parent / "other")
    assert done.returncode == 0, done.stderr
    for name in ("broker.key", "broker.crt"):
        (broker.dir / f"{name}.new").write_bytes((broker.dir.parent / "other" / name).read_bytes())
        (broker.dir / f"{name}.new").chmod(0o600)
        (broker.dir / f"{name}.new").rename(broker.dir / name)
    broker.process.send_signal(signal.SIGHUP)
    new, end = signing_key(broker), time.monotonic() + 20
    assert new != old
    while "certificates changed" not in broker.log.read_text():
        assert time.monotonic() < end, broker.log.read_text()
        time.sleep(0.1)
    answer = ask(stub, key=new)
    assert is_about(answer.quote, new) and is_about(ask(stub).quote, old)
    broker.stop()
