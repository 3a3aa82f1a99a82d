# SPDX-License-Identifier: Apache-2.0
"""The nodes as machines of the imitated cloud (tests/upstream): their disks, and the server that they ask."""

import contextlib
import ipaddress
import json
import os
import pathlib
import shutil
import signal
import socket
import sys

import guest_disks
import nodes
import programs

sys.path.append(str(programs.TREE / "tests/upstream"))
import cloud as clouds  # noqa: E402
import server as servers  # noqa: E402
from account import Account  # noqa: E402
from resources import Instance  # noqa: E402

ADDRESS = "169.254.169.254"  # of the metadata server in every machine of the real cloud; all else is there, too
CONNECT_S, ANSWER_S = 3, 60


class NodeDisks:
    """What cloud.Cloud does to the machines. A node that is down, or starts, finds its disks in a list (guest_disks.py)."""

    def __init__(self, machines: list[nodes.Node]):
        self.nodes = {node.name: node for node in machines}
        self.attached: dict[str, dict[str, dict]] = {name: {} for name in self.nodes}

    def attach(self, instance: str, device_name: str, file: pathlib.Path, read_only: bool) -> None:
        self._change(instance, self.attached[instance] | {device_name: {"file": str(file), "read_only": read_only}})

    def detach(self, instance: str, device_name: str) -> None:
        self._change(instance, {name: disk for name, disk in self.attached[instance].items() if name != device_name})

    def resize(self, instance: str, device_name: str) -> None:
        self._change(instance, self.attached[instance])

    def _change(self, instance: str, wanted: dict[str, dict]) -> None:
        node = self.nodes[instance]
        described = {name: disk | {"size": os.stat(disk["file"]).st_size} for name, disk in wanted.items()}
        draft = node.folder / "disks.new"
        draft.write_text(json.dumps(described))
        draft.rename(node.folder / "disks")
        if node.process:
            self._tell(node)
        self.attached[instance] = wanted

    def _tell(self, node: nodes.Node) -> None:
        try:
            connection = socket.create_connection((node.address, guest_disks.PORT), CONNECT_S)
        except OSError:
            return  # it starts, and has not read its list yet
        with connection:
            connection.settimeout(ANSWER_S)
            answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode(errors="replace")
        if answer != "ok":
            raise OSError(f"the disks of {node.name}: {answer or 'no answer'}")

    @contextlib.contextmanager
    def still(self):
        """No node runs meanwhile. Their kernels alone are stopped: one kernel is one process, and traces its programs."""
        running = [node.process for node in self.nodes.values() if node.process]
        try:
            for process in running:
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            yield
        finally:
            for process in running:
                process.send_signal(signal.SIGCONT)


class Server(servers.Server):
    """It knows a node by the address of the node or of its pods."""

    def __init__(self, cloud: clouds.Cloud, machines: list[nodes.Node], account: Account):
        super().__init__(cloud, listen=(ADDRESS, 80), account=account)
        self.nodes = machines

    def machine_of(self, caller: str) -> Instance | None:
        address = ipaddress.ip_address(caller)
        name = next((node.name for node in self.nodes if caller == node.address or address in ipaddress.ip_network(node.pods)), "")
        return next((one for one in self.cloud.instances.values() if one.name == name), None)


class Project:
    """A cloud whose machines are these nodes, while it is entered."""

    def __init__(self, folder: pathlib.Path, machines: list[nodes.Node]):
        nodes.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        self.folder = folder
        self.cloud = clouds.Cloud(folder, NodeDisks(machines))
        for node in machines:
            self.cloud.add_instance(node.name)
        self.account = Account(f"http://{ADDRESS}/account-token", self.cloud.project)
        self.server = Server(self.cloud, machines, self.account)

    def __enter__(self) -> "Project":
        self.server.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.server.__exit__(*error)
        shutil.rmtree(self.folder)

    def left(self) -> list[str]:
        """Its disks and snapshots, and where disks are attached."""
        found = [one.path for one in [*self.cloud.disks.values(), *self.cloud.snapshots.values()]]
        return found + [f"{instance.name} has {name}" for instance in self.cloud.instances.values() for name in instance.disks]
