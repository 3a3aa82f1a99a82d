# SPDX-License-Identifier: Apache-2.0
"""A stacked plugin over the fake upstream driver: a controller and nodes, each a process of its own.

    bed = Bed(broker, config=fake_driver.Config(round_bytes=GIB)).start()
    volume = bed.client.create(size=GIB); bed.client.use(volume)     attached, staged, published at the first node
"""

import base64
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import fake_driver
import fake_upstream
import grpc
import harness
import machine
import stubs
from harness import CALL_SECONDS, GIB, MIB, csi, csi_pb2_grpc

BOOT_ID = "/proc/sys/kernel/random/boot_id"
OURS = "tdvol.dev/"
TYPE = {"type": "fast"}  # the parameter of the fake's StorageClass
_numbers = itertools.count(1)


@dataclasses.dataclass
class Call:
    """A call that reached the fake."""

    method: str
    node: str
    code: str
    request: bytes

    @property
    def message(self):
        """The request, decoded."""
        names = [method for service in fake_upstream.SERVICES for method in csi.DESCRIPTOR.services_by_name[service].methods]
        kind = next(method.input_type.name for method in names if method.name == self.method)
        return getattr(csi, kind).FromString(self.request)


class Upstream:
    """The fake driver's process and its folder."""

    def __init__(self, config: fake_driver.Config | None = None, name: str = "upstream"):
        self.name, self.config = name, config or fake_driver.Config()
        self.dir = harness.ROOT / name
        self.controller_socket = self.dir / "controller.sock"
        self.daemon: harness.Daemon | None = None
        self._channel: grpc.Channel | None = None
        self._shown = 0
        (self.dir / "faults").mkdir(parents=True)
        (self.dir / "decoy").touch()
        self.set(**dataclasses.asdict(self.config))

    def set(self, **switches) -> None:
        """Changes switches of the configuration; holds from the next call on."""
        self.config = dataclasses.replace(self.config, **switches)
        fake_driver.write_whole(self.dir / "config.json", dataclasses.asdict(self.config))

    def socket(self, node: str) -> pathlib.Path:
        return self.dir / f"{node}.sock"

    def start(self) -> "Upstream":
        command = [sys.executable, pathlib.Path(fake_upstream.__file__).resolve(), self.dir]
        self.daemon = harness.Daemon(self.name, command, {"TDVOL_BUILD": str(stubs.BUILD), "PYTHONDONTWRITEBYTECODE": "1"})
        for name in ("controller", *self.config.nodes):
            machine.wait_for_server(self.socket(name), self.daemon.check_running)
        return self

    def kill(self) -> None:
        if self.daemon:
            self.daemon.kill()
            self.daemon = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def wait_until_dead(self) -> None:
        """After a fault that ends the process."""
        machine.wait_until(lambda: not self.daemon.is_running(), 60, f"{self.name} ends")
        self.daemon = None

    # Faults.

    def fault(self, method: str, **what) -> pathlib.Path:
        """Injects a fault (fake_upstream.Rule); returns the file that is there until it is used up."""
        path = self.dir / f"faults/{next(_numbers):06}.json"
        fake_driver.write_whole(path, dataclasses.asdict(fake_upstream.Rule(method, **what)))
        return path

    def heal(self) -> None:
        """Removes all faults."""
        for path in (self.dir / "faults").glob("*.json"):
            path.unlink(missing_ok=True)

    # What it saw and has.

    def calls(self, *methods: str) -> list[Call]:
        """The calls since forget(), of these methods or of all."""
        path = self.dir / "calls.jsonl"
        lines = path.read_text().splitlines()[self._shown :] if path.exists() else []
        found = [Call(**json.loads(line) | {"request": base64.b64decode(json.loads(line)["request"])}) for line in lines]
        return [call for call in found if not methods or call.method in methods]

    def forget(self) -> None:
        path = self.dir / "calls.jsonl"
        self._shown = len(path.read_text().splitlines()) if path.exists() else 0

    @property
    def state(self) -> fake_driver.State:
        return fake_driver.State(self.dir)

    def file(self, volume_id: str) -> pathlib.Path:
        """The file of a volume's disk."""
        return pathlib.Path(self.state.volumes[volume_id]["file"])

    def call(self, method: str, request):
        """Calls the fake itself, past the plugin."""
        channel = self._channel = self._channel or grpc.insecure_channel(f"unix:{self.controller_socket}")
        return getattr(csi_pb2_grpc.ControllerStub(channel), method)(request, timeout=CALL_SECONDS)

    def close(self) -> None:
        """Stops it; nothing may be left attached, staged or published."""
        state = self.state
        if self._channel:
            self._channel.close()
        code = self.daemon.stop() if self.daemon else 0
        self.daemon = None
        with contextlib.suppress(OSError):
            shutil.rmtree(self.dir)
        (harness.ROOT / f"{self.name}.log").unlink(missing_ok=True)
        assert code == 0, f"{self.name} ended with {code}"
        for kind in ("volumes", "snapshots", "groups", "attached", "staged", "published"):
            assert not getattr(state, kind), f"left in {self.name}: {kind}: {getattr(state, kind)}"


