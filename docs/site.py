# SPDX-License-Identifier: Apache-2.0
"""A hook of mkdocs: gives the site the tree of the repository, so that a link is the same in both.

* Pages are the documents in docs/ and at the top, and what else mkdocs.yml names.
* A file of another kind to which a page leads is copied. A folder becomes a page that lists its files.
* The documents are CommonMark, as forges show it. mkdocs has a Markdown of its own, which wants other columns in
  lists. So lists are indented for it, and each page must have as many tables, blocks of code, items and headings as
  CommonMark sees.
"""

import collections
import html.parser
import logging
import pathlib
import posixpath
import re

import markdown_it
from mkdocs.structure.files import File, Files

log = logging.getLogger("mkdocs.plugins.site")  # a warning ends a strict build
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)([^)\s]*)\)")
ITEM = re.compile(r" {0,3}(?:[*+-]|\d{1,9}[.)]) +(?=\S)")
FENCE = re.compile(r" *(```+|~~~+)")
COUNTED = {"table", "pre", "li", "h1", "h2", "h3", "h4", "h5", "h6", "img", "a", "blockquote"}


def documents(top: pathlib.Path, nav) -> set[str]:
    """Every document that is a page, or should be one, as its path in the repository."""
    named = re.findall(r"[^'\"]+\.md", str(nav))
    found = [*top.glob("*.md"), *(top / "docs").rglob("*.md")]
    return {path.relative_to(top).as_posix() for path in found} | {name for name in named if (top / name).is_file()}


def targets(page: str, text: str):
    """Where the links of a page lead: (path in the repository, link as it is written)."""
    for match in LINK.finditer(text):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(page), match[1])), match[1]


def listing(top: pathlib.Path, folder: str) -> str:
    """A page with the files of a folder."""
    names = sorted(path.relative_to(top / folder).as_posix() for path in (top / folder).rglob("*") if path.is_file())
    return f"# {folder}\n\n" + "".join(f"* [{name}]({name})\n" for name in names)


def on_files(files, config, **_):
    top = pathlib.Path(config.config_file_path).parent
    pages = documents(top, config.nav)
    made = {page: File.generated(config, page, abs_src_path=str(top / page)) for page in sorted(pages)}
    waiting = [(page, (top / page).read_text()) for page in made]
    while waiting:
        page, text = waiting.pop()
        for target, _ in targets(page, text):
            path, index = top / target, f"{target}/index.md"
            if path.is_dir() and index not in made and f"{target}/README.md" not in made:
                made[index] = File.generated(config, index, content=listing(top, target))
                waiting.append((index, made[index].content_string))
            elif path.is_file() and target not in made:
                made[target] = File.generated(config, target, abs_src_path=str(path))
    for name, file in made.items():  # lists of files, and documents in them, have no place in the navigation
        if name not in pages:
            file.inclusion = file.inclusion.NOT_IN_NAV
    theme = [file for file in files if file.src_uri not in made and not file.abs_src_path.startswith(config.docs_dir)]
    return Files([*theme, *made.values()])


def four_columns(text: str) -> str:
    """CommonMark's items begin where their text does; Python-Markdown wants four columns for each level."""
    columns, fence, made = [], "", []  # where the texts of the open items begin
    can_follow = False  # whether an item is seen here without an empty line before it
    for line in text.splitlines():
        if not line.strip():
            made.append("")
            can_follow = False
            continue
        while columns and not fence and len(line) - len(line.lstrip()) < columns[-1]:
            columns.pop()
        depth, rest = len(columns), line[columns[-1] if columns else 0 :]
        if mark := FENCE.match(rest):
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]
        elif not fence and (item := ITEM.match(rest)):
            if not can_follow and made and made[-1]:
                made.append("")
            can_follow = True
            columns.append(len(line) - len(rest) + item.end())
        made.append(" " * 4 * depth + rest)
    return "\n".join(made) + "\n"


def on_page_markdown(text, page, config, files):
    """Links to folders lead to their lists."""
    for target, written in targets(page.file.src_uri, text):
        for name in ("index.md", "README.md"):
            if files.get_file_from_path(f"{target}/{name}"):
                text = text.replace(f"]({written})", f"]({written.rstrip('/')}/{name})")
    page.meta["commonmark"] = text
    return four_columns(text)


class Counter(html.parser.HTMLParser):
    """How many of each tag are in a text; links to a heading's own place do not count."""

    def __init__(self, text: str):
        super().__init__()
        self.count = collections.Counter()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in COUNTED and (tag != "a" or ("href" in attributes and attributes.get("class") != "headerlink")):
            self.count[tag] += 1


def on_page_content(text, page, **_):
    wanted = Counter(markdown_it.MarkdownIt("commonmark").enable("table").render(page.meta.pop("commonmark"))).count
    found = Counter(text).count
    for tag in sorted(wanted.keys() | found.keys()):
        if wanted[tag] != found[tag]:
            log.warning("%s: CommonMark has %d <%s>, the site %d", page.file.src_uri, wanted[tag], tag, found[tag])
