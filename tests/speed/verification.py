# SPDX-License-Identifier: Apache-2.0
"""Quote verifications per second: ours, two other verifiers, and the bare cost of the signatures.

The other verifiers are programs beside the tree (../shared/peers, or $TDVOL_PEERS): "peer DIR EPOCH N" verifies the
quote in DIR N times and prints verifications per second. A verifier that is missing or does not build is left out.
"""

import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess

TREE = pathlib.Path(__file__).resolve().parents[2]
VECTORS = pathlib.Path(os.environ.get("TDVOL_VECTORS", TREE.parent / "shared/vectors"))
PEERS = pathlib.Path(os.environ.get("TDVOL_PEERS", TREE.parent / "shared/peers"))
SET = VECTORS / "quotes/A-v4-uptodate-b0c06f"  # version 4, TDX 1.5
PEER_SET = {"go-tdx-guest": VECTORS / "quotes/F-v4-DEBUG-td-50806f"}  # this verifier refuses set A
NAMES = ("verify_cached_per_s", "verify_per_s", "dcap_qvl_per_s", "go_tdx_guest_per_s", "ecdsa_limit_per_s")
ROUNDS = 5
QUOTES = {"verify": 4000, "dcap-qvl": 3000, "go-tdx-guest": 800}


def output_of(command: list, **environment: str) -> str:
    return subprocess.run(
        [str(part) for part in command], env=os.environ | environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
    ).stdout  # fmt: skip


def check_time(folder: pathlib.Path) -> int:
    return json.loads((folder / "expected.json").read_text())["check_time"]


def build_peer(name: str, command: list[str], program: str, **environment: str) -> pathlib.Path | None:
    """Returns the program, built once below .cache; None if that is not possible."""
    folder = TREE / ".cache/peers" / name
    if not (PEERS / name).is_dir() or not shutil.which(command[0]):
        return None
    if not (folder / program).exists():
        shutil.copytree(PEERS / name, folder, dirs_exist_ok=True, copy_function=shutil.copy)
        if subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True).returncode:
            return None
    return folder / program


def peers() -> dict[str, pathlib.Path]:
    found = {
        "dcap-qvl": build_peer("dcap-qvl", ["cargo", "build", "--release"], "target/release/peer-dcap-qvl"),
        "go-tdx-guest": build_peer("go-tdx-guest", ["go", "build", "."], "peer-go-tdx-guest", GOFLAGS="-mod=mod"),
    }
    return {name: program for name, program in found.items() if program}


def ours(program: pathlib.Path) -> dict[str, float]:
    lines = output_of([program, SET, check_time(SET), QUOTES["verify"]]).split("\n")
    return {name: float(value) for name, value in (line.split() for line in lines if line)}


def peer(name: str, program: pathlib.Path) -> dict[str, float]:
    folder = PEER_SET.get(name, SET)
    text = output_of([program, folder, check_time(folder), QUOTES[name]], GOMAXPROCS="1")
    rate = re.search(r"([\d.]+)\s*(?:verifications|quotes)?(?:/s| per second)", text)
    return {name.replace("-", "_") + "_per_s": float(rate[1])} if rate else {}


def limit() -> dict[str, float]:
    """A quote whose PCK chain is cached needs two P-256 verifications."""
    last = output_of(["openssl", "speed", "-seconds", "1", "ecdsap256"]).strip().split("\n")[-1]
    return {"ecdsa_limit_per_s": float(last.split()[-1]) / 2}


def measure(program: pathlib.Path) -> dict[str, float]:
    """Medians of the rounds, which alternate, on one machine."""
    if not SET.is_dir():
        return {}
    others = peers()
    taken: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        rates = [ours(program), limit(), *(peer(*item) for item in others.items())]
        for name, rate in (item for some in rates for item in some.items()):
            taken.setdefault(name, []).append(rate)
    return {name: statistics.median(taken[name]) for name in NAMES if name in taken}
