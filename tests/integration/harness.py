# SPDX-License-Identifier: Apache-2.0
"""Starts the broker and the plugin, and calls them like kubelet and the sidecars."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import grpc

import machine
import places
import stubs

stubs.generate()
sys.path.insert(0, str(stubs.FOLDER))
import csi_pb2 as csi  # noqa: E402
import csi_pb2_grpc  # noqa: E402
import keybroker_pb2 as keybroker  # noqa: E402
import keybroker_pb2_grpc  # noqa: E402

MIB = 1 << 20
GIB = 1 << 30
ROOT = pathlib.Path("/run/test")
DRIVER = "csi.tdvol.dev"
STATE = pathlib.Path("/run/tdvol")
CALL_SECONDS = 120  # kubelet's timeout
SIZES = {"xfs": 320 * MIB, "ext4": 64 * MIB, "": 64 * MIB}  # mkfs.xfs refuses less than 300 MiB

Mode = csi.VolumeCapability.AccessMode
_numbers = itertools.count(1)


def program(name: str) -> str:
    """The path of one of our programs in the build folder."""
    folders = {"tdvol-csi": "csi", "tdvol-blockd": "blockd", "tdvol-broker": "broker", "tdvolctl": "ctl"}
    return str(stubs.BUILD / folders[name] / name)


def free_port() -> int:
    """A free TCP port of the loopback device."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Faults:
    """Fault points (base/fault.h): records which are passed, and sets an action at one of them.

    Daemons started with these faults read a file at each point, so a fault can be armed without a
    restart. The process that reaches the armed point removes the file.
    """

    def __init__(self):
        self.dir = ROOT / "faults"
        self.rule = self.dir / "rule"
        self.log = self.dir / "log"
        self.dir.mkdir(parents=True)
        self.dir.chmod(0o777)  # the front drops its user id
        self.log.touch()
        self.log.chmod(0o666)

    @property
    def environment(self) -> dict[str, str]:
        return {"TDVOL_FAULT": f"@{self.rule}", "TDVOL_FAULT_LOG": str(self.log)}

    def passed(self) -> list[str]:
        """The points passed since the last call, in their order, each once."""
        names = [line.split()[0] for line in self.log.read_text().splitlines()]
        os.truncate(self.log, 0)
        return list(dict.fromkeys(names))

    def arm(self, point: str, action: str) -> None:
        """Arms the action "kill" or "sleep" for the next time that a process passes the point."""
        draft = self.dir / "draft"
        draft.write_text(f"{point}:{action}\n")
        draft.chmod(0o666)
        draft.rename(self.rule)

    def is_armed(self) -> bool:
        return self.rule.exists()

    def disarm(self) -> bool:
        """True when it was still armed: a process that passes the point removes the rule before it acts."""
        try:
            self.rule.unlink()
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        shutil.rmtree(self.dir, ignore_errors=True)


class Daemon:
    """A process with a log, started, stopped and killed by tests."""

    def __init__(self, name: str, command: list, environment: dict[str, str]):
        self.name = name
        self.log = ROOT / f"{name}.log"
        self.shown = self.log.stat().st_size if self.log.exists() else 0
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TDVOL_")}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command], env=kept | environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, cwd="/",
            )  # fmt: skip

    def new_output(self) -> str:
        """The log lines since the last call."""
        with self.log.open("rb") as log:
            log.seek(self.shown)
            data = log.read()
        self.shown += len(data)
        return data.decode(errors="replace")

    def is_running(self) -> bool:
        return self.process.poll() is None

    def check_running(self) -> None:
        if not self.is_running():
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.new_output()}")

    def stop(self, seconds: float = 30) -> int:
        """Sends SIGTERM; returns the exit code. The test fails when the process does not end."""
        if self.is_running():
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {seconds} s of SIGTERM") from None

    def kill(self) -> None:
        """kill -9."""
        if self.is_running():
            self.process.kill()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} does not end: {machine.waits_for(self.process.pid)}") from None


