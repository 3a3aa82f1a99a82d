# SPDX-License-Identifier: Apache-2.0
"""tdvolctl policy check and policy test: they judge offline, here with really signed evidence."""

import base64
import hashlib
import json
import subprocess
import time

import pytest
import sims

pytestmark = sims.needs_sim
MRTD, RTMR1, RTMR2, CONFIG = (hashlib.sha384(text.encode()).hexdigest() for text in ("mrtd", "1", "2", "config"))
TD = {"mrtd": MRTD, "rtmr1": RTMR1, "rtmr2": RTMR2, "mrconfigid": CONFIG}
IMAGE = {name: [TD[name]] for name in ("mrtd", "rtmr1", "rtmr2")}
SUBJECT = "system:serviceaccount:tdvol:tdvol-node"


def run(*words) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sims.stubs.BUILD / "ctl/tdvolctl", *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )


def openssl(*words, **options) -> bytes:
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, **options).stdout


def unpadded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


class Issuer:
    """An RSA key that makes a key set and signs tokens."""

    def __init__(self, folder):
        self.path = folder / "issuer.pem"
        openssl("genrsa", "-out", self.path, 2048)
        modulus = openssl("rsa", "-in", self.path, "-noout", "-modulus").decode().strip().partition("=")[2]
        self.keys = {"keys": [{"kty": "RSA", "kid": "k", "n": unpadded(bytes.fromhex(modulus)), "e": "AQAB"}]}

    def token(self, **changed) -> str:
        now = int(time.time())
        claims = {
            "iss": "https://k8s", "sub": SUBJECT, "aud": ["tdvol"], "nbf": now, "exp": now + 600,
            "kubernetes.io": {"node": {"name": "node-1"}},
        } | changed  # fmt: skip
        parts = [unpadded(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "k"}, claims)]
        return ".".join([*parts, unpadded(openssl("dgst", "-sha256", "-sign", self.path, input=".".join(parts).encode()))])


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture
def policy(tmp_path):
    """policy(owner, **td) writes a policy with a rule for this image and a rule for an administrator."""

    def write(owner, **td):
        rule = {
            "name": "nodes", "td": {"images": ["node-41"]} | td, "tenant": "acme", "may": ["create", "open"],
            "volumes": ["pvc-*"], "nodes": ["node-*"],
        }  # fmt: skip
        rule |= {"owner": owner} if owner else {"any_owner": True}
        admin = {
            "name": "admin", "match": {"certificate.cn": "admin"}, "tenant": "acme", "may": ["admin"], "volumes": ["*"],
        }  # fmt: skip
        path = tmp_path / "policy.json"
        path.write_text(json.dumps({"version": 1, "images": {"node-41": IMAGE}, "rules": [rule, admin]}))
        return path

    return write


@pytest.fixture
def judge(tmp_path, pki, facts):
    """judge(policy, words..., td={...}) judges a quote of this TD; returns tdvolctl's JSON."""

    def ask(policy, *words, td=TD, collateral=facts):
        (tmp_path / "td.json").write_text(json.dumps(td))
        quote = sims.quote_of(pki, tmp_path / "quote.bin", sims.ASKED, "--td", tmp_path / "td.json")
        done = run("policy", "test", policy, "--quote", quote, "--collateral", collateral,
                   "--test-root", pki / "root.der", "--json", *words)  # fmt: skip
        assert "TEST BUILD" in done.stderr
        said = json.loads(done.stdout)
        assert done.returncode == {"accepted": 0, "refused": 3}[said["verdict"]], done.stderr
        return said

    return ask


def test_check_tells_good_from_bad(tmp_path, policy):
    path = policy({"mrconfigid": [CONFIG]})
    done = run("policy", "check", path)
    assert done.returncode == 0 and "nodes" in done.stdout and "may create open" in done.stdout, done.stderr
    assert hashlib.sha256(path.read_bytes()).hexdigest() in done.stdout
    path.write_text(path.read_text().replace('"mrtd"', '"mrtdd"'))
    done = run("policy", "check", path)
    assert done.returncode == 1 and 'unknown key "mrtdd"' in done.stderr
    assert run("policy", "check", tmp_path / "none.json").returncode == 1
    assert run("policy", "check").returncode == 1


def test_check_recommends_a_recovery_certificate(tmp_path, policy):
    path = policy({"mrconfigid": [CONFIG]})
    done = run("policy", "check", path)
    assert done.stdout.count("recovery of tenant acme: none. Recommended: ") == 1, done.stdout
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-days", 1,
            "-subj", "/CN=offline key", "-keyout", tmp_path / "recovery.key", "-out", tmp_path / "recovery.crt")  # fmt: skip
    der = openssl("x509", "-in", tmp_path / "recovery.crt", "-outform", "DER")
    for recovery, said in (
        ({"certificate": (tmp_path / "recovery.crt").read_text()}, "recovery of tenant acme: EC 384, CN=offline key, until "),
        ({"tenants": {"acme": False}}, "recovery of tenant acme: none, as the policy says"),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"recovery": recovery}))
        done = run("policy", "check", path)
        assert done.returncode == 0 and said in done.stdout, done
        assert (hashlib.sha256(der).hexdigest() in done.stdout) == ("certificate" in recovery)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recovery": {"certificate": (tmp_path / "recovery.key").read_text()}}))
    done = run("policy", "check", path)
    assert done.returncode == 1 and "recovery: certificate: recovery certificate: there is a private key" in done.stderr


