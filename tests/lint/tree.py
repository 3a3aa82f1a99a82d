# SPDX-License-Identifier: Apache-2.0
"""The files of the tree and their text without comments, for the checks in this folder."""

import pathlib
import re
import subprocess
import sys

# The product's folders, in the order of their dependencies.
FOLDERS = (
    "base", "record", "proto", "attest", "policy", "appraisal", "crypt", "blockd", "keys", "store", "lifecycle", "audit",
    "collateral", "master", "transfer", "erasure", "broker", "upstream", "plugin", "addons", "csi", "migrate", "ctl",
)  # fmt: skip
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def root() -> pathlib.Path:
    """The tree to check: the first argument, or the tree of this file."""
    return pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]


def files(top: pathlib.Path, *suffixes: str) -> list[pathlib.Path]:
    """Tracked and new files, without ignored ones; relative to top, sorted."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=top, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    paths = (pathlib.Path(name) for name in listed.split("\0") if name)
    return sorted(
        {path for path in paths if (not suffixes or path.suffix in suffixes) and (top / path).is_file()}
    )


def is_product(path: pathlib.Path) -> bool:
    return path.parts[0] in FOLDERS


def without_comments(text: str, keep_strings: bool = False) -> str:
    """The same lines without comments; strings are emptied, because words in them are not code."""

    def blank(match: re.Match) -> str:
        token = match[0]
        if token[0] == "/":
            return "\n" * token.count("\n")
        return token if keep_strings else token[0] * 2

    return TOKEN.sub(blank, text)


def report(faults: list[str]) -> None:
    """Prints the faults and ends the program: 1 when there are any."""
    print("\n".join(faults) if faults else "no fault")
    sys.exit(bool(faults))
