#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A model of how TCB levels are evaluated. It shares nothing with attest/tcb.c.

    tcb_model.py OUTPUT

Writes scenarios as JSON: documents as Intel publishes them, and cases with the expected status, date and
advisories. The first scenario has every combination of statuses. The others are random, but always the same.
"""

import calendar
import itertools
import json
import random
import sys
import time

PLATFORM = ["UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
            "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked"]  # fmt: skip
PART = ["UpToDate", "OutOfDate", "Revoked"]
ADVISORIES = [f"INTEL-SA-{n:05}" for n in range(1, 12)]
ZEROS = "00" * 48


class NotSupported(Exception):
    """No level fits."""


# --- the model ---


def numbers(level: dict, key: str) -> list[int]:
    return [component["svn"] for component in level["tcb"][key]]


def first_fit(levels: list[dict], rank, fits) -> dict:
    """The highest of the levels that fit."""
    for level in sorted(levels, key=rank, reverse=True):
        if fits(level):
            return level
    raise NotSupported


def platform_level(info: dict, case: dict, svn: list[int]) -> dict:
    judged = range(2 if svn[1] else 0, 16)  # a versioned module's own identity judges it
    return first_fit(
        info["tcbLevels"],
        lambda level: (numbers(level, "sgxtcbcomponents"), level["tcb"]["pcesvn"], numbers(level, "tdxtcbcomponents")),
        lambda level: all(have >= want for have, want in zip(case["sgx"], numbers(level, "sgxtcbcomponents")))
        and case["pcesvn"] >= level["tcb"]["pcesvn"]
        and all(svn[i] >= numbers(level, "tdxtcbcomponents")[i] for i in judged),
    )


def part_level(levels: list[dict], svn: int) -> dict:
    return first_fit(levels, lambda level: level["tcb"]["isvsvn"], lambda level: svn >= level["tcb"]["isvsvn"])


def converge(status: str, parts: list[str]) -> str:
    if "Revoked" in parts:
        return "Revoked"
    if "OutOfDate" in parts:
        status = {
            "UpToDate": "OutOfDate",
            "SWHardeningNeeded": "OutOfDate",
            "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
            "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
        }.get(status, status)
    return status


def evaluate(info: dict, qe: dict, case: dict, svn: list[int]) -> tuple[str, list[dict]]:
    """The status, and the levels that it comes from."""
    platform, parts = platform_level(info, case, svn), []
    if svn[1]:
        modules = [m for m in info.get("tdxModuleIdentities", []) if int(m["id"][4:], 16) == svn[1]]
        if not modules:
            raise NotSupported
        parts.append(part_level(modules[0]["tcbLevels"], svn[0]))
    parts.append(part_level(qe["tcbLevels"], case["isvsvn"]))
    return converge(platform["tcbStatus"], [p["tcbStatus"] for p in parts]), [platform, *parts]


def expected(info: dict, qe: dict, case: dict) -> dict:
    try:
        status, levels = evaluate(info, qe, case, case["svn"])
        if case["svn2"]:
            current, more = evaluate(info, qe, case, case["svn2"])
            levels += more
            if current == "Revoked":
                status = "Revoked"  # stricter than Intel's library, which only reports it beside the launch status
            elif status.startswith("OutOfDate") and not current.startswith("OutOfDate"):
                both = status + current
                status = "TDRelaunchAdvised" + ("ConfigurationNeeded" if "Configuration" in both else "")
    except NotSupported:
        return {"status": "NotSupported"}
    dates = [calendar.timegm(time.strptime(level["tcbDate"], "%Y-%m-%dT%H:%M:%SZ")) for level in levels]
    return {
        "status": status,
        "date": min(dates),
        "advisories": sorted({a for level in levels for a in level.get("advisoryIDs", [])}),
    }


# --- documents ---


def components(values: list[int]) -> list[dict]:
    return [{"svn": value} for value in values]


def level_of(tcb: dict, status: str, day: int, advisories: list[str]) -> dict:
    out = {"tcb": tcb, "tcbDate": f"20{day // 360 + 18}-{day // 30 % 12 + 1:02}-{day % 28 + 1:02}T00:00:00Z",
           "tcbStatus": status}  # fmt: skip
    return out | ({"advisoryIDs": advisories} if advisories else {})


def platform_tcb(sgx: list[int], pcesvn: int, tdx: list[int]) -> dict:
    return {"sgxtcbcomponents": components(sgx), "pcesvn": pcesvn, "tdxtcbcomponents": components(tdx)}


def documents(levels: list[dict], modules: dict[str, list[dict]], qe_levels: list[dict]) -> tuple[dict, dict]:
    dates = {"issueDate": "2026-01-01T00:00:00Z", "nextUpdate": "2026-01-31T00:00:00Z", "tcbEvaluationDataNumber": 18}
    signer = {"mrsigner": ZEROS, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    info = {"id": "TDX", "version": 3, **dates, "fmspc": "A0C06F000000", "pceId": "0000", "tcbType": 0,
            "tdxModule": signer, "tcbLevels": levels}  # fmt: skip
    if modules:
        info["tdxModuleIdentities"] = [{"id": k, **signer, "tcbLevels": v} for k, v in modules.items()]
    qe = {"id": "TD_QE", "version": 2, **dates, "miscselect": "00" * 4, "miscselectMask": "FF" * 4,
          "attributes": "00" * 16, "attributesMask": "FF" * 16, "mrsigner": "00" * 32, "isvprodid": 2,
          "tcbLevels": qe_levels}  # fmt: skip
    return info, qe


def with_numbers(at: dict[int, int]) -> list[int]:
    return [at.get(i, 0) for i in range(16)]


def scenario(info: dict, qe: dict, cases: list[dict]) -> dict:
    return {"tcbInfo": info, "enclaveIdentity": qe,
            "cases": [case | {"expected": expected(info, qe, case)} for case in cases]}  # fmt: skip


# --- scenarios ---


def every_combination() -> dict:
    """tdx[2] picks the platform's level, svn[0] the module's. 0 is below all levels; otherwise higher is better."""
    levels = [level_of(platform_tcb(with_numbers({}), 0, with_numbers({0: 9, 1: 9, 2: 7 - i})), status, 100 + i, [])
              for i, status in enumerate(PLATFORM)]  # fmt: skip
    parts = [level_of({"isvsvn": 3 - i}, status, 200 + 10 * i, []) for i, status in enumerate(PART)]
    info, qe = documents(levels, {"TDX_03": parts}, parts)
    svns = [with_numbers({0: module, 1: 3, 2: platform}) for platform in range(8) for module in range(4)]
    cases = [{"sgx": [0] * 16, "pcesvn": 0, "isvsvn": isvsvn, "svn": svn, "svn2": svn2}
             for isvsvn, svn, svn2 in itertools.product(range(4), svns, [None, *svns])]  # fmt: skip
    return scenario(info, qe, cases)


def drawn(dice: random.Random) -> dict:
    """Levels with a few numbers each, in any order, and platforms with about the same numbers."""

    def some(places: list[int]) -> list[int]:
        return with_numbers({place: dice.randrange(3) for place in places})

    def advisories() -> list[str]:
        return dice.sample(ADVISORIES, dice.randrange(4))

    def isv_levels() -> list[dict]:
        return [level_of({"isvsvn": svn}, dice.choice(["UpToDate", *PART]), dice.randrange(2000), advisories())
                for svn in {dice.randrange(2), *dice.sample(range(4), dice.randrange(3))}]  # fmt: skip

    sgx_places, tdx_places = dice.sample(range(16), 2), [0, 1, *dice.sample(range(2, 16), 2)]
    tcbs = {(tuple(some(sgx_places)), dice.randrange(3), tuple(some(tdx_places))) for _ in range(dice.randrange(1, 9))}
    if dice.randrange(4):
        tcbs.add(((0,) * 16, 0, (0,) * 16))
    levels = [level_of(platform_tcb(list(sgx), pcesvn, list(tdx)), dice.choice(PLATFORM), dice.randrange(2000),
                       advisories()) for sgx, pcesvn, tdx in sorted(tcbs)]  # fmt: skip
    dice.shuffle(levels)
    majors = dice.sample([1, 2, 3, 10], dice.randrange(5))
    modules = {f"TDX_{major:02X}": isv_levels() for major in majors}
    info, qe = documents(levels, modules, isv_levels())

    def svn() -> list[int]:
        high = some(tdx_places)
        return [dice.randrange(4), dice.choice([0, 1, *majors * 4]), *(n + dice.randrange(2) for n in high[2:])]

    cases = [{"sgx": [n + dice.randrange(2) for n in some(sgx_places)], "pcesvn": dice.randrange(4),
              "isvsvn": dice.randrange(5), "svn": svn(), "svn2": svn() if dice.randrange(2) else None}
             for _ in range(50)]  # fmt: skip
    return scenario(info, qe, cases)


def main() -> None:
    dice = random.Random(20260818)
    scenarios = [every_combination(), *(drawn(dice) for _ in range(300))]
    with open(sys.argv[1], "w", encoding="ascii") as out:
        json.dump(scenarios, out, separators=(",", ":"))


if __name__ == "__main__":
    main()
