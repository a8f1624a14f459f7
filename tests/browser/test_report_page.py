"""The report in a browser: sorted, filtered, followed to a run; light, dark, on a phone, by keyboard."""

import io
import itertools
import threading

import numpy as np
import pytest
from matplotlib.image import imread
from written_runs import write_run

from xql_jax.reports.palette import BLUE
from xql_jax.reports.report import Report
from xql_jax.runs.reporting import RunFinder
from xql_jax.serving.live import LiveReport
from xql_jax.serving.server import LocalServer

EVIL = "x\"'><img src=q onerror=alert(1)>&</script><script>alert(2)</script>"
SCORES = "table:has(caption:text('Scores by dataset'))"
DESKTOP, PHONE, NARROW = (1280, 900), (390, 800), (320, 640)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three methods on two datasets, one of them swept, and a damaged run."""
    root = tmp_path_factory.mktemp("browser") / "results"
    for number, task in enumerate(("kitchen-complete-v0", "pen-human-v0")):
        for method, base in (("iql", 60), ("bc", 8), ("xql+reverse_kl", 100)):
            curves = {seed: [0.0, base / 2, base + 7 * number + seed] for seed in range(3)}
            write_run(root, task, method, curves)
        for seed in range(8):
            write_run(root, task, "awac", {seed: [1.0, 30.0 + seed]})
    swept = {(seed, beta): [5.0, 10 * beta + seed] for seed in range(2) for beta in (0.5, 1.0, 2.0)}
    write_run(root, "pen-human-v0", "mxql", swept, swept=["beta"], diverged=[(1, 0.5)], beta=1.0)
    broken = write_run(root, "pen-human-v0", "sql", {0: [1.0]})
    (broken / "evaluations.csv").write_text("step\n")
    return root


def write_page(root, path):
    finder = RunFinder([str(root)])
    path.write_text(
        Report(finder.find(), finder.title, samples=200).page("Made for a test."), encoding="utf-8"
    )
    return path.as_uri()


@pytest.fixture(scope="module")
def address(runs, tmp_path_factory):
    return write_page(runs, tmp_path_factory.mktemp("page") / "index.html")


class Watched:
    """A page, and all that it asked for or complained of."""

    def __init__(self, context, address):
        self.asked, self.complaints = [], []
        self.page = context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.goto(address)


@pytest.fixture
def opened(browser, address):
    """Opens the page in a window of that size and those colours; in the end it must have had no complaint."""
    contexts, watched = [], []

    def open_page(size=DESKTOP, colours="light", url=address, **options):
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=colours, **options
        )
        contexts.append(context)
        watched.append(Watched(context, url))
        return watched[-1].page

    yield open_page
    complaints = [complaint for each in watched for complaint in each.complaints]
    for context in contexts:
        context.close()
    assert complaints == []


def column(page, number, table=SCORES):
    """The texts of a column's cells that can be seen."""
    return [
        cell.inner_text().strip()
        for row in page.locator(f"{table} tbody tr").all()
        if row.is_visible()
        for cell in [row.locator("th, td").nth(number)]
    ]


def means(page):
    return [float(text.split()[0]) for text in column(page, 2)]


