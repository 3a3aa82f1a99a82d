# SPDX-License-Identifier: Apache-2.0
"""What an image consists of, as SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/): our programs, and Debian's packages."""

import hashlib
import json
import re
import urllib.parse

from imaging import lock

OURS = "Apache-2.0"
# Names in Debian's copyright files, and what SPDX calls the same. Others are quoted as they are.
LICENSES = {
    "Apache-2.0": "Apache-2.0", "BSD-2-clause": "BSD-2-Clause", "BSD-3-clause": "BSD-3-Clause", "BSL-1.0": "BSL-1.0",
    "CC0": "CC0-1.0", "CC0-1.0": "CC0-1.0", "Expat": "MIT", "GPL-1+": "GPL-1.0-or-later", "GPL-2": "GPL-2.0-only",
    "GPL-2+": "GPL-2.0-or-later", "GPL-2.0": "GPL-2.0-only", "GPL-2.0+": "GPL-2.0-or-later", "GPL-3": "GPL-3.0-only",
    "GPL-3+": "GPL-3.0-or-later", "GPL-3.0+": "GPL-3.0-or-later", "ISC": "ISC", "LGPL-2": "LGPL-2.0-only",
    "LGPL-2+": "LGPL-2.0-or-later", "LGPL-2.1": "LGPL-2.1-only", "LGPL-2.1+": "LGPL-2.1-or-later",
    "LGPL-3": "LGPL-3.0-only", "LGPL-3+": "LGPL-3.0-or-later", "LGPL-3.0+": "LGPL-3.0-or-later", "MIT": "MIT",
    "MPL-2.0": "MPL-2.0", "Zlib": "Zlib", "zlib": "Zlib",
}  # fmt: skip
IDENTIFIER = re.compile(r"SPDXRef-[A-Za-z0-9.-]+")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
CHECKSUMS = {"SHA1": 40, "SHA256": 64, "SHA384": 96, "SHA512": 128}
LICENSE = re.compile(r"(NONE|NOASSERTION|[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*)")
REQUIRED = ("spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo", "packages", "relationships")
RELATIONS = {"DESCRIBES", "CONTAINS"}


def licenses(copyright_file: str) -> tuple[str, str]:
    """What a copyright file says, if it is one of those that machines can read: in SPDX's words, and in its own."""
    if not re.match(r"Format(-Specification)?:", copyright_file.lstrip(), re.IGNORECASE):
        return "NOASSERTION", ""
    names = set()
    for words in re.findall(r"^License:[ \t]*(\S.*)$", copyright_file, re.MULTILINE):
        names |= {name.strip(" ,") for name in re.split(r"\s+(?:and|or|and/or)\s+|,\s*", words.strip())} - {""}
    known = {LICENSES.get(name) for name in names}
    declared = " AND ".join(sorted(known)) if names and None not in known else "NOASSERTION"
    return declared, ", ".join(sorted(names))


def purl(package: lock.Package, architecture: str) -> str:
    version = urllib.parse.quote(package.version, safe="~.-")
    return f"pkg:deb/debian/{urllib.parse.quote(package.name, safe='.-')}@{version}?arch={architecture}&distro={lock.RELEASE}"


def identifier(name: str) -> str:
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", lambda match: f"-{ord(match[0]):x}-", name)


def of_debian(package: lock.Package, control: dict[str, str], copyright_file: str, snapshot: str) -> dict:
    declared, said = licenses(copyright_file)
    source, version = re.fullmatch(r"(\S+)(?: \((.*)\))?", control.get("Source", package.name)).groups()
    archive, rest = package.path.split("/", 1)
    made = {
        "SPDXID": identifier("debian-" + package.name), "name": package.name, "versionInfo": package.version,
        "supplier": "Organization: Debian", "filesAnalyzed": False,
        "downloadLocation": f"{lock.SNAPSHOT}/{archive}/{snapshot}/{urllib.parse.quote(rest)}",
        "checksums": [{"algorithm": "SHA256", "checksumValue": package.sha256}],
        "sourceInfo": f"built by Debian from the source package {source} {version or package.version}",
        "licenseConcluded": "NOASSERTION", "licenseDeclared": declared, "copyrightText": "NOASSERTION",
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                          "referenceLocator": purl(package, control["Architecture"])}],
    }  # fmt: skip
    if said:
        made["licenseComments"] = f"usr/share/doc/{package.name}/copyright names: {said}"
    return made


