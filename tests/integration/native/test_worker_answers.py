# SPDX-License-Identifier: Apache-2.0
"""What passes between the broker and the root worker of a node: a front that was taken over stands in between."""

import contextlib
import os

import brokers
import grpc
import pytest
from brokers import CALL_SECONDS, DRIVER, Node, create, keybroker
from cryptography.exceptions import InvalidSignature


@contextlib.contextmanager
def refused(code: grpc.StatusCode, part: str = "", reason: str = ""):
    """The call must fail with this code, this text in its message, and this reason in the trailing metadata."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = caught.value
    assert error.code() == code and part in error.details(), error.details()
    assert dict(error.trailing_metadata() or ()).get("tdvol-reason", "") == reason


def get(stub, volume_id: str) -> keybroker.Record:
    request = keybroker.GetRecordRequest(driver=DRIVER, volume_id=volume_id)
    return stub.GetRecord(request, timeout=CALL_SECONDS).record


def test_answers_to_a_worker_are_signed_for_its_question(broker):
    stub, node, nonce = broker.stub(), Node(), os.urandom(32)
    ca = (broker.dir / "ca.crt").read_bytes()
    create(stub, "v")
    request = keybroker.OpenVolumeRequest(
        driver=DRIVER, volume_id="v", node="n1", boot_id="b1", sealing_public_key=node.public_key, nonce=nonce,
    )  # fmt: skip
    opened = stub.OpenVolume(request, timeout=CALL_SECONDS)
    brokers.check_signature("OpenVolume", nonce, opened, ca, node.public_key)
    for kind, other in (("OpenVolumeReadOnly", nonce), ("ChangeRecord", nonce), ("OpenVolume", os.urandom(32))):
        with pytest.raises(InvalidSignature):
            brokers.check_signature(kind, other, opened, ca, node.public_key)
    opened.record.spec.integrity = keybroker.INTEGRITY_NONE  # a front that turns integrity off
    with pytest.raises(InvalidSignature):
        brokers.check_signature("OpenVolume", nonce, opened, ca, node.public_key)
    get_request = keybroker.GetRecordRequest(driver=DRIVER, volume_id="v", nonce=nonce)
    brokers.check_signature("GetRecord", nonce, stub.GetRecord(get_request, timeout=CALL_SECONDS), ca)
    node.open(stub, "v")
    change = node.change_request(get(stub, "v"), keybroker.CHANGE_READY, attempt=2, header_digest=b"\1" * 32)
    change.nonce = nonce
    answer = stub.ChangeRecord(change, timeout=CALL_SECONDS)
    brokers.check_signature("ChangeRecord", nonce, answer, ca, change.change.SerializeToString())
    get_request.nonce = nonce[:31]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "nonce"):
        stub.GetRecord(get_request, timeout=CALL_SECONDS)


def test_a_change_that_a_front_made_up_is_refused(broker):
    """A front that was taken over has the node's certificate and every message, but no secret."""
    stub, node = broker.stub(), Node()
    create(stub, "v")
    new = node.open(stub, "v").record

    def forged(record, kind, proof=b"", **fields):
        request = node.change_request(record, kind, **fields)
        request.proof = proof
        with refused(grpc.StatusCode.PERMISSION_DENIED, reason="ChangeProof"):
            stub.ChangeRecord(request, timeout=CALL_SECONDS)

    ready = {"attempt": 1, "header_digest": b"\2" * 32}
    forged(new, keybroker.CHANGE_READY, **ready)
    forged(new, keybroker.CHANGE_READY, b"\0" * 32, **ready)
    honest = node.change_request(new, keybroker.CHANGE_READY, attempt=1, header_digest=b"\1" * 32).proof
    forged(new, keybroker.CHANGE_READY, honest, **ready)  # another header digest
    record = node.ready(stub, new)
    first = node.change_request(record, keybroker.CHANGE_OPENED, open_counter=1)
    record = stub.ChangeRecord(first, timeout=CALL_SECONDS).record
    forged(record, keybroker.CHANGE_OPENED, open_counter=2)
    forged(record, keybroker.CHANGE_OPENED, first.proof, open_counter=1)  # of an older version
    closed = node.change_request(record, keybroker.CHANGE_CLOSED, is_closed=True)
    forged(record, keybroker.CHANGE_CLOSED, is_closed=True)
    forged(record, keybroker.CHANGE_CLOSED, clean_hash=b"\3" * 32)
    record = node.change(stub, record, keybroker.CHANGE_OPENED, open_counter=2)
    forged(record, keybroker.CHANGE_CLOSED, closed.proof, is_closed=True)  # the end of the opening before
    assert get(stub, "v").version == record.version
    denied = [line for line in broker.audit() if line.get("word") == "ChangeProof"]
    assert len(denied) == 8 and all(line["decision"] == "deny" for line in denied)
    bare = node.change_request(record, keybroker.CHANGE_CLOSED)
    bare.proof = b""  # a front may give the lease back, and may not say how the volume was closed
    assert not stub.ChangeRecord(bare, timeout=CALL_SECONDS).record.is_closed
