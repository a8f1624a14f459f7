"""The documentation site, built as `make docs` builds it, has every page and every public name."""

import ast
import re
import subprocess
import sys

import pytest
from guides import PAGES, ROOT

MODULES = sorted(path for path in (ROOT / "xql_jax").rglob("*.py") if not path.name.startswith("_"))

pytestmark = pytest.mark.slow


def test_every_page_and_every_public_name_is_on_it(tmp_path):
    """What the API shows is compared with what Python's own parser finds in the files."""
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install '.[docs]'")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert built.returncode == 0, built.stderr[-3000:]
    for page in {*PAGES} - {"README.md", "docs/README.md", "CHANGELOG.md", "CONTRIBUTING.md"}:
        name = re.sub(r"\.(md|ipynb)$", ".html", page.removeprefix("docs/")).replace("README", "index")
        assert (tmp_path / name).is_file(), page
    lacking = []
    for module in MODULES:
        place = module.relative_to(ROOT / "xql_jax").with_suffix(".html")
        page = (tmp_path / "api" / place).read_text("utf-8")
        dotted = ".".join(module.relative_to(ROOT).with_suffix("").parts)
        body = ast.parse(module.read_text("utf-8")).body
        names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        wanted = [f"{dotted}.{name}" for name in names if not name.startswith("_")]
        lacking += [name for name in wanted if f'id="{name}"' not in page]
    assert lacking == []