class StackedPlugin(harness.Plugin):
    """tdvol-csi of one role over a socket of the upstream driver.

    attaches: whether the driver is one that attaches volumes, for --publication.
    node: its name, as the broker knows it. With a boot id of its own the processes are in a mount namespace of their
    own, as if on another machine; then kubelet's folder must be shared (share()).
    """

    def __init__(self, broker: harness.Broker, name: str, upstream: pathlib.Path, role: str = "all", *,
                 own_boot_id: bool = False, attaches: bool = True, **arguments):  # fmt: skip
        super().__init__(broker, name, **arguments)
        self.upstream, self.role, self.attaches = upstream, role, attaches
        self.boot_id: pathlib.Path | None = None
        self.upstream_dir = self.dir / f"plugins/{self.driver}/upstream"
        if own_boot_id:
            self.boot_id = harness.ROOT / f"{name}.boot_id"
            self.boot_id.write_text(f"{uuid.uuid4()}\n")
            self.share()

    def share(self) -> None:
        """Makes mounts below the folder the same in all mount namespaces, as kubelet's folder is."""
        for words in (["--bind", self.dir, self.dir], ["--make-shared", self.dir]):
            subprocess.run(["mount", *words], check=True)

    def command(self) -> list:
        words = super().command()
        at = words.index("--local-dir")
        del words[at : at + 2]
        words[words.index("--role") + 1] = self.role
        words += ["--upstream", f"unix://{self.upstream}", "--upstream-dir", self.upstream_dir]
        if not self.attaches:
            words += ["--publication", "off"]
        if not self.boot_id:
            return words
        return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
                f'mount --bind "$0" {BOOT_ID} && exec "$@"', self.boot_id, *words]  # fmt: skip

    @property
    def helpers(self) -> list[int]:
        found = []
        for pid, command in machine.processes().items():
            words = command.split()
            if words[0].endswith("tdvol-blockd") and str(self.state) in words:
                found.append(pid)
        return found

    def close(self) -> None:
        try:
            self.stop()
        finally:
            self.kill()
            if self.client:
                self.client.close()
            if self.boot_id:
                subprocess.run(["umount", "--lazy", self.dir], check=False)
                self.boot_id.unlink()
            shutil.rmtree(self.dir, ignore_errors=True)
            (harness.ROOT / f"{self.name}.log").unlink(missing_ok=True)


@dataclasses.dataclass
class StackedVolume(harness.Volume):
    """A volume at one node."""

    publish_context: dict[str, str] = dataclasses.field(default_factory=dict)
    is_attached: bool = False
    read_only: bool = False