class Broker:
    """tdvol-broker on the loopback device, with its folder made by tdvolctl broker init."""

    def __init__(self, name: str = "broker", faults: Faults | None = None):
        self.name = name
        self.environment = faults.environment if faults else {}
        self.dir = ROOT / name
        self.port = free_port()
        self.address = f"localhost:{self.port}"
        self.daemon: Daemon | None = None
        self._channels: list[grpc.Channel] = []
        ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
        subprocess.run(
            [program("tdvolctl"), "broker", "init", self.dir, "--name", "localhost"],
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        policy = self.dir / "policy.json"  # the tests' controllers have the certificate of a node
        policy.write_text(policy.read_text().replace('"delete"]', '"delete", "publish"]'))

    def command(self) -> list:
        return [
            program("tdvol-broker"), "--dir", self.dir / "state", "--listen", f"127.0.0.1:{self.port}",
            "--cert", self.dir / "broker.crt", "--key", self.dir / "broker.key", "--client-ca", self.dir / "ca.crt",
            "--master-key", self.dir / "master.key", "--policy", self.dir / "policy.json",
            "--audit", self.dir / "audit.jsonl",
        ]  # fmt: skip

    def start(self) -> "Broker":
        """Starts it and waits until it answers."""
        self.daemon = Daemon(self.name, self.command(), self.environment)

        def is_listening():
            self.daemon.check_running()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        machine.wait_until(is_listening, 30, f"{self.name} listens")
        return self

    def stop(self) -> None:
        if self.daemon:
            code = self.daemon.stop()
            self.daemon = None
            assert code == 0, f"{self.name} ended with {code}"

    def kill(self) -> None:
        if self.daemon:
            self.daemon.kill()
            self.daemon = None

    def stub(self, client: str = "admin") -> keybroker_pb2_grpc.KeyBrokerStub:
        """The broker's service, called with one of the client certificates."""
        folder = self.dir / "clients"
        credentials = grpc.ssl_channel_credentials(
            (self.dir / "ca.crt").read_bytes(),
            (folder / f"{client}.key").read_bytes(),
            (folder / f"{client}.crt").read_bytes(),
        )
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]  # does not wait for the backoff of an older channel
        channel = grpc.secure_channel(self.address, credentials, options)
        self._channels.append(channel)
        return keybroker_pb2_grpc.KeyBrokerStub(channel)

    def record(self, volume_id: str, driver: str = DRIVER) -> "keybroker.Record":
        """The record of a volume or snapshot."""
        request = keybroker.GetRecordRequest(driver=driver, volume_id=volume_id)
        return self.stub().GetRecord(request, timeout=30).record

    def audit(self) -> list[str]:
        """The lines of the audit log."""
        return (self.dir / "audit.jsonl").read_text().splitlines()

    def close(self) -> None:
        """Stops it and removes its folder."""
        self.kill()
        for channel in self._channels:
            channel.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        (ROOT / f"{self.name}.log").unlink(missing_ok=True)


@dataclasses.dataclass
class Volume:
    """What the container orchestrator remembers of a volume."""

    id: str
    context: dict[str, str]
    capability: csi.VolumeCapability
    size: int
    staging: pathlib.Path
    target: pathlib.Path
    is_staged: bool = False
    targets: list[pathlib.Path] = dataclasses.field(default_factory=list)

    @property
    def is_block(self) -> bool:
        return self.capability.HasField("block")

    @property
    def file(self) -> pathlib.Path:
        """The path that the pod reads and writes: a file in the volume, or the device."""
        return self.target if self.is_block else self.target / "data"


def capability(fs: str = "ext4", block: bool = False, mode: int = Mode.SINGLE_NODE_WRITER,
               flags: tuple[str, ...] = ()) -> csi.VolumeCapability:  # fmt: skip
    """A volume capability; fs and flags are ignored for block."""
    made = csi.VolumeCapability(access_mode=Mode(mode=mode))
    if block:
        made.block.SetInParent()
    else:
        made.mount.fs_type = fs
        made.mount.mount_flags.extend(flags)
    return made


