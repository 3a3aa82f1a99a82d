#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the list of a policy's fields from its JSON Schema.

from_schema.py SCHEMA
"""

import json
import pathlib
import sys

SECTIONS = {"image": "An image", "rule": "A rule", "td": "td", "owner": "owner", "key": "A key", "exception": "An exception"}
HEAD = ["| field | value | meaning |", "|---|---|---|"]


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def limits(schema: dict, least: str, most: str, unit: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if low is None and high is None:
        return ""
    if high is None:
        return {None: "", 0: "", 1: ", not empty"}.get(low, f", at least {low} {unit}".rstrip())
    return f", {f'{low} to {high}' if low is not None else f'at most {high}'} {unit}".rstrip()


class Schema:
    def __init__(self, path: pathlib.Path):
        self.whole = json.loads(path.read_text())

    def resolved(self, schema: dict) -> tuple[str, dict]:
        """The name of the definition, if it is one, and what it says with what the reference adds."""
        if not (name := schema.get("$ref", "").removeprefix("#/$defs/")):
            return "", schema
        return name, self.whole["$defs"][name] | {key: part for key, part in schema.items() if key != "$ref"}

    def value(self, schema: dict) -> str:
        name, schema = self.resolved(schema)
        if name in SECTIONS:
            return f"[{SECTIONS[name]}](#{SECTIONS[name].lower().replace(' ', '-')})".replace("[A", "[a")
        if "const" in schema:
            return f"`{json.dumps(schema['const'])}`"
        if "enum" in schema:
            return ", ".join(f"`{word}`" for word in schema["enum"])
        if "anyOf" in schema:
            return " or ".join(self.value(one) for one in schema["anyOf"])
        match schema["type"]:
            case "array":
                return f"a list{limits(schema, 'minItems', 'maxItems', 'entries')}: {self.value(schema['items'])}"
            case "object" if isinstance(schema.get("additionalProperties"), dict):
                return f"by name{limits(schema, 'minProperties', 'maxProperties', 'entries')}: " + self.value(
                    schema["additionalProperties"]
                )
            case "integer":
                return "a number" + limits(schema, "minimum", "maximum", "")
            case "string":
                fits = f" that fits `{schema['pattern']}`" if "pattern" in schema else ""
                fits = f" such as `{schema['examples'][0]}`" if "examples" in schema else fits
                return "text" + fits + limits(schema, "minLength", "maxLength", "characters")
            case kind:
                return {"boolean": "true or false", "object": "an object"}[kind]

    def rows(self, schema: dict, before: str = ""):
        """A row for each field, also of objects inside that have no name of their own."""
        for field, one in schema.get("properties", {}).items():
            if one is False:
                yield f"| `{before}{field}` | – | Refused. |"
                continue
            name, whole = self.resolved(one)
            must = "Required. " if field in schema.get("required", []) else ""
            told = whole.get("description", "")
            yield f"| `{before}{field}` | {cell(self.value(one))} | {cell((must + told).strip())} |"
            if name not in SECTIONS and whole.get("type") == "object":
                yield from self.rows(whole, f"{before}{field}.")

    def page(self):
        yield from ["## The file", "", *HEAD, *self.rows(self.whole)]
        for name, title in SECTIONS.items():
            schema = self.whole["$defs"][name]
            yield from ["", f"## {title}", ""]
            if told := schema.get("description"):
                yield from [told, ""]
            yield from [*HEAD, *self.rows(schema)]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("\n".join(Schema(pathlib.Path(sys.argv[1])).page()))


main()