class StackedClient(harness.Client):
    """The sidecars' calls to the controller, and kubelet's to one node."""

    def __init__(self, node: StackedPlugin, controller: StackedPlugin, upstream: Upstream):
        super().__init__(node.socket, node.dir, node.driver)
        self.controller_channel = grpc.insecure_channel(
            f"unix:{controller.socket}", [("grpc.enable_retries", 0), ("grpc.default_authority", "localhost")]
        )
        self.controller = csi_pb2_grpc.ControllerStub(self.controller_channel)
        self.groups = csi_pb2_grpc.GroupControllerStub(self.controller_channel)
        self.plugin, self.upstream = node, upstream

    @functools.cached_property
    def node_id(self) -> str:
        """Kubelet asks once, too."""
        return self.node.NodeGetInfo(csi.NodeGetInfoRequest(), timeout=CALL_SECONDS).node_id

    def secrets(self, method: str) -> dict[str, str]:
        return fake_driver.SECRETS if method in self.upstream.config.secrets else {}

    def request(self, name: str | None = None, size: int = 64 * MIB, *, limit: int = 0, integrity: str | None = "aegis128",
                fs: str = "ext4", block: bool = False, mode: int = harness.Mode.SINGLE_NODE_WRITER,
                snapshot: str | None = None, volume: str | None = None, zone: str = "",
                parameters: dict[str, str] | None = None) -> csi.CreateVolumeRequest:  # fmt: skip
        made = csi.CreateVolumeRequest(
            name=name or f"pvc-{os.getpid()}-{next(_numbers)}", parameters=TYPE | (parameters or {}),
            volume_capabilities=[harness.capability(fs, block, mode)], secrets=self.secrets("CreateVolume"),
        )  # fmt: skip
        if integrity is not None:
            made.parameters[f"{OURS}integrity"] = integrity
        made.capacity_range.required_bytes, made.capacity_range.limit_bytes = size, limit
        if snapshot:
            made.volume_content_source.snapshot.snapshot_id = snapshot
        if volume:
            made.volume_content_source.volume.volume_id = volume
        if zone:
            made.accessibility_requirements.preferred.add().segments[fake_driver.ZONE] = zone
        return made

    def create(self, name: str | None = None, size: int = 64 * MIB, **options) -> StackedVolume:
        request = self.request(name, size, **options)
        made = self.controller.CreateVolume(request, timeout=CALL_SECONDS).volume
        return self.know(made.volume_id, made.volume_context, request.volume_capabilities[0], made.capacity_bytes)

    def know(self, volume_id: str, context, capability: csi.VolumeCapability, size: int) -> StackedVolume:
        """A volume by id alone, perhaps made by another client."""
        if volume_id not in self.volumes:
            number, block = next(_numbers), capability.HasField("block")
            self.volumes[volume_id] = StackedVolume(
                volume_id, dict(context), capability, size, self.kubelet.staging(volume_id, f"pv-{number}", block),
                self.kubelet.target(f"pod-{number}", f"pv-{number}", block))  # fmt: skip
        return self.volumes[volume_id]

    def attach(self, volume: StackedVolume, read_only: bool = False, node_id: str | None = None) -> None:
        request = csi.ControllerPublishVolumeRequest(
            volume_id=volume.id, node_id=node_id or self.node_id, volume_capability=volume.capability, readonly=read_only,
            volume_context=volume.context, secrets=self.secrets("ControllerPublishVolume"))  # fmt: skip
        volume.is_attached = True  # perhaps also when the call fails
        answer = self.controller.ControllerPublishVolume(request, timeout=CALL_SECONDS)
        volume.publish_context, volume.read_only = dict(answer.publish_context), read_only

    def detach(self, volume: StackedVolume, node_id: str | None = None) -> None:
        request = csi.ControllerUnpublishVolumeRequest(
            volume_id=volume.id, node_id=self.node_id if node_id is None else node_id,
            secrets=self.secrets("ControllerUnpublishVolume"))  # fmt: skip
        self.controller.ControllerUnpublishVolume(request, timeout=CALL_SECONDS)
        volume.is_attached = False

    def stage(self, volume: StackedVolume, path: pathlib.Path | None = None, timeout: float = CALL_SECONDS) -> None:
        staging = path or volume.staging
        staging.mkdir(parents=True, exist_ok=True)
        volume.is_staged = True
        request = csi.NodeStageVolumeRequest(
            volume_id=volume.id, staging_target_path=str(staging), volume_capability=volume.capability,
            volume_context=volume.context, publish_context=volume.publish_context, secrets=self.secrets("NodeStageVolume"),
        )  # fmt: skip
        self.node.NodeStageVolume(request, timeout=timeout)

    def publish(self, volume: StackedVolume, target: pathlib.Path | None = None, readonly: bool = False) -> None:
        target = target or volume.target
        target.parent.mkdir(parents=True, exist_ok=True)
        if target not in volume.targets:
            volume.targets.append(target)
        request = csi.NodePublishVolumeRequest(
            volume_id=volume.id, staging_target_path=str(volume.staging), target_path=str(target),
            volume_capability=volume.capability, volume_context=volume.context, publish_context=volume.publish_context,
            readonly=readonly or volume.read_only,
        )  # fmt: skip
        self.node.NodePublishVolume(request, timeout=CALL_SECONDS)

    def grow_at_node(self, volume: StackedVolume, size: int) -> None:
        """NodeExpandVolume with no more than CSI demands."""
        request = csi.NodeExpandVolumeRequest(volume_id=volume.id, volume_path=str(volume.targets[0]))
        request.capacity_range.required_bytes = size
        self.node.NodeExpandVolume(request, timeout=CALL_SECONDS)

    def use(self, volume: StackedVolume, read_only: bool = False) -> None:
        """Attaches, stages and publishes it."""
        if self.upstream.config.attach:
            self.attach(volume, read_only)
        self.mount(volume, read_only)

    def leave(self, volume: StackedVolume) -> None:
        """The reverse of use()."""
        for target in list(volume.targets):
            self.unpublish(volume, target)
        if volume.is_staged:
            self.unstage(volume)
        if volume.is_attached:
            self.detach(volume)

    def delete(self, volume: harness.Volume | str) -> None:
        volume_id = volume if isinstance(volume, str) else volume.id
        request = csi.DeleteVolumeRequest(volume_id=volume_id, secrets=self.secrets("DeleteVolume"))
        self.controller.DeleteVolume(request, timeout=CALL_SECONDS)
        self.volumes.pop(volume_id, None)

    def take_down(self) -> None:
        for volume in list(self.volumes.values()):
            self.leave(volume)
            self.delete(volume)
        for snapshot_id in list(self.snapshots):
            self.delete_snapshot(snapshot_id)

    def close(self) -> None:
        super().close()
        self.controller_channel.close()


