# SPDX-License-Identifier: Apache-2.0
"""The plugin as a process: start, stop, restart, its other sockets, many volumes, no broker."""

import concurrent.futures
import contextlib
import os
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import grpc
import harness
import machine
import pytest
from harness import CALL_SECONDS, MIB, csi, pattern, raises, read, write

DATA = pattern(MIB)
VOLUMES = 16


def fetch(plugin, path):
    """Status and text of a page of the plugin's web server."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{plugin.http_port}{path}", timeout=30) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except urllib.error.URLError:
        return 0, "not served yet"


def test_plugin_says_what_it_is(client):
    info = client.identity.GetPluginInfo(csi.GetPluginInfoRequest(), timeout=CALL_SECONDS)
    assert info.name == harness.DRIVER and info.vendor_version
    node = client.node.NodeGetInfo(csi.NodeGetInfoRequest(), timeout=CALL_SECONDS)
    assert node.node_id == "node-1" and node.max_volumes_per_node > 0 and node.accessible_topology.segments


def test_everything_is_advertised(client):
    plugin = client.identity.GetPluginCapabilities(csi.GetPluginCapabilitiesRequest(), timeout=CALL_SECONDS)
    service = csi.PluginCapability.Service
    kinds = {entry.service.type for entry in plugin.capabilities if entry.HasField("service")}
    assert {service.CONTROLLER_SERVICE, service.VOLUME_ACCESSIBILITY_CONSTRAINTS} <= kinds
    rpc = csi.ControllerServiceCapability.RPC
    answer = client.controller.ControllerGetCapabilities(csi.ControllerGetCapabilitiesRequest(), timeout=CALL_SECONDS)
    kinds = {entry.rpc.type for entry in answer.capabilities}
    for name in ("CREATE_DELETE_VOLUME", "LIST_VOLUMES", "GET_CAPACITY", "CREATE_DELETE_SNAPSHOT", "LIST_SNAPSHOTS",
                 "CLONE_VOLUME", "EXPAND_VOLUME", "GET_VOLUME", "SINGLE_NODE_MULTI_WRITER", "GET_SNAPSHOT",
                 "GET_VOLUME_HEALTH", "LIST_VOLUME_HEALTH"):  # fmt: skip
        assert rpc.Type.Value(name) in kinds, name
    rpc = csi.NodeServiceCapability.RPC
    answer = client.node.NodeGetCapabilities(csi.NodeGetCapabilitiesRequest(), timeout=CALL_SECONDS)
    kinds = {entry.rpc.type for entry in answer.capabilities}
    for name in ("STAGE_UNSTAGE_VOLUME", "GET_VOLUME_STATS", "EXPAND_VOLUME", "SINGLE_NODE_MULTI_WRITER",
                 "GET_VOLUME_HEALTH", "GET_STORAGE_HEALTH"):  # fmt: skip
        assert rpc.Type.Value(name) in kinds, name


def test_unknown_method_is_unimplemented_at_once(client):
    call = client.channel.unary_unary("/csi.v1.Node/NoSuchCall")
    with raises(grpc.StatusCode.UNIMPLEMENTED):
        call(b"", timeout=5)


def test_garbage_is_refused(client):
    call = client.channel.unary_unary("/csi.v1.Controller/CreateVolume")
    for data in (b"\xff" * 100, b"\x0a\x05ab", b"\x0a\x02\xc3\x28", b"\x0a\x03a\x00b"):
        with raises(grpc.StatusCode.INVALID_ARGUMENT):
            call(data, timeout=CALL_SECONDS)


def test_sixteen_volumes_at_once(client):
    integrities = ("aegis128", "hmac-sha256", "none")
    volumes = [client.create(integrity=integrities[i % 3], size=32 * MIB, provisioning="thin") for i in range(VOLUMES)]
    with concurrent.futures.ThreadPoolExecutor(VOLUMES) as pool:
        list(pool.map(client.mount, volumes))
        list(pool.map(lambda i: write(volumes[i].file, pattern(MIB, i)), range(VOLUMES)))
        harness.drop_caches()
        for i, volume in enumerate(volumes):
            assert read(volume.file, MIB) == pattern(MIB, i)
        list(pool.map(client.unmount, volumes))
    assert not machine.mappings() and not machine.loops()


def test_broker_down_is_unavailable_and_unstage_works(make_broker, make_plugin):
    broker = make_broker()
    plugin = make_plugin(broker)
    client = plugin.client
    staged, other = client.create(), client.create()
    client.mount(staged)
    write(staged.file, DATA)
    broker.kill()
    with raises(grpc.StatusCode.UNAVAILABLE, "broker"):
        client.stage(other)
    with raises(grpc.StatusCode.UNAVAILABLE, "broker"):
        client.create()
    assert read(staged.file, len(DATA)) == DATA
    client.stats(staged)
    client.unmount(staged)
    assert not machine.mappings() and not machine.loops()
    broker.start()
    harness.retried(client.stage, staged)
    client.publish(staged)
    assert read(staged.file, len(DATA)) == DATA


def test_restart_finds_its_volumes_again(make_plugin):
    plugin = make_plugin()
    volume = plugin.client.create()
    plugin.client.mount(volume)
    write(volume.file, DATA)
    plugin.restart()
    assert read(volume.file, len(DATA)) == DATA
    plugin.client.stage(volume)
    plugin.client.publish(volume)
    assert plugin.client.stats(volume).usage
    with raises(grpc.StatusCode.FAILED_PRECONDITION):
        plugin.client.delete(volume)
    plugin.client.unmount(volume)
    plugin.client.mount(volume)
    assert read(volume.file, len(DATA)) == DATA


def test_second_instance_cannot_take_the_socket(make_plugin):
    plugin = make_plugin()
    second = subprocess.run(
        [str(part) for part in plugin.command()], capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode not in (0, -9) and second.stderr
    plugin.client.identity.Probe(csi.ProbeRequest(), timeout=CALL_SECONDS)


def test_sigterm_finishes_the_call_in_flight(make_broker, make_plugin, faults):
    plugin = make_plugin(faults=faults)
    volume = plugin.client.create()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        faults.passed()
        call = pool.submit(plugin.client.stage, volume)
        machine.wait_until(lambda: faults.log.stat().st_size, 30, "the stage has begun")
        plugin.stop()
        assert call.exception(CALL_SECONDS) is None
    plugin.start()


def test_dead_worker_costs_one_call(make_plugin, faults):
    plugin = make_plugin(faults=faults)
    volume = plugin.client.create()
    faults.arm("worker.locked", "kill")
    with pytest.raises(grpc.RpcError):
        plugin.client.stage(volume)

    def killed():
        return [line for line in plugin.daemon_log().splitlines() if "worker was killed" in line]

    [line] = machine.wait_until(killed, 20, "the log tells of it")
    assert "STAGE" in line and volume.id in line
    plugin.client.mount(volume)


def test_two_instances_race_for_one_new_volume(make_broker, make_plugin):
    broker = make_broker()
    one = make_plugin(broker, "one", node_id="node-1")
    two = make_plugin(broker, "two", node_id="node-2", volumes=one.volumes, state=harness.pathlib.Path("/run/tdvol-2"))
    volume = one.client.create()
    rival = harness.dataclasses.replace(volume, staging=two.client.kubelet.staging(volume.id, "pv", block=False),
                                        target=two.client.kubelet.target("pod", "pv", block=False), targets=[])  # fmt: skip
    barrier = threading.Barrier(2)

    def stage(plugin, wanted):
        barrier.wait()
        plugin.client.stage(wanted)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(stage, one, volume), pool.submit(stage, two, rival)]
    failed = [call.exception() for call in calls if call.exception()]
    assert len(failed) == 1, failed
    assert failed[0].code() in (grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION)
    assert failed[0].details()
    winner, won = ((one, volume), (two, rival))[calls.index(next(call for call in calls if not call.exception()))]
    winner.client.publish(won)
    write(won.file, DATA)
    winner.client.unmount(won)
    volume.is_staged = rival.is_staged = False


def test_socket_is_open_to_its_group_alone(make_plugin):
    plugin = make_plugin(options=("--socket-group", "65532"))
    found = plugin.socket.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 65532, 0o660)
    probe = f"import socket; socket.socket(socket.AF_UNIX).connect({str(plugin.socket)!r})"

    def connects(user, group):
        # subprocess's own user= forks instead of vfork, and gRPC's threads do not survive that always
        rights = ["setpriv", "--reuid", str(user), "--regid", str(group), "--clear-groups"]
        done = subprocess.run([*rights, "/usr/bin/python3", "-c", probe], capture_output=True, check=False)
        return done.returncode == 0

    assert connects(65532, 65532) and not connects(65532, 65533)
    other = make_plugin(plugin.broker, "closed-plugin", state=harness.pathlib.Path("/run/tdvol-2"))
    assert other.socket.stat().st_mode & 0o77 == 0


def test_registration_socket_answers_kubelet(make_plugin):
    import pluginregistration_pb2 as registration
    import pluginregistration_pb2_grpc

    path = harness.ROOT / "own-plugin/registration.sock"
    plugin = make_plugin(options=("--registration-socket", str(path)))
    with grpc.insecure_channel(f"unix:{path}", [("grpc.default_authority", "localhost")]) as channel:
        stub = pluginregistration_pb2_grpc.RegistrationStub(channel)
        for _ in range(2):  # kubelet repeats the call
            info = stub.GetInfo(registration.InfoRequest(), timeout=CALL_SECONDS)
            assert (info.type, info.name) == ("CSIPlugin", harness.DRIVER)
            assert info.endpoint == str(plugin.socket) and list(info.supported_versions) == ["1.0.0"]
        status = registration.RegistrationStatus(plugin_registered=True)
        stub.NotifyRegistrationStatus(status, timeout=CALL_SECONDS)


def test_web_pages_answer(client, plugin):
    machine.wait_until(lambda: fetch(plugin, "/healthz")[0] == 200, 10, "the pages are served")
    machine.wait_until(lambda: fetch(plugin, "/readyz")[0] == 200, 10, "the broker has answered")
    assert fetch(plugin, "/no-such-page")[0] == 404
    volume = client.create()
    client.mount(volume)
    status, text = fetch(plugin, "/metrics")
    assert status == 200 and "tdvol_" in text and "# TYPE" in text
    with socket.create_connection(("127.0.0.1", plugin.http_port), 10) as raw:
        raw.sendall(b"\x00" * 10000)


def test_socket_that_was_removed_comes_back_while_a_volume_is_in_use(client, plugin):
    volume = client.create()
    client.mount(volume)
    plugin.socket.unlink()
    machine.wait_until(plugin.socket.exists, 20, "the socket is made again")
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{plugin.socket}", options) as channel:  # a connection of its own
        info = harness.csi_pb2_grpc.IdentityStub(channel).GetPluginInfo(csi.GetPluginInfoRequest(), timeout=CALL_SECONDS)
    assert info.name == harness.DRIVER
    assert fetch(plugin, "/healthz")[0] == 200


def test_healthy_volume_has_an_empty_report(client):
    volume = client.create(integrity="none", provisioning="thin")
    client.mount(volume)
    request = csi.NodeGetVolumeHealthRequest(
        volume_id=volume.id, volume_publish_path=str(volume.target), staging_target_path=str(volume.staging)
    )
    health = client.node.NodeGetVolumeHealth(request, timeout=CALL_SECONDS).volume_health
    assert health.volume_id == volume.id and not health.health_statuses
    request = csi.ControllerGetVolumeHealthRequest(volume_id=volume.id)
    assert client.controller.ControllerGetVolumeHealth(request, timeout=CALL_SECONDS).volume_health.volume_id == volume.id
    client.node.NodeGetStorageHealth(csi.NodeGetStorageHealthRequest(), timeout=CALL_SECONDS)
    client.controller.ControllerListVolumeHealth(csi.ControllerListVolumeHealthRequest(), timeout=CALL_SECONDS)


def test_flipped_bit_is_an_error_and_shows_in_health(client, plugin):
    volume = client.create(integrity="aegis128", block=True, provisioning="thin", size=16 * MIB)
    client.mount(volume)
    write(volume.target, DATA)
    client.unmount(volume)
    flip_everywhere(plugin.backing_file(volume), start=24 * MIB)
    with watcher_is_late(plugin):
        client.mount(volume)
        with pytest.raises(OSError, match=r"\[Errno (5|84)\]"):
            for offset in range(0, len(DATA), 4096):
                assert read(volume.target, 4096, offset) in (DATA[offset : offset + 4096],)
    request = csi.NodeGetVolumeHealthRequest(
        volume_id=volume.id, volume_publish_path=str(volume.target), staging_target_path=str(volume.staging)
    )
    machine.wait_until(
        lambda: client.node.NodeGetVolumeHealth(request, timeout=CALL_SECONDS).volume_health.health_statuses,
        30, "health reports the damage",
    )  # fmt: skip


@pytest.mark.parametrize("integrity", ["aegis128", "none"])
def test_full_disk_shows_in_health_and_the_volume_can_be_closed(make_plugin, tmp_path, integrity):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=700", "small", disk], check=True)
    try:
        plugin = make_plugin(volumes=disk)
        client = plugin.client
        volume = client.create(integrity=integrity, fs="xfs", provisioning="thin")
        client.mount(volume)
        with pytest.raises(OSError, match="Input/output error|No space left"):
            for number in range(300):
                write(volume.target / f"file-{number}", os.urandom(MIB))
        request = csi.NodeGetVolumeHealthRequest(
            volume_id=volume.id, volume_publish_path=str(volume.target), staging_target_path=str(volume.staging)
        )

        def reasons():
            health = client.node.NodeGetVolumeHealth(request, timeout=CALL_SECONDS).volume_health
            return {entry.reason for entry in health.health_statuses}

        machine.wait_until(lambda: reasons() & {"FileSystemShutDown", "WritesFailed", "MapFailed"}, 30, "it is said")
        client.unpublish(volume)
        client.unstage(volume)
        assert not machine.mappings()
        client.delete(volume)
        plugin.stop()
    finally:
        machine.wait_until(lambda: subprocess.run(["umount", disk], check=False).returncode == 0, 20, "unmounted")


@contextlib.contextmanager
def watcher_is_late(plugin):
    """Stops the worker that reads the kernel's log meanwhile, so that it then reads all new lines at once."""
    (watcher,) = [pid for pid in plugin.helpers if "/dev/kmsg" in machine.open_files(pid)]
    os.kill(watcher, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(watcher, signal.SIGCONT)


def flip_everywhere(path, start):
    """Flips one bit in each 4 KiB of user data and tags, behind header, journal and reserved area."""
    with open(path, "r+b") as file:
        file.seek(0, 2)
        for offset in range(start + 100, file.tell(), 4096):
            file.seek(offset)
            byte = file.read(1)
            if byte and byte != b"\0":
                file.seek(offset)
                file.write(bytes([byte[0] ^ 1]))
