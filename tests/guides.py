"""The pages that people read, README first, and what stands in them: links, headings, blocks of code."""

import dataclasses
import functools
import json
import re
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/*.ipynb"))
)
MARK = re.compile(r"<!-- not run: (\S.*) -->")
PARSER = MarkdownIt("commonmark").enable("table")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code between fences."""

    page: str
    line: int
    language: str
    code: str
    reason: str  # why no test runs it, as the comment above it says: <!-- not run: REASON -->


@functools.cache
def tokens(page):
    """The page as markdown-it reads it; of a notebook, its text."""
    text = (ROOT / page).read_text("utf-8")
    if page.endswith(".ipynb"):
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return PARSER.parse(text)


def blocks(page, *languages):
    """The page's blocks of code in these languages; without languages, all."""
    found = []
    for before, token in zip([None, *tokens(page)], tokens(page), strict=False):
        if token.type == "code_block":  # indented, and so without a language
            found.append(Block(page, token.map[0] + 1, "", token.content, ""))
        if token.type == "fence":
            mark = before is not None and before.type == "html_block" and MARK.search(before.content)
            language = token.info.strip()
            found.append(Block(page, token.map[0] + 1, language, token.content, mark[1] if mark else ""))
    return [block for block in found if not languages or block.language in languages]


def links(page):
    """Where the page's links and pictures lead."""
    inner = [child for token in tokens(page) for child in token.children or ()]
    for token in inner:
        if token.type in ("link_open", "image"):
            yield unquote(token.attrs["href" if token.type == "link_open" else "src"])
    for token in (*tokens(page), *inner):
        if token.type in ("html_block", "html_inline"):
            yield from re.findall(r"""(?:src|href)=["']([^"']+)""", token.content)


@functools.cache
def anchors(page):
    """The names that GitHub gives the page's headings."""
    found = []
    for opening, inline in zip(tokens(page), tokens(page)[1:], strict=False):
        if opening.type == "heading_open":
            text = "".join(
                child.content for child in inline.children if child.type in ("text", "code_inline")
            )
            name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            earlier = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in found)
            found.append(f"{name}-{earlier}" if earlier else name)
    return frozenset(found)