class AttachingClient(StackedClient):
    """Attaches volumes before it stages them, so tests of the local backing run on this one, too."""

    def create(self, name: str | None = None, size: int | None = None, *, block: bool = False, fs: str = "ext4",
               parameters: dict[str, str] | None = None, **options) -> StackedVolume:  # fmt: skip
        options.pop("provisioning", None)  # only of local volumes
        ours = {name: options.pop(name) for name in ("journal", "acceptLossAfterCrash", "workqueue", "discard")
                if name in options}  # fmt: skip
        ours = {f"{OURS}{name}": value for name, value in ours.items()}
        size = harness.SIZES["" if block else fs] if size is None else size
        return super().create(name, size, block=block, fs=fs, parameters=ours | (parameters or {}), **options)

    def stage(self, volume: StackedVolume, path: pathlib.Path | None = None, timeout: float = CALL_SECONDS) -> None:
        self.attach(volume)
        super().stage(volume, path, timeout)

    def delete(self, volume: harness.Volume | str) -> None:
        if isinstance(volume, StackedVolume) and volume.is_attached:
            self.detach(volume)
        super().delete(volume)


class AttachingPlugin(StackedPlugin):
    """A plugin of both roles, with the client above."""

    def __init__(self, broker: harness.Broker, name: str, upstream: Upstream, **arguments):
        self.fake = upstream
        super().__init__(broker, name, upstream.socket(upstream.config.nodes[0]), **arguments)

    def make_client(self) -> AttachingClient:
        return AttachingClient(self, self, self.fake)

    def close(self) -> None:
        """Like that of harness.Plugin: it removes the volumes first."""
        try:
            if self.client and (self.client.volumes or self.client.snapshots):
                if not self.daemon or not self.daemon.is_running():
                    self.start()
                self.client.take_down()
        finally:
            super().close()


class DetachingClient(AttachingClient):
    """Attached is a volume only while it is mounted, as Kubernetes does it."""

    def unmount(self, volume: StackedVolume) -> None:
        super().unmount(volume)
        if volume.is_attached:
            self.detach(volume)


class DetachingPlugin(AttachingPlugin):
    """With what tests of the local backing ask it about its files."""

    def __init__(self, broker: harness.Broker, name: str, upstream: Upstream, **arguments):
        super().__init__(broker, name, upstream, **arguments)
        self.volumes = upstream.dir / "disks"

    def make_client(self) -> DetachingClient:
        return DetachingClient(self, self, self.fake)

    def backing_file(self, of: harness.Volume | str) -> pathlib.Path:
        """The file of a disk or a snapshot."""
        name, state = of if isinstance(of, str) else of.id, self.fake.state
        return pathlib.Path((state.volumes.get(name) or state.snapshots[name])["file"])


