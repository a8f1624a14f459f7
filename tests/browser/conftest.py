"""Headless Chromium from npm, driven by Playwright; without npm's packages these tests are skipped."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
UNPACK = """
import('@sparticuz/chromium').then(async ({default: chromium}) => {
  console.log(JSON.stringify({path: await chromium.executablePath(), args: chromium.args}));
});
"""
# They loosen what a page may do; the last has the whole browser end with its first page.
UNWANTED = ("--disable-web-security", "--allow-running-insecure-content", "--single-process")


@pytest.fixture(scope="session")
def browser():
    """The browser; each test opens a context of its own in it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not (HERE / "node_modules").is_dir():
        pytest.skip("npm's packages are not installed: npm ci --prefix tests/browser")
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    unpacked = subprocess.run(
        ["node", "-e", UNPACK], cwd=HERE, capture_output=True, text=True, check=True, timeout=120
    )
    chromium = json.loads(unpacked.stdout)
    arguments = [argument for argument in chromium["args"] if argument not in UNWANTED]
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=chromium["path"], args=arguments)
        yield made
        made.close()


@pytest.fixture(scope="session")
def assert_axe_finds_nothing_serious():
    """Has axe look at a page for what keeps people from using it."""
    source = (HERE / "node_modules" / "axe-core" / "axe.min.js").read_text()

    def look(page):
        page.evaluate(source)
        found = page.evaluate("axe.run()")
        assert len(found["passes"]) > 20  # it has looked
        serious = [
            (rule["id"], rule["impact"], rule["nodes"][0]["html"][:300])
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
        ]
        assert serious == []

    return look
