# SPDX-License-Identifier: Apache-2.0
"""The validator of Kubernetes objects, for the checks of the manifests and of the chart.

Unknown fields are faults. The validator (kubernetes-validate, from PyPI) has the schemas of the API
server; the schemas of the snapshot objects come from the module that defines them. Both are pinned
below and fetched once into .cache. A program that imports this starts again with that validator;
it ends with 77 when the validator cannot be fetched.
"""

import copy
import functools
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "manifests"
PACKAGES = ["kubernetes-validate==1.37.0", "jsonschema==4.26.0", "PyYAML==6.0.3"]
SNAPSHOT_MODULE = "github.com/kubernetes-csi/external-snapshotter/client/v8@v8.6.0"
KUBERNETES = ["1.33", "1.37"]  # the oldest and the newest release that we support
NEWER_KINDS = {"storage.k8s.io/v1 VolumeAttributesClass": "1.34"}  # examples may have them: since this release
# What tdvol-csi needs to start as root and become another user; it is privileged only where it opens devices.
STARTING = {"SETUID", "SETGID", "SETPCAP", "CHOWN", "DAC_OVERRIDE", "IPC_LOCK"}


def skip(reason):
    print(f"{pathlib.Path(sys.argv[0]).name}: skipped: {reason}")
    sys.exit(77)


def enter_venv():
    """Runs this script again with the pinned validator; the system's jsonschema is too old."""
    python = CACHE / "venv" / "bin" / "python"
    if pathlib.Path(sys.prefix) == CACHE / "venv":
        return
    stamp = CACHE / "venv" / "packages"
    if not stamp.exists() or stamp.read_text() != "\n".join(PACKAGES):
        CACHE.mkdir(parents=True, exist_ok=True)
        for step in (
            [sys.executable, "-m", "venv", "--clear", CACHE / "venv"],
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES],
        ):
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                skip((done.stderr or done.stdout).strip().splitlines()[-1])
        stamp.write_text("\n".join(PACKAGES))
    sys.exit(subprocess.run([python, *sys.argv]).returncode)


enter_venv()

import jsonschema  # noqa: E402
import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402


def strict(schema):
    """CRD schemas drop unknown fields silently; here they are faults."""
    if isinstance(schema, dict):
        if "properties" in schema and "x-kubernetes-preserve-unknown-fields" not in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            strict(part)
    elif isinstance(schema, list):
        for part in schema:
            strict(part)
    return schema


def snapshot_schemas():
    cached = CACHE / "snapshot-crds.json"
    if not cached.exists():
        try:
            done = subprocess.run(
                ["go", "mod", "download", "-json", SNAPSHOT_MODULE], capture_output=True, text=True, cwd=CACHE
            )
        except FileNotFoundError:
            skip("go is not installed, so the snapshot CRDs cannot be fetched")
        if done.returncode:
            skip(f"go mod download {SNAPSHOT_MODULE} failed")
        folder = pathlib.Path(json.loads(done.stdout)["Dir"]) / "config" / "crd"
        schemas = {}
        for path in sorted(folder.glob("snapshot.storage.k8s.io_*.yaml")):
            crd = yaml.safe_load(path.read_text())
            for version in crd["spec"]["versions"]:
                key = f"{crd['spec']['group']}/{version['name']} {crd['spec']['names']['kind']}"
                schema = version["schema"]["openAPIV3Schema"]
                schema["properties"]["metadata"] = {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "namespace": {"type": "string"},
                    "labels": {"type": "object"}, "annotations": {"type": "object"}}}
                schemas[key] = strict(schema)
        cached.write_text(json.dumps(schemas))
    return json.loads(cached.read_text())


CRDS = snapshot_schemas()


def schema_fault(document):
    """The first fault of one object, or None."""
    key = f"{document.get('apiVersion')} {document.get('kind')}"
    try:
        if key in CRDS:
            jsonschema.Draft202012Validator(CRDS[key]).validate(document)
            return None
        oldest = NEWER_KINDS.get(key, KUBERNETES[0])
        for version in [oldest, *KUBERNETES[1:]]:
            kubernetes_validate.validate(document, version, strict=True)
    except jsonschema.ValidationError as fault:
        return f"{'.'.join(str(step) for step in fault.path) or 'object'}: {fault.message[:200]}"
    except kubernetes_validate.SchemaNotFoundError as fault:
        return fault.message
    return None


def walk(node):
    if isinstance(node, dict):
        yield node
        for part in node.values():
            yield from walk(part)
    elif isinstance(node, list):
        for part in node:
            yield from walk(part)