class Client:
    """CSI calls with defaults for tests. Remembers its volumes, so that it can remove them."""

    def __init__(self, socket_path: pathlib.Path, workspace: pathlib.Path, driver: str = DRIVER):
        self.channel = grpc.insecure_channel(
            f"unix:{socket_path}", [("grpc.enable_retries", 0), ("grpc.default_authority", "localhost")]
        )
        self.identity = csi_pb2_grpc.IdentityStub(self.channel)
        self.controller = csi_pb2_grpc.ControllerStub(self.channel)
        self.node = csi_pb2_grpc.NodeStub(self.channel)
        self.volumes: dict[str, Volume] = {}
        self.snapshots: list[str] = []
        self.kubelet = places.Kubelet(workspace, driver)

    def create(self, name: str | None = None, size: int | None = None, *, limit: int = 0,
               integrity: str | None = "aegis128", fs: str = "ext4", block: bool = False,
               mode: int = Mode.SINGLE_NODE_WRITER, snapshot: str | None = None, volume: str | None = None,
               flags: tuple[str, ...] = (), **parameters: str) -> Volume:  # fmt: skip
        """CreateVolume. Further keyword arguments are StorageClass parameters."""
        wanted = capability(fs, block, mode, flags)
        if integrity is not None:
            parameters["integrity"] = integrity
        request = csi.CreateVolumeRequest(
            name=name or f"pvc-{os.getpid()}-{next(_numbers)}", volume_capabilities=[wanted], parameters=parameters,
        )  # fmt: skip
        request.capacity_range.required_bytes = SIZES["" if block else fs] if size is None else size
        request.capacity_range.limit_bytes = limit
        if snapshot:
            request.volume_content_source.snapshot.snapshot_id = snapshot
        if volume:
            request.volume_content_source.volume.volume_id = volume
        made = self.controller.CreateVolume(request, timeout=CALL_SECONDS).volume
        if made.volume_id not in self.volumes:
            number = next(_numbers)
            staging = self.kubelet.staging(made.volume_id, f"pv-{number}", block)
            target = self.kubelet.target(f"pod-{number}", f"pv-{number}", block)
            self.volumes[made.volume_id] = Volume(
                made.volume_id, dict(made.volume_context), wanted, made.capacity_bytes, staging, target
            )
        return self.volumes[made.volume_id]

    def delete(self, volume: Volume | str) -> None:
        volume_id = volume if isinstance(volume, str) else volume.id
        self.controller.DeleteVolume(csi.DeleteVolumeRequest(volume_id=volume_id), timeout=CALL_SECONDS)
        self.volumes.pop(volume_id, None)

    def stage(self, volume: Volume, path: pathlib.Path | None = None, timeout: float = CALL_SECONDS) -> None:
        staging = path or volume.staging
        staging.mkdir(parents=True, exist_ok=True)
        volume.is_staged = True  # it may be staged from now on, even if the call fails
        request = csi.NodeStageVolumeRequest(
            volume_id=volume.id, staging_target_path=str(staging), volume_capability=volume.capability,
            volume_context=volume.context,
        )  # fmt: skip
        self.node.NodeStageVolume(request, timeout=timeout)

    def unstage(self, volume: Volume, path: pathlib.Path | None = None) -> None:
        staging = path or volume.staging
        request = csi.NodeUnstageVolumeRequest(volume_id=volume.id, staging_target_path=str(staging))
        self.node.NodeUnstageVolume(request, timeout=CALL_SECONDS)
        volume.is_staged = False
        self.kubelet.prune(staging)  # like kubelet

    def publish(self, volume: Volume, target: pathlib.Path | None = None, readonly: bool = False) -> None:
        target = target or volume.target
        target.parent.mkdir(parents=True, exist_ok=True)
        if target not in volume.targets:
            volume.targets.append(target)
        request = csi.NodePublishVolumeRequest(
            volume_id=volume.id, staging_target_path=str(volume.staging), target_path=str(target),
            volume_capability=volume.capability, volume_context=volume.context, readonly=readonly,
        )  # fmt: skip
        self.node.NodePublishVolume(request, timeout=CALL_SECONDS)

    def unpublish(self, volume: Volume, target: pathlib.Path | None = None) -> None:
        target = target or volume.target
        request = csi.NodeUnpublishVolumeRequest(volume_id=volume.id, target_path=str(target))
        self.node.NodeUnpublishVolume(request, timeout=CALL_SECONDS)
        if target in volume.targets:
            volume.targets.remove(target)
        self.kubelet.prune(target.parent)

    def mount(self, volume: Volume, readonly: bool = False) -> None:
        """Stages and publishes."""
        self.stage(volume)
        self.publish(volume, readonly=readonly)

    def unmount(self, volume: Volume) -> None:
        """Unpublishes and unstages."""
        self.unpublish(volume)
        self.unstage(volume)

    def stats(self, volume: Volume, path: pathlib.Path | None = None) -> csi.NodeGetVolumeStatsResponse:
        request = csi.NodeGetVolumeStatsRequest(
            volume_id=volume.id, volume_path=str(path or volume.target), staging_target_path=str(volume.staging)
        )
        return self.node.NodeGetVolumeStats(request, timeout=CALL_SECONDS)

    def expand(self, volume: Volume, size: int) -> int:
        """ControllerExpandVolume, then NodeExpandVolume when it says so; returns the capacity."""
        wanted = csi.CapacityRange(required_bytes=size)
        request = csi.ControllerExpandVolumeRequest(
            volume_id=volume.id, capacity_range=wanted, volume_capability=volume.capability
        )
        answer = self.controller.ControllerExpandVolume(request, timeout=CALL_SECONDS)
        if answer.node_expansion_required and volume.is_staged:
            request = csi.NodeExpandVolumeRequest(
                volume_id=volume.id, volume_path=str(volume.targets[0] if volume.targets else volume.staging),
                staging_target_path=str(volume.staging), capacity_range=wanted, volume_capability=volume.capability,
            )  # fmt: skip
            self.node.NodeExpandVolume(request, timeout=CALL_SECONDS)
        return answer.capacity_bytes

    def snapshot(self, volume: Volume, name: str | None = None) -> csi.Snapshot:
        request = csi.CreateSnapshotRequest(
            source_volume_id=volume.id, name=name or f"snapshot-{os.getpid()}-{next(_numbers)}"
        )
        made = self.controller.CreateSnapshot(request, timeout=CALL_SECONDS).snapshot
        if made.snapshot_id not in self.snapshots:
            self.snapshots.append(made.snapshot_id)
        return made

    def delete_snapshot(self, snapshot_id: str) -> None:
        self.controller.DeleteSnapshot(csi.DeleteSnapshotRequest(snapshot_id=snapshot_id), timeout=CALL_SECONDS)
        if snapshot_id in self.snapshots:
            self.snapshots.remove(snapshot_id)

    def take_down(self) -> None:
        """Unpublishes, unstages and deletes the volumes of this client that the test left."""
        for volume in list(self.volumes.values()):
            for target in list(volume.targets):
                self.unpublish(volume, target)
            if volume.is_staged:
                self.unstage(volume)
            self.delete(volume)
        for snapshot_id in list(self.snapshots):
            self.delete_snapshot(snapshot_id)

    def close(self) -> None:
        self.channel.close()


