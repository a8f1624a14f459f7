"""The documentation site in a browser: built as `make docs` builds it, it asks for nothing from elsewhere."""

import ast
import functools
import http.server
import itertools
import re
import resource
import subprocess
import sys
import threading

import pytest
from guides import PAGES, ROOT

DESKTOP, PHONE = (1280, 900), (390, 800)
# Each kind of page: the first, a guide, the table, the notebook, and of the API a room and a module.
SEEN = (
    "index.html",
    "methods.html",
    "hyperparameters.html",
    "tutorial.html",
    "api/learners/index.html",
    "api/losses/gumbel.html",
)
SECONDS = 120  # of the processor, within which the site is built
MODULES = sorted(path for path in (ROOT / "xql_jax").rglob("*.py") if not path.name.startswith("_"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, and the seconds of the processor that building it took."""
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert built.returncode == 0, built.stderr[-3000:]
    return folder, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture(scope="module")
def address(site):
    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Silent, directory=str(site[0]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def opened(browser, address):
    """Opens a page; at the end nothing may have failed, nor been asked for elsewhere."""
    contexts, troubles = [], []

    def note(request):
        if not request.url.startswith((address, "data:", "blob:")):
            troubles.append(f"asked for {request.url}")

    def open_page(name, size=DESKTOP, colours="light"):
        width, height = size
        contexts.append(
            browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours)
        )
        page = contexts[-1].new_page()
        page.on("request", note)
        page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "console",
            lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.goto(address + name)
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def test_it_is_built_in_two_minutes(site):
    assert site[1] < SECONDS


def test_every_page_and_every_public_name_is_on_it(site):
    """What the API shows is compared with what Python's own parser finds in the files."""
    folder, _ = site
    for page in {*PAGES} - {"README.md", "docs/README.md", "CHANGELOG.md", "CONTRIBUTING.md"}:
        name = re.sub(r"\.(md|ipynb)$", ".html", page.removeprefix("docs/")).replace("README", "index")
        assert (folder / name).is_file(), page
    lacking = []
    for module in MODULES:
        place = module.relative_to(ROOT / "xql_jax").with_suffix(".html")
        html = (folder / "api" / place).read_text("utf-8")
        dotted = ".".join(module.relative_to(ROOT).with_suffix("").parts)
        body = ast.parse(module.read_text("utf-8")).body
        names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        wanted = [f"{dotted}.{name}" for name in names if not name.startswith("_")]
        lacking += [name for name in wanted if f'id="{name}"' not in html]
    assert lacking == []


def test_docstrings_are_parted_as_they_are_written(opened):
    page = opened("api/losses/gumbel.html")
    text = page.locator("article").inner_text()
    assert "beta * log E[exp(x / beta)]" in text
    assert re.search(r"\nSource: Garg et al\. 2023, Eq\. 7", text)  # a paragraph of its own
    assert page.get_by_text("Parameters:").count() >= 1
    fields = opened("api/theory/soft_mdp.html").locator("article").inner_text()
    assert "f64[S, A], mu(a|s)" in fields  # the comment beside the field
    gumbel = opened("api/learners/value_fits/gumbel.html").locator("article").inner_text()
    assert "Bound on the exponent (Q - V) / beta" in gumbel  # a hyperparameter's meaning


@pytest.mark.parametrize(
    ("name", "size", "colours"), itertools.product(SEEN, [DESKTOP, PHONE], ["light", "dark"])
)
def test_a_page_is_fit_to_be_read(opened, assert_axe_finds_nothing_serious, name, size, colours):
    page = opened(name, size, colours)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    red, *_ = map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert (red > 128) == (colours == "light")
    for picture in page.locator("article img").all():
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("image => image.naturalWidth") > 0
        box = picture.bounding_box()
        assert box["x"] + box["width"] <= size[0]
    if (size == DESKTOP) == (colours == "dark"):  # each layout and each palette is looked at once
        return
    assert_axe_finds_nothing_serious(page)


def test_the_navigation_and_the_search_lead_on(opened):
    page = opened("index.html")
    page.locator("nav").get_by_role("link", name="Theory", exact=True).first.click()
    page.get_by_role("heading", name="Theory you can run").wait_for()
    page.get_by_placeholder("Search").fill("log_mean_exp")
    page.locator(".md-search-result__link").first.wait_for()
    page.locator(".md-search-result__link").first.click()
    page.wait_for_url("**/api/losses/gumbel.html*")


def test_it_opens_as_a_file(browser, site):
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((site[0] / "index.html").as_uri())
    page.locator("nav").get_by_role("link", name="Theory", exact=True).first.click()
    page.get_by_role("heading", name="Theory you can run").wait_for()
    context.close()
