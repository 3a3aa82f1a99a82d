#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A strict CSI driver for tests: the "upstream" below a stacked plugin. fake_upstream.py FOLDER

It is a process of its own, so tests kill and start it again. Its volumes are files, attached as loop devices or SCSI
disks. It refuses what any real driver refuses. Two "nodes" of one cloud can run on this machine: each has its own
socket and sees only the disks that are attached to it.

FOLDER/config.json     switches (class Config), read at each call
FOLDER/faults/*.json   faults to inject (class Rule), oldest name first; each is removed when it is used up
FOLDER/calls.jsonl     the calls: {"method", "node", "request" (base64), "code"}, written when a call ends
FOLDER/state.json      volumes, snapshots, attachments; it outlives the process
FOLDER/controller.sock, FOLDER/NODE.sock: the sockets; those of nodes have the controller's service, too
"""

import base64
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import sys
import threading
import time
import traceback

import grpc

import fake_controller
import fake_node
import fake_snapshots
from fake_driver import Code, Config, Refused, check, csi, write_whole

UNKNOWN_FIELD = 1999  # a field that no published CSI version has


@dataclasses.dataclass
class Rule:
    """A fault: what happens at a call of method, after skip calls, times times (-1: always)."""

    method: str
    node: str = ""  # only at this node's socket
    skip: int = 0
    times: int = 1
    delay: float = 0
    gates: tuple[str, ...] = ()  # files before and after the work: the call makes GATE.reached, and waits for GATE
    code: str = ""  # the call answers this code
    message: str = "injected"
    done: bool = False  # with code: the work is done all the same, so the answer is lost
    exit: str = ""  # "before", "after": the process ends, before or after the work
    publish: str = ""  # NodePublishVolume publishes: "decoy" another device, "file" no device, "nothing"
    flood: int = 0  # the answer has so many more bytes


def varint(value: int) -> bytes:
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def unknown_field(data: bytes, number: int = UNKNOWN_FIELD) -> bytes:
    """A field that the .proto file does not have, to be added to an encoded message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


class Driver(fake_controller.Controller, fake_snapshots.Snapshots, fake_node.Node):
    """All services."""


SERVICES = ("Identity", "Controller", "GroupController", "Node")


class Server:
    """Counts, records and disturbs the calls."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.faults = folder, folder / "faults"
        self.faults.mkdir(exist_ok=True)
        self.driver = Driver(folder, self.config())
        self.busy: set[str] = set()
        self.lock = threading.Lock()

    def config(self) -> Config:
        path = self.folder / "config.json"
        given = json.loads(path.read_text()) if path.exists() else {}
        return Config(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})

    def rule(self, method: str, node: str) -> Rule | None:
        """The fault for this call, which counts."""
        for path in sorted(self.faults.glob("[!.]*.json")):
            rule = Rule(**json.loads(path.read_text()))
            if rule.method not in (method, "*") or rule.node not in ("", node):
                continue
            fires = not rule.skip
            if fires:
                rule.times -= rule.times > 0
            else:
                rule.skip -= 1
            if rule.times:
                write_whole(path, dataclasses.asdict(rule))
            else:
                path.unlink()
            if fires:
                return rule
        return None

    def record(self, method: str, node: str, request, code: str) -> None:
        line = {"method": method, "node": node, "code": code,
                "request": base64.b64encode(request.SerializeToString(deterministic=True)).decode()}  # fmt: skip
        with (self.folder / "calls.jsonl").open("a") as calls:
            calls.write(json.dumps(line) + "\n")

    @contextlib.contextmanager
    def _operation(self, request):
        """One call per volume at a time, as in many drivers."""
        key = self.driver.config.serial and (getattr(request, "volume_id", "") or getattr(request, "name", ""))
        with self.lock:
            check(not key or key not in self.busy, Code.ABORTED, f"another call works on {key}")
            self.busy.add(key)
        try:
            yield
        finally:
            with self.lock:
                self.busy.discard(key)

    def _work(self, method: str, request, node: str, rule: Rule | None):
        function = getattr(self.driver, method, None)
        with self.lock:
            config = self.driver.config = self.config()
            check(function and getattr(config, getattr(function, "capability", "name")), Code.UNIMPLEMENTED, f"no {method}")
            try:
                return function(request, node, rule)
            finally:
                self.driver.state.save()

    @staticmethod
    def _wait(rule: Rule | None, number: int) -> None:
        if rule and rule.gates:
            gate = pathlib.Path(rule.gates[number])
            gate.with_name(f"{gate.name}.reached").touch()
            while not gate.exists():
                time.sleep(0.002)

    def call(self, method: str, request, node: str, rule: Rule | None) -> bytes:
        with self._operation(request):
            if rule and rule.exit == "before":
                os._exit(9)
            if rule and rule.delay:
                time.sleep(rule.delay)
            if rule and rule.code and not rule.done:
                raise Refused(Code[rule.code], rule.message)
            self._wait(rule, 0)
            answer = self._work(method, request, node, rule).SerializeToString()
            self._wait(rule, 1)
            if rule and rule.exit == "after":
                os._exit(9)
            if rule and rule.code:
                raise Refused(Code[rule.code], rule.message)
            if word := self.driver.config.unknown_field:
                answer += unknown_field(word.encode())
            return answer + unknown_field(bytes(rule.flood)) if rule and rule.flood else answer

    def handle(self, method: str, node: str):
        def answer(request, context):
            with self.lock:
                rule = self.rule(method, node)
            code = "OK"
            try:
                return self.call(method, request, node, rule)
            except Refused as refused:
                code = refused.code.name
                context.abort(refused.code, str(refused))
            except Exception as error:
                code = "INTERNAL"
                traceback.print_exc()
                context.abort(Code.INTERNAL, f"{type(error).__name__}: {error}")
            finally:
                with self.lock:
                    self.record(method, node, request, code)

        return answer

    def serve(self, node: str, path: pathlib.Path) -> grpc.Server:
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
        for name in SERVICES:
            service = csi.DESCRIPTOR.services_by_name[name]
            handlers = {
                method.name: grpc.unary_unary_rpc_method_handler(
                    self.handle(method.name, node), request_deserializer=getattr(csi, method.input_type.name).FromString)
                for method in service.methods
            }  # fmt: skip
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        path.unlink(missing_ok=True)
        assert server.add_insecure_port(f"unix:{path}"), path
        server.start()
        return server


def main() -> int:
    folder = pathlib.Path(sys.argv[1])
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    served = Server(folder)
    nodes = {"controller": "", **{name: name for name in served.config().nodes}}
    servers = [served.serve(node, folder / f"{name}.sock") for name, node in nodes.items()]
    signal.sigwait(signals)
    for server in servers:
        server.stop(None).wait()
    if hasattr(served.driver.devices, "close"):
        served.driver.devices.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
