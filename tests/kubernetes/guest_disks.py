#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""In a node: the disks that the imitated cloud has attached to it, as SCSI disks (tests/upstream/disks.py).

    guest_disks.py NODE LIST ADDRESS

The file LIST says which disks there are (machines.py). It is read at the start and whenever somebody connects, who gets
"ok" or an error. The bytes are files of the host, in a file system (hostfs) that passes each write on at once.
"""

import json
import os
import pathlib
import socketserver
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "upstream"))
import disks  # noqa: E402

PORT = 2223
CONFIG = pathlib.Path("/run/configfs")  # in the usual place is the simulated Trust Domain
MOUNTS = pathlib.Path("/run/cloud-disks")
STARTED = pathlib.Path("/run/disks-attached")


class Machine:
    def __init__(self, node: str, wanted: pathlib.Path):
        self.node, self.wanted = node, wanted
        self.disks = disks.Disks([node], CONFIG)
        self.sizes: dict[str, int] = {}

    def refresh(self) -> None:
        """Makes the disks those of the list."""
        wanted = json.loads(self.wanted.read_text()) if self.wanted.exists() else {}
        for name in set(self.sizes) - set(wanted):
            self._detach(name)
        for name, disk in wanted.items():
            if name not in self.sizes:
                self._attach(name, pathlib.Path(disk["file"]), disk["read_only"])
            elif self.sizes[name] < disk["size"]:
                os.truncate(self._file(name, disk), disk["size"])  # on the host it has this size already
                self.disks.resize(self.node, name)
            self.sizes[name] = disk["size"]

    def _file(self, name: str, disk: dict) -> pathlib.Path:
        return MOUNTS / name / pathlib.Path(disk["file"]).name

    def _attach(self, name: str, file: pathlib.Path, read_only: bool) -> None:
        """By a mount of its own, so that no old page of the file is in memory."""
        folder = MOUNTS / name
        folder.mkdir(parents=True)
        disks.run("mount", "-t", "hostfs", "-o", file.parent, "disk", folder)
        self.disks.attach(self.node, name, folder / file.name, read_only)

    def _detach(self, name: str) -> None:
        self.disks.detach(self.node, name)
        disks.run("umount", MOUNTS / name)
        (MOUNTS / name).rmdir()
        del self.sizes[name]


class Handler(socketserver.StreamRequestHandler):
    machine: Machine

    def handle(self) -> None:
        try:
            self.machine.refresh()
            answer = "ok"
        except Exception as error:  # whatever it is, the cloud shall say it
            answer = f"{type(error).__name__}: {error}"
        self.wfile.write(answer.encode())


if __name__ == "__main__":
    disks.run("modprobe", "-a", *disks.MODULES)
    Handler.machine = Machine(sys.argv[1], pathlib.Path(sys.argv[2]))
    socketserver.TCPServer.allow_reuse_address = True
    with socketserver.TCPServer((sys.argv[3], PORT), Handler) as server:  # who cannot connect knows that the list is not read yet
        Handler.machine.refresh()
        STARTED.touch()
        server.serve_forever()
