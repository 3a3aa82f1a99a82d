# SPDX-License-Identifier: Apache-2.0
"""Starts Google's persistent disk driver against the imitated cloud.

    disks.prepare()
    with Bed(folder, {"node-1": "c3-standard-4"}) as bed:
        driver = bed.start("node-1")       driver.socket is its CSI socket
"""

import contextlib
import pathlib
import subprocess
import sys

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests/integration"))

import harness  # noqa: E402
import machine  # noqa: E402

import cloud as clouds  # noqa: E402
import disks  # noqa: E402
import program  # noqa: E402
import server as servers  # noqa: E402

# As in the driver's own manifest.
ARGUMENTS = (
    "--supports-dynamic-iops-provisioning=hyperdisk-balanced,hyperdisk-extreme",
    "--supports-dynamic-throughput-provisioning=hyperdisk-balanced,hyperdisk-throughput,hyperdisk-ml",
)


def share(folder: pathlib.Path) -> None:
    """Makes mounts below the folder the same in all mount namespaces, as kubelet's folder is."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "--make-shared", folder], check=True)


class Driver:
    """One process, with the controller's and the node's services, or one of both.

    by_id: the links of its machine, where these are not in disks.BY_ID. Then the process has a mount namespace of
    its own, and kubelet's folder must be shared.
    """

    def __init__(self, server: servers.Server, folder: pathlib.Path, name: str = "upstream", controller: bool = True,
                 node: bool = True, by_id: pathlib.Path = disks.BY_ID, arguments: tuple[str, ...] = ARGUMENTS):  # fmt: skip
        self.server, self.name, self.by_id = server, name, by_id
        self.socket = folder / f"{name}.sock"
        self.config = folder / f"{name}.conf"
        self.arguments = [
            f"--run-controller-service={str(controller).lower()}", f"--run-node-service={str(node).lower()}", *arguments,
        ]  # fmt: skip
        self.daemon: harness.Daemon | None = None
        folder.mkdir(parents=True, exist_ok=True)
        harness.ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.config.write_text(
            f"[global]\ntoken-url = http://{server.address}/token\ntoken-body = {servers.TOKEN_BODY}\n"
            f"project-id = {server.cloud.project}\nzone = {server.instance.path.split('/')[3]}\n"
        )

    def command(self) -> list[str]:
        command = [
            str(program.path()), f"--endpoint=unix:{self.socket}", f"--compute-endpoint=http://{self.server.address}/",
            f"--cloud-config={self.config}", f"--node-name={self.server.instance.name}", "--v=4", *self.arguments,
        ]  # fmt: skip
        if self.by_id == disks.BY_ID:
            return command
        return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
                f'mount --bind "$0" {disks.BY_ID} && exec "$@"', str(self.by_id), *command]  # fmt: skip

    def start(self) -> "Driver":
        """Starts it and waits until it answers."""
        self.socket.unlink(missing_ok=True)
        self.daemon = harness.Daemon(self.name, self.command(), {"GCE_METADATA_HOST": self.server.address})
        machine.wait_for_server(self.socket, self.daemon.check_running)
        return self

    def stop(self) -> None:
        """SIGTERM; the driver ends at once, without an exit code of its own."""
        if self.daemon:
            self.daemon.stop()
            self.daemon = None

    def kill(self) -> None:
        if self.daemon:
            self.daemon.kill()
            self.daemon = None

    def new_output(self) -> str:
        return self.daemon.new_output() if self.daemon else ""


class Bed:
    """A cloud with machines, whose disks are SCSI disks of this kernel, and the drivers that a test starts."""

    def __init__(self, folder: pathlib.Path, machines: dict[str, str], **options):
        """machines: their types, by name. options: those of the cloud."""
        self.folder = folder
        self.scsi = disks.Disks(list(machines))
        self.cloud = clouds.Cloud(folder / "disks", self.scsi, **options)
        self.servers: dict[str, servers.Server] = {}
        self.drivers: list[Driver] = []
        self._ends = contextlib.ExitStack()
        for name, kind in machines.items():
            self.cloud.add_instance(name, machine_type=kind)

    def __enter__(self) -> "Bed":
        self._ends.callback(self.scsi.close)
        self._ends.callback(self.cloud.close)
        for instance in list(self.cloud.instances.values()):
            self.servers[instance.name] = self._ends.enter_context(servers.Server(self.cloud, instance.name))
        return self

    def __exit__(self, error, *_) -> None:
        for driver in self.drivers:
            if error:
                print(driver.new_output())
            driver.kill()
        self._ends.close()

    def start(self, machine_name: str, **options) -> Driver:
        """Starts a driver at this machine; options are those of Driver."""
        by_id = self.scsi.by_id[machine_name]
        self.drivers.append(Driver(self.servers[machine_name], self.folder, by_id=by_id, **options))
        return self.drivers[-1].start()

    def calls(self) -> list[servers.Request]:
        """All requests of all machines."""
        return [request for server in self.servers.values() for request in server.calls()]