def pod_faults(document):
    """Names that must match within one pod: a schema does not see them."""
    for node in walk(document):
        if "containers" not in node or not isinstance(node["containers"], list):
            continue
        volumes = {volume["name"] for volume in node.get("volumes", [])}
        for container in node["containers"] + node.get("initContainers", []):
            ports = {port.get("name") for port in container.get("ports", [])}
            used = {mount["name"] for mount in container.get("volumeMounts", []) + container.get("volumeDevices", [])}
            for name in sorted(used - volumes):
                yield f"container {container['name']}: there is no volume {name}"
            for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
                action = container.get(probe, {})
                port = (action.get("httpGet") or action.get("tcpSocket") or {}).get("port")
                if isinstance(port, str) and port not in ports:
                    yield f"container {container['name']}: {probe}: there is no port {port}"


def image_name(container):
    """Of the container's image, without registry, tag and digest."""
    return re.sub(r"[:@].*", "", container.get("image", "").rsplit("/", 1)[-1])


TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


def rights_faults(document):
    """What our own pods may do: the examples are as free as their users are."""
    if document["kind"] not in ("DaemonSet", "Deployment"):
        return
    pod = document["spec"]["template"]["spec"]
    if pod.get("automountServiceAccountToken") is not False:
        yield "every container gets the token of the service account"
    if pod.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "there is no seccompProfile"
    for container in pod["containers"] + pod.get("initContainers", []):
        context = container.get("securityContext", {})
        if context.get("privileged"):
            if any(mount["mountPath"] == TOKEN_FOLDER for mount in container.get("volumeMounts", [])):
                yield f"container {container['name']}: it is privileged, and has the token"
            continue
        for field, wanted in (("allowPrivilegeEscalation", False), ("readOnlyRootFilesystem", True)):
            if context.get(field) is not wanted:
                yield f"container {container['name']}: {field} is not {wanted}"
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"]:
            yield f"container {container['name']}: it keeps capabilities"
        allowed = STARTING if image_name(container) == "tdvol" else set()
        for name in sorted(set(capabilities.get("add", [])) - allowed):
            yield f"container {container['name']}: it has the capability {name}"
        if not (pod.get("securityContext", {}) | context).get("runAsNonRoot") and not capabilities.get("add"):
            yield f"container {container['name']}: it may run as root"


def token_faults(document):
    """Kubelet writes a token of the pod with mode 0600 for the one user of all containers, but tdvol-csi reads it as nobody."""
    if document["kind"] not in ("DaemonSet", "Deployment"):
        return
    pod = document["spec"]["template"]["spec"]
    sources = [source for volume in pod.get("volumes", []) for source in volume.get("projected", {}).get("sources", [])]
    has_token = any("audience" in source.get("serviceAccountToken", {}) for source in sources)
    context = pod.get("securityContext", {})
    users = {(context | container.get("securityContext", {})).get("runAsUser") for container in pod["containers"]}
    if has_token and "fsGroup" not in context and len(users) == 1:
        yield "nobody cannot read the token: set fsGroup, because all containers have one user"


def policy_faults(documents):
    """Each of our pods with a port has a NetworkPolicy, which no pod of another namespace passes by itself."""
    policies = {json.dumps(d["spec"]["podSelector"]): d for d in documents if d["kind"] == "NetworkPolicy"}
    for document in documents:
        if document["kind"] not in ("DaemonSet", "Deployment"):
            continue
        policy = policies.get(json.dumps(document["spec"]["selector"]))
        if not policy or "Ingress" not in policy["spec"]["policyTypes"]:
            yield f"{document['kind']} {document['metadata']['name']}: there is no NetworkPolicy"
        elif not all(rule.get("from") and rule.get("ports") for rule in policy["spec"].get("ingress", [])):
            yield f"NetworkPolicy {policy['metadata']['name']}: a rule lets everybody in"


def patched(node, operations):
    """The document with the JSON patches of an overlay; a ValueError says which patch cannot be applied."""
    node = copy.deepcopy(node)
    for operation in operations:
        steps = [int(step) if step.isdigit() else step for step in operation["path"].split("/")[1:]]
        try:
            parent = functools.reduce(lambda at, step: at[step], steps[:-1], node)
            if operation["op"] == "add":
                if isinstance(parent, list):
                    parent.insert(steps[-1], operation["value"])
                else:
                    parent[steps[-1]] = operation["value"]
                continue
            found = parent[steps[-1]]
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"there is no {operation['path']}") from None
        if operation["op"] == "test" and found != operation["value"]:
            raise ValueError(f"{operation['path']} is not {operation['value']}")
        if operation["op"] == "replace":
            parent[steps[-1]] = operation["value"]
        elif operation["op"] == "remove":
            del parent[steps[-1]]
        elif operation["op"] not in ("test", "replace"):
            raise ValueError(f"this check does not know {operation['op']}")
    return node


