#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the man page, the shell completion and the reference of a program from its own --help, so that there is only
one text.

    from_help.py man SECTION VERSION PROGRAM
    from_help.py bash PROGRAM
    from_help.py markdown PROGRAM...
"""

import pathlib
import re
import subprocess
import sys

# "  broker     init       make CA", "  create NAME            Creates a volume", "  attest     ...        print"
COMMAND = re.compile(r"  ([a-z]+(?: +[a-z]+(?:-[a-z]+)?)?)(?: +(?:\.\.\.|\[?[A-Z]+\]?))? {2,}(\S.*)")
# "  --name VALUE" with its text on the next line or on the same line.
OPTION = re.compile(r"  --([a-z0-9-]+)(?: (\S.*?))?(?:\n {8}| {3,})(\S.*)")
TEST_ONLY = "SIMULATOR BUILD ONLY"


class Help:
    """The --help of one command, and of the commands that it lists."""

    def __init__(self, program: str, words: tuple[str, ...] = ()):
        done = subprocess.run([program, *words, "--help"], check=True, capture_output=True, text=True)
        self.words, self.text = words, done.stdout
        self.options = OPTION.findall(self.text)  # name, value, text
        rows = re.findall(rf"^{COMMAND.pattern}$", self.text, re.MULTILINE)
        names = [tuple(name.split()) for name, _ in rows]
        self.commands = [Help(program, words + name) for name in names]

    def all(self):
        yield self
        for command in self.commands:
            yield from command.all()


def escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def without_options(page: Help) -> str:
    rest = OPTION.sub("", page.text).replace("\nOptions:\n", "\n")
    return re.sub(r"\n{3,}", "\n\n", rest).strip("\n")


def man_text(page: Help):
    """The help text unchanged, but the options as tagged paragraphs."""
    yield ".nf\n" + escaped(without_options(page)) + "\n.fi"
    for name, value, text in page.options:
        shown = f" \\fI{escaped(value)}\\fR" if value else ""
        yield f".TP\n\\fB\\-\\-{escaped(name)}\\fR{shown}\n{escaped(text)}"


def man(section: str, version: str, program: str) -> str:
    name = pathlib.Path(program).name
    top = Help(program)
    summary = re.sub(r"^[\w-]+: ", "", re.split(r"\.?\n", top.text)[0])
    lines = [f'.TH {name.upper()} {section} "" "tdvol {version}"', ".SH NAME", f"{escaped(name)} \\- {escaped(summary)}",
             ".SH DESCRIPTION", *man_text(top)]  # fmt: skip
    for page in list(top.all())[1:]:
        lines += [f".SH {name} {' '.join(page.words)}", *man_text(page)]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    return re.sub(r"([|<*\[\]])", r"\\\1", text)


def markdown(program: str) -> str:
    """A heading for each command, its text, and its options as a table; without those that only test builds have."""
    lines = []
    for page in Help(program).all():
        lines += [f"## {' '.join((pathlib.Path(program).name, *page.words))}", "", "```text", without_options(page), "```", ""]
        options = [option for option in page.options if not option[2].startswith(TEST_ONLY)]
        rows = [f"| `{f'--{name} {value}'.strip()}` | {cell(text)} |" for name, value, text in options]
        lines += ["| option | meaning |", "|---|---|", *rows, ""] if rows else []
    return "\n".join(lines)


def bash(program: str) -> str:
    """Completes commands, options, and the values of options that have a choice; otherwise files."""
    name = pathlib.Path(program).name
    function = "_" + name.replace("-", "_")
    nexts, options, values = {}, {}, {}
    for page in Help(program).all():
        path = " ".join(page.words)
        for command in page.commands:
            for at in range(len(page.words), len(command.words)):
                words = nexts.setdefault(" ".join(command.words[:at]), [])
                if command.words[at] not in words:
                    words.append(command.words[at])
        options[path] = [*(f"--{option}" for option, _, _ in page.options), "--help"]
        for option, value, _ in page.options:
            if choices := re.fullmatch(r"[a-z0-9-]+(?:(?:, |\|)[a-z0-9-]+)+", value):
                values[f"{path}:--{option}"] = re.split(r", |\|", choices[0])
    paths = list(dict.fromkeys([*options, *nexts]))
    case = "\n".join(
        f"        '{path}') words='{' '.join(nexts.get(path, []))}' options='{' '.join(options.get(path, []))}' ;;"
        for path in paths
    )
    chosen = "\n".join(f"        '{path}') words='{' '.join(words)}' ;;" for path, words in values.items())
    known = "|".join(f"'{path}'" for path in paths if path)
    return f"""# SPDX-License-Identifier: Apache-2.0
# bash completion of {name}, made from its --help.
{function}() {{
    local path='' words='' options='' at current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "${{path:+$path }}${{COMP_WORDS[at]}}" in
        {known or "''"}) path="${{path:+$path }}${{COMP_WORDS[at]}}" ;;
        *) break ;;
        esac
    done
    case "$path" in
{case}
    esac
    [[ $current != -* ]] || words=$options
    case "$path:$before" in
{chosen}
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -o default -F {function} {name}
"""


def main() -> None:
    match sys.argv[1:]:
        case ["man", section, version, program]:
            print(man(section, version, program), end="")
        case ["bash", program]:
            print(bash(program), end="")
        case ["markdown", *programs] if programs:
            print("\n".join(map(markdown, programs)), end="")
        case _:
            sys.exit(__doc__)


main()