def of_program(name: str, content: bytes, version: str, revision: str) -> dict:
    return {
        "SPDXID": identifier("tdvol-program-" + name), "name": name, "versionInfo": version, "supplier": "NOASSERTION",
        "filesAnalyzed": False, "downloadLocation": "NOASSERTION", "primaryPackagePurpose": "APPLICATION",
        "checksums": [{"algorithm": which.upper(), "checksumValue": hashlib.new(which, content).hexdigest()}
                      for which in ("sha256", "sha384")],
        "sourceInfo": f"built from the commit {revision} of tdvol", "packageFileName": f"./usr/bin/{name}",
        "licenseConcluded": OURS, "licenseDeclared": OURS, "copyrightText": "NOASSERTION",
    }  # fmt: skip


def make(image: str, version: str, revision: str, created: str, packages: list[dict]) -> bytes:
    """The document. Its namespace is of its content: another image has another one."""
    whole = {
        "SPDXID": identifier("image"), "name": image, "versionInfo": version, "supplier": "NOASSERTION",
        "filesAnalyzed": False, "downloadLocation": "NOASSERTION", "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
    }  # fmt: skip
    document = {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"{image}-{version}",
        "creationInfo": {"created": created, "creators": ["Tool: tdvol-deploy-image"]},
        "packages": [whole, *sorted(packages, key=lambda package: package["SPDXID"])],
        "relationships": [
            {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": whole["SPDXID"]},
            *({"spdxElementId": whole["SPDXID"], "relationshipType": "CONTAINS", "relatedSpdxElement": name}
              for name in sorted(package["SPDXID"] for package in packages)),
        ],
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps([document, revision], sort_keys=True).encode()).hexdigest()
    document["documentNamespace"] = f"https://tdvol.dev/spdx/{image}-{version}-{digest[:32]}"
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


def package_faults(package: dict):
    name = package.get("SPDXID", "a package without SPDXID")
    if not IDENTIFIER.fullmatch(name) or not package.get("name") or not package.get("downloadLocation"):
        yield f"{name}: SPDXID, name or downloadLocation is missing or wrong"
    if package.get("filesAnalyzed") is not False:
        yield f"{name}: filesAnalyzed is not false, but no file is listed"
    for checksum in package.get("checksums", []):
        length = CHECKSUMS.get(checksum.get("algorithm"))
        if not length or not re.fullmatch(f"[0-9a-f]{{{length}}}", checksum.get("checksumValue", "")):
            yield f"{name}: a checksum of the wrong kind or length: {checksum}"
    for field in ("licenseConcluded", "licenseDeclared"):
        if not LICENSE.fullmatch(package.get(field, "")):
            yield f"{name}: {field} is no expression of SPDX: {package.get(field)}"
    for reference in package.get("externalRefs", []):
        if reference.get("referenceType") == "purl" and not re.fullmatch(
            r"pkg:deb/debian/[a-z0-9.%A-F-]+@[A-Za-z0-9.~%-]+\?arch=\w+&distro=\w+", reference.get("referenceLocator", "")
        ):
            yield f"{name}: no package URL: {reference.get('referenceLocator')}"


def faults(content: bytes):
    """What the specification demands of a document like ours, and is not so."""
    try:
        document = json.loads(content)
    except ValueError as error:
        yield f"no JSON: {error}"
        return
    missing = [field for field in REQUIRED if not document.get(field)]
    if missing:
        yield f"the fields {', '.join(missing)} are missing"
        return
    if (document["spdxVersion"], document["dataLicense"], document["SPDXID"]) != ("SPDX-2.3", "CC0-1.0", "SPDXRef-DOCUMENT"):
        yield "version, license or identifier of the document is wrong"
    if not TIME.fullmatch(document["creationInfo"].get("created", "")) or not document["creationInfo"].get("creators"):
        yield "creationInfo: created or creators is missing or wrong"
    if not re.fullmatch(r"https://[^\s#]+", document["documentNamespace"]):
        yield "documentNamespace is no address, or has a #"
    names = [package.get("SPDXID") for package in document["packages"]]
    if len(names) != len(set(names)):
        yield "an SPDXID is there twice"
    for package in document["packages"]:
        yield from package_faults(package)
    contained = set()
    for relation in document["relationships"]:
        ends = {relation.get("spdxElementId"), relation.get("relatedSpdxElement")}
        if relation.get("relationshipType") not in RELATIONS or not ends <= {"SPDXRef-DOCUMENT", *names}:
            yield f"a relationship of an unknown kind, or to nothing: {relation}"
        contained.add(relation.get("relatedSpdxElement"))
    for name in sorted(set(names) - contained, key=str):
        yield f"{name}: nothing contains it"