class Plugin:
    """tdvol-csi with its tdvol-blockd; one per node id."""

    def __init__(self, broker: Broker, name: str = "plugin", *, node_id: str = "node-1", driver: str = DRIVER,
                 volumes: pathlib.Path | None = None, state: pathlib.Path = STATE, mount_root: pathlib.Path | None = None,
                 options: tuple[str, ...] = (), faults: Faults | None = None):  # fmt: skip
        self.environment = faults.environment if faults else {}
        self.broker = broker
        self.name = name
        self.node_id = node_id
        self.driver = driver
        self.dir = ROOT / name
        self.socket = self.dir / "socket/csi.sock"
        self.volumes = volumes or self.dir / "volumes"
        self.state, self.mount_root = state, mount_root or self.dir
        self.options = options
        self.daemon: Daemon | None = None
        self.client: Client | None = None
        self.http_port = free_port()
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.volumes.mkdir(mode=0o700, parents=True, exist_ok=True)

    def command(self) -> list:
        clients = self.broker.dir / "clients"
        return [
            program("tdvol-csi"), "--role", "all", "--endpoint", f"unix://{self.socket}", "--node-id", self.node_id,
            "--driver-name", self.driver, "--broker", self.broker.address, "--broker-ca", self.broker.dir / "ca.crt",
            "--client-cert", clients / "node.crt", "--client-key", clients / "node.key",
            "--local-dir", self.volumes, "--state-dir", self.state, "--mount-root", self.mount_root,
            "--free-mount-root", ROOT,
            "--http", f"127.0.0.1:{self.http_port}", "--blockd", program("tdvol-blockd"), *self.options,
        ]  # fmt: skip

    def make_client(self) -> Client:
        return Client(self.socket, self.dir, self.driver)

    def launch(self) -> "Plugin":
        """Starts it without waiting."""
        self.daemon = Daemon(self.name, self.command(), self.environment)
        return self

    def start(self) -> "Plugin":
        """Starts it and waits until Probe says that it is ready. The client remembers its volumes."""
        self.launch()
        machine.wait_for_server(self.socket, self.daemon.check_running)
        known = self.client
        self.client = self.make_client()
        if known:
            self.client.volumes, self.client.snapshots = known.volumes, known.snapshots
            known.close()

        def is_ready():
            self.daemon.check_running()
            try:
                answer = self.client.identity.Probe(csi.ProbeRequest(), timeout=5)
            except grpc.RpcError:
                return False
            return not answer.HasField("ready") or answer.ready.value

        machine.wait_until(is_ready, 60, f"{self.name} is ready")
        return self

    def _wait_for_helpers(self) -> None:
        """Waits until tdvol-blockd and its workers have ended, as they must after their plugin."""
        try:
            machine.wait_until(lambda: not self.helpers, 60, f"helpers of {self.name} end")
        except TimeoutError:
            print(*(f"helper {pid}: {machine.waits_for(pid)}" for pid in self.helpers), sep="\n")
            raise

    @property
    def helpers(self) -> list[int]:
        """tdvol-blockd and its workers, found by both folders, because another plugin may share one folder."""
        found = []
        for pid, command in machine.processes().items():
            words = command.split()
            ours = {str(self.state), str(self.volumes)} <= set(words)
            if ours and words[0].endswith("tdvol-blockd"):
                found.append(pid)
        return found

    def stop(self) -> None:
        """Sends SIGTERM. The exit code must be 0, and every helper must end."""
        if self.daemon:
            code = self.daemon.stop()
            self.daemon = None
            self._wait_for_helpers()
            assert code == 0, f"{self.name} ended with {code}"

    def kill(self) -> None:
        """Kills the front with SIGKILL. Its helpers must end by themselves."""
        if self.daemon:
            self.daemon.kill()
            self.daemon = None
            self._wait_for_helpers()

    def restart(self) -> "Plugin":
        """Kills it with SIGKILL and starts it again."""
        self.kill()
        return self.start()

    def backing_file(self, volume: Volume | str) -> pathlib.Path:
        """The file in the local folder that holds the raw volume. It is found by record id or name; if there
        is only one file, it is that file."""
        found = [path for path in self.volumes.rglob("*") if path.is_file()]
        volume_id = volume if isinstance(volume, str) else volume.id
        named = [path for path in found if volume_id in path.name]
        return (named or found)[0]

    def daemon_log(self) -> str:
        """The last lines of its log, also of earlier starts."""
        log = ROOT / f"{self.name}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-200:]) if log.exists() else ""

    def metrics(self) -> str:
        """The page /metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=30) as page:
            return page.read().decode()

    def close(self) -> None:
        """Removes the volumes of its client, stops it and removes its folder."""
        try:
            if self.client and self.client.volumes or self.client and self.client.snapshots:
                if not self.daemon or not self.daemon.is_running():
                    self.start()
                self.client.take_down()
            self.stop()
            left = [path for path in (self.dir / "volumes").rglob("*") if path.is_file()]
            assert not left, f"left over: {left}"
        finally:
            self.kill()
            if self.client:
                self.client.close()
            shutil.rmtree(self.dir, ignore_errors=True)
            (ROOT / f"{self.name}.log").unlink(missing_ok=True)


@contextlib.contextmanager
def raises(code: grpc.StatusCode, *words: str):
    """The call inside must fail with this code, and its text must contain these words."""
    try:
        yield
    except grpc.RpcError as error:
        assert error.code() == code, f"the code is {error.code().name}, expected is {code.name}: {error.details()}"
        for word in words:
            assert word.lower() in error.details().lower(), f"{word!r} is not in {error.details()!r}"
    else:
        raise AssertionError(f"succeeded, {code.name} expected")


def retried(call, *arguments, codes=(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED), seconds: float = 30):
    """Repeats a call like kubelet, as long as it fails with one of the codes."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call(*arguments)
        except grpc.RpcError as error:
            if error.code() not in codes or time.monotonic() > end:
                raise
            time.sleep(0.5)


def write(path: pathlib.Path, data: bytes, offset: int = 0) -> None:
    """Writes and syncs."""
    descriptor = os.open(path, os.O_WRONLY | (0 if path.exists() else os.O_CREAT))
    try:
        assert os.pwrite(descriptor, data, offset) == len(data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: pathlib.Path, length: int, offset: int = 0) -> bytes:
    """Reads from the disk, if the file's pages can be dropped from the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)


def drop_caches() -> None:
    """Drops the caches, so that later reads come from the devices."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def pattern(length: int, seed: int = 1) -> bytes:
    """Bytes that are the same for the same seed and different for every other seed."""
    return random.Random(seed).randbytes(length)
