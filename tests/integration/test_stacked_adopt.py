# SPDX-License-Identifier: Apache-2.0
"""tdvolctl volume adopt: volumes of the upstream that tdvol did not make."""

import subprocess

import harness
import pytest
from harness import CALL_SECONDS, MIB, csi, pattern, read, write

DATA = pattern(MIB)


def adopt(broker, volume_id: str, *options: str) -> None:
    clients = broker.dir / "clients"
    subprocess.run(
        [harness.program("tdvolctl"), "volume", "adopt", volume_id, "--driver", harness.DRIVER, *options,
         "--broker", broker.address, "--broker-ca", broker.dir / "ca.crt",
         "--client-cert", clients / "admin.crt", "--client-key", clients / "admin.key"],
        check=True, timeout=60)  # fmt: skip


def make_below(bed, name: str, size: int, source: str = ""):
    """A volume that only the upstream knows; source: a volume of which it is a copy."""
    request = csi.CreateVolumeRequest(name=name, volume_capabilities=[harness.capability(block=True)])
    request.capacity_range.required_bytes = size
    if source:
        request.volume_content_source.volume.volume_id = source
    return bed.upstream.call("CreateVolume", request).volume


@pytest.mark.parametrize("block", [False, True])
def test_blank_volume_is_adopted(bed, broker, block):
    client = bed.client
    made = make_below(bed, "foreign", 128 * MIB)
    adopt(broker, made.volume_id, "--blank", "--size", "64Mi", *(["--block"] if block else ["--fs", "ext4"]))
    volume = client.know(made.volume_id, made.volume_context, harness.capability("ext4", block), 64 * MIB)
    client.use(volume)
    write(volume.file, DATA)
    client.leave(volume)
    client.use(volume)
    assert read(volume.file, len(DATA)) == DATA
    client.leave(volume)


def test_foreign_copy_is_adopted(bed, broker):
    client = bed.client
    source = client.create()
    client.use(source)
    write(source.file, DATA)
    client.leave(source)
    made = make_below(bed, "foreign-copy", bed.upstream.state.volumes[source.id]["size"], source.id)
    adopt(broker, made.volume_id, "--like", source.id, "--name", "foreign-copy")
    copy = client.know(made.volume_id, made.volume_context, source.capability, source.size)
    client.use(copy)
    assert read(copy.file, len(DATA)) == DATA
    client.leave(copy)
    client.controller.ListVolumes(csi.ListVolumesRequest(), timeout=CALL_SECONDS)
