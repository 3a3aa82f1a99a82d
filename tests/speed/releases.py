# SPDX-License-Identifier: Apache-2.0
"""Measures attested sessions and key releases, with a real broker over TLS and a simulated Trust Domain."""

import json
import pathlib
import subprocess
import tempfile
import time

NAMES = ("session_s", "releases_one_per_s", "releases_per_s")
TARGETS = ("broker/tdvol-broker", "ctl/tdvolctl", "tests/sim/tdvol-sim", "tests/speed/release")
SECONDS = 5
# Accepts the simulator's default TD, of any owner.
POLICY = {
    "version": 1,
    "images": {"simulated": {"mrtd": ["4d01".ljust(96, "0")], "rtmr1": ["4d11".ljust(96, "0")],
                             "rtmr2": ["4d12".ljust(96, "0")]}},
    "rules": [{"name": "nodes", "td": {"images": ["simulated"]}, "any_owner": True, "tenant": "default",
               "may": ["create", "open"], "volumes": ["*"], "nodes": ["*"]}],
}  # fmt: skip


def run(*command) -> None:
    subprocess.run([str(part) for part in command], check=True, stdin=subprocess.DEVNULL, capture_output=True)


def start_broker(build: pathlib.Path, keys: pathlib.Path, sim: pathlib.Path, options: dict) -> tuple[subprocess.Popen, str]:
    """Returns the broker, and the address on which it listens."""
    log = (keys / "log").open("w+")
    broker = subprocess.Popen(
        [build / "broker/tdvol-broker", "--dir", keys / "state", "--listen", "localhost:0", "--cert", keys / "broker.crt",
         "--key", keys / "broker.key", "--client-ca", keys / "ca.crt", "--policy", keys / "policy.json",
         "--master-key", keys / "master.key", "--audit", keys / "audit.jsonl", "--log-format", "json",
         "--collateral-dir", sim / "collateral", "--test-root", sim / "pki/root.der",
         "--attest-rate", "100000",  # all sessions come from one address
         *sum(([f"--{name}", str(value)] for name, value in options.items()), [])],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
    )  # fmt: skip
    for _ in range(200):
        for line in pathlib.Path(log.name).read_text().splitlines():
            if '"listening"' in line:
                return broker, f"localhost:{json.loads(line)['port']}"
        if broker.poll() is not None:
            break
        time.sleep(0.05)
    broker.kill()
    raise RuntimeError(pathlib.Path(log.name).read_text())


def measure(build: pathlib.Path, options: dict | None = None) -> dict[str, float]:
    """One run is enough, because it has many sessions and releases. options: more of the broker's."""
    with tempfile.TemporaryDirectory() as folder:
        sim, keys = pathlib.Path(folder) / "sim", pathlib.Path(folder) / "broker"
        sim.mkdir()
        run(build / "tests/sim/tdvol-sim", "pki", sim / "pki")
        run(build / "tests/sim/tdvol-sim", "collateral", "--pki", sim / "pki", "--out", sim / "collateral")
        run(build / "ctl/tdvolctl", "broker", "init", keys)
        (keys / "policy.json").write_text(json.dumps(POLICY))
        broker, address = start_broker(build, keys, sim, options or {})
        try:
            done = subprocess.run(
                [build / "tests/speed/release", address, keys / "ca.crt", sim / "pki", str(SECONDS)],
                stdin=subprocess.DEVNULL, capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(done.stderr + (keys / "log").read_text()[-4000:])
        finally:
            broker.terminate()
            broker.wait()
    return {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}