def test_a_column_is_sorted_up_and_down_by_its_numbers(opened):
    page = opened()
    before = means(page)
    assert before != sorted(before)
    button = page.locator(f"{SCORES} thead").get_by_role("button", name="Last score")
    header = page.locator(f"{SCORES} thead th").nth(2)
    assert header.get_attribute("aria-sort") == "none"
    button.click()
    assert means(page) == sorted(before)  # 8 < 100: numbers, not texts
    assert header.get_attribute("aria-sort") == "ascending"
    button.click()
    assert means(page) == sorted(before, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"
    # By the paper's score, which not every row has: those without come last either way.
    paper = page.locator(f"{SCORES} thead").get_by_role("button", name="Paper")
    for _ in range(2):
        paper.click()
        texts = column(page, 4)
        assert texts[-1] == "–" != texts[0]
    assert header.get_attribute("aria-sort") == "none"
    assert sorted(means(page)) == sorted(before)


def test_rows_are_filtered_by_words_in_any_order(opened):
    page = opened()
    count = len(column(page, 0))
    page.get_by_label("Filter rows").fill("IQL kitchen")
    assert column(page, 1) == ["iql"]
    assert column(page, 0) == ["kitchen-complete-v0"]
    assert page.get_by_role("status").inner_text().endswith("rows shown")
    page.get_by_label("Filter rows").fill("nothing of the kind")
    assert column(page, 0) == []
    page.get_by_label("Filter rows").fill("")
    assert len(column(page, 0)) == count
    assert page.get_by_role("status").inner_text() == ""


def test_a_number_leads_to_its_run_and_a_picture_of_it(opened):
    page = opened()
    page.locator(SCORES).get_by_role("link", name="61.0").first.click()
    run = page.locator("details.run[open]")
    run.wait_for()
    assert run.count() == 1
    assert "kitchen-complete-v0/iql/seeds0-2_" in run.locator("summary").first.inner_text()
    picture = run.locator("svg.chart")
    assert picture.is_visible()
    assert "ending at 60.0, 61.0, 62.0" in picture.get_attribute("aria-label")
    assert run.get_by_text("0123456789abcdef0123456789abcdef01234567").is_visible()
    # The curves are drawn: some of the picture is of their colour.
    pixels = imread(io.BytesIO(picture.screenshot()), format="png")[..., :3]
    blue = np.array([int(BLUE[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    assert (np.abs(pixels - blue).max(-1) < 0.1).sum() > 200
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_a_number_of_several_runs_leads_to_each_of_them(opened):
    page = opened()
    row = page.locator(f"{SCORES} tbody tr", has_text="awac").first
    assert not row.get_by_role("link", name="37.0").is_visible()
    row.locator("td").nth(1).get_by_role("link").click()  # the mean
    row.get_by_role("link", name="37.0").click()
    page.locator("details.run[open]").wait_for()
    assert "seed7_" in page.locator("details.run[open] summary").first.inner_text()


def test_an_address_with_a_run_opens_it_at_once(opened, address):
    page = opened()
    place = page.locator(SCORES).get_by_role("link", name="61.0").first.get_attribute("href")
    page = opened(url=f"{address}{place}")
    page.locator("details.run[open]").wait_for()
    page.locator("details.run[open] > summary").click()  # closed by hand, and followed once more
    page.locator("details.run[open]").wait_for(state="detached")
    page.locator(SCORES).get_by_role("link", name="61.0").first.click()
    page.locator("details.run[open]").wait_for()


def test_sensitivity_shows_who_diverged(opened):
    page = opened()
    picture = page.locator("figure", has=page.get_by_role("heading", name="mxql on pen-human-v0: beta"))
    assert "beta: 0.5: 1 of 2" in picture.inner_text()
    assert picture.locator("path.cross title").text_content().startswith("beta=0.5, seed 1: 6.0")
    assert picture.locator("path.cross").bounding_box()["width"] > 5


def test_the_keyboard_is_enough(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Last score":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"  # one sees where one is
    before = means(page)
    page.keyboard.press("Enter")
    assert means(page) == sorted(before)
    page.keyboard.press("Space")
    assert means(page) == sorted(before, reverse=True)
    link = page.locator(SCORES).get_by_role("link", name="61.0").first
    link.focus()
    page.keyboard.press("Enter")
    page.locator("details.run[open]").wait_for()
    page.keyboard.press("Tab")  # into the run that was opened
    assert page.evaluate("document.activeElement.closest('details.run') !== null")


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_light_and_dark_are_the_systems_or_ones_own(opened):
    light, dark = opened(), opened(colours="dark")
    white, black = background(light), background(dark)
    assert white == "rgb(255, 255, 255)" != black
    chart = "getComputedStyle(document.querySelector('svg.chart text')).fill"
    assert light.evaluate(chart) != dark.evaluate(chart)
    button = dark.get_by_role("button", name="Colours")
    seen = [background(dark)]
    for _ in range(3):
        button.click()
        seen.append(background(dark))
    assert seen == [black, white, black, black]  # the system's, light, dark, the system's
    button.click()
    dark.reload()
    assert background(dark) == white  # it is remembered


@pytest.mark.parametrize("size", [PHONE, NARROW])
def test_on_a_phone_tables_scroll_and_the_page_does_not(opened, size):
    page = opened(size)
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    wide = page.evaluate(
        "Array.from(document.querySelectorAll('.scroll'), (e) => e.scrollWidth > e.clientWidth)"
    )
    assert any(wide)
    for picture in page.locator("figure svg.chart").all()[:5]:
        box = picture.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "colours"), itertools.product([DESKTOP, PHONE], ["light", "dark"]))
@pytest.mark.parametrize("is_open", [False, True])
def test_axe_finds_nothing_serious(opened, assert_axe_finds_nothing_serious, size, colours, is_open):
    page = opened(size, colours)
    if is_open:
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert_axe_finds_nothing_serious(page)


def test_nothing_is_asked_for(browser, address):
    context = browser.new_context(offline=True)
    watched = Watched(context, address)
    watched.page.wait_for_load_state("networkidle")
    context.close()
    assert [asked for asked in watched.asked if not asked.startswith("data:")] == [address]
    assert watched.complaints == []


def test_without_scripts_it_can_be_read(opened):
    page = opened(java_script_enabled=False)
    assert page.locator(f"{SCORES} tbody tr").count() == 11
    page.locator("details.run > summary").first.click()
    assert page.locator("details.run[open] svg.chart").is_visible()
    assert not page.locator("#theme").is_visible()


def test_names_are_not_obeyed(opened, tmp_path):
    name = EVIL.replace("/", "%")
    write_run(tmp_path / name, name, EVIL.replace("/", "%"), {0: [1.0, 2.0]}, odd=EVIL)
    page = opened(url=write_page(tmp_path / name, tmp_path / "index.html"))
    assert page.locator("img").count() == 0
    assert name in page.locator("h1").inner_text()
    page.get_by_label("Filter rows").fill(EVIL)  # and is no code there, either


@pytest.mark.slow
def test_a_served_page_tells_of_what_is_new(opened, tmp_path):
    run = write_run(tmp_path, "pen-human-v0", "iql", {0: [5.0]}, status=None)
    live = LiveReport(RunFinder([str(tmp_path)]), samples=200)
    with LocalServer(live.answers, 0) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        page = opened(url=f"http://127.0.0.1:{server.port}/")
        assert means(page) == [5.0]
        with (run / "evaluations.csv").open("a") as file:
            file.write("2000,0,8.0,44.5,50,,3.0\n")
        page.get_by_text("There are new results").wait_for(timeout=20_000)
        assert means(page) == [5.0]  # the page stays as it is until one asks
        page.get_by_role("button", name="Refresh").click()
        page.get_by_role("link", name="44.5").first.wait_for()
        with page.expect_download() as download:
            page.evaluate(
                "Object.assign(document.createElement('a'), {href: 'scores.csv', download: ''}).click()"
            )
        assert "44.5" in download.value.path().read_text()
        server.shutdown()
