"""The documentation site, built as `make docs` builds it, has every page."""

import re
import subprocess
import sys

import pytest
from guides import PAGES, ROOT

pytestmark = pytest.mark.slow


def test_every_page_is_on_it(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install '.[docs]'")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert built.returncode == 0, built.stderr[-3000:]
    elsewhere = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
    for page in {*PAGES, "docs/hyperparameters.md"} - elsewhere:
        name = re.sub(r"\.(md|ipynb)$", ".html", page.removeprefix("docs/")).replace("README", "index")
        assert (tmp_path / name).is_file(), page