class Bed:
    """Broker, upstream, a controller, and a node per node of the upstream driver that is asked for.

    Nodes after the first have a boot id of their own. with roles=False one process has both roles.
    """

    def __init__(self, broker: harness.Broker, config: fake_driver.Config | None = None, nodes: int = 1, *,
                 name: str = "stacked", roles: bool = True, faults: harness.Faults | None = None, **arguments):  # fmt: skip
        self.broker, self.upstream = broker, Upstream(config, f"{name}-upstream")
        arguments.setdefault("attaches", self.upstream.config.attach)
        self.nodes: list[StackedPlugin] = []
        self.clients: list[StackedClient] = []
        for number in range(nodes):
            self.nodes.append(StackedPlugin(
                broker, f"{name}-node-{number + 1}", self.upstream.socket(self.upstream.config.nodes[number]),
                "node" if roles else "all", node_id=f"node-{number + 1}", own_boot_id=number > 0, faults=faults,
                state=pathlib.Path(f"/run/tdvol-{name}-{number + 1}"), **arguments))  # fmt: skip
        self.controller = self.nodes[0]
        if roles:
            self.controller = StackedPlugin(
                broker, f"{name}-controller", self.upstream.controller_socket, "controller", node_id="controller",
                state=pathlib.Path(f"/run/tdvol-{name}-controller"), faults=faults, **arguments)  # fmt: skip

    @property
    def plugins(self) -> list[StackedPlugin]:
        return self.nodes if self.controller in self.nodes else [self.controller, *self.nodes]

    @property
    def client(self) -> StackedClient:
        """The first node's."""
        return self.clients[0]

    def start(self) -> "Bed":
        self.upstream.start()
        for plugin in self.plugins:
            plugin.start()
        self.clients = [StackedClient(node, self.controller, self.upstream) for node in self.nodes]
        return self

    def restart(self, plugin: StackedPlugin) -> None:
        """kill -9 of a plugin, and its next start; the clients remember their volumes."""
        plugin.restart()
        self.reconnect()

    def reconnect(self) -> None:
        """New channels: older ones wait for seconds before they try again."""
        known, self.clients = self.clients, [StackedClient(node, self.controller, self.upstream) for node in self.nodes]
        for old, new in zip(known, self.clients):
            new.volumes, new.snapshots = old.volumes, old.snapshots
            old.close()

    def moved(self, volume: StackedVolume, to: int = 1) -> StackedVolume:
        """The volume as another node knows it: by id alone."""
        return self.clients[to].know(volume.id, volume.context, volume.capability, volume.size)

    def take_down(self) -> None:
        """Removes all volumes and snapshots that the test left."""
        self.upstream.heal()
        for client in self.clients[1:]:
            for volume in list(client.volumes.values()):
                client.leave(volume)
                self.client.volumes.setdefault(volume.id, volume)
            client.volumes.clear()
        self.client.take_down()

    def left(self) -> list[str]:
        """What a call must not leave when it failed or was undone: mappings, mounts, places, publications."""
        found = [f"mapping {name}" for name in machine.mappings() if name.startswith("tdvol-")]
        for plugin in self.nodes:
            found += [f"mount {mount}" for mount in machine.mounts() if mount.startswith(f"{plugin.dir}/")]
            found += [f"place {path}" for path in plugin.upstream_dir.glob("*") if plugin.upstream_dir.is_dir()]
        state = self.upstream.state
        found += [f"{kind} {value}" for kind in ("attached", "published") for value in getattr(state, kind).items()]
        found += [f"staged {value}" for value in state.staged.items() if value[1]]
        return found

    def close(self) -> None:
        """Removes the volumes and ends all processes; a test that left something fails."""
        with contextlib.ExitStack() as ends:
            ends.callback(self.upstream.kill)
            ends.callback(self.upstream.close)
            for plugin in self.nodes if self.controller in self.nodes else [*self.nodes, self.controller]:
                ends.callback(plugin.close)
            for client in self.clients:
                ends.callback(client.close)
            if self.clients:
                if not self.upstream.daemon or not self.upstream.daemon.is_running():
                    self.upstream.kill()
                    self.upstream.start()
                self.take_down()


__all__ = ["GIB", "MIB", "Bed", "StackedClient", "StackedPlugin", "StackedVolume", "Upstream"]