def overlay(kustomization, documents):
    """The patched documents, and the faults of the patches."""
    made, faults = [], []
    for patch in kustomization.get("patches", []):
        target, operations = patch["target"], yaml.safe_load(patch["patch"])
        for document in documents:
            if (document["kind"], document["metadata"]["name"]) == (target["kind"], target["name"]):
                try:
                    made.append(patched(document, operations))
                except ValueError as fault:
                    faults.append(str(fault))
    if not made and kustomization.get("patches"):
        faults.append("its patches match no document")
    return made, faults


def set_faults(documents):
    """Names that must match between objects."""
    by_kind = {}
    for document in documents:
        by_kind.setdefault(document["kind"], {})[document["metadata"]["name"]] = document
    drivers = set(by_kind.get("CSIDriver", {}))
    for name, storage in by_kind.get("StorageClass", {}).items():
        if storage["provisioner"] not in drivers:
            yield f"StorageClass {name}: there is no CSIDriver {storage['provisioner']}"
    for name, snapshots in by_kind.get("VolumeSnapshotClass", {}).items():
        if snapshots["driver"] not in drivers:
            yield f"VolumeSnapshotClass {name}: there is no CSIDriver {snapshots['driver']}"
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        for name, binding in by_kind.get(kind, {}).items():
            if binding["roleRef"]["name"] not in by_kind.get(binding["roleRef"]["kind"], {}):
                yield f"{kind} {name}: there is no {binding['roleRef']['kind']} {binding['roleRef']['name']}"
            for subject in binding["subjects"]:
                if subject["name"] not in by_kind.get(subject["kind"], {}):
                    yield f"{kind} {name}: there is no {subject['kind']} {subject['name']}"
    for kind, claims in (("StorageClass", "storageClassName"), ("VolumeAttributesClass", "volumeAttributesClassName")):
        for claim in documents:
            wanted = claim["spec"].get(claims) if claim["kind"].startswith("PersistentVolume") else None
            if wanted and wanted not in by_kind.get(kind, {}):
                yield f"{claim['kind']} {claim['metadata']['name']}: there is no {kind} {wanted}"
    for kind, field in (("PersistentVolume", ("spec", "csi", "driver")), ("VolumeAttributesClass", ("driverName",))):
        for name, document in by_kind.get(kind, {}).items():
            driver = functools.reduce(lambda at, step: at[step], field, document)
            if driver not in drivers:
                yield f"{kind} {name}: there is no CSIDriver {driver}"
    for document in documents:
        for node in walk(document):
            account = node.get("serviceAccountName")
            if account and account not in by_kind.get("ServiceAccount", {}):
                yield f"{document['kind']} {document['metadata']['name']}: there is no ServiceAccount {account}"
    for name, snapshot in by_kind.get("VolumeSnapshot", {}).items():
        wanted = snapshot["spec"].get("volumeSnapshotClassName")
        if wanted and wanted not in by_kind.get("VolumeSnapshotClass", {}):
            yield f"VolumeSnapshot {name}: there is no class {wanted}"
    seen = set()
    for document in documents:
        key = (document["apiVersion"], document["kind"], document["metadata"]["name"])
        if key in seen:
            yield f"{document['kind']} {document['metadata']['name']}: there are two"
        seen.add(key)


def known_flags(program):
    """The flags in the built program's own --help; None when it is not built."""
    for path in sorted(ROOT.glob(f"build*/*/{program}"), key=lambda p: p.stat().st_mtime, reverse=True):
        done = subprocess.run([path, "--help"], capture_output=True, text=True)
        if done.returncode == 0:
            return set(re.findall(r"--([a-z0-9-]+)", done.stdout))
    return None


def flag_faults(documents, image, program):
    flags = known_flags(program)
    for document in documents:
        for container in walk(document):
            if flags is None or image_name(container) != image:
                continue
            for argument in container.get("args", []):
                flag = re.match(r"--([a-z0-9-]+)", argument)
                if flag and flag.group(1) not in flags:
                    yield f"{program} has no flag --{flag.group(1)}"


def object_faults(document):
    fault = schema_fault(document)
    return [*([fault] if fault else []), *pod_faults(document), *rights_faults(document), *token_faults(document)]


def name_of(path, document):
    return f"{path}: {document['kind']} {document['metadata']['name']}"
