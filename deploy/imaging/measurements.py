# SPDX-License-Identifier: Apache-2.0
"""What is published of a release beside its images, so that somebody else who builds the commit can compare."""

import hashlib
import json
import pathlib

from imaging import oci, sbom

SBOM_PLACE = "usr/share/tdvol/sbom.spdx.json"
PROGRAMS_PLACE = "usr/bin"
FORMAT = "tdvol-measurements-1"


def of_program(content: bytes) -> dict:
    return {"sha384": hashlib.sha384(content).hexdigest(), "bytes": len(content)}


def of_image(archive: pathlib.Path, programs: list[str]) -> dict:
    """Read from the archive that was written."""
    image = oci.Image(archive)
    entries = image.entries()
    return {
        "archive": archive.name, "manifest": image.digest, "configuration": image.manifest["config"]["digest"],
        "layers": [layer["digest"] for layer in image.manifest["layers"]],
        "sbom": "sha256:" + hashlib.sha256(oci.file_of(entries, SBOM_PLACE) or b"").hexdigest(),
        "programs": {name: of_program(oci.file_of(entries, f"{PROGRAMS_PLACE}/{name}") or b"") for name in programs},
    }  # fmt: skip


def write(path: pathlib.Path, version: str, revision: str, date: str, lock: bytes, images: dict[str, dict]) -> None:
    made = {"format": FORMAT, "version": version, "revision": revision, "date": date,
            "lock": "sha256:" + hashlib.sha256(lock).hexdigest(), "images": images}  # fmt: skip
    path.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")


def read(path: pathlib.Path) -> dict:
    try:
        published = json.loads(path.read_text())
        if published["format"] != FORMAT or not published["images"]:
            raise ValueError(f"its format is {published['format']!r}, or it has no images")
        for wanted in published["images"].values():
            pathlib.PurePath(wanted["archive"]), dict(wanted["programs"]), str(wanted["manifest"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise oci.ArchiveError(f"{path}: no measurements of tdvol: {error!r}") from error
    return published


def differences(wanted, found, path=""):
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in sorted(wanted.keys() | found.keys()):
            yield from differences(wanted.get(name), found.get(name), f"{path}{name}: ")
    elif wanted != found:
        yield f"{path}published is {json.dumps(wanted)}, here it is {json.dumps(found)}"


def faults(path: pathlib.Path, folder: pathlib.Path):
    """What in the archives of a folder is not as it was published."""
    for name, wanted in read(path)["images"].items():
        archive = folder / pathlib.PurePath(wanted["archive"]).name
        try:
            found = of_image(archive, list(wanted["programs"]))
            yield from (f"{name}: {text}" for text in differences(wanted, found))
            yield from (f"{name}: SBOM: {text}" for text in sbom.faults(oci.file_of(oci.Image(archive).entries(), SBOM_PLACE) or b""))
        except oci.ArchiveError as error:
            yield f"{name}: {error}"
