# SPDX-License-Identifier: Apache-2.0
"""Calls that are changed, cancelled, or no calls at all: the broker refuses them and serves everybody else."""

import collections
import contextlib
import os
import random
import time

import brokers
import grpc
import http2
import pytest
from brokers import CALL_SECONDS, DRIVER, Node, create, keybroker

SECONDS = float(os.environ.get("TDVOL_ATTACK_SECONDS", "10"))
SEED = int(os.environ.get("TDVOL_SEED", "7"))
# What a caller may hear of a call that is wrong. UNAVAILABLE: a deletion has not ended, or collateral is missing.
# CANCELLED and DEADLINE_EXCEEDED are the test's own doing.
REFUSALS = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "ABORTED", "PERMISSION_DENIED",
    "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED",
}  # fmt: skip


def good_calls(node: Node) -> dict:
    return {
        "CreateRecord": keybroker.CreateRecordRequest(driver=DRIVER, volume_id="w", spec=brokers.spec()),
        "BeginCopy": keybroker.BeginCopyRequest(driver=DRIVER, volume_id="v", kind=keybroker.KIND_SNAPSHOT, name="x"),
        "EndCopy": keybroker.EndCopyRequest(driver=DRIVER, volume_id="v", kind=keybroker.KIND_SNAPSHOT, name="x"),
        "CopyRecord": keybroker.CopyRecordRequest(driver=DRIVER, source_volume_id="v", source_version=1, volume_id="s",
                                                  kind=keybroker.KIND_SNAPSHOT, name="x", location="n"),
        "GetRecord": keybroker.GetRecordRequest(driver=DRIVER, volume_id="v"),
        "ListRecords": keybroker.ListRecordsRequest(driver=DRIVER, page_size=1),
        "OpenVolume": keybroker.OpenVolumeRequest(driver=DRIVER, volume_id="v", node=node.name, boot_id=node.boot_id,
                                                  sealing_public_key=node.public_key),
        "ChangeRecord": keybroker.ChangeRecordRequest(
            driver=DRIVER, volume_id="v", expected_version=2, node=node.name, boot_id=node.boot_id,
            change=keybroker.Change(kind=keybroker.CHANGE_READY, attempt=1, header_digest=b"\1" * 32)),
        "BeginDelete": keybroker.DeleteRequest(driver=DRIVER, volume_id="w"),
        "FinishDelete": keybroker.DeleteRequest(driver=DRIVER, volume_id="w"),
        "CancelDelete": keybroker.DeleteRequest(driver=DRIVER, volume_id="w"),
        "GetChallenge": keybroker.GetChallengeRequest(),
        "Attest": keybroker.AttestRequest(nonce=b"1" * 32, tee="tdx", quote=bytes(5000), event_log=bytes(300),
                                          sealing_public_key=b"2" * 32, owner_token=b"a.b.c", owner_certificate=b"x"),
    }  # fmt: skip


def mutate(chance: random.Random, body: bytes) -> bytes:
    """Up to six changes: a byte, a bit, bytes that come, go, or come again."""
    out = bytearray(body)
    for _ in range(chance.randint(0, 6)):
        at, what = chance.randint(0, len(out)), chance.randint(0, 4)
        if what == 0:
            out[at:at] = chance.randbytes(chance.randint(1, 9))
        elif what == 1:
            del out[at : at + chance.randint(1, 9)]
        elif what == 2:
            out += out[at : at + chance.randint(1, 300)]
        elif at < len(out):
            out[at] = chance.randrange(256) if what == 3 else out[at] ^ 1 << chance.randrange(8)
    return bytes(out)


def is_served(broker: brokers.Broker) -> bool:
    answer = broker.stub().GetRecord(keybroker.GetRecordRequest(driver=DRIVER, volume_id="v"), timeout=CALL_SECONDS)
    broker.channels.pop().close()
    return answer.record.volume_id == "v"


def test_changed_and_cancelled_calls_harm_nothing(broker):
    chance, node, codes = random.Random(SEED), Node(), collections.Counter()
    stub = broker.stub()
    create(stub, "v")
    node.open(stub, "v")
    files = len(os.listdir(f"/proc/{broker.process.pid}/fd"))
    with grpc.secure_channel(broker.address, broker.credentials()) as channel:
        good = {name: call.SerializeToString() for name, call in good_calls(node).items()}
        calls = {name: channel.unary_unary(f"/tdvol.keybroker.v1.KeyBroker/{name}") for name in good}
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and broker.process.poll() is None:
            name = chance.choice(list(good))
            call = calls[name].future(mutate(chance, good[name]), timeout=5)
            if chance.random() < 0.15:
                time.sleep(chance.choice([0, chance.random() / 300]))
                call.cancel()
            with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
                call.result()
            codes[call.code().name] += 1
    print(f"seed {SEED}: {sum(codes.values())} calls: {dict(codes)}")
    assert broker.process.poll() is None, broker.log.read_text()
    assert set(codes) <= REFUSALS and len(codes) > 3
    assert is_served(broker)
    assert len(os.listdir(f"/proc/{broker.process.pid}/fd")) <= files + 3


PLAIN = {":method": "POST", ":scheme": "https", ":authority": "localhost", ":path": "/a/b"}
MANY = [(f"h{number}", "b" * 100) for number in range(120)]


@pytest.mark.parametrize("fields", [
    PLAIN | {"te": "x", "big": "a" * 9000},
    PLAIN | {":scheme": "x", "big": "a" * 9000},
    PLAIN | {"grpclb_client_stats": "x", "big": "a" * 9000},
    PLAIN | {"te": "x"} | dict(MANY),
    PLAIN | {"te": "x", "big": "a" * 20000},
    PLAIN | {":scheme": "ftp"} | dict(MANY),
    PLAIN | {"grpclb_client_stats": "x"} | dict(MANY),
    PLAIN | {"te": "trailers", "big": "a" * 9000},
    PLAIN | {"big": "a" * 9000, "te": "x"},
    PLAIN | {":unknown": "x"},
    PLAIN | {"te": "trailers", ":path": ""},
    {"te": "trailers"},
    {":method": "CONNECT", ":authority": "localhost"},
], ids=lambda fields: "-".join([*fields][-2:]).replace(":", ""))  # fmt: skip
def test_odd_headers_harm_nobody(broker, fields):
    create(broker.stub(), "v")
    header = http2.block(*fields.items())
    first, rest = header[:16000], header[16000:]
    files = [broker.dir / f"clients/node.{end}" for end in ("crt", "key")]
    connection = http2.Connection(broker.port, http2.context(*files))
    connection.send(http2.frame(http2.HEADERS, 0 if rest else http2.END_HEADERS, 1, first))
    if rest:
        connection.send(http2.frame(http2.CONTINUATION, http2.END_HEADERS, 1, rest))
    frames = connection.frames(1)
    assert {http2.RST_STREAM, http2.GOAWAY, http2.HEADERS} & {kind for kind, *_ in frames}
    assert broker.process.poll() is None, broker.log.read_text()
    assert is_served(broker)
    connection.close()
