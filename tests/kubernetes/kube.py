# SPDX-License-Identifier: Apache-2.0
"""kubectl, with answers as objects of Python."""

import json
import pathlib
import subprocess

import programs
from servers import wait_until

READY_S = 240  # a guest has one slow processor
POLL_S = 0.3  # each look is a process


class KubectlError(AssertionError):
    """kubectl failed; the text is its error output."""


def is_ready(found: dict) -> bool:
    """Whether a pod or a node says so."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in found.get("status", {}).get("conditions", []))


class Kubectl:
    def __init__(self, kubeconfig: pathlib.Path):
        self.words = [str(programs.BIN / "kubectl"), f"--kubeconfig={kubeconfig}", f"--cache-dir={kubeconfig.parent}/cache"]

    def try_run(self, *words, stdin: str | None = None, seconds: float = 300) -> subprocess.CompletedProcess:
        return subprocess.run([*self.words, *map(str, words)], input=stdin, capture_output=True, text=True, timeout=seconds)

    def run(self, *words, **options) -> str:
        done = self.try_run(*words, **options)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(map(str, words))}: {done.stdout[-2000:]}{done.stderr.strip()[-2000:]}")
        return done.stdout

    def apply(self, *objects: dict) -> None:
        self.run("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def apply_file(self, path: pathlib.Path) -> None:
        self.run("apply", "-f", path)

    def find(self, kind: str, name: str, *words) -> dict | None:
        """The object, or None if there is none."""
        text = self.run("get", kind, name, "-o", "json", "--ignore-not-found", *words)
        return json.loads(text) if text.strip() else None

    def get(self, kind: str, name: str, *words) -> dict:
        found = self.find(kind, name, *words)
        assert found, f"there is no {kind} {name}"
        return found

    def find_all(self, kind: str, *words) -> list[dict]:
        return json.loads(self.run("get", kind, "-o", "json", *words))["items"]

    def patch(self, kind: str, name: str, change: dict, *words) -> None:
        self.run("patch", kind, name, "--type=merge", "-p", json.dumps(change), *words)

    def delete(self, *words, seconds: int = READY_S) -> None:
        self.run("delete", "--wait", "--ignore-not-found", f"--timeout={seconds}s", *words, seconds=seconds + 30)

    def shell(self, pod: str, command: str, **options) -> str:
        """The output of a shell command in a pod."""
        return self.run("exec", pod, "--", "sh", "-c", command, **options).strip()

    def events(self, name: str, *words) -> list[dict]:
        return self.find_all("events", f"--field-selector=involvedObject.name={name}", "--sort-by=.lastTimestamp", *words)

    def warnings(self, name: str) -> str:
        found = [f"{event['reason']}: {event['message']}" for event in self.events(name) if event["type"] != "Normal"]
        return " | ".join(found) or "no warnings"

    def wait(self, kind: str, name: str, is_so, what: str, seconds: float = READY_S) -> dict:
        """Waits until is_so(object); the error has the object's warnings."""

        def look():
            found = self.find(kind, name)
            return found if found and is_so(found) else None

        return wait_until(look, seconds, lambda: f"{kind} {name} is {what}: {self.warnings(name)}", POLL_S)

    def wait_ready(self, pod: str, seconds: float = READY_S) -> dict:
        return self.wait("pod", pod, is_ready, "ready", seconds)

    def wait_bound(self, claim: str, seconds: float = READY_S) -> dict:
        return self.wait("pvc", claim, lambda found: found.get("status", {}).get("phase") == "Bound", "bound", seconds)

    def wait_gone(self, kind: str, name: str, seconds: float = READY_S) -> None:
        wait_until(lambda: not self.find(kind, name), seconds, lambda: f"{kind} {name} is gone: {self.warnings(name)}")