def test_an_owners_measured_value_is_accepted(policy, judge):
    said = judge(policy({"mrconfigid": [CONFIG]}))
    assert said["verdict"] == "accepted", said
    assert {name: said[name] for name in ("rule", "image", "tenant", "may", "volumes", "nodes")} == {
        "rule": "nodes", "image": "node-41", "tenant": "acme", "may": ["create", "open"], "volumes": ["pvc-*"],
        "nodes": ["node-*"],
    }  # fmt: skip
    steps = {(step.get("rule"), step["step"]): step["ok"] for step in said["steps"]}
    assert steps[None, "signature of the quote"] and steps["nodes", "MRTD"] and steps["nodes", "owner's MRCONFIGID"]
    assert steps["admin", "certificate"] is False


@pytest.mark.parametrize("td, reason", [
    ({"mrtd": CONFIG}, "Measurement"),
    ({"rtmr2": CONFIG}, "Measurement"),
    ({"mrconfigid": "00" * 48}, "OwnerMismatch"),
    ({"td_attributes": "0x50000000"}, None),
    ({"td_attributes": "0x0"}, "TdAttributes"),
    ({"td_attributes": "0x10000001"}, "TdDebug"),
    ({"xfam": "0x10602e7"}, "TdXfam"),
    ({"version": 5, "body_type": 3, "mrservicetd": CONFIG}, "TdServiceTd"),
])  # fmt: skip
def test_each_td_gets_its_own_reason(policy, judge, td, reason):
    said = judge(policy({"mrconfigid": [CONFIG]}), td=TD | td)
    assert said["reason"] == (reason or ""), said
    assert said["verdict"] == ("refused" if reason else "accepted")


def test_an_exception_lets_an_old_platform_in_until_it_ends(tmp_path, pki, policy, judge):
    facts = tmp_path / "old"
    sims.sim("collateral", "--pki", pki, "--out", facts, "--status", "OutOfDate")
    assert judge(policy(None), collateral=facts)["reason"] == "TcbOutOfDate"
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    advisories = judge(policy(None), collateral=facts)["advisories"]
    path = policy(None, tcb={"exceptions": [{"status": "OutOfDate", "advisories": advisories, "until": until}]})
    assert judge(path, collateral=facts)["verdict"] == "accepted"
    said = judge(path, "--at", int(time.time()) + 3601, collateral=facts)
    assert said["reason"] == "TcbOutOfDate" and "has ended" in said["detail"]


def test_an_event_log_must_replay(tmp_path, policy, judge):
    events = [{"register": "rtmr3", "type": 6, "text": "cluster 7"}, {"register": "rtmr3", "type": 6, "text": "x"}]
    (tmp_path / "log.json").write_text(json.dumps({"events": events}))
    sims.sim("ccel", "--td", tmp_path / "log.json", "--out", tmp_path / "ccel")
    # these events leave RTMR1 and RTMR2 zero: this tests only the log
    td = {"mrtd": MRTD, "mrconfigid": CONFIG, "events": events}
    path = policy({"rtmr3_event": "cluster 7"}, event_log=True)
    text = json.loads(path.read_text())
    text["images"]["node-41"] = {"mrtd": [MRTD], "mrconfigid": [CONFIG]}
    path.write_text(json.dumps(text))
    assert judge(path, td=td)["reason"] == "EventLogMissing"
    assert judge(path, "--event-log", tmp_path / "ccel", td=td)["verdict"] == "accepted"
    td["events"] = events[::-1]
    assert judge(path, "--event-log", tmp_path / "ccel", td=td)["reason"] == "EventLogMismatch"
    (tmp_path / "ccel").write_bytes((tmp_path / "ccel").read_bytes()[:50])
    assert judge(path, "--event-log", tmp_path / "ccel", td=td)["reason"] == "EventLogMalformed"


