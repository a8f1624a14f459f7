"""What the site has beside the pages of docs/: the repository's, the tutorial, hyperparameters, the API.

MkDocs calls the functions whose names begin with `on_`. Only the page of hyperparameters imports xql_jax.
"""

import ast
import os
import posixpath
import re
import runpy
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "xql_jax"
# Where a workflow on GitHub builds, it knows the repository; a clone does not know its home.
REPOSITORY = os.environ.get("GITHUB_REPOSITORY")
# Where a page's text lies in the repository, where that is not the same place below docs/.
PLACES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "tutorial.md": "docs/tutorial.ipynb",
}
PAGES = {place: page for page, place in PLACES.items()}
CODE = re.compile(r"(^ *```.*?^ *```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
# In a search, guides come before the API, whose names repeat each word many times, and before the history.
LATE = {"search": {"boost": 0.1}}
LINK = re.compile(r"(?<=\]\()([^)\s#]+)")


def on_config(config: MkDocsConfig) -> None:
    if REPOSITORY:
        config.repo_url = f"https://github.com/{REPOSITORY}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie elsewhere or are made, and the API's part of the navigation."""
    pages: dict[str, str | bytes] = {
        page: (ROOT / place).read_text("utf-8") for page, place in PLACES.items() if place.endswith(".md")
    }
    rooms = [path.parent for path in sorted(PACKAGE.glob("*/__init__.py"))]
    pages |= tutorial() | {"api/index.md": api_index(rooms)}
    pages["hyperparameters.md"] = runpy.run_path(str(ROOT / "docs/site/hyperparameters.py"))["page"]()
    config.nav[-1]["API"] = ["api/index.md"]
    for room in rooms:
        modules = sorted(path for path in room.rglob("*.py") if not path.name.startswith("_"))
        pages[f"api/{room.name}/index.md"] = room_index(room, modules)
        pages |= {page_of(module): module_page(module) for module in modules}
        entries = [{dotted(module, room): page_of(module)} for module in modules]
        config.nav[-1]["API"].append({room.name: [f"api/{room.name}/index.md", *entries]})
    for module in modules_beside(rooms):
        pages[page_of(module)] = module_page(module)
        config.nav[-1]["API"].append({module.stem: page_of(module)})
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Has links between the repository's files lead to the site's pages, and ranks the page in searches."""
    uri = page.file.src_uri
    if uri.startswith(("api/", "changelog")):
        page.meta |= LATE
    folder = posixpath.dirname(PLACES.get(uri, f"docs/{uri}"))

    def of_site(match: re.Match[str]) -> str:
        if "://" in match[0] or match[0].startswith("mailto:"):
            return match[0]
        place = posixpath.normpath(posixpath.join(folder, match[0]))
        if (ROOT / place).is_file() and (ROOT / place).is_relative_to(PACKAGE):
            target = page_of(ROOT / place)
        else:
            target = PAGES.get(place, place.removeprefix("docs/"))
        return posixpath.relpath(target, posixpath.dirname(uri) or ".")

    texts = CODE.split(markdown)  # what is not code, and what is, in turn
    return "".join(text if index % 2 else LINK.sub(of_site, text) for index, text in enumerate(texts))


def tutorial() -> dict[str, str | bytes]:
    """The notebook as a page, with the outputs that it was committed with, and its pictures."""
    exporter = MarkdownExporter()
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)
    markdown, resources = exporter.from_filename(str(ROOT / PLACES["tutorial.md"]))
    pictures = {f"images/tutorial/{name}": content for name, content in resources["outputs"].items()}
    for name in resources["outputs"]:
        markdown = markdown.replace(f"({name})", f"(images/tutorial/{name})")
    if REPOSITORY:
        colab = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/{PLACES['tutorial.md']}"
        markdown = f"[Open in Colab]({colab}){{ .md-button }}\n\n{markdown}"
    return {"tutorial.md": markdown, **pictures}


def api_index(rooms: list[Path]) -> str:
    rows = [(f"[{room.name}]({room.name}/index.md)", summary(room / "__init__.py")) for room in rooms]
    beside = [(f"[{module.stem}]({module.stem}.md)", summary(module)) for module in modules_beside(rooms)]
    return f"# API\n\n{table('package', rows)}\n\n{table('module', beside)}\n"


def room_index(room: Path, modules: list[Path]) -> str:
    links = [
        (f"[{dotted(module, room)}]({os.path.relpath(module.with_suffix('.md'), room)})", summary(module))
        for module in modules
    ]
    init = room / "__init__.py"
    defines = any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in parsed(init).body)
    own = module_page(room, heading=2) if defines else ""
    return f"# {dotted(room)}\n\n{ast.get_docstring(parsed(init))}\n\n{table('module', links)}\n\n{own}"


def module_page(path: Path, heading: int = 1) -> str:
    return f"::: {dotted(path)}\n    options:\n      heading_level: {heading}\n"


def page_of(module: Path) -> str:
    return f"api/{module.relative_to(PACKAGE).with_suffix('.md').as_posix()}"


def modules_beside(rooms: list[Path]) -> list[Path]:
    """The package's modules that are in no room."""
    return sorted(path for path in PACKAGE.glob("*.py") if not path.name.startswith("_"))


def dotted(path: Path, above: Path = ROOT) -> str:
    return ".".join(path.relative_to(above).with_suffix("").parts)


def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text("utf-8"))


def summary(module: Path) -> str:
    """The first sentence of a module's docstring."""
    docstring = ast.get_docstring(parsed(module)) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def table(what: str, rows: list[tuple[str, str]]) -> str:
    cells = [f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in rows]
    return "\n".join([f"| {what} | what it holds |", "|---|---|", *cells])
