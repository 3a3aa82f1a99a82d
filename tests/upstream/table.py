#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the results of "tests/run upstream" as Markdown, for docs: table.py [build/test-logs]"""

import json
import pathlib
import sys

WAYS = ("bare", "aegis128", "none")
ACCESS = ("mount", "block")


def counts(specs: list[dict]) -> str:
    return ", ".join(f"{sum(spec['result'] == result for spec in specs)} {result}" for result in ("passed", "failed", "skipped"))


def main() -> int:
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/test-logs")
    tables = {(way, access): json.loads((folder / f"upstream-{way}-{access}.json").read_text()) for way in WAYS for access in ACCESS}
    names = {"bare": "the driver itself", "aegis128": "behind tdvol, `aegis128`", "none": "behind tdvol, `none`"}
    print("| | mount | block |\n|---|---|---|")
    for way in WAYS:
        print(f"| {names[way]} | " + " | ".join(counts(tables[way, access]["specs"]) for access in ACCESS) + " |")
    results = {(way, access): {spec["name"]: spec for spec in table["specs"]} for (way, access), table in tables.items()}
    print("\nSpecs with another result behind tdvol:\n\n| spec | access | bare | `aegis128` | `none` |\n|---|---|---|---|---|")
    for access in ACCESS:
        for name, bare in results["bare", access].items():
            found = [results[way, access].get(name, {"result": "missing"})["result"] for way in WAYS]
            if len(set(found)) > 1 or bare["result"] == "failed":
                print(f"| {name} | {access} | " + " | ".join(found) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