def test_a_known_text_extended_later_is_no_proof(tmp_path, policy, judge):
    """Root in a stranger's TD extends the victim's text, after the image has extended the stranger's own."""
    events = [{"register": "rtmr3", "type": 6, "text": text} for text in ("cluster evil", "cluster victim")]
    (tmp_path / "log.json").write_text(json.dumps({"events": events}))
    sims.sim("ccel", "--td", tmp_path / "log.json", "--out", tmp_path / "ccel")
    td = {"mrtd": MRTD, "mrconfigid": CONFIG, "events": events}
    for owner, reason in (("cluster victim", "OwnerMismatch"), ("cluster evil", "")):
        path = policy({"rtmr3_event": owner}, event_log=True)
        text = json.loads(path.read_text())
        text["images"]["node-41"] = {"mrtd": [MRTD], "mrconfigid": [CONFIG]}
        path.write_text(json.dumps(text))
        assert judge(path, "--event-log", tmp_path / "ccel", td=td)["reason"] == reason


@pytest.mark.parametrize("changed, reason", [
    ({}, ""),
    ({"aud": "x"}, "TokenAudience"),
    ({"iss": "https://other"}, "TokenIssuer"),
    ({"sub": "system:serviceaccount:default:default"}, "TokenSubject"),
    ({"nbf": 1, "exp": 1000}, "TokenExpired"),
    ({"exp": "soon"}, "TokenMalformed"),
])  # fmt: skip
def test_a_token_is_judged(tmp_path, policy, judge, issuer, changed, reason):
    owner = {"token": {"issuer": "https://k8s", "audience": "tdvol", "subjects": [SUBJECT], "keys": issuer.keys}}
    (tmp_path / "token").write_text(issuer.token(**changed) + "\n")
    said = judge(policy(owner), "--token", tmp_path / "token")
    assert said["reason"] == reason, said
    assert judge(policy(owner))["reason"] == "OwnerMissing"


def test_a_token_of_another_issuers_key_is_refused(tmp_path, policy, judge, issuer):
    owner = {"token": {"issuer": "https://k8s", "audience": "tdvol", "subjects": [SUBJECT], "keys": issuer.keys}}
    (tmp_path / "token").write_text(Issuer(tmp_path).token())
    assert judge(policy(owner), "--token", tmp_path / "token")["reason"] == "TokenSignature"


def test_a_proof_that_no_rule_wants_is_not_looked_at(tmp_path, policy, judge):
    (tmp_path / "proof").write_text("neither token nor certificate")
    for option in ("--token", "--owner-certificate"):
        said = judge(policy({"mrconfigid": [CONFIG]}), option, tmp_path / "proof")
        assert said["verdict"] == "accepted", said
        assert any("not looked at" in step["step"] for step in said["steps"]), said


def test_an_owners_certificate_is_judged(tmp_path, policy, judge):
    for name, subject in (("ca", "owner CA"), ("foreign", "other CA")):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 1,
                "-subj", f"/CN={subject}", "-addext", "basicConstraints=critical,CA:TRUE",
                "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.crt")  # fmt: skip
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=node-1",
                "-keyout", tmp_path / "leaf.key", "-out", tmp_path / "leaf.csr")  # fmt: skip
        openssl("x509", "-req", "-in", tmp_path / "leaf.csr", "-CA", tmp_path / f"{name}.crt", "-CAkey",
                tmp_path / f"{name}.key", "-days", 1, "-out", tmp_path / f"{name}-leaf.crt")  # fmt: skip
    owner = {"certificate": {"ca": (tmp_path / "ca.crt").read_text(), "common_names": ["node-?"]}}
    path = policy(owner)
    assert judge(path, "--owner-certificate", tmp_path / "ca-leaf.crt")["verdict"] == "accepted"
    assert judge(path, "--owner-certificate", tmp_path / "foreign-leaf.crt")["reason"] == "OwnerCertificate"
    assert judge(path, "--owner-certificate", tmp_path / "ca.crt")["reason"] == "OwnerCertificate"
    assert judge(path)["reason"] == "OwnerMissing"
    owner["certificate"]["common_names"] = ["other-*"]
    assert judge(policy(owner), "--owner-certificate", tmp_path / "ca-leaf.crt")["reason"] == "OwnerMismatch"


def test_an_administrator_needs_no_quote(policy):
    path = policy({"mrconfigid": [CONFIG]})
    done = run("policy", "test", path, "--certificate-cn", "admin")
    assert done.returncode == 0 and "Accepted by rule admin." in done.stdout, done.stderr
    done = run("policy", "test", path, "--certificate-cn", "administrator")
    assert done.returncode == 3 and "Refused, NotAttested" in done.stdout
    assert 'certificate.cn is "administrator", the rule wants "admin"' in done.stdout


def test_what_cannot_be_decided_is_no_refusal(tmp_path, policy, facts):
    path = policy({"mrconfigid": [CONFIG]})
    for words in (
        [tmp_path / "none.json"], [path, "--quote", tmp_path / "none"], [path, "--event-log", path], [path, "--frob"],
        [path, "--token", tmp_path / "none"], [path, "--certificate-sha256", "xyz"], [],
        [path, "--test-root", path],
    ):  # fmt: skip
        done = run("policy", "test", *words)
        assert done.returncode == 1 and done.stderr.startswith("tdvolctl: policy test: "), (words, done.stderr)
